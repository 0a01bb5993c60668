//! What an append and a commit may cost, in counts and not in times: allocations, operations on the storage, system calls,
//! instructions. The bounds stand a little above what they are; whoever raises one says why.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};

use common::counting::{Counting, allocations};
use common::stepping::Stepping;
use libwal::storage::SimStorage;
use libwal::{Options, Wal};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAYLOAD: [u8; 100] = [7; 100];
const RECORD: u64 = 112;
const BUFFER: u64 = 1 << 20;
const SEGMENT: u64 = 4 << 20;
/// For the child that is traced: where its log is, what it does, and how often.
const CHILD: &str = "LIBWAL_COST_CHILD";
/// Paths that do not exist. Asking for them is how the child marks its trace.
const BEGIN: &str = "/libwal-cost-begins";
const END: &str = "/libwal-cost-ends";

/// Without a background thread everything is done, and counted, where it is asked for.
fn options() -> Options {
    Options::new().buffer_size(BUFFER).segment_size(SEGMENT).background(false)
}

fn append(log: &Wal, count: u64) {
    for _ in 0..count {
        log.append(&PAYLOAD).expect("an append");
    }
}

fn commit(log: &Wal, count: u64) {
    for _ in 0..count {
        log.append_and_sync(&PAYLOAD).expect("a commit");
    }
}

/// Prints past the test runner, which would keep what a passing test prints to itself.
fn tell(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes());
}

/// Fails if `found` is above `most`; prints it either way.
fn at_most(what: &str, found: f64, most: f64) {
    tell(&format!("{what}: {found:.3} (at most {most})"));
    assert!(found <= most, "{what}: {found:.3}, at most {most}");
}

#[test]
fn appends_allocate_for_flushes_and_segments_only() {
    const COUNT: u64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    let log = options().open(dir.path()).unwrap();
    let before = allocations();
    append(&log, COUNT);
    let each = (allocations() - before) as f64 / COUNT as f64;
    let stats = log.stats().unwrap();
    assert!(stats.flushes > 20 && stats.segments > 5, "it went through many buffers and segments");
    at_most("allocations for 1,000 appends, flushes and segments included", 1_000.0 * each, 2.0);
}

#[test]
fn commits_allocate_little() {
    const COUNT: u64 = 1_000;
    let dir = tempfile::tempdir().unwrap();
    let log = options().open(dir.path()).unwrap();
    commit(&log, 10);
    let before = allocations();
    commit(&log, COUNT);
    at_most("allocations for one commit", (allocations() - before) as f64 / COUNT as f64, 1.5);
}

#[test]
fn appends_write_large_pieces_and_read_nothing() {
    const COUNT: u64 = 200_000;
    let disk = SimStorage::new();
    let log = options().open_on(Arc::new(disk.clone())).unwrap();
    let before = [disk.writes(), disk.syncs(), disk.reads()];
    append(&log, COUNT);
    let made = [disk.writes() - before[0], disk.syncs() - before[1], disk.reads() - before[2]];
    let mib = (COUNT * RECORD) as f64 / f64::from(1 << 20);
    // 16 of zeros, and the flushes: at least a quarter of the buffer in each.
    at_most("writes for each MiB appended, segments included", made[0] as f64 / mib, 26.0);
    at_most("syncs for each MiB appended, all of them for new segments", made[1] as f64 / mib, 1.0);
    assert_eq!(made[2], 0, "an append reads nothing");
}

/// Whatever is appended while a flush runs: it catches up once, and does not write ever shorter runs behind the appenders.
#[test]
fn a_flush_does_not_chase_the_appenders() {
    let log: Arc<OnceLock<Wal>> = Arc::default();
    let beside = Arc::clone(&log);
    // What another thread might do between any two operations.
    let step = move || {
        if let Some(log) = beside.get() {
            log.try_append(&PAYLOAD).expect("there is room");
        }
    };
    let disk = Stepping::over(&SimStorage::new(), Arc::new(step));
    let log = log.get_or_init(|| options().open_on(disk).unwrap());
    append(log, BUFFER / 4 / RECORD + 1);
    let stats = log.stats().unwrap();
    assert_eq!(stats.flushes, 2, "a quarter of the buffer, and what came meanwhile");
    assert!(stats.flushed < stats.reserved, "what came while that was written waits");
}

#[test]
fn a_commit_is_one_write_and_one_sync() {
    const COUNT: u64 = 1_000;
    let disk = SimStorage::new();
    let log = options().open_on(Arc::new(disk.clone())).unwrap();
    commit(&log, 10);
    let before = [disk.operations(), disk.writes(), disk.syncs(), disk.reads()];
    commit(&log, COUNT);
    let after = [disk.operations(), disk.writes(), disk.syncs(), disk.reads()];
    let made: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    tell(&format!("{COUNT} commits: {} writes, {} syncs, {} reads", made[1], made[2], made[3]));
    assert_eq!(made, [2 * COUNT, COUNT, COUNT, 0], "operations, writes, syncs, reads");
}

/// What the traced child does; without its variable, nothing.
#[test]
fn traced_child() {
    let Some(job) = std::env::var_os(CHILD) else { return };
    let job = job.into_string().unwrap();
    let [dir, what, count] = job.split('\n').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let work = if what == "append" { append } else { commit };
    let log = options().open(dir).unwrap();
    work(&log, 10);
    assert!(std::fs::metadata(BEGIN).is_err());
    work(&log, count.parse().unwrap());
    assert!(std::fs::metadata(END).is_err());
    log.close().unwrap();
}

/// Runs this program's child under a tool. `None`, told or a failure, if the tool is missing or cannot work here.
fn traced(tool: &str, arguments: &[&str], dir: &Path, what: &str, count: u64) -> Option<Output> {
    let exe = std::env::current_exe().unwrap();
    let run = |program: &[&str], job: &str| {
        Command::new(tool).args(arguments).args(program).env(CHILD, job).output().ok().filter(|o| o.status.success())
    };
    if run(&["true"], "").is_none() {
        assert!(std::env::var("LIBWAL_NO_SKIP").as_deref() != Ok("1"), "{tool} is not available");
        tell(&format!("skipped: {tool} is not available"));
        return None;
    }
    let program = [exe.to_str().unwrap(), "--exact", "traced_child", "--test-threads=1"];
    let job = format!("{}\n{what}\n{count}", dir.join(format!("{what}-{count}")).display());
    Some(run(&program, &job).expect("the child works"))
}

#[test]
fn a_commit_makes_two_system_calls() {
    const COUNT: u64 = 200;
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let arguments = ["-f", "-qq", "-o", trace.to_str().unwrap()];
    if traced("strace", &arguments, dir.path(), "commit", COUNT).is_none() {
        return;
    }
    let text = std::fs::read_to_string(trace).unwrap();
    let line = |marker: &str| text.lines().position(|line| line.contains(marker)).expect("the marker is in the trace");
    let between: Vec<_> = text.lines().take(line(END)).skip(line(BEGIN) + 1).collect();
    let calls = |name: &str| between.iter().filter(|line| line.contains(name)).count() as u64;
    tell(&format!("{COUNT} commits: {} system calls", between.len()));
    let found = (calls("pwritev"), calls("fdatasync"), between.len() as u64);
    assert_eq!(found, (COUNT, COUNT, 2 * COUNT), "writes, syncs, all:\n{}", between.join("\n"));
}

/// What opening costs is in both runs, and falls out.
#[test]
#[cfg_attr(debug_assertions, ignore = "counted in a release build: tests/cost/check")]
fn an_append_takes_few_instructions() {
    const COUNTS: [u64; 2] = [2_000, 8_000];
    // All of them fit into the buffer.
    const { assert!(COUNTS[1] * RECORD < BUFFER) };
    let dir = tempfile::tempdir().unwrap();
    let count = |records| {
        let arguments = ["--tool=callgrind", "--callgrind-out-file=/dev/null"];
        let output = traced("valgrind", &arguments, dir.path(), "append", records)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let number = text.lines().find_map(|line| line.split_once("Collected :")).map(|(_, number)| number.trim());
        Some(number.unwrap_or_else(|| panic!("valgrind told no number: {text}")).parse::<u64>().unwrap())
    };
    let (Some(fewer), Some(more)) = (count(COUNTS[0]), count(COUNTS[1])) else { return };
    let each = (more - fewer) as f64 / (COUNTS[1] - COUNTS[0]) as f64;
    at_most("instructions of one append of 100 B, its part of the flush included", each, 165.0);
}
