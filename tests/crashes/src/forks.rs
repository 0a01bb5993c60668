//! Forks under load: children come and go while every thread of the parent writes. core/tests/fork.rs has each call.
#![allow(unsafe_code)] // There is no safe way to fork.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libwal::format::Kind;
use libwal::{Error, Lsn, Wal};

use crate::common::child::options;
use crate::common::judge;
use crate::common::oracle::{Oracle, Survived, WRITER_SHIFT};
use crate::run::Scene;

pub(crate) fn check(scene: &Scene) {
    let temporary = tempfile::tempdir_in(&scene.folder).expect("a directory");
    let dir = temporary.path().join("log");
    let oracle = Oracle::new(scene.seed);
    let wal = options().open(&dir).expect("created");
    let first = wal.append_and_sync(&oracle.payload(9 << WRITER_SHIFT, 64)).expect("appended");
    oracle.appended(first, 9 << WRITER_SHIFT, 64, Kind::Data);
    let stop = AtomicBool::new(false);
    let children = 60 * scene.rounds;
    let mut served = Vec::new();
    let appends: u64 = std::thread::scope(|scope| {
        let (wal, oracle, stop) = (&wal, &oracle, &stop);
        let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || write(wal, oracle, stop, writer))).collect();
        // Judged once the writers have stopped, for whom a failure here would never end.
        for _ in 0..children {
            served.push(in_child(wal, first));
            if served.last() != Some(&0) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // Relaxed: nothing is ordered by it; the end of the scope is.
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().expect("a writer")).sum()
    });
    assert_eq!(served.iter().find(|&&status| status != 0), None, "the status of a child whose calls were not refused");
    let tail = wal.tail().expect("a tail");
    wal.sync().expect("synced");
    oracle.durable_to(tail.get());
    oracle.check_live(&wal).unwrap_or_else(|error| panic!("forks: {error}"));
    wal.close().expect("closed");
    judge(&oracle, &dir, Survived::Crash).unwrap_or_else(|error| panic!("forks: {error}"));
    println!("forks: {children} children refused while {appends} records were appended and synced");
}

fn write(wal: &Wal, oracle: &Oracle, stop: &AtomicBool, writer: u64) -> u64 {
    let mut count = 0;
    // Relaxed: as where it is stored.
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let counter = writer << WRITER_SHIFT | count;
        let len = 16 + (counter * 31 % 500) as usize;
        let lsn = wal.append_and_sync(&oracle.payload(counter, len)).expect("the parent appends on");
        oracle.appended(lsn, counter, len, Kind::Data);
        oracle.durable_to(lsn.get() + 1);
    }
    count
}

/// The status of a child: how many of its calls were not refused, or what killed it.
fn in_child(wal: &Wal, first: Lsn) -> i32 {
    // SAFETY: the child sets an alarm, calls into the log, whose calls are refused before they take a lock that another
    // thread could hold at the fork, and then `_exit`, which runs no destructor and no handler.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        let served = |error: Option<Error>| i32::from(!matches!(error, Some(Error::Forked)));
        // A call that is served may wait for ever, for a thread that the child does not have.
        // SAFETY: always sound.
        unsafe { libc::alarm(10) };
        let wrong = served(wal.append(b"of the child").err())
            + served(wal.append_and_sync(b"of the child").err())
            + served(wal.flush().err())
            + served(wal.sync().err())
            + served(wal.truncate_before(first).err());
        // SAFETY: always sound.
        unsafe { libc::_exit(wrong) };
    }
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}
