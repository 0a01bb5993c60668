//! Damage of every kind: reported by verify, read around by a salvage, mended by repair.

use std::sync::Arc;

use libwal::format::{Entry, Kind, LogId};
use libwal::storage::{Fault, SimOp, SimStorage, Storage};
use libwal::{Error, Lsn, Options, Recovery, Report, Wal};

const SEGMENT: u64 = 4096;
const HEADER: u64 = 4096;

type Records = Vec<(Lsn, Vec<u8>)>;

fn options() -> Options {
    Options::new().segment_size(SEGMENT).buffer_size(4096).background(false)
}

fn open(storage: &SimStorage) -> libwal::Result<Wal> {
    options().open_on(Arc::new(storage.clone()))
}

fn verify(storage: &SimStorage) -> Report {
    libwal::verify_on(Arc::new(storage.clone()), 2, &|_| {}).unwrap()
}

fn read_all(log: &Wal) -> Records {
    log.iter().unwrap().map(|record| record.map(|record| (record.lsn, record.data)).unwrap()).collect()
}

/// A cleanly closed log of several segments: records of mixed length, one longer than a segment, two epochs.
fn log() -> (SimStorage, Records) {
    let mut storage = SimStorage::new();
    let mut records = Vec::new();
    for round in 0..2u8 {
        let log = open(&storage).unwrap();
        for n in 0..60usize {
            let data = vec![round ^ n as u8; if n == 30 { 9000 } else { n * 13 % 300 }];
            records.push((log.append(&data).unwrap(), data));
            if n % 10 == 9 {
                log.sync().unwrap();
            }
        }
        if round == 0 {
            // Killed: the second round continues in another epoch.
            log.sync().unwrap();
            let killed = storage.kill();
            drop(log);
            storage = killed;
        } else {
            log.close().unwrap();
        }
    }
    (storage, records)
}

fn file_of(lsn: u64) -> String {
    format!("{:020}.wal", lsn / SEGMENT)
}

fn flip(storage: &SimStorage, lsn: u64) {
    assert!(storage.flip_bit(&file_of(lsn), HEADER + lsn % SEGMENT, 3));
}

/// Repairs the log and checks that it holds `expected` then, opens strictly, verifies, and takes appends.
fn repair_and_check(storage: &SimStorage, expected: &Records) {
    let salvage = options().recovery(Recovery::Salvage).open_on(Arc::new(storage.clone())).unwrap();
    assert_eq!(read_all(&salvage).len(), expected.len());
    assert!(read_all(&salvage) == *expected);
    let found = verify(storage);
    assert_eq!(salvage.damage(), found.damage);
    drop(salvage);

    let keep = SimStorage::new();
    let report = libwal::repair_on(Arc::new(storage.clone()), Arc::new(keep.clone())).unwrap();
    assert_eq!(report, found);
    assert_eq!(keep.names().is_empty(), report.is_sound());
    let after = verify(storage);
    assert!(after.is_sound(), "{after:?}");

    let log = open(storage).unwrap();
    assert!(read_all(&log) == *expected);
    let lsn = log.append_and_sync(b"after the repair").unwrap();
    assert!(lsn >= report.tail);
    log.close().unwrap();
    let log = open(storage).unwrap();
    let mut expected = expected.clone();
    expected.push((lsn, b"after the repair".to_vec()));
    assert!(read_all(&log) == expected);
}

#[test]
fn a_sound_log_is_left_alone() {
    let (storage, records) = log();
    let report = verify(&storage);
    assert!(report.is_sound() && report.closed_cleanly && report.torn_tail.is_none(), "{report:?}");
    assert_eq!(report.records, records.len() as u64);
    assert_eq!(report.payload_bytes, records.iter().map(|(_, data)| data.len() as u64).sum::<u64>());
    let before: Vec<_> = storage.names().iter().map(|name| storage.read_file(name)).collect();
    let keep = SimStorage::new();
    assert!(libwal::repair_on(Arc::new(storage.clone()), Arc::new(keep.clone())).unwrap().is_sound());
    assert!(!keep.exists().unwrap());
    let after: Vec<_> = storage.names().iter().map(|name| storage.read_file(name)).collect();
    assert!(before == after);
}

#[test]
fn a_flipped_bit_costs_its_record_only() {
    let (_, records) = log();
    for nth in 0..records.len() {
        let (storage, records) = log();
        let (lsn, data) = &records[nth];
        flip(&storage, lsn.get() + 8 + data.len() as u64 / 2);
        if data.is_empty() {
            continue;
        }
        let report = verify(&storage);
        assert_eq!(report.damage.len(), 1, "{nth}: {report:?}");
        assert_eq!(report.damage[0].from, *lsn);
        assert!(report.damage[0].path.ends_with(file_of(lsn.get())));
        let mut expected = records.clone();
        expected.remove(nth);
        repair_and_check(&storage, &expected);
    }
}

#[test]
fn a_damaged_header_word_costs_its_record_only() {
    let (storage, records) = log();
    flip(&storage, records[40].0.get() + 5);
    let mut expected = records.clone();
    expected.remove(40);
    repair_and_check(&storage, &expected);
}

#[test]
fn a_missing_a_short_and_a_foreign_segment_are_rebuilt() {
    let (storage, records) = log();
    let kept = |records: &Records, lost: &dyn Fn(u64, u64) -> bool| -> Records {
        let end = |(lsn, data): &(Lsn, Vec<u8>)| lsn.get() + (8 + data.len() as u64).next_multiple_of(8);
        records.iter().filter(|record| !lost(record.0.get(), end(record))).cloned().collect()
    };
    let middle = records[15].0.get() / SEGMENT;
    let touches = |from: u64, to: u64| from / SEGMENT <= middle && (to - 1) / SEGMENT >= middle;
    let name = file_of(middle * SEGMENT);

    storage.remove_file(&name);
    assert!(matches!(open(&storage), Err(Error::Corrupt { path, .. }) if path.ends_with(&name)));
    repair_and_check(&storage, &kept(&records, &touches));

    let (storage, records) = log();
    let bytes = storage.read_file(&name).unwrap();
    storage.write_file(&name, &bytes[..bytes.len() - 1000]);
    assert!(matches!(open(&storage), Err(Error::Corrupt { path, .. }) if path.ends_with(&name)));
    let cut = middle * SEGMENT + SEGMENT - 1000;
    let lost = |from: u64, to: u64| from < (middle + 1) * SEGMENT && to > cut;
    repair_and_check(&storage, &kept(&records, &lost));

    let (storage, records) = log();
    let (other, _) = log();
    storage.write_file(&name, &other.read_file(&name).unwrap());
    assert!(matches!(open(&storage), Err(Error::Corrupt { path, .. }) if path.ends_with(&name)));
    repair_and_check(&storage, &kept(&records, &touches));
}

#[test]
fn damaged_headers_and_a_damaged_lock_file_cost_nothing() {
    for offset in [0, 20, 40, 512, 530] {
        for index in 0..4 {
            let (storage, records) = log();
            storage.flip_bit(&file_of(index * SEGMENT), offset, 1);
            assert!(!verify(&storage).is_sound(), "byte {offset} of segment {index}");
            repair_and_check(&storage, &records);
        }
    }
    let (storage, records) = log();
    let mut lock = storage.read_file("LOCK").unwrap();
    lock[50] ^= 1;
    lock[4096 + 50] ^= 1;
    storage.write_file("LOCK", &lock);
    assert!(matches!(open(&storage), Err(Error::Corrupt { path, .. }) if path.ends_with("LOCK")));
    repair_and_check(&storage, &records);
}

#[test]
fn a_lock_file_that_a_repair_makes_is_durable() {
    let (storage, _) = log();
    storage.remove_file("LOCK");
    flip(&storage, SEGMENT + 8);
    assert!(!verify(&storage).is_sound());
    libwal::repair_on(Arc::new(storage.clone()), Arc::new(SimStorage::new())).unwrap();
    for seed in 0..20 {
        let left = storage.crash(seed);
        assert!(left.read_file("LOCK").is_some() && verify(&left).is_sound(), "crash {seed}");
    }
}

#[test]
fn a_batch_that_lost_a_member_is_dropped_as_a_whole() {
    let storage = SimStorage::new();
    let log = open(&storage).unwrap();
    let first = log.append(b"before").unwrap();
    let lsns = log.append_batch(&[[1u8; 50], [2; 50], [3; 50]]).unwrap();
    let last = log.append(b"behind").unwrap();
    log.close().unwrap();
    flip(&storage, lsns[1].get() + 20);
    let report = verify(&storage);
    assert_eq!((report.damage[0].from, report.damage[0].to), (lsns[0], last));
    repair_and_check(&storage, &vec![(first, b"before".to_vec()), (last, b"behind".to_vec())]);
}

#[test]
fn a_lost_end_of_a_closed_log_is_damage_and_its_positions_are_not_used_again() {
    let (storage, records) = log();
    let (lsn, _) = records.last().unwrap();
    let name = file_of(lsn.get());
    let mut bytes = storage.read_file(&name).unwrap();
    let from = (HEADER + lsn.get() % SEGMENT) as usize;
    bytes[from..].fill(0);
    storage.write_file(&name, &bytes);
    assert!(matches!(open(&storage), Err(Error::Corrupt { .. })));
    repair_and_check(&storage, &records[..records.len() - 1].to_vec());
}

#[test]
fn a_torn_tail_is_no_damage() {
    let storage = SimStorage::new();
    let log = open(&storage).unwrap();
    let first = log.append_and_sync(b"acknowledged").unwrap();
    let second = log.append(&[7; 600]).unwrap();
    log.flush().unwrap();
    let killed = storage.kill();
    drop(log);
    // As the power leaves it: the buffer is gone.
    killed.remove_memory("");
    flip(&killed, second.get() + 100);
    let report = verify(&killed);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.torn_tail, report.tail), (Some(second), second));
    let log = open(&killed).unwrap();
    assert!(read_all(&log) == vec![(first, b"acknowledged".to_vec())]);
}

#[test]
fn a_directory_without_a_log_is_refused_and_left_alone() {
    let storage = SimStorage::new();
    storage.write_file("notes.txt", b"mine");
    assert!(matches!(libwal::verify_on(Arc::new(storage.clone()), 1, &|_| {}), Err(Error::InvalidArgument(_))));
    let keep = SimStorage::new();
    assert!(libwal::repair_on(Arc::new(storage.clone()), Arc::new(keep)).is_err());
    assert!(open(&storage).is_err());
    assert_eq!(storage.names(), ["notes.txt"]);
}

#[test]
fn kinds_survive_a_salvage() {
    let storage = SimStorage::new();
    let log = open(&storage).unwrap();
    log.append_batch(&["a", "b"]).unwrap();
    log.checkpoint(b"state").unwrap();
    log.append(b"c").unwrap();
    log.close().unwrap();
    let salvage = options().recovery(Recovery::Salvage).open_on(Arc::new(storage)).unwrap();
    let kinds: Vec<_> = salvage.iter().unwrap().map(|record| record.unwrap().kind).collect();
    assert_eq!(kinds, [Kind::Batch, Kind::BatchEnd, Kind::Checkpoint, Kind::Data]);
}

#[test]
fn damage_to_the_newest_control_slot_never_brings_back_an_old_end() {
    let storage = SimStorage::new();
    let log = open(&storage).unwrap();
    let mut records = vec![(log.append(b"0").unwrap(), b"0".to_vec())];
    log.close().unwrap();
    let log = open(&storage).unwrap();
    for n in 1..6u8 {
        records.push((log.append_and_sync(&[n]).unwrap(), vec![n]));
    }
    let killed = storage.kill();
    drop(log);
    for slot in [0, 4096] {
        let storage = killed.kill();
        storage.flip_bit("LOCK", slot + 40, 2);
        let log = open(&storage).unwrap();
        assert!(read_all(&log) == records, "slot {slot}");
        assert!(log.append_and_sync(b"more").unwrap() > records[5].0);
    }
}

#[test]
fn a_segment_under_the_name_of_another_is_rebuilt_from_what_fits() {
    let storage = SimStorage::new();
    let log = open(&storage).unwrap();
    let mut records = Vec::new();
    for data in [b"a".to_vec(), vec![b'x'; 20_000], b"b".to_vec()] {
        records.push((log.append(&data).unwrap(), data));
    }
    log.close().unwrap();
    storage.write_file(&file_of(2 * SEGMENT), &storage.read_file(&file_of(3 * SEGMENT)).unwrap());
    let report = verify(&storage);
    assert!(!report.is_sound());
    // All x: the foreign bytes happen to be the right ones.
    repair_and_check(&storage, &records);
}

#[test]
fn a_header_with_an_absurd_version_is_damage_to_a_log_of_this_version() {
    let (storage, records) = log();
    storage.flip_bit(&file_of(SEGMENT), 9, 5);
    assert!(matches!(open(&storage), Err(Error::UnsupportedVersion { path, .. }) if path.ends_with(file_of(SEGMENT))));
    repair_and_check(&storage, &records);
}

#[test]
fn a_segment_of_a_newer_version_is_refused_and_left_alone() {
    let (storage, _) = log();
    let name = file_of(SEGMENT);
    let mut bytes = storage.read_file(&name).unwrap();
    bytes[8] = 2;
    // The checksum, CRC-32C of the first 40 bytes, computed bit by bit.
    let crc = bytes[..40].iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    });
    bytes[40..44].copy_from_slice(&(!crc).to_le_bytes());
    storage.write_file(&name, &bytes);
    let newer = |error: Option<Error>| matches!(error, Some(Error::UnsupportedVersion { path, found: 2, .. }) if path.ends_with(&name));
    assert!(newer(open(&storage).err()));
    assert!(newer(libwal::verify_on(Arc::new(storage.clone()), 1, &|_| {}).err()));
    let keep = SimStorage::new();
    assert!(newer(libwal::repair_on(Arc::new(storage.clone()), Arc::new(keep)).err()));
    assert!(storage.read_file(&name) == Some(bytes));
}

/// A closed log with two batches over several segments each, and records between them and behind.
fn batches() -> (SimStorage, Vec<Records>) {
    let storage = SimStorage::new();
    let log = open(&storage).unwrap();
    let mut parts = Vec::new();
    let one = |log: &Wal, data: &[u8]| vec![(log.append(data).unwrap(), data.to_vec())];
    let batch = |log: &Wal, first: u8| -> Records {
        let members: Vec<Vec<u8>> = (first..first + 8).map(|n| vec![n; 1500]).collect();
        log.append_batch(&members).unwrap().into_iter().zip(members.clone()).collect()
    };
    parts.push(one(&log, b"before"));
    parts.push(batch(&log, 10));
    parts.push(one(&log, b"between"));
    parts.push(batch(&log, 20));
    parts.push(batch(&log, 30));
    parts.push(one(&log, b"behind"));
    log.close().unwrap();
    (storage, parts)
}

/// What is kept if all batches but those are lost.
fn but(parts: &[Records], lost: &[usize]) -> Records {
    let kept = parts.iter().enumerate().filter(|(nth, _)| !lost.contains(nth));
    kept.flat_map(|(_, part)| part.clone()).collect()
}

#[test]
fn a_batch_over_several_segments_is_dropped_as_a_whole() {
    for lost in [1, 3, 4] {
        for member in 0..8 {
            let (storage, parts) = batches();
            let (lsn, data) = &parts[lost][member];
            flip(&storage, lsn.get() + 20);
            let report = verify(&storage);
            let (first, last) =
                (parts[lost][0].0, parts[lost][7].0.get() + (8 + data.len() as u64).next_multiple_of(8));
            assert_eq!(report.damage.len(), 1, "{report:?}");
            assert_eq!((report.damage[0].from, report.damage[0].to.get()), (first, last));
            repair_and_check(&storage, &but(&parts, &[lost]));
        }
    }
}

#[test]
fn a_batch_that_lost_several_members_is_dropped_as_a_whole() {
    for members in [[1, 3], [2, 6], [1, 7], [6, 7]] {
        let (storage, parts) = batches();
        for member in members {
            flip(&storage, parts[1][member].0.get() + 20);
        }
        assert_eq!(verify(&storage).damage.len(), 1, "{members:?}");
        repair_and_check(&storage, &but(&parts, &[1]));
    }
}

#[test]
fn a_batch_behind_one_that_lost_its_end_is_kept() {
    let (storage, parts) = batches();
    flip(&storage, parts[3][7].0.get() + 20);
    repair_and_check(&storage, &but(&parts, &[3]));
}

/// Its first member is whole, and stands where the hole begins.
#[test]
fn no_member_of_a_batch_that_is_dropped_can_be_read_by_its_position() {
    for lost in [1, 3, 4] {
        for member in 0..8 {
            let (storage, parts) = batches();
            flip(&storage, parts[lost][member].0.get() + 20);
            let salvage = options().recovery(Recovery::Salvage).open_on(Arc::new(storage)).unwrap();
            for (nth, (lsn, data)) in
                parts.iter().enumerate().flat_map(|(nth, part)| part.iter().map(move |r| (nth, r)))
            {
                match salvage.read(*lsn) {
                    Ok(record) => assert!(nth != lost && record.data == *data, "member {member}: {lsn} is read"),
                    // Where the hole begins with the damaged record itself, that is what there is to say of it.
                    Err(Error::Corrupt { lsn: at, .. }) => assert!(nth == lost && member == 0 && at == *lsn),
                    Err(error) => assert!(nth == lost && matches!(error, Error::InvalidArgument(_)), "{error}"),
                }
            }
        }
    }
}

/// A log that was flushed and never synced, in two segments. The second one's entry sector did not reach the disk, or half
/// of it, or all.
fn power_cuts() -> Vec<(SimStorage, Records)> {
    let storage = SimStorage::new();
    let log = open(&storage).unwrap();
    let records: Records = (0..6u8).map(|n| (log.append(&[n; 1000]).unwrap(), vec![n; 1000])).collect();
    log.flush().unwrap();
    let left = |there: usize| {
        let cut = storage.kill();
        cut.remove_memory("");
        let mut bytes = cut.read_file(&file_of(SEGMENT)).unwrap();
        bytes[512 + there..544].fill(0);
        cut.write_file(&file_of(SEGMENT), &bytes);
        (cut, records.clone())
    };
    let mut cuts: Vec<_> = [0, 30, 32].map(left).into();
    // Neither did the first one's. Or an older one stands in the second, of a tail that a recovery shut out.
    let (both, records) = left(0);
    let mut bytes = both.read_file(&file_of(0)).unwrap();
    bytes[512..544].fill(7);
    both.write_file(&file_of(0), &bytes);
    let (older, _) = left(0);
    let id = LogId::from_bytes(older.read_file("LOCK").unwrap()[4096 + 16..4096 + 32].try_into().unwrap());
    let entry = Entry { first_record: SEGMENT + 1000, durable: 0, checkpoint: None, epoch: 7 };
    let mut bytes = older.read_file(&file_of(SEGMENT)).unwrap();
    bytes[512..1024].copy_from_slice(&entry.to_bytes(id, 1));
    older.write_file(&file_of(SEGMENT), &bytes);
    cuts.push((older, records.clone()));
    cuts.push((both, records));
    cuts
}

#[test]
fn a_power_cut_is_no_damage_to_a_file() {
    for (disk, records) in power_cuts() {
        let report = verify(&disk);
        assert!(report.is_sound(), "{report:?}");
        let salvage = options().recovery(Recovery::Salvage).open_on(Arc::new(disk.clone())).unwrap();
        assert!(read_all(&salvage) == records);
        // Who opens for reading only finds the same, and by its position as well.
        let reader = options().read_only(true).open_on(Arc::new(disk.clone())).unwrap();
        assert!(read_all(&reader) == records);
        for (lsn, data) in &records {
            assert_eq!(&reader.read(*lsn).unwrap().data, data);
            assert!(matches!(reader.read(Lsn::new(lsn.get() + 8)), Err(Error::InvalidArgument(_))));
        }
        assert!(read_all(&open(&disk).unwrap()) == records);
    }
    for seed in 0..300 {
        let storage = SimStorage::new();
        let log = open(&storage).unwrap();
        for n in 0..6u8 {
            log.append(&[n; 1000]).unwrap();
        }
        log.flush().unwrap();
        let cut = storage.crash(seed);
        let report = verify(&cut);
        assert!(report.is_sound(), "crash {seed}: {report:?}");
        let reader = options().read_only(true).open_on(Arc::new(cut.clone())).unwrap();
        let read = read_all(&reader);
        assert!(read.iter().all(|(lsn, data)| reader.read(*lsn).unwrap().data == *data));
        assert!(read == read_all(&open(&cut).unwrap()), "crash {seed}");
    }
}

/// What is counted is what a strict open reads afterwards.
fn counts_what_is_there(disk: &SimStorage) -> Report {
    let report = verify(disk);
    let salvage = options().recovery(Recovery::Salvage).open_on(Arc::new(disk.clone())).unwrap();
    let (salvaged, checkpoint) = (read_all(&salvage), salvage.last_checkpoint());
    drop(salvage);
    let records = read_all(&open(&disk.kill()).unwrap());
    assert!(salvaged == records);
    assert_eq!(report.records, records.len() as u64);
    assert_eq!(report.payload_bytes, records.iter().map(|(_, data)| data.len() as u64).sum::<u64>());
    assert_eq!(report.checkpoint, checkpoint);
    report
}

/// As the power leaves it: what was flushed, and no buffer.
fn cut(storage: &SimStorage) -> SimStorage {
    let cut = storage.kill();
    cut.remove_memory("");
    cut
}

#[test]
fn what_lies_behind_the_end_is_not_counted() {
    let storage = SimStorage::new();
    let log = open(&storage).unwrap();
    log.append(b"0").unwrap();
    let first = log.checkpoint(b"first").unwrap();
    log.append_and_sync(b"1").unwrap();
    let torn = log.append(&[2; 600]).unwrap();
    log.append(&[3; 5000]).unwrap();
    // A checkpoint that no sync acknowledged.
    storage.inject(Fault::errno(SimOp::Sync, 0, 5));
    assert!(log.checkpoint(b"second").is_err());
    let cut = cut(&storage);
    flip(&cut, torn.get() + 100);
    let report = counts_what_is_there(&cut);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.tail, report.checkpoint), (torn, Some(first)));
    // A repair of something else must not write down another one.
    flip(&cut, 8);
    libwal::repair_on(Arc::new(cut.clone()), Arc::new(SimStorage::new())).unwrap();
    assert_eq!(open(&cut).unwrap().last_checkpoint(), Some(first));
}

#[test]
fn half_a_batch_is_not_counted() {
    for len in [100, 1500, 6000] {
        let storage = SimStorage::new();
        let log = open(&storage).unwrap();
        log.append_batch(&[vec![1; len], vec![2; len], vec![3; len]]).unwrap();
        log.append_and_sync(b"acknowledged").unwrap();
        let lsns = log.append_batch(&[vec![4; len], vec![5; len], vec![6; len], vec![7; len]]).unwrap();
        log.flush().unwrap();
        assert_eq!(counts_what_is_there(&cut(&storage)).records, 8);
        for member in 1..4 {
            // The power went before this member came to the disk, and none behind it did.
            let cut = cut(&storage);
            for index in lsns[member].get() / SEGMENT.. {
                let Some(mut bytes) = cut.read_file(&file_of(index * SEGMENT)) else { break };
                let from = lsns[member].get().saturating_sub(index * SEGMENT) + HEADER;
                bytes[from as usize..].fill(0);
                if from == HEADER {
                    bytes[512..1024].fill(0);
                }
                cut.write_file(&file_of(index * SEGMENT), &bytes);
            }
            let report = counts_what_is_there(&cut);
            assert!(report.is_sound(), "{report:?}");
            assert_eq!((report.records, report.tail), (4, lsns[0]), "{len} bytes, member {member}");
        }
    }
}
