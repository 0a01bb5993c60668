//! What a process does that has no file descriptor left for a moment. In a process of its own: one test.
#![cfg(unix)]
#![allow(unsafe_code)]

use std::fs::File;

use libwal::{Options, Retention, Wal};

/// Calls `act` with no descriptor left.
fn without_descriptors(act: impl FnOnce()) {
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    act();
}

#[test]
fn descriptors_that_run_out_for_a_moment_poison_nothing() {
    let few = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
    // SAFETY: the pointer leads to a limit; this process has no other test.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few) }, 0);
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options::new().segment_size(1 << 14).buffer_size(1 << 12).background(false);
    let options = options.retention(Retention::Segments(1)).retain_checkpoint(false);
    let go_on = |wal: &Wal| {
        wal.append_and_sync(b"after").expect("there are descriptors again");
    };

    let wal = options.clone().open(dir.path().join("log")).expect("a new log");
    for _ in 0..10 {
        wal.append_and_sync(&[1; 3000]).expect("synced");
    }
    // Old segments are dropped, and the directory is synced.
    without_descriptors(|| drop(wal.checkpoint(b"state")));
    go_on(&wal);
    // No segment can be made, which refuses the append that needs it.
    without_descriptors(|| while wal.append(&[1; 3000]).is_ok() {});
    go_on(&wal);
    wal.close().expect("closed");

    // The first flush after an open.
    let wal = options.open(dir.path().join("log")).expect("the log");
    without_descriptors(|| assert!(wal.append_and_sync(b"first").is_ok()));
    go_on(&wal);
}
