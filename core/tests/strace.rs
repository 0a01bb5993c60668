//! Errors of the real system calls, put there by strace: whatever fails, nothing that was acknowledged is lost.

#![cfg(target_os = "linux")]

mod common;

use std::process::{Command, Stdio};

use common::child::{Heard, Job, judge_copy};
use common::oracle::Oracle;

/// Run by the other tests in a process of its own.
#[test]
fn child() {
    common::child::main();
}

/// Whether strace is there and may trace. If not, says so, and fails where nothing may be skipped.
fn strace_works() -> bool {
    let probe = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let works = probe.is_ok_and(|status| status.success());
    if !works {
        // Not by a macro: the test runner would keep what a passing test prints to itself.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: strace is not available\n");
        assert!(std::env::var_os("LIBWAL_NO_SKIP").is_none_or(|set| set != "1"), "LIBWAL_NO_SKIP=1 is set");
    }
    works
}

/// Runs the workload under `inject` on a fresh log (or one that a run without errors left), judges what it left, and
/// returns what it reported. Judged twice: once more after a run without errors has gone on with it.
fn run(inject: &str, used_before: bool) -> Heard {
    let temporary = tempfile::tempdir().expect("a directory");
    let (dir, copy) = (temporary.path().join("log"), temporary.path().join("copy"));
    let seed = 7;
    let oracle = Oracle::new(seed);
    oracle.expect_unheard();
    let go = |round: u64, wrapper: &[&str]| {
        let job = Job { dir: &dir, seed, round, operations: 60 };
        let heard = Heard::from(&mut job.spawn(wrapper), usize::MAX);
        heard.tell(&oracle);
        heard
    };
    if used_before {
        go(1, &[]);
    }
    let inject = format!("inject={inject}");
    let heard = go(2, &["strace", "-f", "-q", "-o", "/dev/null", "-e", &inject]);
    assert_eq!((heard.count("unexpected"), heard.count("unpoisoned")), (0, 0), "{inject}");
    if dir.exists() && dir.join("00000000000000000000.wal").exists() {
        judge_copy(&oracle, &dir, &copy).unwrap_or_else(|error| panic!("{inject}: {error}"));
    }
    let next = go(3, &[]);
    assert_eq!((next.count("opened"), next.count("closed")), (1, 1), "{inject}: the log goes on without the error");
    judge_copy(&oracle, &dir, &copy).unwrap_or_else(|error| panic!("{inject}, and then none: {error}"));
    heard
}

/// `when` counts the calls of each thread on its own, and few threads make many.
fn run_at(call: &str, error: &str, whens: &[&str]) -> Vec<Heard> {
    whens.iter().enumerate().map(|(nth, when)| run(&format!("{call}:{error}:when={when}"), nth % 2 == 0)).collect()
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    if !strace_works() {
        return;
    }
    let heard = run_at("fdatasync", "error=EIO", &["1", "2", "3", "4", "6", "9", "14", "20", "3+"]);
    let poisoned = heard.iter().filter(|heard| heard.count("poisoned") > 0 && heard.count("closed") == 0).count();
    assert!(poisoned >= 3, "the error struck only {poisoned} times");
}

#[test]
fn a_failed_sync_of_the_directory_is_not_overlooked() {
    if !strace_works() {
        return;
    }
    for heard in run_at("fsync", "error=EIO", &["1", "2", "3", "4"]) {
        assert!(heard.count("closed") == 0 || heard.count("poisoned") + heard.count("io") == 0);
    }
}

#[test]
fn a_full_disk_at_allocation_is_no_space_and_the_log_goes_on() {
    if !strace_works() {
        return;
    }
    for heard in run_at("fallocate", "error=ENOSPC", &["2", "3", "4", "2+2"]) {
        assert_eq!(heard.count("poisoned"), 0);
        assert!(heard.count("opened") == 0 || heard.count("closed") == 1, "the log goes on");
    }
}

#[test]
fn an_interrupted_write_is_invisible() {
    if !strace_works() {
        return;
    }
    // The loader reads with the same call before the program begins, and does not expect this.
    let calls = [
        ("pwritev", ["1+2", "2+3"]),
        ("fallocate", ["1+2", "2+3"]),
        ("pread64", ["9+2", "10+3"]),
        ("flock", ["1", "1"]),
    ];
    for (call, whens) in calls {
        for heard in run_at(call, "error=EINTR", &whens) {
            let told = ["poisoned", "io", "nospace", "unopened", "unclosed"].map(|what| heard.count(what));
            assert_eq!((heard.count("closed"), told), (1, [0; 5]), "{call}");
        }
    }
}

#[test]
fn a_failed_write_poisons() {
    if !strace_works() {
        return;
    }
    let mut poisoned = 0;
    for error in ["error=ENOSPC", "error=EIO", "retval=0"] {
        for heard in run_at("pwritev", error, &["1", "2", "4", "7", "12", "18+"]) {
            poisoned += usize::from(heard.count("poisoned") > 0);
        }
    }
    assert!(poisoned > 0, "the error never struck a write");
}

#[test]
fn running_out_of_handles_loses_nothing() {
    if !strace_works() {
        return;
    }
    run_at("openat", "error=EMFILE", &["8", "9", "10", "11", "12", "13", "14", "15", "16", "18", "20", "2+"]);
}

#[test]
fn a_failed_rename_or_read_loses_nothing() {
    if !strace_works() {
        return;
    }
    run_at("renameat2", "error=EIO", &["1", "2", "3"]);
    run_at("pread64", "error=EIO", &["1", "2", "3", "5", "8"]);
    run_at("unlink", "error=EACCES", &["1", "2"]);
}
