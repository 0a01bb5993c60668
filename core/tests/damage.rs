//! Arbitrary damage to a log's files: no call panics or tells an untruth, and a repaired log is whole.

mod common;

use std::sync::Arc;

use common::random::Random;
use common::seeds::for_each_seed;
use common::{contents, open, records, small};
use libwal::storage::SimStorage;
use libwal::{Error, Recovery, Report, Wal};

type Records = Vec<(u64, Vec<u8>)>;

/// A log of one or more lives, which end with a close, a kill, or a loss of power; with records, batches and checkpoints,
/// perhaps truncated, and then in recycled files.
struct Log {
    disk: SimStorage,
    all: Records,
    /// The positions of the records that were appended together.
    batches: Vec<Vec<u64>>,
}

impl Log {
    fn new(random: &mut Random) -> Log {
        let mut disk = SimStorage::with_seed(random.next());
        let (mut all, mut batches) = (Records::new(), Vec::new());
        let first = random.pick(&[0, 0, 8, 4096, 6000]);
        let lives = random.pick(&[1, 1, 2, 4]);
        for life in 0..lives {
            let wal = open(&small().first_lsn(first.into()), &disk).expect("the log opens");
            live(random, &wal, &mut batches);
            all = records(&wal);
            match random.below(if life + 1 < lives { 3 } else { 2 }) {
                0 => wal.close().expect("closed"),
                end => {
                    let left = if end == 1 { disk.kill() } else { disk.crash(random.next()) };
                    disk.crash_after(0);
                    drop(wal);
                    disk = left;
                }
            }
        }
        Log { disk, all, batches }
    }

    /// Those of `read` of whose batch nothing is missing there.
    fn whole(&self, read: &Records) -> Records {
        let there =
            |lsn: &u64| read.iter().any(|record| record.0 == *lsn) || self.all.iter().all(|record| record.0 != *lsn);
        let whole = |lsn: u64| {
            let batch = self.batches.iter().rev().find(|batch| batch.contains(&lsn)).expect("appended");
            batch.iter().all(there)
        };
        read.iter().filter(|record| whole(record.0)).cloned().collect()
    }
}

/// Appends to the log, up to 60 times, and truncates it now and then.
fn live(random: &mut Random, wal: &Wal, batches: &mut Vec<Vec<u64>>) {
    for n in 0..1 + random.below(60) {
        let len = random.pick(&[0, 10, 100, 900, 6000]);
        match random.below(12) {
            0 => batches.push(vec![wal.checkpoint(&vec![n as u8; len]).expect("taken").get()]),
            1..=3 => {
                let lsns = wal.append_batch(&vec![vec![n as u8; len]; 3]).expect("appended");
                batches.push(lsns.into_iter().map(|lsn| lsn.get()).collect());
            }
            _ => batches.push(vec![wal.append(&vec![n as u8; len]).expect("appended").get()]),
        }
        if random.one_in(4) {
            wal.sync().expect("synced");
        }
        if random.one_in(20) {
            let all = records(wal);
            wal.truncate_before(all[random.below(all.len() as u64) as usize].0.into()).expect("truncated");
        }
    }
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
    let Log { disk, all, .. } = Log::new(&mut random);
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

/// What a salvage reads of the damaged log is read after a repair that was cut off, and after the next one.
fn check_cut_off(seed: u64) {
    let mut random = Random::new(seed);
    let log = Log::new(&mut random);
    let (disk, all) = (&log.disk, &log.all);
    for _ in 0..random.pick(&[1, 1, 2, 4]) {
        damage(&mut random, disk);
    }
    if verify(disk).is_err() {
        return;
    }
    // All of it durable, and without the buffer: what the power takes then is the repair's.
    let files = contents(disk);
    let disk = SimStorage::with_seed(seed);
    files.iter().for_each(|(name, bytes)| disk.write_file(name, bytes));
    let salvage = |disk: &SimStorage| records(&open(&small().recovery(Recovery::Salvage), disk).expect("salvaged"));
    let repair = |disk: &SimStorage| libwal::repair_on(Arc::new(disk.clone()), Arc::new(SimStorage::new()));
    // What is left of a batch whose beginning is lost may be dropped by the next one.
    let first = salvage(&disk);
    let salvaged = log.whole(&first);
    let whole = disk.kill();
    let before = whole.operations();
    repair(&whole).expect("mended");
    let most = whole.operations() - before + 1;
    let kept = |read: &Records, when: &str| {
        assert!(is_part_of(&salvaged, read), "{} of {} {when}", read.len(), salvaged.len());
        assert!(is_part_of(read, all), "made up {when}");
        assert!(is_part_of(read, &first), "{} of {} came back {when}", read.len(), first.len());
    };
    let mut disk = disk;
    for nth in 0..random.pick(&[1, 2, 3]) {
        let operations = random.below(most);
        disk.crash_after(operations);
        let _ = repair(&disk);
        disk = if random.one_in(2) { disk.kill() } else { disk.crash(random.next()) };
        kept(&salvage(&disk), &format!("cut off the {nth}. time, {operations} operations"));
    }
    repair(&disk).expect("mended again");
    // What is said to be mended survives the power, whatever was killed before.
    let disk = disk.crash(random.next());
    assert!(verify(&disk).expect("verified").is_sound());
    kept(&records(&open(&small(), &disk).expect("opens")), "mended");
}

#[test]
fn a_repair_that_is_cut_off_loses_nothing_that_could_be_read() {
    for_each_seed(1000, check_cut_off);
}

/// Up to three wrong bits in a log of which everything was acknowledged: a salvage reads all records but those that the bits lie
/// in, and the others of their batches. Where it is one bit, it reads no others.
fn check_complete(seed: u64) {
    let mut random = Random::new(seed);
    let log = Log::new(&mut random);
    let wal = open(&small(), &log.disk).expect("the log opens");
    let all = records(&wal);
    wal.close().expect("closed");
    let names: Vec<_> = log.disk.names().into_iter().filter(|name| name.ends_with(".wal")).collect();
    let (mut wrong, mut what) = (Vec::new(), String::new());
    let bits = 1 + random.below(3);
    for _ in 0..bits {
        let name = &names[random.below(names.len() as u64) as usize];
        let base = 4096 * name[..20].parse::<u64>().expect("an index");
        let offset = match random.below(4) {
            0 => random.below(44),
            1 => 512 + random.below(40),
            _ => 4096 + random.below(4096),
        };
        assert!(log.disk.flip_bit(name, offset, random.below(8) as u8));
        what += &format!("{name}, byte {offset}; ");
        wrong.extend(offset.checked_sub(4096).map(|offset| base + offset));
    }
    let wrong_in = |record: &(u64, Vec<u8>)| {
        let end = record.0 + 8 + record.1.len().next_multiple_of(8) as u64;
        wrong.iter().filter(|&&at| (record.0..end).contains(&at)).count()
    };
    if all.iter().any(|record| wrong_in(record) > 1) {
        // It may seem to be one of a batch, and its checksum does not tell.
        return;
    }
    let expected = log.whole(&all.iter().filter(|record| wrong_in(record) == 0).cloned().collect());
    let salvage = open(&small().recovery(Recovery::Salvage), &log.disk).expect("salvaged");
    let salvaged = records(&salvage);
    let same = salvaged == expected || bits > 1 && is_part_of(&expected, &salvaged);
    assert!(same, "{} of {} records: {what}", salvaged.len(), expected.len());
}

#[test]
fn a_salvage_reads_all_that_is_whole() {
    for_each_seed(1000, check_complete);
}
