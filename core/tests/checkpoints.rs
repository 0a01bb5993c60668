//! Checkpoints and truncation while others use the log: a replay begins at the checkpoint there is, and nobody waits long.

mod common;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::watched::{Seen, watched};
use common::{open, small};
use libwal::storage::{Fault, SimOp, SimStorage};
use libwal::{Error, Lsn, Wal};

/// Appends a few segments, makes a checkpoint behind them, and drops what lies before it.
fn move_on(wal: &Wal) -> Lsn {
    for n in 0..20 {
        wal.append(&[n; 1000]).expect("appended");
    }
    let checkpoint = wal.checkpoint(b"later").expect("a checkpoint");
    wal.truncate_before(checkpoint).expect("truncated");
    checkpoint
}

fn replayed_from(wal: &Wal) -> libwal::Result<Lsn> {
    Ok(wal.iter_from_checkpoint()?.next().expect("a record")?.lsn)
}

#[test]
fn a_failed_read_is_no_missing_checkpoint() {
    for nth in 0..8 {
        let disk = SimStorage::new();
        let wal = open(&small(), &disk).expect("a new log");
        wal.append(b"before").expect("appended");
        let checkpoint = wal.checkpoint(b"state").expect("a checkpoint");
        disk.inject(Fault::new(SimOp::Any, nth, ErrorKind::Other));
        assert_eq!(wal.last_checkpoint(), Some(checkpoint));
        match replayed_from(&wal) {
            Ok(lsn) => assert_eq!(lsn, checkpoint),
            Err(error) => assert!(matches!(error, Error::Io { .. }), "{error}"),
        }
    }
}

/// At whichever file that is opened on the way: another thread moves the checkpoint just then.
#[test]
fn there_is_a_checkpoint_at_every_instant() {
    for nth in 0..6 {
        for replay in [false, true] {
            let disk = SimStorage::new();
            let (mover, opens) = (Arc::new(Mutex::new(None::<Wal>)), AtomicUsize::new(0));
            let shared = Arc::clone(&mover);
            let storage = watched(&disk, move |seen| {
                if matches!(seen, Seen::ToOpen(name) if name.ends_with(".wal")) {
                    let mover = shared.lock().expect("not poisoned").take();
                    match mover {
                        Some(wal) if opens.fetch_add(1, Ordering::Relaxed) == nth => drop(move_on(&wal)),
                        other => *shared.lock().expect("not poisoned") = other,
                    }
                }
            });
            let wal = small().open_on(storage).expect("a new log");
            wal.append(b"x").expect("appended");
            let first = wal.checkpoint(b"first").expect("a checkpoint");
            *mover.lock().expect("not poisoned") = Some(wal.clone());
            let seen = if replay {
                // What it was made for may be truncated away before it is read.
                let read = wal.iter_from_checkpoint().expect("an iterator").next().expect("a record");
                if matches!(read, Err(Error::Truncated { .. })) {
                    Some(first)
                } else {
                    Some(read.expect("a record").lsn)
                }
            } else {
                wal.last_checkpoint()
            };
            drop(mover.lock().expect("not poisoned").take());
            assert!(seen == Some(first) || seen.is_some() && seen == wal.last_checkpoint(), "{nth}: {seen:?}");
        }
    }
}

#[test]
fn a_view_replays_from_the_checkpoint_there_is() {
    let disk = SimStorage::new();
    let wal = open(&small(), &disk).expect("a new log");
    let first = wal.checkpoint(b"first").expect("a checkpoint");
    let view = small().read_only(true).open_on(Arc::new(disk.clone())).expect("a view");
    assert_eq!((view.last_checkpoint(), replayed_from(&view).expect("a record")), (Some(first), first));
    for _ in 0..3 {
        let moved = move_on(&wal);
        assert_eq!((replayed_from(&view).expect("a record"), view.last_checkpoint()), (moved, Some(moved)));
    }
    wal.append_and_sync(&[1; 9000]).expect("synced");
    wal.truncate_before(wal.tail().expect("a tail")).expect("truncated");
    assert_eq!((view.last_checkpoint(), wal.last_checkpoint()), (None, None), "it was truncated away");
}

/// Behind a cut that an earlier recovery made in the same segment, records are of another epoch than its entry sector names.
#[test]
fn a_position_is_found_as_soon_after_a_recovery() {
    let (disk, reads) = (SimStorage::new(), Arc::new(AtomicUsize::new(0)));
    let opened = |disk: &SimStorage| {
        let counted = Arc::clone(&reads);
        let storage = watched(disk, move |seen| {
            counted.fetch_add(usize::from(matches!(seen, Seen::ToRead(..))), Ordering::Relaxed);
        });
        small().segment_size(1 << 22).open_on(storage).expect("opened")
    };
    let reads_of = |wal: &Wal| {
        let lsn = wal.append_and_sync(b"one").expect("synced");
        wal.append_and_sync(b"another").expect("synced");
        let before = reads.load(Ordering::Relaxed);
        wal.sync_to(lsn).expect("durable");
        reads.load(Ordering::Relaxed) - before
    };
    let wal = opened(&disk);
    for _ in 0..3000 {
        wal.append(&[1; 1000]).expect("appended");
    }
    let first = reads_of(&wal);
    let killed = disk.kill();
    drop(wal);
    let again = reads_of(&opened(&killed));
    assert!(again <= 2 * first, "{again} reads, and {first} before the recovery");
}

/// A segment is prepared between two of them, not behind the last.
#[test]
fn appends_go_on_while_old_segments_are_removed() {
    const OLD: usize = 60;
    let (disk, removed) = (SimStorage::new(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&removed);
    let storage = watched(&disk, move |seen| {
        if matches!(seen, Seen::ToRemove(_)) {
            counted.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(5));
        }
    });
    let wal = small().recycle(0).open_on(storage).expect("a new log");
    while wal.tail().expect("a tail").get() < OLD as u64 * 4096 {
        wal.append(&[1; 1000]).expect("appended");
    }
    wal.sync().expect("synced");
    removed.store(0, Ordering::Relaxed);
    let before = thread::scope(|scope| {
        scope.spawn(|| wal.truncate_before(wal.tail().expect("a tail")).expect("truncated"));
        while removed.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        wal.append(&[1; 9000]).expect("appended");
        removed.load(Ordering::Relaxed)
    });
    let all = removed.load(Ordering::Relaxed);
    assert!(all >= OLD - 2 && before < all - 5, "the append was done after {before} of {all} removals");
}
