//! Reading a log of 256 MiB out of the page cache, in records of 100 B and 4 KiB, beside what the machine allows: reading
//! the same files in pieces of 1 MiB and taking the checksum of every payload.

mod common;

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use libwal::Options;

use common::{closed_log, disk_dir, limits, replay};

fn replays(criterion: &mut Criterion) {
    for (name, len) in [("100 B", 100), ("4 KiB", 4096)] {
        let dir = disk_dir();
        let records = closed_log(dir.path(), 64 << 20, 256 << 20, len);
        let files = limits::segment_files(dir.path());
        let log = Options::new().read_only(true).open(dir.path()).expect("the log");
        let mut group = criterion.benchmark_group(format!("replay {name}"));
        group.throughput(Throughput::Elements(records as u64)).sample_size(10).sampling_mode(SamplingMode::Flat);
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
        group.bench_function("libwal", |bencher| {
            bencher.iter_custom(|passes| (0..passes).map(|_| replay(&log, records)).sum());
        });
        group.bench_function("limit", |bencher| {
            bencher.iter_custom(|passes| (0..passes).map(|_| limits::replay(&files, records)).sum());
        });
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    replays(&mut criterion);
    criterion.final_summary();
}
