//! What damage leaves, and what a repair makes of it.

mod common;

use std::sync::Arc;

use common::{open, records, segment_name, small};
use libwal::format::{Control, SECTOR};
use libwal::storage::{SimStorage, Storage};
use libwal::{Error, Lsn, Recovery, Report, Wal};

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

fn salvaged(disk: &SimStorage) -> Vec<u64> {
    let log = open(&small().recovery(Recovery::Salvage), disk).unwrap();
    records(&log).into_iter().map(|(lsn, _)| lsn).collect()
}

/// A log whose head is of epoch one and begins `behind` bytes behind the base of its segment, where its entry sector is
/// damaged; and its records.
fn with_a_damaged_entry(behind: u64) -> (SimStorage, Vec<u64>) {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    log.append_and_sync(b"epoch zero").unwrap();
    let disk = killed(&disk, log);
    let log = open(&small(), &disk).unwrap();
    let at = log.tail().unwrap().get();
    log.append(&vec![1; (4096 + behind - at - 8) as usize]).unwrap();
    let all: Vec<u64> = (0..20u8).map(|n| log.append_and_sync(&[n; 500]).unwrap().get()).collect();
    assert_eq!(all[0], 4096 + behind);
    log.truncate_before(Lsn::new(all[0])).unwrap();
    log.close().unwrap();
    assert!(disk.flip_bit(&segment_name(1), 520, 1));
    (disk, all)
}

/// There is no room for an epoch record in front of the first one.
#[test]
fn a_head_in_a_later_epoch_is_mended() {
    for behind in (8..80).step_by(8) {
        let (disk, all) = with_a_damaged_entry(behind);
        assert_eq!(salvaged(&disk), all, "{behind} bytes");
        repair(&disk).unwrap();
        assert_eq!(records(&open(&small(), &disk).unwrap()).len(), all.len(), "{behind} bytes");
    }
}

#[test]
fn a_first_record_at_the_base_of_the_head_is_found() {
    let (disk, all) = with_a_damaged_entry(0);
    assert_eq!(salvaged(&disk), all);
    let report = repair(&disk).unwrap();
    assert!(report.damage.is_empty() && report.files.len() == 1, "{report:?}");
    assert_eq!(records(&open(&small(), &disk).unwrap()).len(), all.len());
}

/// Where the log began stood in the lock file: that it may be there, in epoch zero, is not to be made up.
#[test]
fn a_head_in_a_later_epoch_is_mended_without_the_lock_file() {
    for behind in (0..80).step_by(8) {
        let (disk, all) = with_a_damaged_entry(behind);
        disk.remove_file("LOCK");
        assert_eq!(salvaged(&disk), all, "{behind} bytes");
        repair(&disk).unwrap_or_else(|error| panic!("{behind} bytes: {error}"));
        assert!(repair(&disk).unwrap().is_sound(), "{behind} bytes");
        let log = open(&small(), &disk).unwrap_or_else(|error| panic!("{behind} bytes: {error}"));
        assert_eq!(records(&log).into_iter().map(|(lsn, _)| lsn).collect::<Vec<_>>(), all, "{behind} bytes");
    }
}

/// The other segments say whose they are.
#[test]
fn a_header_with_an_absurd_version_is_damage_also_without_the_lock_file() {
    for index in 0..5 {
        let disk = SimStorage::new();
        let log = open(&small(), &disk).unwrap();
        for n in 0..40 {
            log.append_and_sync(&[n; 400]).unwrap();
        }
        let all = records(&log);
        log.close().unwrap();
        disk.remove_file("LOCK");
        assert!(disk.flip_bit(&segment_name(index), 9, 1));
        let report = repair(&disk).unwrap_or_else(|error| panic!("segment {index}: {error}"));
        assert!(report.damage.is_empty() && report.files.len() == 1, "{report:?}");
        assert!(records(&open(&small(), &disk).unwrap()) == all, "segment {index}");
    }
}

/// What a recovery has shut out stands behind the end still, and a hole up to the end hides that the epoch was raised.
#[test]
fn damage_at_the_end_brings_nothing_back_that_was_shut_out() {
    for close in [false, true] {
        // Nothing is left in memory.
        let options = small().shared_buffer(false);
        let disk = SimStorage::new();
        let log = open(&options, &disk).unwrap();
        log.append_and_sync(b"kept").unwrap();
        let torn: Vec<_> = (0..30u8).map(|n| log.append(&[n; 300]).unwrap().get()).collect();
        log.flush().unwrap();
        let disk = killed(&disk, log);
        flip(&disk, torn[0] + 8);
        let log = open(&options, &disk).unwrap();
        for n in 0..3u8 {
            log.append_and_sync(&[n; 300]).unwrap();
        }
        assert_eq!(records(&log).len(), 4);
        let disk = if close {
            log.close().unwrap();
            disk
        } else {
            killed(&disk, log)
        };
        let mut bytes = disk.read_file(&segment_name(0)).unwrap();
        bytes[4096 + torn[0] as usize..].fill(0);
        disk.write_file(&segment_name(0), &bytes);
        assert_eq!(salvaged(&disk), [0], "closed: {close}");
        let report = repair(&disk).unwrap();
        assert_eq!((report.records, report.damage.len(), report.damage[0].from.get()), (1, 1, torn[0]), "{report:?}");
        assert!(report.tail.get() < 4096, "{report:?}");
        assert!(repair(&disk).unwrap().is_sound());
        for _ in 0..2 {
            let log = open(&small(), &disk).unwrap();
            assert_eq!(records(&log)[0], (0, b"kept".to_vec()));
            assert!(records(&log).iter().all(|(lsn, data)| *lsn == 0 || data == b"new"), "closed: {close}");
            log.append_and_sync(b"new").unwrap();
            log.close().unwrap();
        }
    }
}

/// The hole that lost an epoch record ends with the rest of a batch, which an entry sector names: behind the new epoch record's
/// beginning.
#[test]
fn a_repair_that_is_cut_off_behind_its_epoch_record_is_finished() {
    for operations in 0.. {
        let disk = SimStorage::new();
        let log = open(&small(), &disk).unwrap();
        log.append_batch(&[vec![1; 4000], vec![2; 1000]]).unwrap();
        log.sync().unwrap();
        let disk = killed(&disk, log);
        let log = open(&small(), &disk).unwrap();
        let at = log.tail().unwrap().get();
        let batch = log.append_batch(&[vec![3; (8208 - at - 8) as usize], vec![4; 8]]).unwrap();
        assert_eq!(batch[1].get(), 8208);
        log.append(b"behind").unwrap();
        log.close().unwrap();
        disk.remove_file(&segment_name(1));
        disk.crash_after(operations);
        let done = repair(&disk).is_ok();
        let disk = disk.crash(operations);
        repair(&disk).unwrap_or_else(|error| panic!("{operations} operations: {error}"));
        assert!(repair(&disk).unwrap().is_sound());
        assert_eq!(records(&open(&small(), &disk).unwrap()).len(), 1);
        if done {
            break;
        }
    }
}

/// The lock file is gone, and one of the files, perhaps the first, is another log's.
#[test]
fn a_foreign_segment_does_not_make_the_log_another_one() {
    for foreign in 0..3 {
        let [disk, other] = [0, 100].map(|first: u8| {
            let disk = SimStorage::new();
            let log = open(&small(), &disk).unwrap();
            for n in first..first + 20 {
                log.append_and_sync(&[n; 700]).unwrap();
            }
            log.close().unwrap();
            disk
        });
        let all = salvaged(&disk);
        disk.remove_file("LOCK");
        disk.write_file(&segment_name(foreign), &other.read_file(&segment_name(foreign)).unwrap());
        let lost = |lsn: u64| lsn < (foreign + 1) << 12 && lsn + 708 > foreign << 12;
        let kept: Vec<u64> = all.into_iter().filter(|&lsn| !lost(lsn)).collect();
        assert_eq!(salvaged(&disk), kept, "segment {foreign}");
        repair(&disk).unwrap();
        let left: Vec<_> = records(&open(&small(), &disk).unwrap()).into_iter().map(|(lsn, _)| lsn).collect();
        assert_eq!(left, kept, "segment {foreign}");
    }
}

/// Several epochs begin and end inside a segment.
#[test]
fn records_of_an_epoch_that_no_entry_sector_names_are_found() {
    let mut disk = SimStorage::new();
    let mut all = Vec::new();
    for epoch in 0..4u8 {
        let log = open(&small(), &disk).unwrap();
        for n in 0..4u8 {
            all.push(log.append(&[epoch * 10 + n; 40]).unwrap().get());
        }
        log.sync().unwrap();
        disk = killed(&disk, log);
    }
    // The epoch records in front of each epoch's first record, one at a time and all together.
    for lost in [&[4][..], &[8], &[12], &[4, 8], &[4, 8, 12]] {
        let disk = disk.kill();
        lost.iter().for_each(|&nth| flip(&disk, all[nth] - 32 + 10));
        assert_eq!(salvaged(&disk), all, "{lost:?}");
        repair(&disk).unwrap();
        assert_eq!(records(&open(&small(), &disk).unwrap()).len(), all.len(), "{lost:?}");
    }
}

/// The header words behind the good record lead nowhere.
#[test]
fn a_record_between_two_bad_ones_is_found() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    let mut all: Vec<u64> = (0..10u8).map(|n| log.append(&[n; 100]).unwrap().get()).collect();
    log.close().unwrap();
    flip(&disk, all[3] + 20);
    // The kind.
    assert!(disk.flip_bit(&segment_name(0), 4096 + all[5] + 7, 7));
    all.retain(|&lsn| ![3 * 112, 5 * 112].contains(&lsn));
    assert_eq!(salvaged(&disk), all);
    repair(&disk).unwrap();
    assert_eq!(records(&open(&small(), &disk).unwrap()).len(), 8);
}

/// All that was in force behind the place where a recovery cut the log is lost, and what it cut off stands in a later segment.
#[test]
fn a_tail_that_was_shut_out_does_not_come_back_behind_a_hole() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    let one = log.append_and_sync(b"one").unwrap();
    let cut = log.append(&[2; 900]).unwrap();
    for _ in 0..10 {
        log.append(&[3; 900]).unwrap();
    }
    log.flush().unwrap();
    let disk = killed(&disk, log);
    // The power took one of them, and the buffer.
    disk.remove_memory("");
    flip(&disk, cut.get() + 100);
    let log = open(&small(), &disk).unwrap();
    let all: Vec<_> = [one, log.append_and_sync(b"in force").unwrap()].into_iter().map(Lsn::get).collect();
    log.sync().unwrap();
    log.append_and_sync(b"evidence").unwrap();
    let disk = killed(&disk, log);
    assert_eq!(salvaged(&disk)[..2], all);
    disk.remove_memory("");
    // What was in force is lost, and the shut out records behind it in this segment.
    let mut bytes = disk.read_file(&segment_name(0)).unwrap();
    bytes[4096 + cut.get() as usize..].fill(0);
    disk.write_file(&segment_name(0), &bytes);
    assert_eq!(salvaged(&disk), all[..1]);
    repair(&disk).unwrap();
    assert_eq!(records(&open(&small(), &disk).unwrap()).len(), 1);
}

/// It may be all there is of a segment: an open that passed over it would begin a shorter log, or a new one.
#[test]
fn no_open_passes_over_what_was_put_aside() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    for n in 0..9u8 {
        log.append_and_sync(&[n; 700]).unwrap();
    }
    let all = records(&log);
    let left = killed(&disk, log);
    for (lock, all_aside) in [(true, true), (false, true), (false, false)] {
        let disk = left.kill();
        if !lock {
            disk.write_file("LOCK", &[0; 8192]);
        }
        let last = disk.names().iter().filter(|name| name.ends_with(".wal")).count() as u64 - 1;
        assert!(last > 0);
        for index in if all_aside { 0..=last } else { last..=last } {
            let name = segment_name(index);
            disk.write_file(&format!("{name}.damaged"), &disk.read_file(&name).unwrap());
            disk.remove_file(&name);
        }
        let before = disk.names();
        let opened = open(&small(), &disk).map(drop);
        assert!(matches!(opened, Err(Error::Corrupt { .. })), "{lock}, {all_aside}: {opened:?}");
        assert_eq!(disk.names(), before);
        assert!(!repair(&disk).unwrap().is_sound());
        assert!(records(&open(&small(), &disk).unwrap()) == all);
        assert!(!disk.names().iter().any(|name| name.ends_with(".damaged")));
    }
}

/// The directory as a repair leaves it that is killed right behind its first change.
#[test]
fn a_log_that_is_being_repaired_can_be_salvaged_only() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    let all: Vec<u64> = (0..10u8).map(|n| log.append_and_sync(&[n; 500]).unwrap().get()).collect();
    log.close().unwrap();
    let mut lock = disk.read_file("LOCK").unwrap();
    for slot in [0, 4096] {
        let mut control = Control::parse(&lock[slot..slot + SECTOR]).unwrap();
        control.repairing = true;
        lock[slot..slot + SECTOR].copy_from_slice(&control.to_bytes());
    }
    disk.write_file("LOCK", &lock);
    for options in [small(), small().read_only(true)] {
        let error = open(&options, &disk).map(drop).unwrap_err();
        assert!(matches!(&error, Error::Corrupt { path, .. } if path.ends_with("LOCK")), "{error}");
        assert!(error.to_string().contains("repair it again"), "{error}");
    }
    assert!(disk.read_file("LOCK").unwrap() == lock, "a refused open changes nothing");
    assert_eq!(salvaged(&disk), all);
    let report = libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {}).unwrap();
    assert!(
        report.damage.is_empty() && report.files.len() == 1 && report.files[0].path.ends_with("LOCK"),
        "{report:?}"
    );
    assert_eq!(repair(&disk).unwrap(), report);
    assert_eq!(records(&open(&small(), &disk).unwrap()).len(), all.len());
}

/// Of a log without its lock file only segments are left that lie inside one record.
#[test]
fn segments_from_the_middle_of_a_record_are_no_sound_log() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    log.append_and_sync(&vec![1; 5 * 4096]).unwrap();
    log.append_and_sync(b"behind").unwrap();
    let left = killed(&disk, log);
    for name in left.names() {
        assert!(["1.wal", "2.wal", "3.wal"].iter().any(|kept| name.ends_with(kept)) || left.remove_file(&name));
    }
    assert!(matches!(open(&small(), &left.kill()), Err(Error::Corrupt { .. })));
    assert!(matches!(open(&small().read_only(true), &left.kill()), Err(Error::Corrupt { .. })));
    assert!(!repair(&left).unwrap().is_sound());
    let log = open(&small(), &left).unwrap();
    let lsn = log.append_and_sync(b"next").unwrap();
    assert!(lsn >= Lsn::new(4096) && records(&log).len() == 1);
}
