use std::collections::BTreeSet;

use super::*;

const SEEDS: u64 = 300;
const SECTOR: usize = inode::SECTOR;

fn storage() -> SimStorage {
    let storage = SimStorage::new();
    storage.create_dir().unwrap();
    storage
}

fn create(storage: &SimStorage, name: &str) -> Arc<dyn StorageFile> {
    let file = storage.open(name, Mode::CreateNew).unwrap();
    storage.sync_dir().unwrap();
    file
}

fn write(file: &dyn StorageFile, bytes: &[u8], offset: u64) {
    file.write_all_at(&mut [IoSlice::new(bytes)], offset).unwrap();
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

/// The bytes that a file could have after a crash, by seed.
fn outcomes(storage: &SimStorage, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..SEEDS).map(|seed| storage.crash(seed).read_file(name)).collect()
}

#[test]
fn what_was_synced_survives_every_crash() {
    let storage = storage();
    let file = create(&storage, "f");
    let synced: Vec<u8> = (0..5000_u32).map(|i| i as u8).collect();
    write(&*file, &synced, 0);
    file.sync().unwrap();
    write(&*file, &[0xAA; 3000], 5000);
    create(&storage, "other");
    for seed in 0..SEEDS {
        let after = storage.crash(seed).read_file("f").unwrap();
        assert_eq!(after[..5000], synced[..], "seed {seed}");
    }
}

#[test]
fn unsynced_sectors_survive_each_on_its_own_in_any_version() {
    let storage = storage();
    let file = create(&storage, "f");
    write(&*file, &[b'a'; 8 * SECTOR], 0);
    file.sync().unwrap();
    write(&*file, &[b'b'; 8 * SECTOR], 0);
    write(&*file, &[b'c'; 8 * SECTOR], 0);
    let outcomes: BTreeSet<Vec<u8>> = outcomes(&storage, "f").into_iter().map(Option::unwrap).collect();
    for outcome in &outcomes {
        for sector in outcome.chunks(SECTOR) {
            assert!(b"abc".contains(&sector[0]) && sector.iter().all(|byte| *byte == sector[0]));
        }
    }
    for all in *b"ac" {
        assert!(outcomes.contains(&vec![all; 8 * SECTOR]), "some seed leaves nothing, and some leaves everything");
    }
    assert!(outcomes.len() > 30, "{} outcomes", outcomes.len());
    assert!(outcomes.iter().any(|outcome| outcome.contains(&b'b')));
}

#[test]
fn a_write_is_cut_at_sectors_of_the_file_and_not_of_the_write() {
    let storage = storage();
    let file = create(&storage, "f");
    write(&*file, &[b'a'; 2 * SECTOR], 0);
    file.sync().unwrap();
    write(&*file, b"xyz", SECTOR as u64 - 1);
    let seen: BTreeSet<Vec<u8>> =
        outcomes(&storage, "f").into_iter().map(|file| file.unwrap()[SECTOR - 1..SECTOR + 2].to_vec()).collect();
    let expected: [&[u8]; 4] = [b"aaa", b"ayz", b"xaa", b"xyz"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn the_length_survives_or_not_and_what_is_missing_within_it_is_zero() {
    let storage = storage();
    let file = create(&storage, "f");
    file.allocate(100).unwrap();
    file.sync().unwrap();
    write(&*file, &[b'a'; SECTOR], SECTOR as u64);
    let (old, new): (Vec<_>, Vec<_>) =
        outcomes(&storage, "f").into_iter().map(Option::unwrap).partition(|after| after.len() == 100);
    assert_eq!(old, [vec![0; 100]]);
    let mut full = vec![0; SECTOR];
    full.extend([b'a'; SECTOR]);
    assert_eq!(new, [vec![0; 2 * SECTOR], full]);
}

#[test]
fn allocating_is_durable_with_the_next_sync_only() {
    let storage = storage();
    let file = create(&storage, "f");
    file.allocate(1000).unwrap();
    file.allocate(10).unwrap();
    assert_eq!(file.len().unwrap(), 1000);
    assert_eq!(outcomes(&storage, "f"), BTreeSet::from([Some(vec![]), Some(vec![0; 1000])]));
    file.sync().unwrap();
    assert_eq!(outcomes(&storage, "f"), BTreeSet::from([Some(vec![0; 1000])]));
}

#[test]
fn after_a_failed_sync_the_disk_holds_what_it_holds() {
    let mut left = BTreeSet::new();
    for seed in 0..50 {
        let storage = SimStorage::with_seed(seed);
        storage.create_dir().unwrap();
        let file = create(&storage, "f");
        write(&*file, &[b'a'; 4 * SECTOR], 0);
        file.sync().unwrap();
        write(&*file, &[b'b'; 4 * SECTOR], 0);
        storage.inject(Fault::errno(SimOp::Sync, 0, 5));
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
        assert_eq!(storage.read_file("f").unwrap(), [b'b'; 4 * SECTOR], "reads still see what was written");
        file.sync().unwrap();
        let mut outcomes = outcomes(&storage, "f");
        assert_eq!(outcomes.len(), 1, "nothing is pending any more, so nothing is left to chance");
        let mut disk = outcomes.pop_first().unwrap().unwrap();
        left.insert(disk.clone());

        // Writing one byte makes its whole sector dirty again, and leaves the others as they are.
        write(&*file, b"c", 0);
        file.sync().unwrap();
        disk[..SECTOR].fill(b'b');
        disk[0] = b'c';
        assert_eq!(storage.crash(0).read_file("f").unwrap(), disk);
    }
    assert!(left.contains(&vec![b'a'; 4 * SECTOR]) && left.contains(&vec![b'b'; 4 * SECTOR]) && left.len() > 5);
}

#[test]
fn a_failed_write_leaves_a_prefix() {
    let mut lengths = BTreeSet::new();
    for seed in 0..100 {
        let storage = SimStorage::with_seed(seed);
        storage.create_dir().unwrap();
        let file = create(&storage, "f");
        storage.inject(Fault::new(SimOp::Write, 0, ErrorKind::Other));
        let bytes: Vec<u8> = (0..2000_u32).map(|i| i as u8).collect();
        let mut bufs = [IoSlice::new(&bytes[..700]), IoSlice::new(&bytes[700..])];
        assert_eq!(kind(file.write_all_at(&mut bufs, 0)), ErrorKind::Other);
        let left = storage.read_file("f").unwrap();
        assert_eq!(left, bytes[..left.len()]);
        lengths.insert(left.len());
    }
    assert!(lengths.len() > 20);
    assert!(lengths.iter().any(|len| len % SECTOR == 0) && lengths.iter().any(|len| len % SECTOR != 0));
}

#[test]
fn changes_of_the_directory_survive_in_any_legal_combination() {
    let storage = storage();
    write(&*create(&storage, "old"), b"", 0);
    storage.rename("old", "new").unwrap();
    storage.open("made", Mode::CreateNew).unwrap();
    storage.rename("made", "moved").unwrap();
    storage.remove("new").unwrap();
    let seen: BTreeSet<String> = (0..SEEDS).map(|seed| storage.crash(seed).names().join(" ")).collect();
    let legal = ["", "made", "made new", "made old", "moved", "moved new", "moved old", "new", "old"];
    assert_eq!(seen, legal.map(String::from).into());
    storage.sync_dir().unwrap();
    for seed in 0..SEEDS {
        assert_eq!(storage.crash(seed).names(), ["moved"]);
    }
}

#[test]
fn a_removed_file_can_come_back_and_a_failed_directory_sync_promises_nothing() {
    let storage = storage();
    let file = create(&storage, "f");
    write(&*file, b"abc", 0);
    file.sync().unwrap();
    drop(file);
    storage.remove("f").unwrap();
    storage.inject(Fault::new(SimOp::SyncDir, 0, ErrorKind::Other));
    assert!(storage.sync_dir().is_err());
    assert_eq!(outcomes(&storage, "f"), BTreeSet::from([None, Some(b"abc".to_vec())]));
    // A new file of the name is another one.
    write(&*storage.open("f", Mode::CreateNew).unwrap(), b"x", 0);
    assert!(outcomes(&storage, "f").contains(&Some(b"abc".to_vec())));
    storage.sync_dir().unwrap();
    assert_eq!(outcomes(&storage, "f"), BTreeSet::from([Some(vec![]), Some(vec![0]), Some(b"x".to_vec())]));
}

#[test]
fn a_removed_file_stays_usable_while_open() {
    let storage = storage();
    let file = create(&storage, "f");
    storage.remove("f").unwrap();
    storage.sync_dir().unwrap();
    write(&*file, b"abc", 0);
    file.sync().unwrap();
    assert_eq!(file.len().unwrap(), 3);
    assert!(storage.crash(0).state.lock().inodes.is_empty());
    assert!(storage.kill().state.lock().inodes.is_empty());
    drop(file);
    assert!(storage.state.lock().inodes.is_empty());
}

#[test]
fn a_directory_whose_creation_failed_may_be_there_and_may_be_lost() {
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let storage = SimStorage::with_seed(seed);
        assert!(!storage.exists().unwrap());
        assert_eq!(kind(storage.list()), ErrorKind::NotFound);
        assert_eq!(kind(storage.open("f", Mode::CreateNew)), ErrorKind::NotFound);
        storage.inject(Fault::new(SimOp::CreateDir, 0, ErrorKind::Other));
        assert!(storage.create_dir().is_err());
        let stands = storage.exists().unwrap();
        for crash in 0..20 {
            seen.insert((stands, storage.crash(crash).exists().unwrap()));
        }
        storage.create_dir().unwrap();
        assert!((0..20).all(|crash| storage.crash(crash).exists().unwrap()));
    }
    assert_eq!(seen, BTreeSet::from([(false, false), (true, false), (true, true)]));
}

#[test]
fn a_full_disk_refuses_growth_and_nothing_else() {
    let storage = storage();
    storage.set_capacity(Some(1000));
    let (a, b) = (create(&storage, "a"), create(&storage, "b"));
    a.allocate(600).unwrap();
    assert_eq!(kind(b.allocate(401)), ErrorKind::StorageFull);
    assert_eq!(b.len().unwrap(), 0);
    assert_eq!(kind(b.write_all_at(&mut [IoSlice::new(&[1; 500])], 0)), ErrorKind::StorageFull);
    assert_eq!(b.len().unwrap(), 400, "the part that fits is written");
    write(&*a, &[2; 600], 0);
    write(&*b, &[2; 400], 0);
    storage.remove("a").unwrap();
    assert_eq!(kind(b.allocate(500)), ErrorKind::StorageFull, "an open file keeps its space");
    drop(a);
    b.allocate(1000).unwrap();
    storage.set_capacity(Some(10));
    write(&*b, &[3; 1000], 0);
    assert_eq!(kind(b.allocate(1001)), ErrorKind::StorageFull);
    storage.set_capacity(None);
    b.allocate(1001).unwrap();
    assert_eq!(kind(b.allocate(u64::MAX)), ErrorKind::StorageFull);
    assert_eq!(kind(b.write_all_at(&mut [IoSlice::new(&[1; 2])], u64::MAX)), ErrorKind::StorageFull);
}

#[test]
fn a_lock_excludes_other_handles_until_it_is_dropped() {
    let storage = storage();
    let first = create(&storage, "LOCK");
    let second = storage.open("LOCK", Mode::Write).unwrap();
    assert!(first.try_lock().unwrap() && first.try_lock().unwrap());
    assert!(!second.try_lock().unwrap());
    for other in [storage.kill(), storage.crash(1)] {
        assert!(other.open("LOCK", Mode::Write).unwrap().try_lock().unwrap());
    }
    drop(Arc::clone(&first));
    assert!(!second.try_lock().unwrap());
    drop(first);
    assert!(second.try_lock().unwrap());
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    let run = || {
        let storage = SimStorage::with_seed(7);
        storage.create_dir().unwrap();
        for name in ["a", "b", "c"] {
            let file = storage.open(name, Mode::CreateNew).unwrap();
            storage.inject(Fault::new(SimOp::Write, 1, ErrorKind::Other));
            write(&*file, &[1; 3000], 10);
            let _ = file.write_all_at(&mut [IoSlice::new(&[2; 3000])], 2000);
        }
        storage
    };
    let (one, two) = (run(), run());
    let content = |storage: &SimStorage| -> Vec<_> {
        storage.names().into_iter().map(|name| (storage.read_file(&name), name)).collect()
    };
    let all: BTreeSet<_> = (0..SEEDS).map(|seed| content(&one.crash(seed))).collect();
    assert!(all.len() > 100);
    for seed in 0..SEEDS {
        assert_eq!(content(&one.crash(seed)), content(&two.crash(seed)));
    }
}

#[test]
fn the_death_of_the_process_loses_nothing_written_and_syncs_nothing() {
    let storage = storage();
    let file = create(&storage, "f");
    write(&*file, b"abc", 0);
    storage.inject(Fault::new(SimOp::Any, 0, ErrorKind::Other).sticky());
    let after = storage.kill();
    assert_eq!(after.read_file("f").unwrap(), b"abc");
    assert!(outcomes(&after, "f").contains(&Some(vec![])));
    let reopened = after.open("f", Mode::Write).unwrap();
    write(&*reopened, b"x", 0);
    assert_eq!(storage.read_file("f").unwrap(), b"abc", "the two share nothing");
    assert_eq!((after.operations(), after.writes(), after.reads(), after.syncs()), (1, 1, 0, 0));
}

#[test]
fn the_power_goes_after_any_operation() {
    let work = |storage: &SimStorage| -> io::Result<()> {
        storage.create_dir()?;
        let file = storage.open("f", Mode::CreateNew)?;
        storage.sync_dir()?;
        file.allocate(10)?;
        file.write_all_at(&mut [IoSlice::new(b"abc")], 0)?;
        file.read_at(&mut [0; 3], 0)?;
        file.sync()?;
        storage.rename("f", "g")?;
        storage.remove("g")
    };
    let whole = SimStorage::new();
    work(&whole).unwrap();
    assert_eq!(whole.operations(), 8);
    for count in 0..8 {
        let storage = SimStorage::new();
        storage.crash_after(count);
        assert_eq!(work(&storage).unwrap_err().to_string(), "simulated power loss");
        assert_eq!(storage.operations(), count);
        assert_eq!(kind(storage.exists()), ErrorKind::Other);
        let after = storage.crash(count);
        after.create_dir().unwrap();
        assert_eq!(
            count > 5,
            after.read_file("f").or(after.read_file("g")).is_some_and(|file| file == b"abc\0\0\0\0\0\0\0")
        );
    }
}

#[test]
fn faults_strike_when_they_are_told_to() {
    let storage = storage();
    storage.inject(Fault::new(SimOp::Open, 1, ErrorKind::PermissionDenied));
    let file = storage.open("f", Mode::CreateNew).unwrap();
    assert_eq!(kind(storage.open("f", Mode::Read)), ErrorKind::PermissionDenied);
    storage.inject(Fault::new(SimOp::Open, 0, ErrorKind::Other));
    assert_eq!(kind(storage.open("g", Mode::CreateNew)), ErrorKind::Other);
    storage.inject(Fault::new(SimOp::Create, 0, ErrorKind::Other));
    storage.open("f", Mode::Read).unwrap();
    assert_eq!(kind(storage.open("g", Mode::CreateNew)), ErrorKind::Other);
    assert_eq!(storage.names(), ["f"]);
    storage.inject(Fault::errno(SimOp::Read, 1, 5).sticky());
    file.read_at(&mut [0], 0).unwrap();
    for _ in 0..3 {
        assert_eq!(file.read_at(&mut [0], 0).unwrap_err().raw_os_error(), Some(5));
    }
    storage.clear_faults();
    file.read_at(&mut [0], 0).unwrap();
    storage.inject(Fault::new(SimOp::Any, 0, ErrorKind::Other).sticky());
    assert!(file.len().is_err() && file.try_lock().is_err() && storage.list().is_err() && file.allocate(1).is_err());
    assert!(storage.remove("f").is_err() && storage.rename("f", "g").is_err());
    assert_eq!(storage.names(), ["f"]);
}

#[test]
fn tampering_reaches_cache_and_disk() {
    let storage = storage();
    storage.write_file("f", b"abc");
    assert_eq!(outcomes(&storage, "f"), BTreeSet::from([Some(b"abc".to_vec())]));
    let file = storage.open("f", Mode::Write).unwrap();
    assert!(storage.flip_bit("f", 1, 0));
    assert!(!storage.flip_bit("f", 3, 0) && !storage.flip_bit("f", 0, 8) && !storage.flip_bit("g", 0, 0));
    assert_eq!(outcomes(&storage, "f"), BTreeSet::from([Some(b"acc".to_vec())]));
    write(&*file, b"x", 0);
    assert!(storage.flip_bit("f", 2, 7));
    file.sync().unwrap();
    assert_eq!(outcomes(&storage, "f"), BTreeSet::from([Some(vec![b'x', b'c', b'c' ^ 0x80])]));
    storage.write_file("f", b"");
    assert_eq!(file.len().unwrap(), 0);
    assert!(storage.remove_file("f") && !storage.remove_file("f"));
    assert_eq!(outcomes(&storage, "f"), BTreeSet::from([None]));
    assert_eq!(storage.read_file("f"), None);
}

#[test]
fn modes_and_names_are_those_of_files() {
    let storage = storage();
    assert_eq!(kind(storage.open("f", Mode::Read)), ErrorKind::NotFound);
    assert_eq!(kind(storage.open("f", Mode::Write)), ErrorKind::NotFound);
    write(&*create(&storage, "f"), b"abc", 0);
    assert_eq!(kind(storage.open("f", Mode::CreateNew)), ErrorKind::AlreadyExists);
    let reader = storage.open("f", Mode::Read).unwrap();
    assert_eq!(kind(reader.write_all_at(&mut [IoSlice::new(b"x")], 0)), ErrorKind::PermissionDenied);
    assert_eq!(kind(reader.allocate(9)), ErrorKind::PermissionDenied);
    let mut buf = [0; 8];
    assert_eq!(reader.read_at(&mut buf, 1).unwrap(), 2);
    assert_eq!((&buf[..2], reader.read_at(&mut [0], u64::MAX).unwrap()), (&b"bc"[..], 0));
    create(&storage, "g");
    assert_eq!(kind(storage.rename("f", "g")), ErrorKind::AlreadyExists);
    assert_eq!(kind(storage.rename("gone", "h")), ErrorKind::NotFound);
    assert_eq!(kind(storage.remove("gone")), ErrorKind::NotFound);
    assert_eq!(storage.list().unwrap(), ["f", "g"]);
    assert_eq!(format!("{storage:?}"), r#"SimStorage { names: ["f", "g"], .. }"#);
}
