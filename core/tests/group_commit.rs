//! Faults of concurrency that other logs were found to have, shown on a storage whose syncs can be held back.

mod common;

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use common::watched::{Seen, watched};
use libwal::storage::{Fault, SimOp, SimStorage, Storage};
use libwal::{Error, Options, Wal};

/// What can be held back.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    syncs_held: bool,
    allocations_held: bool,
    writes_held: bool,
    /// How many calls wait.
    waiting: usize,
    /// How many syncs of segments were let through, and how long each takes.
    syncs: usize,
    sync_takes: Duration,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.state.lock().expect("not poisoned"));
        self.changed.notify_all();
    }

    fn pass(&self, held: impl Fn(&GateState) -> bool) {
        let mut state = self.state.lock().expect("not poisoned");
        state.waiting += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |state| held(state)).expect("not poisoned");
        state.waiting -= 1;
    }

    /// Waits until some call is held back.
    fn until_held(&self) {
        let state = self.state.lock().expect("not poisoned");
        drop(self.changed.wait_while(state, |state| state.waiting == 0).expect("not poisoned"));
    }

    fn syncs(&self) -> usize {
        self.state.lock().expect("not poisoned").syncs
    }
}

#[derive(Clone, Default)]
struct Gated {
    disk: SimStorage,
    gate: Arc<Gate>,
}

impl Gated {
    fn storage(&self) -> Arc<dyn Storage> {
        let gate = Arc::clone(&self.gate);
        watched(&self.disk, move |seen| match seen {
            Seen::ToAllocate(_) => gate.pass(|state| state.allocations_held),
            Seen::ToWrite(name, ..) if name.ends_with(".wal") => gate.pass(|state| state.writes_held),
            Seen::ToSync(name) if name.ends_with(".wal") => {
                gate.pass(|state| state.syncs_held);
                gate.set(|state| state.syncs += 1);
                let takes = gate.state.lock().expect("not poisoned").sync_takes;
                thread::sleep(takes);
            }
            _ => {}
        })
    }
}

/// A log that was opened before, so that its newest segment is synced through a handle that can be held back.
fn opened() -> (Gated, Wal) {
    let storage = Gated::default();
    let open = || options().open_on(storage.storage()).expect("the log opens");
    open().close().expect("closed");
    let wal = open();
    (storage, wal)
}

fn options() -> Options {
    Options::new().segment_size(1 << 16).buffer_size(1 << 14).background(false)
}

#[test]
fn waking_only_those_whose_record_became_durable() {
    let (storage, wal) = opened();
    let gate = &storage.gate;
    let early = wal.append(b"early").expect("appended");
    gate.set(|state| state.syncs_held = true);
    thread::scope(|scope| {
        let first = scope.spawn(|| wal.sync().expect("synced"));
        gate.until_held();
        // Appended while the sync is on the disk, so that sync says nothing about it.
        let late = wal.append(b"late").expect("appended");
        wal.flush().expect("flushed");
        let waiter = scope.spawn(|| wal.wait_durable(early, None));
        gate.set(|state| state.syncs_held = false);
        first.join().expect("synced");
        assert!(waiter.join().expect("woken").expect("durable"));
        assert!(wal.durable_lsn() <= late, "the sync began before the record was flushed");
        assert!(!wal.wait_durable(late, Some(Duration::from_millis(1))).expect("open"));
        wal.sync().expect("synced");
        assert!(wal.wait_durable(late, Some(Duration::ZERO)).expect("open"));
    });
}

#[test]
fn nothing_is_called_flushed_before_it_is_written() {
    let (storage, wal) = opened();
    let lsn = wal.append(b"on its way").expect("appended");
    storage.gate.set(|state| state.writes_held = true);
    let (flushed, returned) = thread::scope(|scope| {
        let flushes = [(); 2].map(|()| scope.spawn(|| wal.flush().expect("flushed")));
        storage.gate.until_held();
        let flushed = wal.stats().expect("open").flushed;
        // Whoever finds somebody else at it waits for the end of it.
        thread::sleep(Duration::from_millis(20));
        let returned = flushes.iter().any(|flush| flush.is_finished());
        storage.gate.set(|state| state.writes_held = false);
        (flushed, returned)
    });
    assert!(flushed <= lsn && !returned, "flushed is {flushed}, a flush returned: {returned}");
    assert!(wal.stats().expect("open").flushed > lsn);
}

#[test]
fn one_sync_serves_everybody_who_waits() {
    let (storage, wal) = opened();
    let gate = &storage.gate;
    wal.append(b"first").expect("appended");
    gate.set(|state| state.syncs_held = true);
    let before = gate.syncs();
    thread::scope(|scope| {
        scope.spawn(|| wal.sync().expect("synced"));
        gate.until_held();
        for n in 0..32u8 {
            let wal = &wal;
            scope.spawn(move || wal.append_and_sync(&[n; 40]).expect("synced"));
        }
        while wal.tail().expect("open").get() < wal.durable_lsn().get() + 32 * 48 {
            thread::yield_now();
        }
        // All have appended. Most of them wait by now; those that do not may need a sync of their own.
        thread::sleep(Duration::from_millis(50));
        gate.set(|state| state.syncs_held = false);
    });
    let syncs = gate.syncs() - before;
    assert!(syncs < 16, "{syncs} syncs for 32 threads");
}

#[test]
fn appends_go_on_while_a_sync_is_on_the_disk() {
    let (storage, wal) = opened();
    wal.append(b"first").expect("appended");
    storage.gate.set(|state| state.syncs_held = true);
    thread::scope(|scope| {
        let sync = scope.spawn(|| wal.sync().expect("synced"));
        storage.gate.until_held();
        // More than the buffer holds, so this is flushed as well.
        for _ in 0..100 {
            wal.append(&[1; 400]).expect("appended");
        }
        wal.flush().expect("flushed");
        assert!(!sync.is_finished());
        storage.gate.set(|state| state.syncs_held = false);
    });
}

/// A log in its second segment, whose background thread is held back in the making of the third one.
fn making_a_segment() -> (Gated, Wal) {
    let storage = Gated::default();
    let wal = options().background(true).open_on(storage.storage()).expect("the log opens");
    // The second one it prepares at once.
    while wal.stats().expect("open").segments < 2 {
        thread::yield_now();
    }
    storage.gate.set(|state| state.allocations_held = true);
    while wal.tail().expect("open").get() < (1 << 16) + 20_000 {
        wal.append(&[1; 400]).expect("appended");
    }
    storage.gate.until_held();
    (storage, wal)
}

#[test]
fn writers_are_not_stalled_by_the_preparation_of_a_segment() {
    let (storage, wal) = making_a_segment();
    while wal.tail().expect("open").get() < (2 << 16) - 1000 {
        wal.append_and_sync(&[1; 400]).expect("there is room in the second one");
    }
    assert!(matches!(wal.try_append(&[1; 4000]), Err(Error::Full)));
    storage.gate.set(|state| state.allocations_held = false);
    wal.append(&[1; 4000]).expect("appended");
}

/// Zeros of a large segment take seconds.
#[test]
fn a_checkpoint_and_a_close_do_not_wait_for_a_segment_that_is_made() {
    let (storage, wal) = making_a_segment();
    let checkpoint = wal.checkpoint(b"state").expect("durable");
    assert_eq!(wal.last_checkpoint(), Some(checkpoint));
    wal.truncate_before(checkpoint).expect("truncated");
    let writes = storage.disk.writes();
    let closer = thread::spawn(move || wal.close());
    // Until the closing is known to whoever makes the segment; nothing tells.
    thread::sleep(Duration::from_millis(50));
    storage.gate.set(|state| state.allocations_held = false);
    closer.join().expect("no panic").expect("closed");
    // The last marker and a control slot, not a segment of zeros and its header.
    assert!(storage.disk.writes() <= writes + 2, "{} writes", storage.disk.writes() - writes);
    assert!(options().open_on(Arc::new(storage.disk)).expect("the log").stats().expect("open").closed_cleanly);
}

/// Two threads that commit one record after the other share each sync, though each is away for a moment in between; if leaders
/// did not wait for who is about to come back, they would take turns, with one record in each.
#[test]
fn threads_that_come_back_from_a_sync_share_the_next() {
    const EACH: u64 = 100;
    let (storage, wal) = opened();
    storage.gate.set(|state| state.sync_takes = Duration::from_millis(3));
    let before = storage.gate.syncs();
    let commits = || {
        for _ in 0..EACH {
            wal.append_and_sync(b"one of two").expect("synced");
            thread::sleep(Duration::from_micros(200));
        }
    };
    thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(commits))));
    let syncs = (storage.gate.syncs() - before) as u64;
    // As many as one thread makes, and half as many again on a machine that is busy.
    assert!(syncs <= EACH * 3 / 2, "{syncs} syncs for twice {EACH} commits");
}

/// Whoever opens a log next goes on where it ends: no write of the handle before may land there afterwards.
#[test]
fn a_poisoned_log_keeps_its_lock_while_it_still_writes() {
    let (storage, wal) = opened();
    let first = wal.append_and_sync(b"first").expect("synced");
    storage.gate.set(|state| state.writes_held = true);
    let other = wal.clone();
    let writer = thread::spawn(move || other.append(b"late").and_then(|_| other.flush()));
    storage.gate.until_held();
    // Meanwhile something else fails: the making of a segment.
    storage.disk.inject(Fault::errno(SimOp::SyncDir, 0, 5));
    let poisoned = wal.append(&[1; 1 << 17]);
    assert!(matches!(poisoned, Err(Error::Poisoned { .. })), "{poisoned:?}");
    let closer = thread::spawn(move || wal.close());
    // Long enough for a close that does not wait.
    thread::sleep(Duration::from_millis(100));
    let open = || options().open_on(Arc::new(storage.disk.clone()));
    assert!(matches!(open(), Err(Error::Locked { .. })), "the lock was given back during a write");
    storage.gate.set(|state| state.writes_held = false);
    assert!(matches!(closer.join().expect("no panic"), Err(Error::Poisoned { .. })));
    let _ = writer.join().expect("no panic");
    let next = open().expect("recovered");
    let lsn = next.append_and_sync(b"next").expect("synced");
    let read = |lsn| next.read(lsn).expect("a record").data;
    assert_eq!((read(first), read(lsn)), (b"first".to_vec(), b"next".to_vec()));
}

/// What a truncation, a close and the next handle have come to.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Come {
    Written,
    Truncating,
    Freeing,
    Closed,
    OpenedByTheNext,
}

/// A truncation frees one segment after the other, and a close can come in between. What it did not come to is no longer its
/// to touch: another handle may have the log by then.
#[test]
fn a_truncation_that_a_close_overtakes_touches_nothing_afterwards() {
    let disk = SimStorage::new();
    let come = Arc::new((Mutex::new(Come::Written), Condvar::new()));
    let late = Arc::new(Mutex::new(Vec::new()));
    let (seen_come, seen_late) = (Arc::clone(&come), Arc::clone(&late));
    let storage = watched(&disk, move |seen| {
        let Seen::ToRemove(name) = seen else { return };
        let (lock, changed) = &*seen_come;
        let mut now = lock.lock().expect("no panic");
        match *now {
            Come::Written => {}
            Come::Truncating | Come::Freeing => {
                *now = Come::Freeing;
                changed.notify_all();
                // The close waits for the same lock meanwhile, and gets it before the next segment does.
                drop(changed.wait_timeout_while(now, Duration::from_millis(10), |now| *now < Come::Closed));
            }
            Come::Closed | Come::OpenedByTheNext => {
                drop(changed.wait_while(now, |now| *now < Come::OpenedByTheNext).expect("no panic"));
                seen_late.lock().expect("no panic").push(name.to_owned());
            }
        }
    });
    let (lock, changed) = &*come;
    let reach = |next: Come| {
        *lock.lock().expect("no panic") = next;
        changed.notify_all();
    };
    let options = options().recycle(0);
    let wal = options.clone().open_on(storage).expect("the log opens");
    for n in 0..20u8 {
        wal.append_and_sync(&[n; 1 << 16]).expect("synced");
    }
    reach(Come::Truncating);
    let (truncating, tail) = (wal.clone(), wal.tail().expect("open"));
    let truncation = thread::spawn(move || truncating.truncate_before(tail));
    drop(changed.wait_while(lock.lock().expect("no panic"), |now| *now < Come::Freeing).expect("no panic"));
    wal.close().expect("closed");
    reach(Come::Closed);
    let left = disk.names().iter().filter(|name| name.ends_with(".wal")).count();
    assert!(left > 5, "the close has overtaken nothing: {left} segments");
    let next = options.open_on(Arc::new(disk.clone())).expect("the next handle has the lock");
    next.append_and_sync(b"next").expect("synced");
    let names = disk.names();
    reach(Come::OpenedByTheNext);
    drop(truncation.join().expect("no panic"));
    assert_eq!(*late.lock().expect("no panic"), [""; 0], "removed behind the back of the next handle");
    assert_eq!(disk.names(), names);
}
