//! The search for the next valid record: it reads a small multiple of what there is, whatever stands there, and tells what was
//! lost.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::random::Random;
use common::watched::{Seen, watched};
use common::{open, records, segment_name, small};
use libwal::storage::SimStorage;
use libwal::{Options, Recovery};

const SEGMENT: u64 = 16 << 20;

/// A log of one segment that its process left behind when it was killed, with `garbage` behind its end and zeros behind that.
/// Returns how many bytes a verify reads of it, in how many pieces.
fn read_by_verify(garbage: &[u8]) -> (u64, u64) {
    let disk = SimStorage::new();
    let log = open(&Options::new().segment_size(SEGMENT).buffer_size(64 << 10), &disk).unwrap();
    log.append_and_sync(b"one").unwrap();
    let end = log.tail().unwrap().get();
    let left = disk.kill();
    disk.crash_after(0);
    drop(log);
    let mut bytes = left.read_file(&segment_name(0)).unwrap();
    let at = (4096 + end) as usize;
    bytes[at..at + garbage.len()].copy_from_slice(garbage);
    left.write_file(&segment_name(0), &bytes);

    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let counted = Arc::clone(&counts);
    let disk = watched(&left, move |seen| {
        if let Seen::HasRead(_, _, bytes) = seen {
            let read = counted[0].fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
            counted[1].fetch_add(1, Ordering::Relaxed);
            assert!(read < 100 * SEGMENT, "it reads without end");
        }
    });
    let report = libwal::verify_on(disk, 1, &|_| {}).unwrap();
    assert!(report.is_sound() && report.records == 1, "{report:?}");
    (counts[0].load(Ordering::Relaxed), counts[1].load(Ordering::Relaxed))
}

#[test]
fn garbage_is_read_a_few_times() {
    let mut random = Random::new(1);
    let garbage: Vec<u8> = (0..4 << 17).flat_map(|_| random.next().to_le_bytes()).collect();
    let (bytes, pieces) = read_by_verify(&garbage);
    assert!(bytes < 4 * SEGMENT, "{bytes} bytes");
    // One in 80 words of random bytes has a kind, and a length that ends in the segment.
    assert!(pieces < SEGMENT / 512, "{pieces} pieces");
}

/// Each word is a header word that leads to another one, far away.
#[test]
fn words_that_all_look_like_header_words_are_read_a_few_times() {
    let garbage: Vec<u8> = (0..4_u64 << 17).flat_map(|nth| (0x1010_0000 << 32 | nth).to_le_bytes()).collect();
    let (bytes, pieces) = read_by_verify(&garbage);
    assert!(bytes < 4 * SEGMENT, "{bytes} bytes");
    assert!(pieces < SEGMENT / 512, "{pieces} pieces");
}

/// With one wrong bit in its kind, a record becomes a member of the batch behind it, or a member one that stands alone. What it
/// was tells the checksum, so no batch goes with a record that was none of it, and none is left without a member.
#[test]
fn a_wrong_bit_in_a_kind_takes_its_record_or_its_batch() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    let mut appended: Vec<Vec<u64>> = Vec::new();
    for n in 0..6u8 {
        appended.push(vec![log.append(&[n; 30]).unwrap().get()]);
        let batch = log.append_batch(&[vec![n; 700], vec![], vec![n; 20]]).unwrap();
        appended.push(batch.into_iter().map(|lsn| lsn.get()).collect());
    }
    log.append(b"behind").unwrap();
    let all = records(&log);
    log.close().unwrap();
    for together in &appended {
        for lsn in together {
            for bit in 4..8 {
                let damaged = disk.kill();
                assert!(damaged.flip_bit(&segment_name(lsn / 4096), 4096 + lsn % 4096 + 7, bit));
                let left: Vec<_> = all.iter().filter(|record| !together.contains(&record.0)).cloned().collect();
                let salvage = open(&small().recovery(Recovery::Salvage), &damaged).unwrap();
                assert!(records(&salvage) == left, "{lsn} of {together:?}, bit {bit}");
                drop(salvage);
                libwal::repair_on(Arc::new(damaged.clone()), Arc::new(SimStorage::new())).unwrap();
                assert!(records(&open(&small(), &damaged).unwrap()) == left, "{lsn} of {together:?}, bit {bit}");
            }
        }
    }
}

/// Nothing is left of the first member of a batch of two; the second one cannot have stood alone.
#[test]
fn the_last_member_of_a_batch_does_not_stand_alone() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).unwrap();
    log.append(b"before").unwrap();
    let batch = log.append_batch(&[&[1; 40], &[2; 40]]).unwrap();
    log.append(b"behind").unwrap();
    log.close().unwrap();
    let mut bytes = disk.read_file(&segment_name(0)).unwrap();
    bytes[4096 + batch[0].get() as usize..4096 + batch[1].get() as usize].fill(0xEE);
    disk.write_file(&segment_name(0), &bytes);
    let salvage = open(&small().recovery(Recovery::Salvage), &disk).unwrap();
    let all: Vec<_> = records(&salvage).into_iter().map(|(_, data)| data).collect();
    assert_eq!(all, [b"before", b"behind"]);
}
