//! Repairs that are cut off: the next one finishes the work, and nothing is lost in between.

mod common;

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use common::watched::{Seen, watched};
use common::{open, records, segment_name, small};
use libwal::format::{Control, Identity};
use libwal::storage::{Fault, SimOp, SimStorage};
use libwal::{Error, Lsn, Recovery, Report};

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

/// The slot that a killed repair wrote may be in the page cache only: then the other one is all that the disk knows.
#[test]
fn a_control_slot_that_is_torn_after_a_killed_repair_leaves_what_the_disk_knows() {
    let damaged = without_its_end();
    let end = libwal::verify_on(Arc::new(damaged.clone()), 1, &|_| {}).unwrap().tail;
    let mut torn = 0;
    for killed_after in 0.. {
        let first = damaged.kill();
        first.crash_after(killed_after);
        let done = repair(&first).is_ok();
        let second = first.kill();
        let (images, disk) = (Arc::new(Mutex::new(Vec::new())), second.clone());
        let kept = Arc::clone(&images);
        let storage = watched(&second, move |seen| {
            let Seen::ToWrite("LOCK", offset, bufs) = seen else { return };
            for seed in 0..8 {
                let image = disk.crash(seed);
                let mut bytes = image.read_file("LOCK").unwrap();
                bytes[offset as usize..][..56].copy_from_slice(&bufs[0][..56]);
                image.write_file("LOCK", &bytes);
                kept.lock().unwrap().push(image);
            }
        });
        libwal::repair_on(storage, Arc::new(SimStorage::new())).unwrap();
        for image in &*images.lock().unwrap() {
            let report = libwal::verify_on(Arc::new(image.clone()), 1, &|_| {}).unwrap();
            assert!((report.records, report.tail) == (15, end), "killed after {killed_after}: {report:?}");
            torn += 1;
        }
        if done {
            break;
        }
    }
    assert!(torn > 100, "{torn}");
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

/// What it was put aside for has the name.
#[test]
fn what_a_repair_put_aside_goes_with_the_next_open_or_repair() {
    let (whole, all) = with_a_damaged_header();
    repair(&whole).unwrap();
    let lock = whole.read_file("LOCK").unwrap();
    let slot = Control::parse(&lock[..512]).unwrap();
    let (id, shift) = (slot.id, slot.shift);
    // Below the end; and behind it, where a segment was made that no control slot came to name.
    for index in [1, slot.end] {
        for repairs in [false, true] {
            let disk = whole.kill();
            if index == slot.end {
                let mut bytes = vec![0; 8192];
                bytes[..512].copy_from_slice(&Identity { id, index, shift }.to_bytes());
                disk.write_file(&segment_name(index), &bytes);
            }
            disk.write_file(&format!("{}.damaged", segment_name(index)), &disk.read_file(&segment_name(2)).unwrap());
            if repairs {
                assert!(repair(&disk).unwrap().is_sound());
            } else {
                assert!(records(&open(&small(), &disk).unwrap()) == all);
            }
            assert_eq!(asides(&disk), 0, "segment {index}, repairs {repairs}");
        }
    }
}

/// A closed log with a batch of eight over several segments, or in one, and another one right behind it. Returns the positions of both.
fn with_batches(len: usize) -> (SimStorage, [Vec<Lsn>; 2]) {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    log.append(b"before").unwrap();
    let batches = [1u8, 11].map(|first| {
        let members: Vec<Vec<u8>> = (first..first + 8).map(|n| vec![n; len]).collect();
        log.append_batch(&members).unwrap()
    });
    log.append(b"behind").unwrap();
    log.close().unwrap();
    (disk, batches)
}

/// Of the two batches the second is whole, and the first is gone, whoever asks and however.
fn only_the_second_is_left(disk: &SimStorage, [lost, kept]: &[Vec<Lsn>; 2]) {
    let log = open(&small(), disk).unwrap();
    let all: Vec<_> = records(&log).into_iter().map(|(lsn, _)| Lsn::new(lsn)).collect();
    assert_eq!((all.len(), &all[1..9]), (10, &kept[..]));
    for &lsn in lost {
        assert!(matches!(log.read(lsn), Err(Error::InvalidArgument(_))), "{:?}", log.read(lsn));
        // At the beginning of the padding, what is behind it is next.
        if let Ok(mut iter) = log.iter_from(lsn) {
            assert_eq!((lsn, iter.next().unwrap().unwrap().lsn), (lost[0], kept[0]));
        }
    }
}

#[test]
fn what_a_repair_dropped_cannot_be_read_by_its_position() {
    for len in [50, 1500] {
        for member in 0..8 {
            let (disk, batches) = with_batches(len);
            let lsn = batches[0][member].get() + 20;
            assert!(disk.flip_bit(&segment_name(lsn / 4096), 4096 + lsn % 4096, 3));
            repair(&disk).unwrap();
            only_the_second_is_left(&disk, &batches);
        }
    }
}

#[test]
fn a_repair_that_is_cut_off_while_it_drops_a_batch_drops_no_more_and_no_less() {
    for (len, member) in [(50, 0), (50, 1), (50, 7), (1500, 0), (1500, 2), (1500, 5), (1500, 7)] {
        for operations in 0.. {
            let mut done = false;
            for seed in 0..8 {
                let (disk, batches) = with_batches(len);
                let lsn = batches[0][member].get() + 20;
                assert!(disk.flip_bit(&segment_name(lsn / 4096), 4096 + lsn % 4096, 3));
                disk.crash_after(operations);
                done = repair(&disk).is_ok();
                let disk = if seed == 0 { disk.kill() } else { disk.crash(seed) };
                // What opens in between shows no part of the batch to who reads all.
                let strict = open(&small(), &disk.kill()).and_then(|log| log.iter()?.collect::<Result<Vec<_>, _>>());
                assert!(strict.as_ref().map_or(true, |all| all.len() == 10), "{operations} operations, crash {seed}");
                repair(&disk).unwrap();
                only_the_second_is_left(&disk, &batches);
                assert!(repair(&disk).unwrap().is_sound());
            }
            if done {
                break;
            }
        }
    }
}

/// A closed log of two epochs that lost the segment with the record that raised the epoch.
fn without_an_epoch_record() -> SimStorage {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    log.append_batch(&[vec![1; 3000], vec![2; 1080]]).unwrap();
    log.sync().unwrap();
    let killed = disk.kill();
    disk.crash_after(0);
    drop(log);
    let log = open(&small(), &killed).unwrap();
    for n in 0..12u8 {
        log.append_and_sync(&[n; 700]).unwrap();
    }
    log.close().unwrap();
    killed.remove_file(&segment_name(1));
    killed
}

/// A log on a full disk: of its last segment only the newest control slot tells, and the header. Both are damaged.
fn with_a_segment_that_no_slot_names() -> SimStorage {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    for n in 0..8u8 {
        log.append_and_sync(&[n; 700]).unwrap();
    }
    disk.inject(Fault::new(SimOp::Create, 0, ErrorKind::StorageFull).sticky());
    while log.append_and_sync(&[9; 700]).is_ok() {}
    let (end, count) = (log.tail().unwrap().get(), records(&log).len());
    let killed = disk.kill();
    disk.crash_after(0);
    drop(log);
    let last = segment_name(end / 4096);
    let newest = [0, 4096].into_iter().find(|&slot| {
        let disk = killed.kill();
        assert!(disk.flip_bit("LOCK", slot + 40, 1) && disk.flip_bit(&last, 20, 1));
        let report = libwal::verify_on(Arc::new(disk), 1, &|_| {}).unwrap();
        report.files.iter().any(|file| file.reason.contains("older"))
    });
    assert!(killed.flip_bit("LOCK", newest.expect("the other one is older") + 40, 1) && killed.flip_bit(&last, 20, 1));
    assert_eq!(salvaged(&killed).len(), count);
    killed
}

/// Damaged logs of all kinds.
fn damaged() -> Vec<(&'static str, SimStorage)> {
    let slot = |offset: u64| {
        let (disk, _) = with_a_damaged_header();
        assert!(disk.flip_bit("LOCK", offset + 40, 1));
        disk
    };
    let batch = |len: usize, member: usize| {
        let (disk, batches) = with_batches(len);
        let lsn = batches[0][member].get() + 20;
        assert!(disk.flip_bit(&segment_name(lsn / 4096), 4096 + lsn % 4096, 3));
        disk
    };
    let entry = || {
        let (disk, _) = with_a_damaged_header();
        assert!(disk.flip_bit(&segment_name(2), 520, 1));
        disk
    };
    let lock = || {
        let (disk, _) = with_a_damaged_header();
        disk.remove_file("LOCK");
        disk
    };
    let length = || {
        let (disk, _) = with_a_damaged_header();
        assert!(disk.flip_bit(&segment_name(1), 20, 1), "as it was");
        disk.write_file(&segment_name(2), &[&disk.read_file(&segment_name(2)).unwrap()[..], b"more"].concat());
        disk
    };
    vec![
        ("a length", length()),
        ("a lost end", without_its_end()),
        ("a header", with_a_damaged_header().0),
        ("a header and a slot", slot(0)),
        ("a header and the other slot", slot(4096)),
        ("a header and an entry", entry()),
        ("a header and the lock file", lock()),
        ("a batch", batch(50, 1)),
        ("a long batch", batch(1500, 2)),
        ("an epoch record", without_an_epoch_record()),
        ("a header that no slot names", with_a_segment_that_no_slot_names()),
    ]
}

/// What a salvage reads.
fn salvaged(disk: &SimStorage) -> Vec<(u64, Vec<u8>)> {
    records(&open(&small().recovery(Recovery::Salvage), disk).unwrap())
}

/// Repairs until there is nothing to do, and loses the power then. What the last repair said is true.
fn judge_after_the_last(disk: &SimStorage, all: &[(u64, Vec<u8>)], what: &str) {
    let mut repairs = 1;
    while !repair(disk).unwrap_or_else(|error| panic!("{what}: {error}")).is_sound() {
        repairs += 1;
        assert!(repairs < 3, "{what}: it never ends");
    }
    for seed in 0..6 {
        let cut = disk.crash(seed);
        let report = libwal::verify_on(Arc::new(cut.clone()), 1, &|_| {}).unwrap();
        assert!(report.is_sound(), "{what}, crash {seed}: {report:?}");
        assert_eq!(asides(&cut), 0, "{what}, crash {seed}");
        let log = open(&small(), &cut).unwrap_or_else(|error| panic!("{what}, crash {seed}: {error}"));
        assert!(records(&log) == all, "{what}, crash {seed}");
    }
}

/// Opens the log as a repair left it, if it is sound, appends to it, and loses the power then. Whether it was.
fn judge_an_open_behind(disk: &SimStorage, all: &[(u64, Vec<u8>)], what: &str) -> bool {
    if !libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {}).unwrap().is_sound() {
        return false;
    }
    let log = open(&small(), disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    log.append_and_sync(b"next").unwrap();
    let mut all = all.to_vec();
    all.extend(records(&log).pop());
    for seed in 0..6 {
        let after = open(&small(), &disk.crash(seed)).unwrap_or_else(|error| panic!("{what}, crash {seed}: {error}"));
        assert!(records(&after) == all, "{what}, crash {seed}");
    }
    true
}

/// The page cache shows what a repair wrote that was killed, and the next one finds nothing to do.
#[test]
fn what_a_killed_repair_wrote_is_durable_once_the_next_one_finds_the_log_sound() {
    for (name, damaged) in damaged() {
        let all = salvaged(&damaged);
        for operations in 0.. {
            let disk = damaged.kill();
            disk.crash_after(operations);
            let done = repair(&disk).is_ok();
            let what = format!("{name}, {operations} operations");
            judge_after_the_last(&disk.kill(), &all, &what);
            assert!(judge_an_open_behind(&disk.kill(), &all, &what) || !done, "{what}");
            if done {
                break;
            }
        }
    }
}

/// The first is killed, and what it wrote is in the page cache; the power goes while the second one is at it.
#[test]
fn a_repair_that_loses_the_power_after_one_that_was_killed_loses_nothing() {
    let chosen = ["a length", "a header that no slot names", "a long batch", "an epoch record"];
    for (name, damaged) in damaged().into_iter().filter(|(name, _)| chosen.contains(name)) {
        let all = salvaged(&damaged);
        for killed_after in 0.. {
            let first = damaged.kill();
            first.crash_after(killed_after);
            let done = repair(&first).is_ok();
            for cut_after in (killed_after % 3..).step_by(3) {
                let second = first.kill();
                second.crash_after(cut_after);
                let second_done = repair(&second).is_ok();
                let what = format!("{name}, killed after {killed_after}, cut after {cut_after}");
                for seed in 0..8 {
                    assert!(salvaged(&second.crash(seed)) == all, "{what}, crash {seed}");
                }
                let cut = second.crash(8 + cut_after);
                repair(&cut).unwrap_or_else(|error| panic!("{what}: {error}"));
                let log = open(&small(), &cut).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(records(&log) == all, "{what}");
                if second_done {
                    break;
                }
            }
            if done {
                break;
            }
        }
    }
}

/// After a sync that failed, what was written counts as clean: only writing it again makes it durable.
#[test]
fn what_a_repair_wrote_whose_sync_failed_is_written_again() {
    for (name, damaged) in damaged() {
        let all = salvaged(&damaged);
        for nth in 0.. {
            let mut done = false;
            for seed in 0..6 {
                let disk = SimStorage::with_seed(seed);
                for file in damaged.names() {
                    disk.write_file(&file, &damaged.read_file(&file).unwrap());
                }
                disk.inject(Fault::new(SimOp::Sync, nth, ErrorKind::Other));
                done = repair(&disk).is_ok();
                let what = format!("{name}, sync {nth}, seed {seed}");
                judge_after_the_last(&disk.kill(), &all, &what);
                assert!(judge_an_open_behind(&disk.kill(), &all, &what) || !done, "{what}");
            }
            if done {
                break;
            }
        }
    }
}
