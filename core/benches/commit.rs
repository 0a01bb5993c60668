//! Durable commits of 100 B in 1, 8 and 32 threads, beside what the machine allows one thread: a write and a sync into a
//! file of zeros.
//!
//! One iteration is one commit; those of several threads are divided among them.

mod common;

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use libwal::Options;

use common::limits::{commits, zeroed_file};
use common::{commit, disk_dir, payload, prepared_log};

const SEGMENT: u64 = 64 << 20;

fn durable(criterion: &mut Criterion) {
    let payload = payload(100);
    let mut group = criterion.benchmark_group("commit 100 B");
    group.throughput(Throughput::Elements(1)).sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(3));

    let dir = disk_dir();
    let file = zeroed_file(&dir.path().join("limit"), SEGMENT);
    let mut offset = 0;
    group.bench_function("limit/1", |bencher| {
        bencher.iter_custom(|count| {
            if offset + count * 112 > SEGMENT {
                offset = 0;
            }
            commits(&file, &mut offset, count as usize, &payload)
        });
    });
    let log = prepared_log(&dir.path().join("log"), SEGMENT, Options::new());
    for threads in [1, 8, 32] {
        group.bench_function(format!("libwal/{threads}"), |bencher| {
            bencher.iter_custom(|count| {
                let rounded = count.next_multiple_of(threads);
                let elapsed = commit(&log, threads as usize, rounded as usize, &payload);
                elapsed.mul_f64(count as f64 / rounded as f64)
            });
        });
    }
    group.finish();
    log.close().expect("a clean close");
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    durable(&mut criterion);
    criterion.final_summary();
}
