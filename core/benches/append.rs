//! Appending without a sync: records of 16 B to 16 KiB in 1, 2 and 8 threads, each cell beside what the machine allows
//! (claim, copy and checksum into a bare ring that one thread writes to a file; see `common/limits.rs`).
//!
//! One iteration is one pass of many records over a log whose segments were prepared before the clock started.

mod common;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use libwal::Options;

use common::limits::{Ring, zeroed_file};
use common::{append, disk_dir, payload, prepared_log, record_size};

/// A pass fills less than a segment of this size.
const SEGMENT: u64 = 256 << 20;

fn appends(criterion: &mut Criterion) {
    for (name, len) in [("16 B", 16), ("100 B", 100), ("1 KiB", 1 << 10), ("16 KiB", 16 << 10)] {
        let payload = payload(len);
        // At most two million records, at most 7/8 of the segment; a multiple of all numbers of threads.
        let records = (SEGMENT as usize / 8 * 7 / record_size(len)).min(2_000_000) / 8 * 8;
        let mut group = criterion.benchmark_group(format!("append {name}"));
        group.throughput(Throughput::Elements(records as u64)).sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(100));
        for threads in [1, 2, 8] {
            group.bench_function(BenchmarkId::new("libwal", threads), |bencher| {
                bencher.iter_custom(|passes| {
                    let pass = |_| {
                        let dir = disk_dir();
                        let log = prepared_log(&dir.path().join("log"), SEGMENT, Options::new());
                        append(&log, threads, records, &payload)
                    };
                    (0..passes).map(pass).sum()
                });
            });
            let dir = disk_dir();
            let file = zeroed_file(&dir.path().join("limit"), SEGMENT);
            group.bench_function(BenchmarkId::new("limit", threads), |bencher| {
                bencher.iter_custom(|passes| {
                    let pass = |_| {
                        file.sync_data().expect("a sync");
                        Ring::append(&file, threads, records, &payload)
                    };
                    (0..passes).map(pass).sum()
                });
            });
        }
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    appends(&mut criterion);
    criterion.final_summary();
}
