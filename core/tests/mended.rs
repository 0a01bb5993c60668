//! What damage leaves, and what a repair makes of it.

mod common;

use std::sync::Arc;

use common::{open, records, segment_name, small};
use libwal::storage::SimStorage;
use libwal::{Report, Wal};

fn repair(disk: &SimStorage) -> libwal::Result<Report> {
    libwal::repair_on(Arc::new(disk.clone()), Arc::new(SimStorage::new()))
}

fn flip(disk: &SimStorage, lsn: u64) {
    assert!(disk.flip_bit(&segment_name(lsn / 4096), 4096 + lsn % 4096, 3));
}

/// What the log's process left when it was killed.
fn killed(disk: &SimStorage, log: Wal) -> SimStorage {
    let left = disk.kill();
    disk.crash_after(0);
    drop(log);
    left
}

/// Markers and entry sectors name the lost checkpoint.
#[test]
fn a_replay_begins_at_the_checkpoint_that_a_repair_left() {
    for (with_the_one_before, close) in [(false, false), (false, true), (true, false), (true, true)] {
        let disk = SimStorage::new();
        let log = open(&small(), &disk).unwrap();
        let one = log.checkpoint(b"one").unwrap();
        let before = log.append_and_sync(b"before").unwrap();
        let two = log.checkpoint(b"two").unwrap();
        for n in 0..20u8 {
            log.append_and_sync(&[n; 500]).unwrap();
        }
        let disk = if close {
            log.close().unwrap();
            disk
        } else {
            killed(&disk, log)
        };
        flip(&disk, two.get() + 8);
        if with_the_one_before {
            flip(&disk, before.get() + 8);
        }
        repair(&disk).unwrap();
        // The second opening finds the log closed cleanly.
        for _ in 0..2 {
            let log = open(&small(), &disk).unwrap();
            assert_eq!(log.last_checkpoint(), Some(one));
            let all: Vec<_> = log.iter_from_checkpoint().unwrap().map(Result::unwrap).collect();
            assert_eq!((all[0].lsn, all.len()), (one, 22 - usize::from(with_the_one_before)));
            log.close().unwrap();
        }
    }
}

/// The older control slot does not name the last segment, and the entry sector that would tell so is damaged as well.
#[test]
fn what_only_a_damaged_slot_and_a_damaged_entry_named_is_found() {
    let mut older = 0;
    for count in 1..60 {
        let disk = SimStorage::new();
        let log = open(&small(), &disk).unwrap();
        for n in 0..count {
            log.append_and_sync(&[n; 400]).unwrap();
        }
        let disk = killed(&disk, log);
        let last = disk.names().iter().filter(|name| name.ends_with(".wal")).count() as u64 - 1;
        for slot in [0, 4096] {
            let disk = disk.kill();
            assert!(disk.flip_bit("LOCK", slot + 40, 1));
            assert!(disk.flip_bit(&segment_name(last), 520, 1));
            if open(&small(), &disk.kill()).is_ok() {
                continue;
            }
            older += 1;
            assert!(!repair(&disk).unwrap().is_sound(), "{count} records, slot {slot}");
            assert_eq!(records(&open(&small(), &disk).unwrap()).len(), usize::from(count));
        }
    }
    assert!(older > 0);
}
