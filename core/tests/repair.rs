//! Repairs that are cut off: the next one finishes the work, and nothing is lost in between.

mod common;

use std::sync::Arc;

use common::{open, records, segment_name, small};
use libwal::storage::SimStorage;
use libwal::{Recovery, Report};

fn repair(disk: &SimStorage) -> libwal::Result<Report> {
    libwal::repair_on(Arc::new(disk.clone()), Arc::new(SimStorage::new()))
}

/// A cleanly closed log that lost the last five of its acknowledged records, and all behind them.
fn without_its_end() -> SimStorage {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    for n in 0..20u8 {
        log.append_and_sync(&[n; 500]).unwrap();
    }
    let all = records(&log);
    log.close().unwrap();
    let (from, last) = (all[15].0, all[19].0);
    for index in from / 4096..=last / 4096 {
        let mut bytes = disk.read_file(&segment_name(index)).unwrap();
        let at = if index == from / 4096 { 4096 + (from % 4096) as usize } else { 512 };
        bytes[at..].fill(0);
        disk.write_file(&segment_name(index), &bytes);
    }
    disk
}

/// The clean end stands in the newest slot only. A write over that slot that was torn would leave the older one, by which
/// the log ends where its records do.
#[test]
fn a_control_slot_that_a_repair_tears_leaves_the_newest_one() {
    let disk = without_its_end();
    assert!(open(&small(), &disk.kill()).is_err());
    let old = disk.read_file("LOCK").unwrap();
    let mut torn = 0;
    for operations in 0.. {
        let part = disk.kill();
        part.crash_after(operations);
        let repaired = repair(&part);
        let new = part.read_file("LOCK").unwrap();
        if new != old && torn < 2 {
            // What the last write changed, as far as the power let it come.
            let mut half = old.clone();
            for slot in [0, 4096] {
                half[slot..slot + 56].copy_from_slice(&new[slot..slot + 56]);
            }
            let after = disk.kill();
            after.write_file("LOCK", &half);
            assert!(open(&small(), &after.kill()).is_err(), "acknowledged records are gone, and the log opens");
            assert!(!repair(&after).unwrap().is_sound());
            assert_eq!(records(&open(&small(), &after).unwrap()).len(), 15);
            torn += 1;
            let whole = part.kill();
            assert!(repaired.is_err() && open(&small(), &whole).is_err(), "whole, and the padding is not written yet");
        }
        if repaired.is_ok() {
            break;
        }
    }
    assert_eq!(torn, 2);
}

/// A repair may find either slot damaged, also one whose sequence would be the higher one.
#[test]
fn a_damaged_control_slot_is_the_first_to_be_written() {
    for slot in [0, 4096] {
        let disk = without_its_end();
        disk.flip_bit("LOCK", slot + 39, 5);
        let end = libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {}).unwrap().tail;
        for operations in 0.. {
            let part = disk.kill();
            part.crash_after(operations);
            let done = repair(&part).is_ok();
            let part = part.crash(operations);
            repair(&part).unwrap();
            let log = open(&small(), &part).unwrap();
            assert_eq!(
                (records(&log).len(), log.tail().unwrap() >= end),
                (15, true),
                "slot {slot}, {operations} operations"
            );
            if done {
                break;
            }
        }
    }
}

/// A cleanly closed log with a damaged file in its middle, of which everything can be read.
fn with_a_damaged_header() -> (SimStorage, Vec<(u64, Vec<u8>)>) {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    for n in 0..40u8 {
        log.append(&[n; 300]).unwrap();
    }
    let all = records(&log);
    log.close().unwrap();
    assert!(disk.flip_bit(&segment_name(1), 20, 1));
    (disk, all)
}

fn asides(disk: &SimStorage) -> usize {
    disk.names().iter().filter(|name| name.ends_with(".damaged")).count()
}

#[test]
fn a_repair_that_is_cut_off_while_it_rebuilds_a_file_loses_nothing() {
    let mut aside = 0;
    for operations in 0.. {
        let mut done = false;
        for seed in 0..8 {
            let (disk, all) = with_a_damaged_header();
            disk.crash_after(operations);
            done = repair(&disk).is_ok();
            let disk = if seed == 0 { disk.kill() } else { disk.crash(seed) };
            aside += usize::from(disk.read_file(&segment_name(1)).is_none());
            let salvage = open(&small().recovery(Recovery::Salvage), &disk).unwrap();
            assert!(records(&salvage) == all, "{operations} operations, crash {seed}");
            drop(salvage);
            let report = repair(&disk).unwrap();
            assert!(report.damage.is_empty(), "{operations} operations, crash {seed}: {report:?}");
            assert_eq!(asides(&disk), 0);
            assert!(records(&open(&small(), &disk).unwrap()) == all, "{operations} operations, crash {seed}");
            // The same file once more.
            assert!(disk.flip_bit(&segment_name(1), 20, 1));
            repair(&disk).unwrap();
            assert!(records(&open(&small(), &disk).unwrap()) == all, "{operations} operations, crash {seed}");
        }
        if done {
            break;
        }
    }
    assert!(aside > 0, "never between the two renames");
}

#[test]
fn what_an_earlier_repair_put_aside_is_in_no_way() {
    let (disk, all) = with_a_damaged_header();
    let aside = format!("{}.damaged", segment_name(1));
    // Left over from a repair that was cut off before it removed it: the file under the name counts.
    disk.write_file(&aside, &disk.read_file(&segment_name(2)).unwrap());
    assert!(!repair(&disk).unwrap().is_sound());
    assert_eq!(asides(&disk), 0);
    assert!(records(&open(&small(), &disk).unwrap()) == all);
    // Also where nothing else is left to be done.
    disk.write_file(&aside, b"old");
    assert!(repair(&disk).unwrap().is_sound());
    assert_eq!(asides(&disk), 0);
}
