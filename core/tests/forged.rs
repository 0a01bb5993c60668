//! Files with checksums that fit and contents that no log writes: every call ends, soon and without a panic.

mod common;

use std::sync::Arc;

use common::{open, records, segment_name, small};
use libwal::format::{
    Control, Durability, Entry, HEADER_SIZE, HEADER_WORD, Identity, Kind, LogId, SECTOR, Seal, Word, record_size,
    write_record,
};
use libwal::storage::SimStorage;
use libwal::{Error, Lsn, Recovery};

/// A log of a few segments, killed.
fn log(first_lsn: u64) -> SimStorage {
    let disk = SimStorage::new();
    let wal = open(&small().first_lsn(Lsn::new(first_lsn)), &disk).expect("a new log");
    for n in 0..20 {
        wal.append_and_sync(&[n; 500]).expect("appended");
    }
    let killed = disk.kill();
    drop(wal);
    killed
}

/// Changes both control slots.
fn forge(disk: &SimStorage, change: impl Fn(&mut Control)) {
    let mut lock = disk.read_file("LOCK").expect("a lock file");
    for at in [0, 4096] {
        let mut control = Control::parse(&lock[at..at + SECTOR]).expect("a control slot");
        change(&mut control);
        lock[at..at + SECTOR].copy_from_slice(&control.to_bytes());
    }
    disk.write_file("LOCK", &lock);
}

/// Every way to open, check and mend it. What they answer is up to them.
fn try_everything(disk: &SimStorage) -> libwal::Result<libwal::Report> {
    for options in [small().read_only(true), small().recovery(Recovery::Salvage), small()] {
        if let Ok(wal) = open(&options, &disk.kill()) {
            let _ = wal.iter().map(|records| records.take_while(Result::is_ok).count());
            let _ = wal.append_and_sync(b"more");
            let _ = wal.close();
        }
    }
    let _ = libwal::repair_on(Arc::new(disk.kill()), Arc::new(SimStorage::new()));
    libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {})
}

#[test]
fn an_entry_that_names_a_record_in_front_of_its_segment_is_damage() {
    for (first_record, index) in [(0, 3), (3 * 4096 + 1, 3), (4096, 4), (u64::MAX, 3)] {
        let disk = log(3 * 4096 + 808);
        let mut bytes = disk.read_file(&segment_name(index)).expect("a segment");
        let lock = disk.read_file("LOCK").expect("a lock file");
        let id = Control::newest([&lock[..SECTOR], &lock[4096..]]).expect("a control slot").id;
        let entry = Entry::parse(&bytes[SECTOR..], id, index).expect("whole").expect("entered");
        bytes[SECTOR..2 * SECTOR].copy_from_slice(&Entry { first_record, ..entry }.to_bytes(id, index));
        disk.write_file(&segment_name(index), &bytes);
        let _ = try_everything(&disk);
    }
}

#[test]
fn an_entry_that_names_a_record_behind_the_last_segment_is_damage() {
    let disk = log(0);
    for index in 0.. {
        let Some(mut bytes) = disk.read_file(&segment_name(index)) else { break };
        let id = Identity::parse(&bytes).expect("an identity").id;
        let entry = Entry { first_record: 1 << 20, durable: 1 << 20, checkpoint: None, epoch: 0 };
        bytes[SECTOR..2 * SECTOR].copy_from_slice(&entry.to_bytes(id, index));
        disk.write_file(&segment_name(index), &bytes);
    }
    forge(&disk, |control| control.clean_end = None);
    assert!(matches!(open(&small(), &disk), Err(Error::Corrupt { .. })));
    let _ = try_everything(&disk);
}

/// The entry of segment `index` names `first_record`.
fn forge_entry(disk: &SimStorage, index: u64, first_record: u64) {
    let mut bytes = disk.read_file(&segment_name(index)).expect("a segment");
    let id = Identity::parse(&bytes).expect("an identity").id;
    let entry = Entry::parse(&bytes[SECTOR..], id, index).expect("whole").expect("entered");
    bytes[SECTOR..2 * SECTOR].copy_from_slice(&Entry { first_record, ..entry }.to_bytes(id, index));
    disk.write_file(&segment_name(index), &bytes);
}

#[test]
fn an_acknowledged_entry_that_names_a_record_behind_the_end_is_damage_and_mended() {
    for (first_lsn, clean) in [(0, false), (0, true), (3 * 4096 + 808, false), (3 * 4096 + 808, true)] {
        for nth in [0, 1] {
            let disk = log(first_lsn);
            let wal = open(&small(), &disk).expect("a log");
            let held = records(&wal);
            if clean {
                wal.close().expect("closed");
            }
            let disk = disk.kill();
            forge_entry(&disk, (first_lsn >> 12) + nth, 1 << 33);
            assert!(matches!(open(&small(), &disk), Err(Error::Corrupt { .. })), "{first_lsn}, clean {clean}");
            assert!(matches!(open(&small().read_only(true), &disk), Err(Error::Corrupt { .. })));
            let report = libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {}).expect("a report");
            assert!(!report.is_sound(), "{report:?}");
            libwal::repair_on(Arc::new(disk.clone()), Arc::new(SimStorage::new())).expect("repaired");
            assert_eq!(records(&open(&small(), &disk).expect("mended")), held, "{first_lsn}, clean {clean}");
        }
    }
}

#[test]
fn the_lock_file_is_not_made_anew_from_an_entry_that_names_a_record_behind_the_end() {
    for first_lsn in [0, 3 * 4096 + 808] {
        let disk = log(first_lsn);
        let held = records(&open(&small().read_only(true), &disk).expect("a log"));
        forge_entry(&disk, first_lsn >> 12, 1 << 33);
        disk.remove_file("LOCK");
        assert!(matches!(open(&small(), &disk), Err(Error::Corrupt { .. })));
        assert!(matches!(open(&small().read_only(true), &disk), Err(Error::Corrupt { .. })));
        libwal::repair_on(Arc::new(disk.clone()), Arc::new(SimStorage::new())).expect("repaired");
        assert_eq!(records(&open(&small(), &disk).expect("mended")), held, "{first_lsn}");
    }
}

#[test]
fn a_reader_passes_over_the_entries_that_a_recovery_passes_over() {
    for first_lsn in [0, 3 * 4096 + 808] {
        let disk = SimStorage::new();
        let wal = open(&small().first_lsn(Lsn::new(first_lsn)), &disk).expect("a new log");
        let lsns: Vec<_> = (0..20).map(|n| wal.append(&[n; 500]).expect("appended")).collect();
        wal.flush().expect("flushed");
        // Behind the end, at a record, and at none.
        for first_record in [1 << 33, lsns[2].get(), first_lsn + 8] {
            let disk = disk.kill();
            forge_entry(&disk, first_lsn >> 12, first_record);
            let view = open(&small().read_only(true), &disk).expect("a view");
            assert_eq!((view.head().expect("a head"), records(&view).len()), (lsns[0], 20), "{first_record}");
            for &lsn in &lsns {
                assert_eq!(view.read(lsn).expect("a record").lsn, lsn);
            }
            assert_eq!(records(&open(&small(), &disk).expect("a log")), records(&view), "{first_record}");
        }
    }
}

#[test]
fn a_control_slot_that_names_more_segments_than_memory_holds_is_refused() {
    let disk = log(0);
    forge(&disk, |control| control.end = 1 << 45);
    assert!(matches!(try_everything(&disk), Err(Error::Corrupt { .. })));
}

#[test]
fn a_log_that_begins_behind_its_end_is_refused() {
    let disk = log(0);
    forge(&disk, |control| control.first_lsn = (control.end << control.shift) + 8);
    let verified = try_everything(&disk).expect("verified by what the segments say");
    assert!(!verified.is_sound());
}

/// Were all of it looked at, this would take minutes.
#[test]
fn what_the_headers_promise_and_no_file_holds_is_not_searched() {
    let disk = log(0);
    forge(&disk, |control| (control.shift, control.clean_end) = (32, None));
    for index in 0.. {
        let Some(mut bytes) = disk.read_file(&segment_name(index)) else { break };
        let identity = Identity { shift: 32, ..Identity::parse(&bytes).expect("an identity") };
        bytes[..SECTOR].copy_from_slice(&identity.to_bytes()[..SECTOR]);
        disk.write_file(&segment_name(index), &bytes);
    }
    let report = libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {}).expect("verified");
    assert!(!report.is_sound());
    forge(&disk, |control| control.end = 1 << 10);
    let _ = libwal::verify_on(Arc::new(disk), 1, &|_| {});
}

/// Were the slot believed, all segments would be built anew in its size, and every record would be lost.
#[test]
fn a_control_slot_that_no_segment_agrees_with_is_not_repaired_by() {
    let disk = log(0);
    let held = records(&open(&small(), &disk.clone().kill()).expect("a log"));
    assert!(!held.is_empty());
    forge(&disk, |control| control.shift = 20);
    let report = libwal::repair_on(Arc::new(disk.clone()), Arc::new(SimStorage::new())).expect("repaired");
    assert!(!report.is_sound());
    assert!(records(&open(&small(), &disk).expect("a log again")) == held, "the repair lost records");
}

#[test]
fn a_file_name_far_behind_the_log_sizes_nothing() {
    for index in [1 << 40, (1 << 46) - 1] {
        let disk = log(0);
        disk.write_file(&segment_name(index), b"not of this log");
        assert!(matches!(try_everything(&disk), Err(Error::Corrupt { .. })));
    }
    // No stream reaches there: a file like any other.
    let disk = log(0);
    disk.write_file(&segment_name(u64::MAX), b"not of this log");
    assert!(try_everything(&disk).expect("verified").is_sound());
}

#[test]
fn numbers_that_would_overflow_are_refused() {
    let disk = log(0);
    forge(&disk, |control| control.sequence = u64::MAX);
    let _ = try_everything(&disk);
    let disk = log(0);
    forge(&disk, |control| control.epoch = u32::MAX);
    let _ = try_everything(&disk);
    let disk = log(0);
    let mut bytes = disk.read_file(&segment_name(0)).expect("a segment");
    let id = Identity::parse(&bytes).expect("an identity").id;
    let entry = Entry { first_record: 0, durable: 0, checkpoint: None, epoch: u32::MAX };
    bytes[SECTOR..2 * SECTOR].copy_from_slice(&entry.to_bytes(id, 0));
    // Nothing of it can be read in that epoch, and nothing claims that it should be.
    bytes[4096..].fill(0);
    disk.write_file("LOCK", &[0; 8192]);
    disk.write_file(&segment_name(0), &bytes);
    for index in 1..8 {
        disk.remove_file(&segment_name(index));
    }
    assert!(matches!(open(&small(), &disk), Err(Error::Corrupt { .. })), "there is no epoch for a recovery");
    let _ = try_everything(&disk);
    for clean_end in [0, 8, u64::MAX - 8] {
        let disk = log(0);
        forge(&disk, |control| control.clean_end = Some(clean_end));
        let _ = try_everything(&disk);
    }
}

/// A repair fills what is missing below it with padding, which begins and ends between records.
#[test]
fn a_claim_that_ends_inside_a_header_word_is_rounded_up() {
    for beyond in 1..24 {
        let disk = log(0);
        let end = open(&small(), &disk.kill()).expect("a log").tail().expect("an end").get();
        forge(&disk, |control| (control.durable, control.clean_end) = (end + beyond, None));
        let report = libwal::repair_on(Arc::new(disk.clone()), Arc::new(SimStorage::new())).expect("repaired");
        assert_eq!(report.tail.get(), (end + beyond).next_multiple_of(8), "{beyond} bytes beyond the end");
        assert_eq!(records(&open(&small(), &disk).expect("a log again")).len(), 20);
        let _ = try_everything(&disk);
    }
}

/// Of three records the one in the middle, with a payload of `len` bytes, is forged: it is given to `forge` with its LSN. It
/// alone is damage, for every reader.
fn only_the_forged_one_is_damage(len: usize, forge: impl Fn(LogId, u64, &mut [u8])) {
    let disk = SimStorage::new();
    let options = small().segment_size(1 << 20);
    let wal = open(&options, &disk).expect("a new log");
    let [first, lsn, last] = [&[1; 9][..], &vec![2; len], &[3; 9]].map(|data| wal.append(data).expect("appended"));
    wal.close().expect("closed");

    let mut bytes = disk.read_file(&segment_name(0)).expect("a segment");
    let id = Identity::parse(&bytes).expect("an identity").id;
    let at = HEADER_SIZE as usize + lsn.get() as usize;
    forge(id, lsn.get(), &mut bytes[at..at + record_size(len) as usize]);
    disk.write_file(&segment_name(0), &bytes);

    let report = libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {}).expect("verified");
    assert_eq!(report.damage.iter().map(|damage| damage.from).collect::<Vec<_>>(), [lsn], "{len} bytes");
    let read_only = open(&options.clone().read_only(true), &disk.kill());
    let read = read_only.and_then(|wal| wal.iter()?.collect::<Result<Vec<_>, _>>());
    assert!(matches!(read, Err(Error::Corrupt { lsn: at, .. }) if at == lsn), "{len} bytes: {read:?}");
    let wal = open(&options.recovery(Recovery::Salvage), &disk).expect("salvaged");
    let held: Vec<u64> = records(&wal).into_iter().map(|(lsn, _)| lsn).collect();
    assert_eq!(held, [first.get(), last.get()], "{len} bytes");
}

/// The first is as long as a right one with its padding; the second is longer than the buffer of a reader.
#[test]
fn an_epoch_record_of_another_length_raises_no_epoch() {
    for len in [20, 300_000] {
        only_the_forged_one_is_damage(len, |id, lsn, mut record| {
            let marker = Durability { durable: lsn, checkpoint: None, epoch: 5, clean_close: false };
            let mut payload = vec![0; len];
            payload[..20].copy_from_slice(&marker.to_bytes()[..20]);
            // A long one was checked in the epoch in force.
            let seal = Seal::new(id, if len == 20 { 5 } else { 0 });
            write_record(&mut record, seal, lsn, Kind::Epoch, &payload).expect("a record");
        });
    }
}

/// One is read out of the buffer of a reader, the other piece by piece.
#[test]
fn a_checksum_over_padding_that_is_not_zeros_makes_no_record() {
    for len in [21, 300_003] {
        only_the_forged_one_is_damage(len, |id, lsn, record| {
            record[HEADER_WORD + len] = 1;
            let word = Word::parse(record).expect("a header word");
            let crc = Seal::extend(Seal::new(id, 0).begin(lsn, word), &record[HEADER_WORD..]);
            record[..HEADER_WORD].copy_from_slice(&word.to_bytes(crc));
        });
    }
}

#[test]
fn a_log_ends_for_readers_where_a_clean_close_says_it_does() {
    let disk = log(0);
    let third = records(&open(&small().read_only(true), &disk).expect("a log"))[2].0;
    forge(&disk, |control| (control.clean_end, control.durable) = (Some(third), third));
    let read = records(&open(&small().read_only(true), &disk).expect("a view"));
    assert_eq!((read.len(), read), (2, records(&open(&small(), &disk).expect("a log"))));
}

#[test]
fn a_checkpoint_in_front_of_the_first_record_keeps_no_reader_for_ever() {
    let disk = log(6000);
    let wal = open(&small(), &disk).expect("opens");
    let all = records(&wal).len();
    wal.close().expect("closed");
    forge(&disk, |control| control.checkpoint = Some(4096));
    let wal = open(&small(), &disk).expect("opens");
    assert_eq!(wal.iter_from_checkpoint().expect("readable").count(), all);
}
