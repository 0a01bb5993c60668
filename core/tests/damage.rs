//! Arbitrary damage to a log's files: no call panics or tells an untruth, and a repaired log is whole.

mod common;

use std::sync::Arc;

use common::random::Random;
use common::seeds::for_each_seed;
use common::{open, records, small};
use libwal::storage::SimStorage;
use libwal::{Error, Recovery, Report, Wal};

type Records = Vec<(u64, Vec<u8>)>;

/// A log of up to 80 records, some in batches, closed cleanly or killed, perhaps truncated.
fn log(random: &mut Random) -> (SimStorage, Records) {
    let disk = SimStorage::with_seed(random.next());
    let wal = open(&small(), &disk).expect("a new log");
    let batch = random.pick(&[1, 1, 3]);
    for n in 0..1 + random.below(80) {
        let len = random.pick(&[0, 10, 100, 900, 6000]);
        if batch == 1 {
            wal.append(&vec![n as u8; len]).expect("appended");
        } else {
            wal.append_batch(&vec![vec![n as u8; len]; batch]).expect("appended");
        }
        if random.one_in(4) {
            wal.sync().expect("synced");
        }
    }
    if random.one_in(3) {
        wal.sync().expect("synced");
        let all = records(&wal);
        wal.truncate_before(all[random.below(all.len() as u64) as usize].0.into()).expect("truncated");
    }
    let all = records(&wal);
    if random.one_in(2) {
        wal.close().expect("closed");
        return (disk, all);
    }
    let killed = disk.kill();
    drop(wal);
    (killed, all)
}

/// Damages one file in one of many ways.
fn damage(random: &mut Random, disk: &SimStorage) {
    let names = disk.names();
    if names.is_empty() {
        return;
    }
    let name = &names[random.below(names.len() as u64) as usize];
    let mut bytes = disk.read_file(name).expect("a file");
    let from = random.below(bytes.len().max(1) as u64) as usize;
    let to = (from + 1 + random.below(5000) as usize).min(bytes.len());
    match random.below(8) {
        0..=2 if !bytes.is_empty() => bytes[from] ^= 1 << random.below(8),
        3 if !bytes.is_empty() => bytes[from..to].fill_with(|| random.next() as u8),
        4 if !bytes.is_empty() => bytes[from..to].fill(0),
        5 => bytes.truncate(from),
        6 => {
            disk.remove_file(name);
            return;
        }
        _ => {
            let other = &names[random.below(names.len() as u64) as usize];
            bytes = disk.read_file(other).expect("a file");
        }
    }
    disk.write_file(name, &bytes);
}

fn verify(disk: &SimStorage) -> libwal::Result<Report> {
    libwal::verify_on(Arc::new(disk.clone()), 2, &|_| {})
}

fn read_strictly(wal: &Wal) -> Result<Records, Error> {
    wal.iter()?.map(|record| record.map(|record| (record.lsn.get(), record.data))).collect()
}

/// Every record that is read is one that was appended, at its place.
fn is_part_of(read: &Records, all: &Records) -> bool {
    read.iter().all(|record| all.contains(record))
}

fn check(seed: u64) {
    let mut random = Random::new(seed);
    let (disk, all) = log(&mut random);
    for _ in 0..random.pick(&[1, 1, 2, 4]) {
        damage(&mut random, &disk);
    }
    let Ok(report) = verify(&disk) else {
        // Nothing there tells what log it was, or it claims to be of a newer version. Then nothing opens it either.
        assert!(open(&small(), &disk.kill()).is_err() || disk.names().is_empty());
        return;
    };
    let strict = open(&small().read_only(true), &disk);
    if let Ok(strict) = &strict {
        match read_strictly(strict) {
            Ok(read) => assert!(is_part_of(&read, &all)),
            Err(error) => assert!(!report.is_sound(), "sound, but {error}"),
        }
    }
    assert!(strict.is_ok() || !report.is_sound(), "sound, but {strict:?}");
    let salvage = open(&small().recovery(Recovery::Salvage), &disk).expect("a salvage opens what can be verified");
    let salvaged = records(&salvage);
    assert!(is_part_of(&salvaged, &all), "a salvage made something up");
    drop(salvage);

    let mended = libwal::repair_on(Arc::new(disk.clone()), Arc::new(SimStorage::new())).expect("mended");
    assert_eq!(mended.damage, report.damage);
    assert!(verify(&disk).expect("verified").is_sound());
    let wal = open(&small(), &disk).unwrap_or_else(|error| panic!("a mended log does not open: {error}, {report:?}"));
    let after = records(&wal);
    // Where the end of the files is lost, the buffer that the dead process left behind may still hold it.
    let kept = after.starts_with(&salvaged) && is_part_of(&after, &all);
    assert!(kept, "{} records after a repair, {} salvaged, {report:?}", after.len(), salvaged.len());
    let lsn = wal.append_and_sync(b"behind").expect("appended");
    wal.close().expect("closed");
    let again = records(&open(&small(), &disk).expect("opens again"));
    assert!(again.last() == Some(&(lsn.get(), b"behind".to_vec())));
    assert!(again[..again.len() - 1] == after);
}

#[test]
fn arbitrary_damage_is_told_read_around_and_mended() {
    for_each_seed(1000, check);
}
