//! Opening a log: closed cleanly, of 64 MiB and 1 GiB, which must cost the same; and after its process was killed, with 16
//! MiB behind the last sync, which costs reading, writing and syncing those.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use libwal::{Options, Wal};

use common::{append, closed_log, disk_dir, payload, record_size};

const TAIL: usize = 16 << 20;

fn opens(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(500));
    for (name, bytes) in [("clean 64 MiB", 64 << 20), ("clean 1 GiB", 1 << 30)] {
        let dir = disk_dir();
        closed_log(dir.path(), 64 << 20, bytes, 1 << 10);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| open(dir.path())).sum());
        });
    }

    // What a kill leaves is what the operating system has been given: the files of a log that is still open.
    let dir = disk_dir();
    // Without a background thread nothing changes the files while they are copied.
    let options = Options::new().segment_size(16 << 20).background(false);
    let log = options.open(dir.path().join("log")).expect("a new log");
    let (payload, size) = (payload(100), record_size(100));
    append(&log, 1, (64 << 20) / size, &payload);
    log.sync().expect("a sync");
    append(&log, 1, TAIL / size, &payload);
    log.flush().expect("a flush");
    let mut number = 0;
    group.bench_function("killed, 16 MiB unsynced", |bencher| {
        bencher.iter_custom(|times| {
            let killed = |_| {
                number += 1;
                let copy = dir.path().join(format!("killed-{number}"));
                copy_synced(&dir.path().join("log"), &copy);
                let elapsed = open(&copy);
                std::fs::remove_dir_all(copy).expect("removing the copy");
                elapsed
            };
            (0..times).map(killed).sum()
        });
    });
    group.finish();
}

/// Opens the log and returns how long it took; closes it again.
fn open(dir: &Path) -> Duration {
    let begun = Instant::now();
    let log = Wal::open(dir).expect("the log");
    let elapsed = begun.elapsed();
    log.close().expect("a clean close");
    elapsed
}

/// Copies a log. The copies are synced: opening them shall pay for its own writes only.
fn copy_synced(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a new directory");
    for entry in std::fs::read_dir(from).expect("the log") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        std::fs::copy(entry.path(), &target).expect("a copy");
        std::fs::File::open(target).and_then(|file| file.sync_all()).expect("a sync");
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    opens(&mut criterion);
    criterion.final_summary();
}
