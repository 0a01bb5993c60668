//! Requests that are told of durability by a call: each once, none before its record is durable, none forgotten.

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::stepping::Stepping;
use common::{open, small};
use libwal::storage::{Fault, SimOp, SimStorage};
use libwal::{Error, Lsn, Options, Wal};

const PATIENCE: Duration = Duration::from_secs(60);

fn told() -> (impl Fn(libwal::Result<Lsn>) + Clone, mpsc::Receiver<libwal::Result<Lsn>>) {
    let (send, receive) = mpsc::channel();
    (move |result| send.send(result).expect("the test listens"), receive)
}

#[test]
fn each_is_told_once_in_order_and_not_before_it_is_durable() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Wal::open(dir.path().join("log")).expect("a log");
    let (send, receive) = mpsc::channel();
    let mut expected = Vec::new();
    for n in 0..1000_u32 {
        let (send, clone) = (send.clone(), log.clone());
        let done = move |result: libwal::Result<Lsn>| {
            let lsn = result.expect("durable");
            assert!(lsn < clone.durable_lsn());
            send.send(lsn).expect("the test listens");
        };
        expected.push(log.append_async(&n.to_le_bytes(), done).expect("appended"));
    }
    let heard: Vec<Lsn> = (0..1000).map(|_| receive.recv_timeout(PATIENCE).expect("told")).collect();
    assert_eq!(heard, expected);
    let syncs = log.stats().expect("stats").syncs;
    assert!((1..=200).contains(&syncs), "{syncs} syncs for 1000 requests of one thread that waits for none");
    log.close().expect("closed");
    assert!(receive.try_recv().is_err(), "one was told twice");
}

#[test]
fn a_sync_covers_all_that_was_appended_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Wal::open(dir.path().join("log")).expect("a log");
    log.append(b"a").expect("appended");
    let last = log.append_batch(&["b", "c"]).expect("appended")[1];
    let (tell, heard) = told();
    log.sync_async(tell.clone()).expect("asked");
    let durable = heard.recv_timeout(PATIENCE).expect("told").expect("durable");
    assert!(durable > last && log.durable_lsn() >= durable);
    // Durable already: told all the same.
    log.when_durable(last, tell.clone()).expect("asked");
    assert_eq!(heard.recv_timeout(PATIENCE).expect("told").expect("durable"), last);
    let beyond = log.when_durable(log.tail().expect("the end"), tell);
    assert!(matches!(beyond, Err(Error::InvalidArgument(_))));
}

#[test]
fn a_failed_sync_is_told_to_those_it_concerns_and_to_nobody_else() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a log");
    let (tell, heard) = told();
    log.append_async(b"durable", tell.clone()).expect("appended");
    heard.recv_timeout(PATIENCE).expect("told").expect("durable");
    disk.inject(Fault::new(SimOp::Sync, 0, ErrorKind::Other));
    let lost = log.append(b"lost").expect("appended");
    log.when_durable(lost, tell.clone()).expect("asked");
    assert!(matches!(heard.recv_timeout(PATIENCE).expect("told"), Err(Error::Poisoned { .. })));
    // Lies below `durable`, so nothing is wrong with it.
    log.when_durable(Lsn::ZERO, tell.clone()).expect("asked");
    assert_eq!(heard.recv_timeout(PATIENCE).expect("told").expect("durable"), Lsn::ZERO);
    assert!(matches!(log.append_async(b"never", tell), Err(Error::Poisoned { .. })));
    assert!(log.close().is_err());
    assert!(heard.try_recv().is_err(), "a request that was refused was told of");
}

#[test]
fn a_close_tells_everyone_before_it_returns() {
    for _ in 0..50 {
        let log =
            small().buffer_size(1 << 14).segment_size(1 << 16).open_on(Arc::new(SimStorage::new())).expect("a log");
        let told: Arc<Mutex<BTreeMap<u64, usize>>> = Arc::default();
        let accepted = AtomicUsize::new(0);
        let told_by_the_close = std::thread::scope(|scope| {
            for _ in 0..3 {
                let (log, told, accepted) = (log.clone(), Arc::clone(&told), &accepted);
                scope.spawn(move || {
                    loop {
                        let told = Arc::clone(&told);
                        let done = move |result: libwal::Result<Lsn>| {
                            *told.lock().expect("no panic").entry(result.expect("durable").get()).or_default() += 1;
                        };
                        match log.append_async(b"record", done) {
                            Ok(_) => accepted.fetch_add(1, Ordering::SeqCst),
                            Err(Error::Closed) => return,
                            Err(error) => panic!("{error}"),
                        };
                    }
                });
            }
            while accepted.load(Ordering::SeqCst) < 30 {
                std::thread::yield_now();
            }
            log.clone().close().expect("closed");
            told.lock().expect("no panic").len()
        });
        // Those who were between their append and its return when it came were waited for.
        let told = told.lock().expect("no panic");
        assert_eq!(told.len(), accepted.load(Ordering::SeqCst), "not all that were accepted were told of");
        assert_eq!(told.len(), told_by_the_close, "some were told of after the close");
        assert!(told.values().all(|&times| times == 1));
    }
}

/// Whoever appended before a close may still ask while the close waits for the disk; after it the position says it all.
#[test]
fn a_log_that_is_being_closed_still_takes_requests() {
    let disk = SimStorage::new();
    let (reached, at_the_disk) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let (closing, gate) = (Arc::new(AtomicBool::new(false)), Mutex::new(gate));
    let watched = Arc::clone(&closing);
    // The first step of the disk after the close has begun waits.
    let step = move || {
        if watched.swap(false, Ordering::SeqCst) {
            reached.send(()).expect("the test listens");
            gate.lock().expect("no panic").recv().expect("the test lets it go on");
        }
    };
    let log = small().background(false).open_on(Stepping::over(&disk, Arc::new(step))).expect("a log");
    let lsn = log.append(b"in time").expect("appended");
    let (tell, heard) = told();
    std::thread::scope(|scope| {
        closing.store(true, Ordering::SeqCst);
        let closer = scope.spawn(|| log.clone().close());
        at_the_disk.recv_timeout(PATIENCE).expect("the close reaches the disk");
        assert!(matches!(log.append(b"late"), Err(Error::Closed)));
        log.when_durable(lsn, tell.clone()).expect("asked while it is being closed");
        go_on.send(()).expect("it waits");
        closer.join().expect("no panic").expect("closed");
    });
    assert_eq!(heard.try_recv().expect("told before the close returned").expect("durable"), lsn);
    assert!(matches!(log.when_durable(lsn, tell), Err(Error::Closed)));
    assert!(lsn < log.durable_lsn());
}

#[test]
fn what_is_told_may_use_and_close_the_log() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a log");
    let (send, receive) = mpsc::channel();
    let clone = log.clone();
    let first = log.append_async(b"first", move |_| {
        let again = send.clone();
        clone.append_async(b"second", move |result| again.send(result).expect("the test listens")).expect("appended");
        clone.append_and_sync(b"third").expect("appended");
        // The last handle: closes on the very thread that a close waits for.
        send.send(clone.close().map(|()| Lsn::ZERO)).expect("the test listens");
    });
    first.expect("appended");
    drop(log);
    receive.recv_timeout(PATIENCE).expect("told").expect("closed");
    receive.recv_timeout(PATIENCE).expect("told").expect("durable");
    // The commit thread may still be about to end, which keeps nothing locked.
    let log = open(&small(), &disk).expect("the log opens again");
    assert!(log.stats().expect("stats").closed_cleanly);
    assert_eq!(log.iter().expect("records").count(), 3);
}

/// What a panic carries, and who drops it panics.
struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("dropped"));
    }
}

#[test]
fn a_panic_in_one_call_keeps_nothing_from_the_others() {
    let log = open(&small(), &SimStorage::new()).expect("a log");
    let (tell, heard) = told();
    // Not `panic!`: the panic hook would print a message.
    log.append_async(b"a", |_| std::panic::resume_unwind(Box::new("told"))).expect("appended");
    log.append_async(b"a", |_| std::panic::resume_unwind(Box::new(PanicsAgain))).expect("appended");
    let lsn = log.append_async(b"b", tell).expect("appended");
    assert_eq!(heard.recv_timeout(PATIENCE).expect("told").expect("durable"), lsn);
    log.close().expect("closed");
}

#[test]
fn a_log_that_is_read_only_or_closed_refuses() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a log");
    let (tell, heard) = told();
    log.clone().close().expect("closed");
    assert!(matches!(log.append_async(b"a", tell.clone()), Err(Error::Closed)));
    assert!(matches!(log.sync_async(tell.clone()), Err(Error::Closed)));
    let log = open(&Options::new().read_only(true), &disk).expect("a log");
    assert!(matches!(log.append_async(b"a", tell.clone()), Err(Error::InvalidArgument(_))));
    assert!(matches!(log.when_durable(Lsn::ZERO, tell), Err(Error::InvalidArgument(_))));
    assert!(heard.try_recv().is_err());
}
