//! The two control slots: whatever is on its way to one of them when the power fails, torn in the middle of the sector or
//! not, the other one is on the disk, and good enough to open the log with. And where somebody removed the file they stand
//! in, the segments describe themselves.

mod common;

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use common::watched::{Seen, watched};
use common::{records, small};
use libwal::format::{Control, LogId};
use libwal::storage::{Fault, SimOp, SimStorage, Storage};
use libwal::{Error, Lsn, Wal};

const SECTOR: usize = 512;

/// What the power could leave of a disk in the middle of each write to a control slot.
type Images = Arc<Mutex<Vec<SimStorage>>>;

/// `disk`, watched: before each write to a control slot, `images` gets some with a sector of which the first half is new and
/// the second is not.
fn torn_writes(disk: &SimStorage, images: &Images) -> Arc<dyn Storage> {
    let (disk, images, shown) = (disk.clone(), Arc::clone(images), disk.clone());
    watched(&shown, move |seen| {
        let Seen::ToWrite("LOCK", offset, bufs) = seen else { return };
        let new = bufs.iter().flat_map(|buf| buf.iter().copied()).collect::<Vec<u8>>();
        assert_eq!(new.len(), SECTOR, "one slot at a time");
        let at = usize::try_from(offset).expect("small");
        for seed in 0..8 {
            let image = disk.crash(seed);
            let Some(mut bytes) = image.read_file("LOCK").filter(|bytes| bytes.len() >= at + SECTOR) else {
                continue;
            };
            // The checksum ends at byte 100: cut inside of what it covers, where the two differ.
            let cut = if seed % 2 == 0 { ..56 } else { ..92 };
            bytes[at..at + SECTOR][cut].copy_from_slice(&new[cut]);
            image.write_file("LOCK", &bytes);
            images.lock().expect("no panic").push(image);
        }
    })
}

/// What a log is asked to do, as far as it goes: rotations, checkpoints and truncations. Returns what was acknowledged.
fn live(wal: &Wal, begin: u8) -> (Vec<(u64, Vec<u8>)>, u64) {
    let (mut acknowledged, mut head) = (Vec::new(), 0);
    let mut step = |nth: u8| -> Result<(), Error> {
        let data = vec![begin + nth; 1500];
        let lsn = if nth % 4 == 3 { wal.checkpoint(&data)? } else { wal.append_and_sync(&data)? };
        acknowledged.push((lsn.get(), data));
        if nth % 4 == 3 {
            head = lsn.get();
            wal.truncate_before(lsn)?;
        }
        Ok(())
    };
    for nth in 0..12 {
        if step(nth).is_err() {
            break;
        }
    }
    (acknowledged, head)
}

/// The log opens and holds what was acknowledged, as far as it was not allowed to be truncated.
fn judge(disk: &SimStorage, acknowledged: &[(u64, Vec<u8>)], may_begin_at: u64) {
    let wal = common::open(&small(), disk).expect("the log opens");
    let found = records(&wal);
    let head = wal.head().expect("open");
    for record in acknowledged.iter().filter(|record| record.0 >= may_begin_at) {
        assert!(found.contains(record), "LSN {} is missing; the log begins at {head}", record.0);
    }
    let lsn = wal.append_and_sync(b"next").expect("the log goes on");
    assert_eq!(wal.read(lsn).expect("there").data, b"next");
}

#[test]
fn a_torn_control_slot_leaves_the_other_one() {
    let mut torn = 0;
    for nth in 0..60 {
        // A life that ends with a sync that failed, perhaps one of a control slot: memory and disk then differ.
        let disk = SimStorage::with_seed(nth);
        let wal = common::open(&small(), &disk).expect("a log");
        disk.inject(Fault::new(SimOp::Sync, nth, ErrorKind::Other));
        let (mut acknowledged, mut head) = live(&wal, 0);
        drop(wal);
        // The process dies, the machine does not; the next one is watched.
        let images = Images::default();
        let wal = small().open_on(torn_writes(&disk.kill(), &images)).expect("the log opens");
        let recovered = std::mem::take(&mut *images.lock().expect("no panic"));
        torn += recovered.len();
        for image in &recovered {
            judge(image, &acknowledged, head);
        }
        let (more, later) = live(&wal, 100);
        acknowledged.extend(more);
        head = head.max(later);
        for image in &*images.lock().expect("no panic") {
            // What the second life acknowledged after this image was taken is not in it.
            let known: Vec<_> = acknowledged.iter().filter(|record| record.1[0] < 100).cloned().collect();
            judge(image, &known, head);
        }
        assert!(wal.tail().expect("open") > Lsn::ZERO);
    }
    assert!(torn > 500, "only {torn} writes to slots were torn");
}

#[test]
fn a_log_whose_lock_file_was_removed_is_as_it_was() {
    for (epochs, clean) in [(0, true), (0, false), (3, true), (3, false)] {
        let mut disk = SimStorage::new();
        let mut wal = common::open(&small(), &disk).expect("a log");
        for epoch in 0..=epochs {
            live(&wal, 20 * epoch);
            if epoch < epochs {
                disk = disk.kill();
                drop(wal);
                wal = common::open(&small(), &disk).expect("the log opens");
            }
        }
        let before = records(&wal);
        let (head, tail) = (wal.head().expect("open"), wal.tail().expect("open"));
        assert_ne!(head.get() % 4096, 0, "the first record is to begin inside a segment");
        if clean {
            wal.close().expect("closed");
        } else {
            drop(wal);
            disk = disk.kill();
        }
        for life in 0..3 {
            assert!(disk.remove_file("LOCK"));
            let wal = common::open(&small(), &disk).expect("the log opens");
            assert_eq!(wal.head().expect("open"), head);
            assert_eq!(records(&wal)[..before.len()], before[..], "{epochs} epochs, closed {clean}, life {life}");
            let lsn = wal.append_and_sync(b"next").expect("the log goes on");
            assert!(lsn >= tail);
            assert_eq!(wal.read(lsn).expect("there").data, b"next");
            drop(wal);
            disk = disk.kill();
        }
    }
}

#[test]
fn what_is_left_of_a_log_without_its_lock_file_and_segments_is_no_empty_directory() {
    for left in [&["00000000000000000007.new"][..], &["00000000000000000000.spare", "00000000000000000007.new"]] {
        let disk = SimStorage::new();
        for name in left {
            disk.write_file(name, &[1; 8192]);
        }
        match common::open(&small(), &disk).map(drop) {
            Err(Error::InvalidArgument(why)) => assert!(why.contains(left[0]), "{why}"),
            other => panic!("{left:?}: {other:?}"),
        }
        common::open(&small().read_only(true), &disk).map(drop).expect_err("no log");
        libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {}).expect_err("no log");
        assert_eq!(disk.names(), left);
        // Nor is a lock file in which nothing is written yet the beginning of a log: that is made first.
        for torn in [&[0; 1024][..], &[0; 512], &[]] {
            disk.write_file("LOCK", torn);
            let names = disk.names();
            common::open(&small(), &disk).map(drop).expect_err("no log");
            assert_eq!(disk.names(), names);
        }
    }
}

/// The first write to a lock file may have been cut off anywhere; what it cannot have left is no beginning of a log.
#[test]
fn only_what_a_creation_can_have_left_begins_a_log_anew() {
    let (id, shift) = (LogId::from_bytes(*b"0123456789abcdef"), 12);
    let (checkpoint, clean_end) = (None, None);
    let (sequence, head, end, first_lsn, durable, epoch, repairing) = (1, 1, 1, 6000, 6000, 0, false);
    let first = Control { sequence, id, shift, first_lsn, head, end, durable, checkpoint, clean_end, epoch, repairing };
    let first = first.to_bytes();
    let with_slot = |slot: &[u8]| {
        let disk = SimStorage::new();
        disk.write_file("LOCK", &[&[0; 4096][..], slot, &[0; 4096 - SECTOR]].concat());
        disk
    };
    for cut in 0..SECTOR {
        let (front, back) = first.split_at(cut);
        for torn in [[front, &vec![0; back.len()]].concat(), [&vec![0; cut][..], back].concat()] {
            common::open(&small(), &with_slot(&torn)).expect("the creation goes on");
        }
        let mut other = [&vec![0; cut][..], &vec![0; SECTOR - cut]].concat();
        other[cut] = 0x5A;
        let own = matches!(cut, 12 | 16..32 | 40..72 | 96..100);
        assert_eq!(common::open(&small(), &with_slot(&other)).is_ok(), own, "byte {cut}");
    }
}
