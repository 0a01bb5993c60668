//! What a process does that has few file descriptors, or none left for a moment. In a process of its own: one test.
#![cfg(unix)]
#![allow(unsafe_code)]

use std::fs::{self, File};

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
fn a_log_needs_few_descriptors_and_no_more_is_lost_than_their_lack_refuses() {
    let few = libc::rlimit { rlim_cur: 100, rlim_max: 100 };
    // SAFETY: the pointer leads to a limit; this process has no other test.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few) }, 0);
    segments_that_are_not_synced_take_no_descriptor_each();
    descriptors_that_run_out_for_a_moment_poison_nothing();
}

/// Syncs are rare, and segments small against them or against a record.
fn segments_that_are_not_synced_take_no_descriptor_each() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, killed) = (dir.path().join("log"), dir.path().join("killed"));
    let options = Options::new().segment_size(4096).buffer_size(4096).background(false).shared_buffer(false);
    let wal = options.clone().open(&path).expect("a new log");
    let mut lengths = vec![3000; 300];
    lengths.extend([1 << 20, 10]);
    for &length in &lengths {
        wal.append(&vec![7; length]).expect("appended");
    }
    wal.flush().expect("flushed");
    // As the death of the process would leave it.
    fs::create_dir(&killed).expect("a directory");
    for entry in fs::read_dir(&path).expect("a directory") {
        let file = entry.expect("an entry").path();
        fs::copy(&file, killed.join(file.file_name().expect("a name"))).expect("copied");
    }
    wal.sync().expect("synced");
    wal.close().expect("closed");
    for path in [path, killed] {
        let wal = options.clone().open(path).expect("the log");
        let found: Vec<_> = wal.iter().expect("open").map(|record| record.expect("a record").data.len()).collect();
        assert_eq!(found, lengths);
        wal.append_and_sync(b"after").expect("synced");
    }
}

fn descriptors_that_run_out_for_a_moment_poison_nothing() {
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
