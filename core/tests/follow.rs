//! What follows a log of its own process learns when that is closed, and has missed nothing then.

mod common;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use common::{open, small};
use libwal::storage::{Fault, SimOp, SimStorage};
use libwal::{Error, Iter, Options, Wal};

/// As good as for ever, but a test that fails ends.
const PATIENCE: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(5);

fn follows_nothing_at_once(iter: &mut Iter) {
    let begun = Instant::now();
    assert!(iter.follow(PATIENCE).expect("no failure").is_none());
    assert!(begun.elapsed() < PATIENCE, "it waited for what can never come");
}

#[test]
fn a_log_that_is_closed_is_followed_to_its_end() {
    let log = open(&small(), &SimStorage::new()).expect("a log");
    let mut iter = log.iter().expect("records");
    assert!(iter.follow(MOMENT).expect("no failure").is_none() && !iter.ended());
    log.append(b"last").expect("appended");
    log.close().expect("closed");
    assert!(!iter.ended(), "one is left");
    assert_eq!(iter.follow(Duration::ZERO).expect("no failure").expect("the last one").data, b"last");
    assert!(!iter.ended(), "it has not looked");
    follows_nothing_at_once(&mut iter);
    assert!(iter.ended());
    follows_nothing_at_once(&mut iter);
}

#[test]
fn whoever_waits_is_told_of_the_close() {
    for dropped in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Wal::open(dir.path().join("log")).expect("a log");
        let mut iter = log.iter().expect("records");
        thread::scope(|scope| {
            let follower = scope.spawn(move || {
                follows_nothing_at_once(&mut iter);
                iter.ended()
            });
            thread::sleep(MOMENT);
            if dropped {
                drop(log)
            } else {
                log.close().expect("closed")
            }
            assert!(follower.join().expect("no panic"));
        });
    }
}

/// Appends go on until they are refused: whichever came before the close in time is followed before the end is told.
#[test]
fn what_is_appended_while_the_log_is_closed_is_not_missed() {
    for round in 0..200 {
        let log = open(&small().segment_size(1 << 16), &SimStorage::new()).expect("a log");
        let mut iter = log.iter().expect("records");
        let all = Barrier::new(3);
        thread::scope(|scope| {
            let appender = scope.spawn(|| {
                all.wait();
                let accepted = (0_u64..).find(|n| log.append(&n.to_le_bytes()).is_err());
                assert!(matches!(log.append(b"late"), Err(Error::Closed)));
                accepted
            });
            let follower = scope.spawn(|| {
                all.wait();
                let mut seen = 0_u64;
                while let Some(record) = iter.follow(PATIENCE).expect("no failure") {
                    assert_eq!(record.data, seen.to_le_bytes());
                    seen += 1;
                }
                assert!(iter.ended());
                seen
            });
            all.wait();
            thread::sleep(Duration::from_micros(round));
            log.clone().close().expect("closed");
            assert_eq!(appender.join().expect("no panic"), Some(follower.join().expect("no panic")));
        });
    }
}

#[test]
fn a_poisoned_log_is_followed_until_it_is_closed() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a log");
    log.append_and_sync(b"safe").expect("durable");
    let mut iter = log.iter().expect("records");
    disk.inject(Fault::errno(SimOp::Sync, 0, 5));
    assert!(matches!(log.append_and_sync(b"lost"), Err(Error::Poisoned { .. })));
    while iter.follow(MOMENT).expect("no failure").is_some() {}
    assert!(!iter.ended(), "it is open");
    assert!(log.close().is_err());
    follows_nothing_at_once(&mut iter);
    assert!(iter.ended());
}

#[test]
fn a_view_of_anothers_log_waits_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Wal::open(dir.path()).expect("a log");
    let view = Options::new().read_only(true).open(dir.path()).expect("a view");
    let mut iter = view.iter().expect("records");
    log.close().expect("closed");
    assert!(iter.follow(MOMENT).expect("no failure").is_none() && !iter.ended());
    let log = Wal::open(dir.path()).expect("opened again");
    log.append_and_sync(b"more").expect("durable");
    assert_eq!(iter.follow(PATIENCE).expect("no failure").expect("the next one").data, b"more");
}
