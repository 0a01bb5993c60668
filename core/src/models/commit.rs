//! SYNC: group commit, also with a sync that fails. What was acknowledged is on the disk at that very moment.

use super::{Log, check, start};
use crate::Error;
use crate::storage::{Fault, SimOp};

#[test]
fn a_record_is_durable_when_its_commit_returns() {
    check("two commits", 1, || {
        let log = Log::quiet(0);
        let other = start(&log, |log| log.append_and_sync(1, 0).map(drop));
        log.append_and_sync(0, 0).expect("the disk works");
        other.join().expect("no panic").expect("the disk works");
        log.check_crashes();
    });
}

/// Whoever finds that there is nothing left to do may say so: another thread has done it.
#[test]
fn a_sync_that_finds_nothing_to_do_tells_the_truth() {
    check("two syncs of one record", 2, || {
        let log = Log::quiet(0);
        log.append(0, 0).expect("there is room");
        let sync = |log: &Log| {
            log.wal.sync().expect("the disk works");
            assert!(log.survives(super::counter(0, 0)), "acknowledged, and not on the disk");
        };
        let other = start(&log, sync);
        sync(&log);
        other.join().expect("no panic");
    });
}

#[test]
fn a_failed_sync_fails_everyone_it_was_for() {
    check("two commits and a failing sync", 1, || {
        let log = Log::quiet(0);
        // With it the next segment is prepared, and what is synced from now on are records.
        let first = log.append_and_sync(0, 0).expect("the disk works");
        let durable = log.wal.durable_lsn();
        assert!(first < durable);
        log.disk.inject(Fault::errno(SimOp::Sync, 0, 5));
        let other = start(&log, |log| log.append_and_sync(1, 0).map(drop));
        let mine = log.append_and_sync(0, 1).map(drop);
        let others = other.join().expect("no panic");
        // The sync that failed is not tried again.
        for outcome in [mine, others] {
            assert!(matches!(outcome, Err(Error::Poisoned { .. })), "{outcome:?}");
        }
        assert_eq!(log.wal.durable_lsn(), durable);
        log.check_crashes();
    });
}

/// Who only waits is woken by the sync of another.
#[test]
fn a_passive_waiter_is_woken() {
    check("a passive waiter", 3, || {
        crate::primitive::never_time_out();
        let log = Log::quiet(0);
        let lsn = log.append(0, 0).expect("there is room");
        let other = start(&log, move |log| log.wal.wait_durable(lsn, None));
        log.wal.sync().expect("the disk works");
        log.oracle.durable_to(lsn.get() + 1);
        assert!(other.join().expect("no panic").expect("the disk works"));
    });
}

/// A sync counts what it made durable, however a flush comes in between.
#[test]
fn what_a_sync_makes_durable_is_counted() {
    check("a sync and a flush, counted", 2, || {
        let log = Log::quiet(0);
        let other = start(&log, |log| {
            log.append(1, 0).expect("there is room");
            log.wal.flush().expect("the disk works");
        });
        log.append_and_sync(0, 0).expect("the disk works");
        other.join().expect("no panic");
        let stats = log.wal.stats().expect("open");
        // What was flushed behind the sync's back is all that may be missing.
        let flushed_later = u64::from(stats.durable < stats.flushed);
        assert_eq!(stats.records_synced, stats.records - flushed_later, "{stats:?}");
    });
}
