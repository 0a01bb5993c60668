//! The fast path of an append costs no allocation and no system call: as long as a record fits into the free part of the
//! buffer and does not complete a part that is worth flushing.

mod common;

use std::path::Path;
use std::process::Command;

use common::counting::{Counting, allocations};
use libwal::{Options, Wal};

/// As many records of 112 bytes as stay below the first quarter of a buffer of 4 MiB, behind which a flush is due.
const RECORDS: usize = 9_000;
const PAYLOAD: [u8; 100] = [7; 100];
/// For the child that is traced: where its log is.
const CHILD: &str = "LIBWAL_FAST_PATH_CHILD";
/// Paths that do not exist. Asking for them is how the child marks its trace.
const BEGIN: &str = "/libwal-fast-path-begins";
const END: &str = "/libwal-fast-path-ends";

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn open(dir: &Path) -> Wal {
    Options::new().buffer_size(4 << 20).background(false).open(dir).expect("a log")
}

fn append(log: &Wal) {
    for _ in 0..RECORDS {
        log.append(&PAYLOAD).expect("an append");
    }
}

#[test]
fn an_append_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let before = allocations();
    append(&log);
    let made = allocations() - before;
    assert_eq!(made, 0, "{RECORDS} appends made allocations");
    // The counter works.
    drop(std::hint::black_box(vec![0_u8; 64]));
    assert_eq!(allocations() - before, 1);
    assert_eq!(log.stats().unwrap().flushes, 0, "nothing of it was flushed meanwhile");
    assert_eq!(log.iter().unwrap().count(), RECORDS);
}

/// What the traced child does; without its directory, nothing.
#[test]
fn traced_child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let log = open(Path::new(&dir));
    assert!(std::fs::metadata(BEGIN).is_err());
    append(&log);
    assert!(std::fs::metadata(END).is_err());
    log.close().unwrap();
}

#[test]
fn an_append_makes_no_system_call() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let traced = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "traced_child", "--test-threads=1"])
        .env(CHILD, dir.path().join("log"))
        .output();
    let works = |output: &std::process::Output| output.status.success();
    let text = std::fs::read_to_string(&trace).unwrap_or_default();
    if !traced.as_ref().is_ok_and(works) && !text.contains(BEGIN) {
        // Missing, or not allowed to trace here.
        assert!(std::env::var("LIBWAL_NO_SKIP").as_deref() != Ok("1"), "strace is not available: {traced:?}");
        // Not by a macro: the test runner would keep what a passing test prints to itself.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"skipped: strace is not available\n");
        return;
    }
    let output = traced.expect("it left a trace");
    assert!(works(&output), "{}", String::from_utf8_lossy(&output.stdout));
    let line = |marker: &str| text.lines().position(|line| line.contains(marker)).expect("the marker is in the trace");
    let between: Vec<_> = text.lines().take(line(END)).skip(line(BEGIN) + 1).collect();
    assert!(between.is_empty(), "{RECORDS} appends made {} system calls:\n{}", between.len(), between.join("\n"));
    // What was traced is the log: its close wrote and synced, behind the second marker.
    let behind: Vec<_> = text.lines().skip(line(END)).collect();
    assert!(["pwritev", "fdatasync"].iter().all(|call| behind.iter().any(|line| line.contains(call))));
}
