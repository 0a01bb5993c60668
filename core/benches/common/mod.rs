//! What the benchmarks share: directories on a real disk, payloads, medians, and a log that is ready to be timed.

#![allow(dead_code)] // Each benchmark uses a part of it.

pub(crate) mod limits;

use std::path::Path;
use std::time::{Duration, Instant};

use libwal::{Options, Wal};
use tempfile::TempDir;

/// A directory on the disk that holds the build, which is not kept in memory as `/tmp` often is.
pub(crate) fn disk_dir() -> TempDir {
    // A program that shares this file, and is no benchmark by cargo's terms, has directories of its own.
    let target = option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target");
    tempfile::tempdir_in(target).expect("a directory beside the build")
}

/// A payload that no file system can compress away or recognise.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// How many bytes of the stream a record with a payload of `len` bytes takes: a header word, and padding to 8 bytes.
pub(crate) const fn record_size(len: usize) -> usize {
    (8 + len).next_multiple_of(8)
}

/// A new log of which nothing has to be prepared while it is timed, as long as it stays in its first segment: that
/// segment stands, and so does the second one, which the background thread makes when the log is opened.
pub(crate) fn prepared_log(dir: &Path, segment_size: u64, options: Options) -> Wal {
    let log = options.segment_size(segment_size).open(dir).expect("a new log");
    let begun = Instant::now();
    // Without a background thread there is nothing to wait for: the second segment is made when the first one is entered.
    while log.stats().expect("statistics").segments < 2 && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    log
}

/// Runs `work` in `threads` threads at once and returns how long it took from the common start until the last one ended.
pub(crate) fn timed(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    if threads == 1 {
        let begun = Instant::now();
        work(0);
        return begun.elapsed();
    }
    let start = std::sync::Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let (start, work) = (&start, &work);
        let spawn = |thread| {
            scope.spawn(move || {
                start.wait();
                let begun = Instant::now();
                work(thread);
                (begun, Instant::now())
            })
        };
        let workers: Vec<_> = (0..threads).map(spawn).collect();
        start.wait();
        let spans: Vec<_> = workers.into_iter().map(|worker| worker.join().expect("a worker")).collect();
        let begun = spans.iter().map(|span| span.0).min().expect("a worker");
        spans.iter().map(|span| span.1).max().expect("a worker") - begun
    })
}

/// Appends `records` records of `payload` to `log` in `threads` threads, each its share. Returns how long it took.
pub(crate) fn append(log: &Wal, threads: usize, records: usize, payload: &[u8]) -> Duration {
    timed(threads, |_| {
        for _ in 0..records / threads {
            log.append(payload).expect("an append");
        }
    })
}

/// Makes `commits` durable records of `payload` in `threads` threads, each its share. Returns how long it took.
pub(crate) fn commit(log: &Wal, threads: usize, commits: usize, payload: &[u8]) -> Duration {
    timed(threads, |_| {
        for _ in 0..commits / threads {
            log.append_and_sync(payload).expect("a commit");
        }
    })
}

/// A log with about `bytes` bytes of records of `len` bytes, closed cleanly. Returns the number of records.
pub(crate) fn closed_log(dir: &Path, segment_size: u64, bytes: usize, len: usize) -> usize {
    let log = Options::new().segment_size(segment_size).open(dir).expect("a new log");
    let (payload, records) = (payload(len), bytes / record_size(len));
    append(&log, 1, records, &payload);
    log.close().expect("a clean close");
    records
}

/// Reads the whole log and returns how long it took.
pub(crate) fn replay(log: &Wal, records: usize) -> Duration {
    let begun = Instant::now();
    let mut iter = log.iter().expect("an iterator");
    let mut found = 0;
    while let Some(record) = iter.next_ref().expect("a record") {
        std::hint::black_box(record.data);
        found += 1;
    }
    assert_eq!(found, records);
    begun.elapsed()
}

/// The median of some measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
