//! A forked child may not touch its parent's log; the parent does not notice.
#![cfg(unix)]
// There is no safe way to fork.
#![allow(unsafe_code)]

use std::time::Duration;

use libwal::prelude::*;

/// Forks; the child leaves with what `child` returns, and the parent gets it.
fn in_child(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child only calls into the log (whose calls take no lock that another thread could hold at the fork: they
    // are refused first), and then `_exit`, which runs no destructor and no handler.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        let code = child();
        // SAFETY: always sound.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "the child died: {status}");
    libc::WEXITSTATUS(status)
}

#[test]
fn every_call_of_the_child_is_refused_and_the_parent_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Wal::open(&path).unwrap();
    let first = log.append(b"of the parent").unwrap();
    // The thread that syncs for it is none of the child's.
    log.append_async(b"of the parent too", drop).unwrap();
    let mut iter = log.iter().unwrap();
    let clone = log.clone();
    let refused = in_child(|| {
        let forked = |refused: bool| i32::from(!refused);
        let is = |error: Option<Error>| matches!(error, Some(Error::Forked));
        let mut wrong = 0;
        wrong += forked(is(clone.append(b"of the child").err()));
        wrong += forked(is(clone.append_batch(&["a", "b"]).err()));
        wrong += forked(is(clone.try_append(b"of the child").err()));
        wrong += forked(is(clone.append_and_sync(b"of the child").err()));
        wrong += forked(is(clone.flush().err()));
        wrong += forked(is(clone.sync().err()));
        wrong += forked(is(clone.sync_to(first).err()));
        wrong += forked(is(clone.wait_durable(first, None).err()));
        wrong += forked(is(clone.append_async(b"of the child", drop).err()));
        wrong += forked(is(clone.sync_async(drop).err()));
        wrong += forked(is(clone.when_durable(first, drop).err()));
        wrong += forked(is(iter.next_ref().err()));
        wrong += forked(is(iter.refresh().err()));
        wrong += forked(is(iter.follow(Duration::ZERO).err()));
        wrong += forked(is(clone.checkpoint(b"").err()));
        wrong += forked(is(clone.iter().err()));
        wrong += forked(is(clone.read(first).err()));
        wrong += forked(is(clone.truncate_before(first).err()));
        wrong += forked(is(clone.head().err()));
        wrong += forked(is(clone.stats().err()));
        // Closing, and dropping the last clone, must not write a clean end into the parent's log, nor hang.
        wrong += forked(is(clone.close().err()));
        wrong
    });
    assert_eq!(refused, 0);
    let second = log.append_and_sync(b"of the parent still").unwrap();
    assert!(matches!(Wal::open(&path), Err(Error::Locked { .. })), "the lock is still held");
    log.close().unwrap();
    let log = Wal::open(&path).unwrap();
    let lsns: Vec<_> = log.iter().unwrap().map(|record| record.unwrap().lsn).collect();
    assert_eq!((lsns.len(), lsns[0], lsns[2]), (3, first, second));
}

/// A process that was forked while a log was open, as a server forks its workers, and lives on.
#[test]
fn a_child_neither_gives_the_lock_back_nor_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Wal::open(&path).unwrap();
    let first = log.append_and_sync(b"of the parent").unwrap();
    let (mut told, mut tells) = std::os::unix::net::UnixStream::pair().unwrap();
    // SAFETY: as in `in_child`; the child runs the log's destructor, which does nothing there, writes to a socket and waits.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        drop(log);
        let _ = std::io::Write::write_all(&mut tells, b"1");
        loop {
            // SAFETY: always sound.
            unsafe { libc::pause() };
        }
    }
    std::io::Read::read_exact(&mut told, &mut [0]).unwrap();
    assert!(matches!(Wal::open(&path), Err(Error::Locked { .. })), "the child gave the parent's lock back");
    log.close().unwrap();
    let reopened = Wal::open(&path);
    // SAFETY: `pid` is a child that nobody has waited for, and the pointer leads to a live integer.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, &mut 0, 0);
    }
    let record = reopened.expect("the child kept the lock").read(first).unwrap();
    assert_eq!(record.data, b"of the parent");
}
