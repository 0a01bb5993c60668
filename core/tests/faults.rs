//! Faults of durability and recovery that other logs were found to have, each with a test of its own.

mod common;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use common::stepping::Stepping;
use common::{contents, open, records, segment_name, small, used};
use libwal::format::{Control, HEADER_SIZE, Kind, Seal, write_record};
use libwal::storage::{Fault, SimOp, SimStorage, Storage};
use libwal::{Error, Lsn, Options, Recovery, Wal};

fn opened(disk: &SimStorage) -> Wal {
    open(&small(), disk).expect("the log opens")
}

/// A log whose only acknowledged record ends at 96, with `tail` flushed behind it.
fn with_tail(tail: &[usize]) -> (SimStorage, Wal) {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    wal.append_and_sync(&[1; 88]).expect("synced");
    for (nth, &len) in tail.iter().enumerate() {
        wal.append(&vec![(2 + nth) as u8; len]).expect("appended");
    }
    wal.flush().expect("flushed");
    (disk, wal)
}

/// What is left of `disk` if all that was written reaches it before the power fails: the buffer goes with the power.
fn without_buffer(disk: &SimStorage) -> SimStorage {
    let left = disk.kill();
    left.remove_memory("");
    left
}

/// What is left of [`with_tail`] if the first record of the tail did not reach the disk, and what comes after it did.
fn cut_behind_the_first(disk: &SimStorage) -> SimStorage {
    let cut = without_buffer(disk);
    assert!(cut.flip_bit(&segment_name(0), HEADER_SIZE + 96 + 12, 3));
    cut
}

#[test]
fn a_sync_covers_every_dirty_segment_not_only_the_newest() {
    // The second are more segments than a log keeps open.
    for (count, crashes) in [(60, 200), (1200, 10)] {
        let disk = SimStorage::new();
        let wal = opened(&disk);
        for n in 0..count {
            wal.append(&[n as u8; 300]).expect("appended");
        }
        wal.sync().expect("synced");
        let before = records(&wal);
        for seed in 0..crashes {
            assert_eq!(records(&opened(&disk.crash(seed))), before, "{count}, crash {seed}");
        }
    }
}

#[test]
fn what_recovery_accepts_it_makes_durable_itself() {
    // The second are more segments than a log keeps open.
    for (count, crashes) in [(6, 200), (300, 10)] {
        let (disk, _wal) = with_tail(&vec![1000; count]);
        let again = disk.kill();
        let accepted = records(&opened(&again.kill()));
        assert_eq!(accepted.len(), count + 1);
        let _open = opened(&again);
        for seed in 0..crashes {
            assert_eq!(records(&opened(&again.crash(seed))), accepted, "{count}, crash {seed}");
        }
    }
}

/// Its pages are clean and look written, and no disk holds them: only writing them again helps.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again() {
    for seed in 0..50 {
        let (disk, wal) = with_tail(&[1000; 3]);
        disk.inject(Fault::errno(SimOp::Sync, 0, 5));
        assert_eq!(wal.sync().unwrap_err().errno(), Some(5));
        let again = disk.kill();
        let next = opened(&again);
        let accepted = records(&next);
        next.append_and_sync(b"behind it").expect("synced");
        let after = opened(&again.crash(seed));
        let held = records(&after);
        assert_eq!((&held[..accepted.len()], held.len()), (&accepted[..], accepted.len() + 1), "crash {seed}");
    }
}

#[test]
fn a_recovery_that_is_cut_off_anywhere_leaves_a_log_that_opens() {
    let (disk, _wal) = with_tail(&[1000; 4]);
    let before = disk.kill();
    for operations in 0..40 {
        for seed in 0..40 {
            let cut = before.kill();
            cut.crash_after(operations);
            drop(open(&small(), &cut));
            match open(&small(), &cut.crash(seed)) {
                Ok(wal) => assert!(!records(&wal).is_empty()),
                Err(error) => panic!("after {operations} operations, crash {seed}: {error}"),
            }
        }
    }
}

/// The same where the sync of the recovery fails and the machine runs on.
#[test]
fn a_recovery_whose_sync_failed_claims_nothing() {
    for nth in 0..6 {
        for seed in 0..40 {
            let (disk, _wal) = with_tail(&[1000; 4]);
            let again = disk.kill();
            again.inject(Fault::errno(SimOp::Sync, nth, 5));
            if open(&small(), &again).is_ok() {
                continue;
            }
            let wal = open(&small(), &again.kill()).unwrap_or_else(|error| panic!("sync {nth}, crash {seed}: {error}"));
            drop(wal);
            let again = again.kill();
            let wal = opened(&again);
            wal.append_and_sync(b"acknowledged").expect("synced");
            let found = open(&small(), &again.crash(seed)).map(|wal| records(&wal));
            let found = found.unwrap_or_else(|error| panic!("sync {nth}, crash {seed}: {error}"));
            assert_eq!(found, records(&wal), "sync {nth}, crash {seed}");
        }
    }
}

#[test]
fn a_failed_sync_is_never_retried_nor_reported_as_success() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    wal.append(b"lost").expect("appended");
    disk.inject(Fault::errno(SimOp::Sync, 0, 5));
    let before = wal.durable_lsn();
    assert!(matches!(wal.sync(), Err(Error::Poisoned { .. })));
    let syncs = disk.syncs();
    for _ in 0..3 {
        assert_eq!(wal.sync().unwrap_err().errno(), Some(5));
        assert_eq!(wal.append_and_sync(b"x").unwrap_err().errno(), Some(5));
    }
    assert_eq!((disk.syncs(), wal.durable_lsn()), (syncs, before));
    assert!(matches!(wal.close(), Err(Error::Poisoned { .. })));
}

#[test]
fn a_poisoned_log_fails_every_sync_also_with_nothing_to_sync() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    // The first sync makes the record durable, the second one is that of the control slot.
    disk.inject(Fault::errno(SimOp::Sync, 1, 5));
    assert_eq!(wal.checkpoint(b"state").unwrap_err().errno(), Some(5));
    assert_eq!(wal.sync().map_err(|error| error.errno()), Err(Some(5)));
    assert_eq!(wal.flush().map_err(|error| error.errno()), Err(Some(5)));
}

#[test]
fn after_a_failed_write_no_append_succeeds() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    wal.append(b"first").expect("appended");
    disk.inject(Fault::errno(SimOp::Write, 0, 5));
    assert_eq!(wal.flush().unwrap_err().errno(), Some(5));
    assert_eq!(wal.append(b"second").unwrap_err().errno(), Some(5));
    assert_eq!(wal.try_append(b"second").unwrap_err().errno(), Some(5));
    assert_eq!(wal.append_batch(&["second"]).unwrap_err().errno(), Some(5));
}

#[test]
fn a_failed_background_sync_is_not_kept_quiet() {
    let disk = SimStorage::new();
    // Nothing but the timed sync stands between the appends and success: the buffer and the segment have room for all.
    let options = Options::new().segment_size(1 << 20).buffer_size(1 << 18);
    let options = options.sync_interval(Some(Duration::from_millis(1)));
    let wal = open(&options, &disk).expect("the log opens");
    // Sticky: a fault that strikes once may strike the sync of a segment that is prepared, which is only tried again.
    disk.inject(Fault::errno(SimOp::Sync, 0, 5).sticky());
    let error = (0..2_000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(1));
        wal.append(b"again and again").err()
    });
    let error = error.expect("the failure reaches those who append");
    assert_eq!(error.errno(), Some(5), "{error}");
}

#[test]
fn a_failed_preparation_does_not_stop_later_ones() {
    for op in [SimOp::Create, SimOp::Allocate, SimOp::Rename] {
        let disk = SimStorage::new();
        let wal = opened(&disk);
        disk.inject(Fault::new(op, 0, ErrorKind::PermissionDenied));
        let appended = (0..40).filter(|_| wal.append(&[7; 500]).is_ok()).count();
        assert!(appended >= 39, "{op:?}: {appended}");
        wal.sync().expect("synced");
        assert_eq!(records(&wal).len(), appended);
    }
}

/// The zeros are for syncs. They come back with them.
#[test]
fn a_log_that_hardly_syncs_prepares_segments_without_zeros() {
    let disk = SimStorage::new();
    let options = small().segment_size(1 << 20).buffer_size(1 << 16);
    let wal = open(&options, &disk).expect("opens");
    // How many writes it takes to fill a segment and prepare another one.
    let writes_of_a_segment = || {
        let (index, before) = (wal.tail().expect("open").get() >> 20, disk.writes());
        while wal.tail().expect("open").get() >> 20 == index {
            wal.append(&[1; 32_000]).expect("appended");
        }
        disk.writes() - before
    };
    // The first one is prepared with the second.
    let (_, with_zeros) = (writes_of_a_segment(), writes_of_a_segment());
    for _ in 0..16 {
        writes_of_a_segment();
    }
    let without = writes_of_a_segment();
    assert!(without + 15 <= with_zeros, "{with_zeros} writes with zeros, {without} without");
    wal.sync().expect("synced");
    let most = writes_of_a_segment().max(writes_of_a_segment());
    assert!(most + 2 >= with_zeros, "{with_zeros} writes with zeros, {most} when syncs are back");
    assert_eq!(records(&wal), records(&open(&options, &disk.kill()).expect("opens")));
}

/// There the zeros are what claims the space, so they are always written.
#[test]
fn where_nothing_can_be_allocated_zeros_claim_the_space() {
    let disk = SimStorage::new();
    let options = small().segment_size(1 << 20).buffer_size(1 << 16);
    let wal = options.open_on(Stepping::without_allocation(&disk)).expect("opens");
    for segment in 1..=20 {
        let before = disk.writes();
        while wal.tail().expect("open").get() >> 20 < segment {
            wal.append(&[1; 32_000]).expect("appended");
        }
        // Some 33 of them flush.
        let writes = disk.writes() - before;
        assert!(writes >= 33 + 16, "{writes} writes while segment {segment} was prepared");
    }
}

#[test]
fn a_stale_record_behind_the_cut_never_comes_back() {
    let (disk, _wal) = with_tail(&[88; 12]);
    let cut = cut_behind_the_first(&disk);
    for count in 0..14 {
        let again = cut.kill();
        let wal = opened(&again);
        // Records of the same length, so that the stale ones would continue any number of them.
        for _ in 0..count {
            wal.append(if count % 2 == 0 { &[0xEE; 88][..] } else { &[0xEE; 24] }).expect("appended");
        }
        wal.sync().expect("synced");
        let before = records(&wal);
        assert_eq!(before.len(), 1 + count);
        assert_eq!(records(&opened(&again.kill())), before, "{count} records");
        assert_eq!(records(&opened(&again.crash(count as u64))), before, "{count} records");
    }
}

/// The stale segment begins where the new records end, and its entry sector still tells of the epoch that was cut off.
#[test]
fn a_stale_segment_behind_the_cut_never_comes_back() {
    // Four records up to the end of the first segment, and one at the very beginning of the second.
    let (disk, _wal) = with_tail(&[992, 992, 992, 992, 100]);
    let again = cut_behind_the_first(&disk);
    let wal = opened(&again);
    let room = 4096 - wal.tail().expect("open").get();
    wal.checkpoint(&vec![0xEE; room as usize - 8]).expect("durable, up to the end of the segment");
    assert_eq!((wal.tail().expect("open"), wal.durable_lsn()), (Lsn::new(4096), Lsn::new(4096)));
    let before = records(&wal);
    assert_eq!(before.len(), 2);
    assert_eq!(records(&opened(&again.kill())), before);
}

#[test]
fn a_stale_entry_sector_does_not_move_the_head() {
    let (disk, _wal) = with_tail(&[4900, 100]);
    let again = cut_behind_the_first(&disk);
    let wal = opened(&again);
    let room = 4096 - wal.tail().expect("open").get();
    wal.append_and_sync(&vec![0xEE; room as usize - 8]).expect("up to the end of the segment");
    // The head does not move to a segment in which nothing is durable: its entry sector is not this log's yet.
    assert_eq!(wal.truncate_before(Lsn::new(4096)).expect("truncated"), Lsn::ZERO);
    assert_eq!(records(&opened(&again.kill())), records(&wal));
    let lsn = wal.append_and_sync(b"next").expect("synced");
    assert_eq!(wal.truncate_before(lsn).expect("truncated"), Lsn::new(4096));
    assert_eq!(records(&wal), [(lsn.get(), b"next".to_vec())]);
    assert_eq!(records(&opened(&again.kill())), [(lsn.get(), b"next".to_vec())]);
}

#[test]
fn truncating_all_of_a_full_log_keeps_its_positions() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    disk.set_capacity(Some(used(&disk)));
    wal.append(&[1; 4096 - 32 - 8]).expect("as far as it goes");
    wal.sync().expect("synced");
    let again = disk.kill();
    // The epoch record takes the last bytes that were prepared.
    let wal = opened(&again);
    let tail = wal.tail().expect("open");
    assert_eq!(tail, Lsn::new(4096));
    wal.truncate_before(tail).expect("truncated");
    assert_eq!(records(&opened(&again.kill())).len(), records(&wal).len());
    again.set_capacity(None);
    let lsn = wal.append_and_sync(b"next").expect("space is there");
    assert!(lsn >= tail, "{lsn} was used before");
    let wal = opened(&again.kill());
    assert_eq!(wal.read(lsn).expect("there").data, b"next");
}

#[test]
fn a_record_that_was_shut_out_does_not_come_back_when_all_is_truncated() {
    let first = SimStorage::new();
    let wal = opened(&first);
    let lsns = [4056, 24, 24].map(|len| wal.append(&vec![7; len]).expect("appended"));
    assert_eq!(lsns[2], Lsn::new(4096), "the third begins a segment");
    wal.flush().expect("flushed");
    // The power fails: the second is lost, the third survives behind the hole.
    let second = without_buffer(&first);
    let mut bytes = second.read_file(&segment_name(0)).expect("there");
    bytes[4096 + 4064..].fill(0);
    second.write_file(&segment_name(0), &bytes);
    // Recovery ends the log behind the first, and its own record fills the segment to the end.
    let wal = opened(&second);
    assert_eq!(records(&wal).len(), 1);
    let tail = wal.tail().expect("open");
    assert_eq!(tail, Lsn::new(4096));
    wal.truncate_before(tail).expect("truncated");
    let left = records(&wal);
    for _ in 0..2 {
        assert_eq!(records(&opened(&second.kill())), left, "what was shut out came back");
    }
    let lsn = wal.append_and_sync(b"next").expect("synced");
    wal.truncate_before(lsn).expect("truncated");
    assert_eq!(wal.head().expect("open"), lsn, "behind a durable record the whole segment goes");
}

#[test]
fn a_log_that_begins_inside_a_segment_survives_every_crash_while_it_is_created() {
    let options = small().first_lsn(Lsn::new(4096 * 3 + 808));
    for operations in 0..30 {
        for seed in 0..10 {
            let disk = SimStorage::new();
            disk.crash_after(operations);
            drop(open(&options, &disk));
            let after = disk.crash(seed);
            let wal = open(&options, &after).expect("the log opens");
            let lsn = wal.append_and_sync(b"first").expect("synced");
            assert_eq!(records(&wal), [(lsn.get(), b"first".to_vec())], "{operations} operations, crash {seed}");
            let again = open(&options, &after.kill()).expect("the log opens");
            assert_eq!(records(&again), [(lsn.get(), b"first".to_vec())], "{operations} operations, crash {seed}");
        }
    }
}

#[test]
fn a_log_that_begins_inside_a_segment_survives_every_failure_while_it_is_created() {
    let options = small().first_lsn(Lsn::new(4096 * 3 + 808));
    for op in [SimOp::Write, SimOp::Sync] {
        for (nth, seed) in (0..12).flat_map(|nth| (0..10).map(move |seed| (nth, seed))) {
            let disk = SimStorage::with_seed(seed);
            disk.inject(Fault::new(op, nth, ErrorKind::Other));
            drop(open(&options, &disk));
            // What the failed write or sync left is in the page cache, and perhaps nowhere else.
            let after = disk.kill();
            let wal = open(&options, &after).unwrap_or_else(|error| panic!("{op:?} {nth}, seed {seed}: {error}"));
            let lsn = wal.append_and_sync(b"first").expect("synced");
            let crashed = after.crash(seed);
            let again = open(&options, &crashed).unwrap_or_else(|error| panic!("{op:?} {nth}, seed {seed}: {error}"));
            assert_eq!(records(&again), [(lsn.get(), b"first".to_vec())], "{op:?} {nth}, seed {seed}");
        }
    }
}

#[test]
fn a_creation_that_failed_anywhere_is_no_obstacle_to_the_next_one() {
    for nth in 0..25 {
        for seed in 0..40 {
            let disk = SimStorage::with_seed(seed);
            disk.inject(Fault::errno(SimOp::Any, nth, 5));
            if open(&small(), &disk).is_err() {
                let next = open(&small(), &disk.kill());
                assert!(next.is_ok(), "operation {nth}, seed {seed}: {next:?}");
            }
        }
    }
}

/// A truncation that was killed before its control slot was synced, an open that acts on what the slot says, and then the
/// power goes: the slot must not be the only thing that is lost.
#[test]
fn nothing_is_removed_on_the_word_of_a_slot_that_may_be_lost() {
    for operations in 0..8 {
        let (disk, wal) = with_tail(&[3000; 12]);
        wal.sync().expect("synced");
        let all = records(&wal);
        disk.crash_after(operations);
        let _ = wal.truncate_before(Lsn::new(all[10].0));
        let killed = disk.kill();
        for later in 0..30 {
            let again = killed.kill();
            again.crash_after(later);
            drop(open(&small(), &again));
            for seed in 0..4 {
                let after = open(&small(), &again.crash(seed));
                let after = after.unwrap_or_else(|error| panic!("{operations}, {later}, {seed}: {error}"));
                assert_eq!(records(&after).last(), all.last());
            }
        }
    }
}

#[test]
fn a_torn_tail_does_not_make_open_fail_for_good() {
    let (disk, _wal) = with_tail(&[700; 9]);
    for seed in 0..200 {
        let torn = disk.crash(seed);
        let first = records(&opened(&torn.kill()));
        drop(opened(&torn));
        assert_eq!(records(&opened(&torn)), first, "crash {seed}");
    }
}

#[test]
fn lsns_are_not_used_twice_after_a_crash_just_past_a_rotation() {
    for past in (0..200).step_by(8) {
        let disk = SimStorage::new();
        let wal = opened(&disk);
        wal.append(&vec![1; 4096 - 100 + past]).expect("appended");
        let last = wal.append_and_sync(b"durable").expect("synced");
        let before = records(&wal);
        for seed in 0..10 {
            let after = opened(&disk.crash(seed));
            assert!(after.append(b"new").expect("appended") > last);
            assert_eq!(records(&after)[..2], before[..]);
        }
    }
}

#[test]
fn a_read_error_is_not_the_end_of_the_log() {
    let (disk, _wal) = with_tail(&[300; 20]);
    for nth in 0..60 {
        let again = disk.kill();
        again.inject(Fault::errno(SimOp::Read, nth, 5));
        match open(&small(), &again) {
            Ok(wal) => {
                again.clear_faults();
                assert_eq!(records(&wal).len(), 21, "read {nth}");
            }
            Err(error) => assert_eq!(error.errno(), Some(5), "read {nth}: {error}"),
        }
        assert_eq!(records(&opened(&again.kill())).len(), 21, "read {nth}");
    }
}

#[test]
fn a_foreign_file_is_never_taken_for_a_log() {
    for name in ["notes.txt", "00000000000000000000.wal", "LOCK"] {
        let disk = SimStorage::new();
        disk.write_file(name, b"somebody else's precious bytes, which are nothing to do with a log");
        let before = contents(&disk);
        assert!(open(&small(), &disk).is_err(), "{name}");
        assert_eq!(contents(&disk), before, "{name}");
    }
}

#[test]
fn another_segment_size_does_not_misread_a_log() {
    let (disk, wal) = with_tail(&[900; 20]);
    let before = records(&wal);
    for size in [1 << 12, 1 << 13, 1 << 20] {
        let wal = open(&small().segment_size(size).buffer_size(1 << 14), &disk.kill()).expect("the log opens");
        assert_eq!(records(&wal), before);
        assert_eq!(wal.stats().expect("open").segment_size, 4096);
    }
}

#[test]
fn two_handles_never_append_to_one_log() {
    let (disk, wal) = with_tail(&[]);
    assert!(matches!(open(&small(), &disk), Err(Error::Locked { .. })));
    wal.append_and_sync(b"still mine").expect("synced");
    wal.close().expect("closed");
    opened(&disk);
}

/// A payload at the end of the log that holds a valid record of this very log, made for position `at(lsn)`.
fn record_in_a_record(wal: &Wal, disk: &SimStorage, at: impl Fn(u64) -> u64) -> (u64, usize) {
    let lock = disk.read_file("LOCK").expect("there");
    let id = Control::newest([&lock[..512], &lock[4096..4608]]).expect("a control slot").id;
    let lsn = wal.tail().expect("open").get();
    let mut payload = vec![0; 8];
    write_record(&mut payload, Seal::new(id, 0), at(lsn), Kind::Data, b"looks like a record").expect("into memory");
    assert_eq!(wal.append(&payload).expect("appended").get(), lsn);
    (lsn, payload.len())
}

fn refuses_all_inside(wal: &Wal, lsn: u64, len: usize) {
    for inside in (lsn + 1..lsn + 8 + len as u64).map(Lsn::new) {
        assert!(matches!(wal.read(inside), Err(Error::InvalidArgument(_))), "read {inside}");
        assert!(matches!(wal.iter_from(inside), Err(Error::InvalidArgument(_))), "iter_from {inside}");
        assert!(matches!(wal.truncate_before(inside), Err(Error::InvalidArgument(_))), "truncate {inside}");
        assert!(matches!(wal.sync_to(inside), Err(Error::InvalidArgument(_))), "sync_to {inside}");
    }
}

/// Bytes inside a payload that are a record in every way but its place: a copy of one from elsewhere in the log.
#[test]
fn seeking_into_the_middle_of_a_record_is_refused() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    for distance in [8, 24, 4096, 1 << 32] {
        let (lsn, len) = record_in_a_record(&wal, &disk, |lsn| lsn + 16 + distance);
        refuses_all_inside(&wal, lsn, len);
    }
}

#[test]
fn a_corrupt_length_allocates_nothing() {
    let (disk, _wal) = with_tail(&[500]);
    let most = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number"))
    };
    let before = most();
    for len in [4096, 1 << 20, (1 << 28) - 1] {
        let again = without_buffer(&disk);
        let mut bytes = again.read_file(&segment_name(0)).expect("there");
        let at = HEADER_SIZE as usize + 96;
        bytes[at + 4..at + 8].copy_from_slice(&(1_u32 << 28 | len).to_le_bytes());
        again.write_file(&segment_name(0), &bytes);
        assert_eq!(records(&opened(&again)).len(), 1);
    }
    assert!(most() - before < 100 << 10, "{} KiB", most() - before);
}

#[test]
fn recovery_needs_no_free_space() {
    for len in (3000..4100).step_by(8) {
        let (disk, _wal) = with_tail(&[len]);
        let again = disk.kill();
        again.set_capacity(Some(used(&again)));
        let wal = open(&small(), &again).unwrap_or_else(|error| panic!("{len}: {error}"));
        assert_eq!(records(&wal).len(), 2);
        wal.sync().expect("synced");
        again.set_capacity(None);
        wal.append_and_sync(b"space again").expect("synced");
        assert_eq!(records(&opened(&again.crash(len as u64))).len(), 3);
    }
}

/// Reached by a loss of power, two opens whose syncs fail, and another loss of power: the model found it (`edge-entry`).
#[test]
fn an_old_entry_at_the_durable_position_is_not_believed() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    wal.append(&[1; 4064 - 8]).expect("appended");
    wal.sync().expect("synced");
    let lost = wal.append(&[2; 24]).expect("appended").get();
    assert_eq!(wal.append(b"shut out").expect("appended").get(), 4096);
    wal.flush().expect("flushed");
    let disk = without_buffer(&disk);
    let mut first = disk.read_file(&segment_name(0)).expect("there");
    first[(HEADER_SIZE + lost) as usize..].fill(0);
    disk.write_file(&segment_name(0), &first);
    let second = disk.read_file(&segment_name(1)).expect("there");
    // The epoch record fills the first segment; everything up to the second one is durable.
    let recovered = opened(&disk);
    assert_eq!(recovered.durable_lsn().get(), 4096);
    let disk = disk.kill();
    disk.write_file(&segment_name(1), &second);
    for _ in 0..3 {
        let wal = opened(&disk.kill());
        let found: Vec<_> = records(&wal).into_iter().map(|(lsn, _)| lsn).collect();
        assert_eq!(found, [0], "what was shut out is back");
        let report = libwal::verify_on(Arc::new(disk.kill()), 1, &|_| {}).expect("verified");
        assert_eq!((report.records, report.is_sound()), (1, true), "{report:?}");
        let salvage = open(&small().recovery(Recovery::Salvage), &disk.kill()).expect("a salvage");
        assert_eq!(records(&salvage).len(), 1);
    }
}
