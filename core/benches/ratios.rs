//! How near the log comes to what the machine allows: a table of ratios, each the median of several repetitions in which
//! the log and its limit take turns, so that whatever else the machine does meets both.
//!
//! `cargo bench --bench ratios` prints the table; with `-- --check` it also fails where a ratio is worse than it may be,
//! with `-- --quick` it repeats less often.

mod common;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use libwal::{Options, Wal};

use common::limits::{self, Ring, zeroed_file};
use common::{append, closed_log, commit, disk_dir, median, payload, prepared_log, record_size, replay};

const MIB: usize = 1 << 20;

/// One line of the table.
struct Line {
    name: &'static str,
    /// What the log reached and what the machine allows, with a unit.
    ours: String,
    limit: String,
    ratio: f64,
    /// The worst ratio that is accepted, if there is one.
    least: Option<f64>,
}

impl Line {
    fn holds(&self) -> bool {
        self.least.is_none_or(|least| self.ratio >= least)
    }
}

/// The medians of what two measurements that take turns give, and of their ratio.
fn take_turns(repetitions: usize, mut ours: impl FnMut() -> f64, mut limit: impl FnMut() -> f64) -> (f64, f64, f64) {
    let mut pairs = Vec::new();
    for repetition in 0..repetitions {
        // Alternating who comes first spreads what one leaves to the other (writes under way, a warm cache).
        let pair = if repetition % 2 == 0 {
            let first = ours();
            (first, limit())
        } else {
            let first = limit();
            (ours(), first)
        };
        pairs.push(pair);
    }
    let of = |pick: fn(&(f64, f64)) -> f64| median(pairs.iter().map(pick).collect());
    (of(|pair| pair.0), of(|pair| pair.1), of(|pair| pair.0 / pair.1))
}

fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

fn appends(threads: usize, name: &'static str, least: Option<f64>, repetitions: usize) -> Line {
    const SEGMENT: usize = 256 * MIB;
    let records = SEGMENT / 8 * 7 / record_size(100) / 8 * 8;
    let (payload, dir) = (payload(100), disk_dir());
    let file = zeroed_file(&dir.path().join("limit"), SEGMENT as u64);
    let ours = || {
        let dir = disk_dir();
        let log = prepared_log(&dir.path().join("log"), SEGMENT as u64, Options::new());
        per_second(records, append(&log, threads, records, &payload))
    };
    let limit = || {
        file.sync_data().expect("a sync");
        per_second(records, Ring::append(&file, threads, records, &payload))
    };
    let (ours, limit, ratio) = take_turns(repetitions, ours, limit);
    Line { name, ours: format!("{:.2} M/s", ours / 1e6), limit: format!("{:.2} M/s", limit / 1e6), ratio, least }
}

fn commits(repetitions: usize) -> [Line; 2] {
    const COUNT: usize = 1_000;
    let (payload, dir) = (payload(100), disk_dir());
    let file = zeroed_file(&dir.path().join("limit"), 64 * MIB as u64);
    let log = prepared_log(&dir.path().join("log"), 64 * MIB as u64, Options::new());
    let mut offset = 0;
    let mut eight = Vec::new();
    let ours = || {
        eight.push(per_second(4 * COUNT, commit(&log, 8, 4 * COUNT, &payload)));
        per_second(COUNT, commit(&log, 1, COUNT, &payload))
    };
    let limit = || per_second(COUNT, limits::commits(&file, &mut offset, COUNT, &payload));
    let (one, limit, ratio) = take_turns(2 * repetitions, ours, limit);
    let eight = median(eight);
    let rate = |rate: f64| format!("{:.2} k/s", rate / 1e3);
    [
        Line { name: "commit 100 B, 1 thread / limit", ours: rate(one), limit: rate(limit), ratio, least: Some(0.9) },
        Line {
            name: "commit 100 B, 8 threads / 1 thread",
            ours: rate(eight),
            limit: rate(one),
            ratio: eight / one,
            least: Some(3.0),
        },
    ]
}

fn replays(repetitions: usize) -> Line {
    let dir = disk_dir();
    let records = closed_log(dir.path(), 64 * MIB as u64, 256 * MIB, 100);
    let files = limits::segment_files(dir.path());
    let log = Options::new().read_only(true).open(dir.path()).expect("the log");
    let (ours, limit, ratio) = take_turns(
        2 * repetitions,
        || per_second(records, replay(&log, records)),
        || per_second(records, limits::replay(&files, records)),
    );
    let rate = |rate: f64| format!("{:.2} M/s", rate / 1e6);
    Line { name: "replay 100 B", ours: rate(ours), limit: rate(limit), ratio, least: None }
}

/// The limit here is what is asked of the log: less than 10 ms.
fn open(repetitions: usize) -> Line {
    const LIMIT: f64 = 10.0;
    let dir = disk_dir();
    closed_log(dir.path(), 64 * MIB as u64, 1024 * MIB, 1024);
    let open = |_| {
        let begun = Instant::now();
        let log = Wal::open(dir.path()).expect("the log");
        let elapsed = begun.elapsed();
        log.close().expect("a clean close");
        elapsed.as_secs_f64() * 1e3
    };
    let ours = median((0..3 * repetitions).map(open).collect());
    let text = |millis: f64| format!("{millis:.2} ms");
    Line { name: "open, clean, 1 GiB", ours: text(ours), limit: text(LIMIT), ratio: LIMIT / ours, least: Some(1.0) }
}

fn main() -> ExitCode {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    let repetitions = if asked("--quick") { 3 } else { 5 };
    println!("{:<36} {:>12} {:>12} {:>7} {:>9}", "", "libwal", "limit", "ratio", "at least");
    let mut holds = true;
    let mut show = |line: Line| {
        let least = line.least.map_or(String::new(), |least| format!("{least:.2}"));
        let mark = if line.holds() { "" } else { "  FAILS" };
        println!("{:<36} {:>12} {:>12} {:>7.2} {least:>9}{mark}", line.name, line.ours, line.limit, line.ratio);
        holds &= line.holds();
    };
    show(appends(1, "append 100 B, 1 thread", Some(0.5), repetitions));
    show(appends(2, "append 100 B, 2 threads", None, repetitions));
    show(appends(8, "append 100 B, 8 threads", None, repetitions));
    commits(repetitions).into_iter().for_each(&mut show);
    show(replays(repetitions));
    show(open(repetitions));
    if asked("--check") && !holds { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
