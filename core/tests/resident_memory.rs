//! A log of any size is opened, recovered and replayed in constant memory. The log is written by one child process that
//! ends without closing or syncing it, so that another one has to recover all of it. 512 MiB; 4 GiB with `LIBWAL_BIG=1`.

#![cfg(target_os = "linux")] // Where the system tells a process its peak memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use libwal::{Options, Wal};

/// The most resident memory that a process may ever have had, in bytes.
const LIMIT: u64 = 64 << 20;
const DIR: &str = "LIBWAL_RESIDENT_MEMORY_DIR";
const SHORTEST: usize = 100;
const LONGEST: usize = 64 << 10;

fn bytes() -> u64 {
    if std::env::var("LIBWAL_BIG").as_deref() == Ok("1") { 4 << 30 } else { 512 << 20 }
}

/// The length of the record with this number: 100 B to 64 KiB, short ones more often than long ones.
fn length(number: u64) -> usize {
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let most = LONGEST >> ((random >> 24) & 7);
    SHORTEST + random as usize % (most - SHORTEST + 1)
}

/// The largest resident size that this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of peak memory");
    line.trim().strip_suffix(" kB").expect("in kilobytes").parse::<u64>().unwrap() << 10
}

/// The directory, in a child process.
fn given() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

#[test]
fn writing_child() {
    let Some(dir) = given() else { return };
    let log = Wal::open(dir).unwrap();
    let payload = vec![0xa5; LONGEST];
    let mut number = 0;
    while log.tail().unwrap().get() < bytes() {
        log.append(&payload[..length(number)]).unwrap();
        number += 1;
    }
    log.flush().unwrap();
    println!("wrote {number} records, peak {} KiB", peak() >> 10);
    assert!(peak() < LIMIT, "{} bytes of memory", peak());
    // No destructor runs, so nothing is synced or closed.
    std::process::exit(0);
}

#[test]
fn recovering_child() {
    let Some(dir) = given() else { return };
    let log = Options::new().create(false).open(dir).unwrap();
    let opened = peak();
    let mut records = log.iter().unwrap();
    let (mut number, mut end) = (0, 0);
    while let Some(record) = records.next_ref().unwrap() {
        assert_eq!(record.data.len(), length(number), "record {number}");
        end = record.lsn.get() + record.data.len() as u64;
        number += 1;
    }
    assert!(end + 8 >= bytes(), "the log ends at {end}");
    println!("replayed {number} records, {end} bytes; peak {} KiB, after opening {} KiB", peak() >> 10, opened >> 10);
    assert!(peak() < LIMIT, "{} bytes of memory", peak());
    log.close().unwrap();
}

fn run(child: &str, dir: &Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| line.contains("peak")).for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{child}: {text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_big_log_is_recovered_and_replayed_in_constant_memory() {
    // Not in the directory for temporary files, which may itself be memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = dir.path().join("log");
    run("writing_child", &log);
    run("recovering_child", &log);
}
