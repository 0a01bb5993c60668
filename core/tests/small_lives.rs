//! Whole lives of a log that are small enough for Miri: a few threads, some records of every kind, a crash, two recoveries.

mod common;

use std::sync::Arc;

use common::oracle::{Oracle, Survived, WRITER_SHIFT};
use common::{open, records, small};
use libwal::format::Kind;
use libwal::storage::SimStorage;
use libwal::{Options, Wal};

// Miri needs some hundred times as long for a record as a processor does.
const WRITERS: u64 = if cfg!(miri) { 2 } else { 3 };
/// Records go around the ring of 4096 bytes, over the ends of segments of 4096, and past the ring if longer.
const LENGTHS: [usize; 8] = [0, 700, 8, 4200, 33, 250, 1500, 100];

/// One writer: appends, batches, syncs.
fn write(log: &Wal, oracle: &Oracle, writer: u64, rounds: u64) {
    let mut counter = writer << WRITER_SHIFT;
    let mut next = || {
        counter += 1;
        let len = LENGTHS[(counter + 3 * writer) as usize % LENGTHS.len()];
        (counter, oracle.payload(counter, len))
    };
    for round in 0..rounds {
        match (round + writer) % 3 {
            0 => {
                let (counter, data) = next();
                let lsn = log.append(&data).expect("appended");
                oracle.appended(lsn, counter, data.len(), Kind::Data);
            }
            1 => {
                let members = [next(), next()];
                let lsns = log.append_batch(&[&members[0].1, &members[1].1]).expect("appended");
                oracle.appended_batch(&lsns, &members.map(|(counter, data)| (counter, data.len())));
            }
            _ => {
                let (counter, data) = next();
                let lsn = log.append_and_sync(&data).expect("synced");
                oracle.appended(lsn, counter, data.len(), Kind::Data);
                oracle.durable_to(lsn.get() + 1);
            }
        }
    }
}

/// Writes with several threads, cuts the power, recovers; recovers again and finds the same; appends.
fn live(options: &Options, seed: u64) {
    let disk = SimStorage::with_seed(seed);
    let oracle = Oracle::new(seed);
    let log = open(options, &disk).expect("a new log");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (log, oracle) = (log.clone(), &oracle);
            scope.spawn(move || write(&log, oracle, writer, if cfg!(miri) { 2 } else { 30 }));
        }
    });
    if !cfg!(miri) {
        oracle.check_live(&log).expect("what was appended can be read");
    }
    let crashed = disk.crash(seed);
    drop(log);

    let log = open(options, &crashed).expect("the log recovers");
    let found = oracle.check(&log, Survived::Crash).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    oracle.adopt(&found, log.tail().expect("open"));
    let first = records(&log);
    let again = crashed.crash(seed + 1);
    drop(log);

    let log = open(options, &again).expect("the log recovers again");
    assert_eq!(records(&log), first, "recovering twice gives the same");
    write(&log, &oracle, WRITERS, if cfg!(miri) { 1 } else { 3 });
    log.sync().expect("synced");
    oracle.durable_to(log.tail().expect("open").get());
    if cfg!(miri) {
        assert!(records(&log).len() > first.len());
    } else {
        oracle.check(&log, Survived::Crash).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    log.close().expect("closed");
}

fn seeds() -> std::ops::Range<u64> {
    0..if cfg!(miri) { 1 } else { 50 }
}

#[test]
fn threads_write_and_the_power_goes() {
    for seed in seeds() {
        live(&small(), seed);
    }
}

#[test]
fn so_do_they_with_the_background_thread() {
    for seed in seeds() {
        live(&small().background(true), seed);
    }
}

/// A request that is told of durability: its callback runs on the thread that syncs, and owns what it captured.
#[test]
fn requests_are_told_by_another_thread() {
    let disk = SimStorage::with_seed(1);
    let log = open(&small(), &disk).expect("a new log");
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    for n in 0..4_u8 {
        let heard = Arc::clone(&heard);
        let done = move |lsn| heard.lock().expect("not poisoned").push((n, lsn));
        log.append_async(&[n; 100], done).expect("appended");
    }
    log.close().expect("closed");
    let heard = Arc::into_inner(heard).expect("each callback was dropped").into_inner().expect("not poisoned");
    let told: Vec<_> = heard.into_iter().map(|(n, lsn)| (n, lsn.expect("durable").get())).collect();
    assert_eq!(
        told,
        records(&open(&small(), &disk).expect("the log opens"))
            .iter()
            .map(|(lsn, data)| (data[0], *lsn))
            .collect::<Vec<_>>()
    );
}
