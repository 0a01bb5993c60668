//! What was appended and not flushed when the process died: it is in the buffer, which outlives the process, and the next open
//! finds it there.

#![cfg(target_os = "linux")]

mod common;

use std::io::{self, IoSlice};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::child::{BUFFER, copy};
use common::{contents, open, records, small};
use libwal::format::MARKER_RECORD_SIZE;
use libwal::storage::{FileStorage, Memory, Mode, SimStorage, Storage, StorageFile};
use libwal::{Options, Wal};

type Records = Vec<(u64, Vec<u8>)>;

fn opened(disk: &SimStorage) -> Wal {
    open(&small(), disk).expect("the log opens")
}

/// Appends payloads of these lengths, each with bytes of its own, and returns the records.
fn append(wal: &Wal, lens: &[usize]) -> Records {
    let record = |(nth, &len): (usize, &usize)| {
        let data = vec![nth as u8 + 1; len];
        (wal.append(&data).expect("appended").get(), data)
    };
    lens.iter().enumerate().map(record).collect()
}

fn left(disk: &SimStorage) -> Arc<dyn StorageFile> {
    disk.left_memory("").expect("the disk works").expect("the buffer was left behind")
}

fn bytes_of(file: &dyn StorageFile) -> Vec<u8> {
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    assert_eq!(file.read_at(&mut bytes, 0).expect("read"), bytes.len());
    bytes
}

#[test]
fn what_was_appended_survives_the_process_and_what_the_power_leaves_is_what_was_synced() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    assert!(wal.stats().expect("open").shared_buffer);
    let mut all = append(&wal, &[0, 7, 100]);
    wal.sync().expect("synced");
    let written = disk.writes();
    all.extend(append(&wal, &[500, 1, 300]));
    assert_eq!(disk.writes(), written, "nothing was flushed");
    assert_eq!(records(&opened(&disk.kill())), all);
    assert_eq!(records(&opened(&disk.crash(0))), all[..3], "memory goes with the power");
    // What is recovered is durable, and can be appended to.
    let killed = disk.kill();
    let again = opened(&killed);
    let lsn = again.append_and_sync(b"next").expect("synced");
    all.push((lsn.get(), b"next".to_vec()));
    for seed in 0..20 {
        assert_eq!(records(&opened(&killed.crash(seed))), all);
    }
}

#[test]
fn records_come_back_from_wherever_they_lie_in_the_buffer_and_the_segments() {
    // The buffer wraps, records span it and the segments, and whole segments are entered by what was left behind only.
    for first in (8..4000).step_by(88) {
        let disk = SimStorage::new();
        let wal = opened(&disk);
        let mut all = append(&wal, &[first, 1000, 2000, 3000]);
        wal.flush().expect("flushed");
        let writes = disk.writes();
        all.extend([1200, 900, 0, 1300, 500].map(|len| {
            let data = vec![9; len];
            (wal.try_append(&data).expect("there is room").get(), data)
        }));
        assert_eq!(disk.writes(), writes, "nothing of it was flushed");
        let killed = disk.kill();
        let recovered = opened(&killed);
        assert_eq!(records(&recovered), all, "{first}");
        let tail = recovered.tail().expect("open").get();
        assert_eq!(tail, all[8].0 + 8 + 504 + MARKER_RECORD_SIZE, "{first}: the epoch record follows");
        // As they are on the disk now: the entry sectors too, by which any segment is read on its own.
        for seed in 0..4 {
            let crashed = killed.crash(seed);
            assert_eq!(records(&opened(&crashed)), all, "{first}");
            assert!(libwal::verify_on(Arc::new(crashed), 1, &|_| {}).expect("verified").is_sound());
        }
    }
}

#[test]
fn a_long_buffer_is_read_to_its_end() {
    // Read in several pieces, with records that lie across them and across the end of the buffer.
    let disk = SimStorage::new();
    let wal = open(&small().segment_size(1 << 20).buffer_size(1 << 20), &disk).expect("opens");
    let mut all = append(&wal, &[300_000, 300_000]);
    wal.flush().expect("flushed");
    let writes = disk.writes();
    while let Ok(lsn) = wal.try_append(&[all.len() as u8; 10_007]) {
        all.push((lsn.get(), vec![all.len() as u8; 10_007]));
    }
    assert!(all.len() > 100 && disk.writes() == writes, "nothing of it was flushed");
    assert!(records(&opened(&disk.kill())) == all);
}

#[test]
fn the_first_record_that_is_damaged_ends_the_log() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    let all = append(&wal, &[100; 9]);
    for (nth, &(lsn, _)) in all.iter().enumerate() {
        for at in [lsn + 1, lsn + 4, lsn + 8, lsn + 107] {
            let killed = disk.kill();
            let byte = bytes_of(&*left(&killed))[at as usize] ^ 16;
            left(&killed).write_all_at(&mut [IoSlice::new(&[byte])], at).expect("written");
            assert!(records(&opened(&killed)) == all[..nth], "{at}");
        }
    }
}

#[test]
fn half_a_batch_stays_behind() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    let before = append(&wal, &[10]);
    let lsns = wal.append_batch(&[[1; 50], [2; 50], [3; 50]]).expect("appended");
    let killed = disk.kill();
    let whole = records(&opened(&killed));
    assert_eq!(whole.len(), 4);
    for lsn in lsns {
        let killed = disk.kill();
        left(&killed).write_all_at(&mut [IoSlice::new(&[0; 8])], lsn.get()).expect("written");
        assert_eq!(records(&opened(&killed)), before);
    }
}

/// A recovery that dies anywhere leaves the buffer where it was, or has made what was in it durable.
#[test]
fn a_recovery_that_is_killed_loses_nothing_of_it() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    let mut all = append(&wal, &[3100]);
    wal.flush().expect("flushed");
    let writes = disk.writes();
    all.extend(append(&wal, &[500, 400]));
    assert_eq!(disk.writes(), writes, "nothing of it was flushed");
    let mut survived = 0;
    for operations in 0.. {
        let killed = disk.kill();
        killed.crash_after(operations);
        let recovered = open(&small(), &killed);
        let again = killed.kill();
        assert_eq!(records(&opened(&again)), all, "killed after {operations} operations");
        if recovered.is_ok() {
            survived = operations;
            break;
        }
    }
    assert!(survived > 10, "recovery took {survived} operations");
}

/// Of an earlier life, or of an earlier round: what once lay in the buffer is never taken for the log's own.
#[test]
fn an_old_buffer_is_not_believed() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    append(&wal, &[88; 10]);
    let old = bytes_of(&*left(&disk.kill()));
    // The power goes, and with it all of them. The log goes on, in another epoch, with records of the same length.
    for count in 0..16 {
        let disk = disk.crash(0);
        let wal = opened(&disk);
        assert_eq!(records(&wal), []);
        let again = append(&wal, &vec![88; count]);
        wal.flush().expect("flushed");
        let killed = disk.kill();
        left(&killed).write_all_at(&mut [IoSlice::new(&old)], 0).expect("written");
        assert!(records(&opened(&killed)) == again, "{count} records");
    }
    // Another log's, with the same positions.
    let other = SimStorage::new();
    let wal = opened(&other);
    let own = append(&wal, &[88; 3]);
    wal.flush().expect("flushed");
    let killed = other.kill();
    left(&killed).write_all_at(&mut [IoSlice::new(&old)], 0).expect("written");
    assert_eq!(records(&opened(&killed)), own);
}

#[test]
fn a_log_that_is_open_for_reading_leaves_the_buffer_alone() {
    let disk = SimStorage::new();
    let wal = opened(&disk);
    let mut all = append(&wal, &[100]);
    wal.flush().expect("flushed");
    all.extend(append(&wal, &[100]));
    let killed = disk.kill();
    let (before, buffer) = (contents(&killed), bytes_of(&*left(&killed)));
    let view = open(&small().read_only(true), &killed).expect("opens");
    assert!(view.stats().expect("open").shared_buffer);
    assert_eq!(records(&view), all[..1], "a reader changes nothing, so it sees what was flushed");
    assert!(libwal::verify_on(Arc::new(killed.clone()), 1, &|_| {}).expect("verified").is_sound());
    assert_eq!((contents(&killed), bytes_of(&*left(&killed))), (before, buffer));
    assert_eq!(records(&opened(&killed)), all);
}

#[test]
fn a_private_buffer_dies_with_the_process_and_a_close_leaves_none() {
    let disk = SimStorage::new();
    let wal = open(&small().shared_buffer(false), &disk).expect("opens");
    assert!(!wal.stats().expect("open").shared_buffer);
    let flushed = append(&wal, &[100]);
    wal.flush().expect("flushed");
    append(&wal, &[100]);
    let killed = disk.kill();
    assert_eq!(records(&opened(&killed)), flushed);
    let wal = opened(&disk.crash(3));
    wal.append(b"x").expect("appended");
    wal.close().expect("closed");
    assert!(disk.kill().left_memory("").expect("the disk works").is_none());
}

/// A disk that asks, when the buffer is taken away, whether the log is still locked: another process that had it already
/// would lose its own buffer.
struct Locking(SimStorage);

impl Storage for Locking {
    fn path(&self) -> PathBuf {
        self.0.path()
    }

    fn create_dir(&self) -> io::Result<()> {
        self.0.create_dir()
    }

    fn exists(&self) -> io::Result<bool> {
        self.0.exists()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn StorageFile>> {
        self.0.open(name, mode)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }

    fn create_memory(&self, name: &str, len: usize) -> Option<Memory> {
        assert!(is_locked(&self.0), "the buffer is made without the lock");
        self.0.create_memory(name, len)
    }

    fn left_memory(&self, name: &str) -> io::Result<Option<Arc<dyn StorageFile>>> {
        assert!(is_locked(&self.0), "the buffer is read without the lock");
        self.0.left_memory(name)
    }

    fn remove_memory(&self, name: &str) {
        assert!(is_locked(&self.0), "the buffer is taken away without the lock");
        self.0.remove_memory(name);
    }
}

fn is_locked(disk: &SimStorage) -> bool {
    !disk.open("LOCK", Mode::Read).expect("there").try_lock().expect("it can tell")
}

#[test]
fn the_buffer_is_touched_under_the_lock_only() {
    for shared in [true, false] {
        let disk = SimStorage::new();
        for _ in 0..2 {
            let options = small().shared_buffer(shared);
            let wal = options.open_on(Arc::new(Locking(disk.clone()))).expect("opens");
            wal.append(b"x").expect("appended");
            wal.close().expect("closed");
            assert!(disk.left_memory("").expect("it can tell").is_none());
        }
        let wal = small().open_on(Arc::new(Locking(disk.clone()))).expect("opens");
        wal.append(b"x").expect("appended");
        let killed = disk.kill();
        let wal = small().shared_buffer(shared).open_on(Arc::new(Locking(killed))).expect("opens");
        assert_eq!(records(&wal).len(), 3);
    }
}

// The files themselves.

/// Where the buffer of the log in `dir` is, if it is in shared memory.
fn shared(dir: &Path) -> PathBuf {
    let log = std::fs::metadata(dir).expect("there");
    PathBuf::from(format!("/dev/shm/libwal-{:x}-{:x}-{BUFFER}", log.dev(), log.ino()))
}

fn log_in(dir: &Path) -> (Wal, Records) {
    let options = Options::new().segment_size(1 << 16).buffer_size(1 << 14);
    let wal = options.open(dir).expect("opens");
    let all = append(&wal, &[100, 200, 300]);
    // What is copied while a segment is made may have the slot that names it, and not the segment.
    while wal.stats().expect("open").segments < 2 {
        std::thread::yield_now();
    }
    (wal, all)
}

#[test]
fn the_file_is_its_users_alone_and_goes_with_a_close() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path().join("log");
    let (wal, all) = log_in(&dir);
    let file = [shared(&dir), dir.join(BUFFER)].into_iter().find(|path| path.exists());
    let Some(file) = file else {
        assert!(!wal.stats().expect("open").shared_buffer);
        return;
    };
    assert!(wal.stats().expect("open").shared_buffer);
    let metadata = std::fs::metadata(&file).expect("there");
    assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o600, 1 << 14));
    // A copy of the log and of the buffer, taken while it is open, as if the process had died.
    let scratch = temporary.path().join("copy");
    copy(&dir, &scratch);
    assert_eq!(records(&Wal::open(&scratch).expect("opens")), all);
    assert!(!scratch.join(BUFFER).exists(), "it was in the directory, and was taken away");
    // A copy without it is another log's directory: it does not meet the buffer of the first.
    let flushed = temporary.path().join("flushed");
    copy(&dir, &flushed);
    std::fs::remove_file(flushed.join(BUFFER)).expect("there");
    assert_eq!(records(&Wal::open(&flushed).expect("opens")), []);
    wal.close().expect("closed");
    assert!(!file.exists());
}

/// Nothing finds it by its log any more.
#[test]
fn a_close_takes_it_away_where_the_directory_is_gone_too() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path().join("log");
    let (wal, _) = log_in(&dir);
    let file = shared(&dir);
    wal.sync().expect("synced");
    std::fs::remove_dir_all(&dir).expect("removed");
    let closed = wal.close();
    let left = file.exists();
    let _ = std::fs::remove_file(&file);
    assert!(!left, "{closed:?}");
}

#[test]
fn a_close_does_not_take_another_logs() {
    for (first, second) in [(true, true), (false, true), (true, false)] {
        let temporary = tempfile::tempdir().expect("a directory");
        let (dir, moved) = (temporary.path().join("log"), temporary.path().join("moved"));
        let options = |shared| {
            let options = Options::new().segment_size(1 << 16).buffer_size(1 << 14);
            options.background(false).shared_buffer(shared)
        };
        let wal = options(first).open(&dir).expect("opens");
        append(&wal, &[100]);
        let own = shared(&dir);
        std::fs::rename(&dir, &moved).expect("moved");
        let other = options(second).open(&dir).expect("opens");
        let all = append(&other, &[200, 300]);
        let lives = other.stats().expect("open").shared_buffer;
        wal.close().expect("closed");
        assert!(!own.exists());
        let scratch = temporary.path().join("copy");
        copy(&dir, &scratch);
        assert_eq!(records(&Wal::open(&scratch).expect("opens")), if lives { all } else { vec![] });
        other.close().expect("closed");
        assert!(!shared(&dir).exists() && !dir.join(BUFFER).exists());
    }
}

/// Puts what a dead process left into the log's directory, where it is believed, and lets `plant` change it.
fn recovered(plant: impl FnOnce(&Path)) -> (Records, Records) {
    let temporary = tempfile::tempdir().expect("a directory");
    let (dir, scratch) = (temporary.path().join("log"), temporary.path().join("copy"));
    let (wal, all) = log_in(&dir);
    copy(&dir, &scratch);
    drop(wal);
    let file = scratch.join(BUFFER);
    if file.exists() {
        plant(&file);
    }
    let found = records(&Wal::open(&scratch).expect("opens"));
    (all, found)
}

#[test]
fn a_file_that_another_can_have_written_is_not_believed() {
    let (all, found) = recovered(|_| {});
    assert!(found == all || found.is_empty());
    let possible = !found.is_empty();
    for mode in [0o644, 0o660, 0o602, 0o620] {
        let changed = |file: &Path| {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).expect("changed");
        };
        assert_eq!(recovered(changed).1, [], "{mode:o}");
    }
    let linked = |file: &Path| {
        let elsewhere = file.with_file_name("elsewhere");
        std::fs::rename(file, &elsewhere).expect("moved");
        std::os::unix::fs::symlink(&elsewhere, file).expect("linked");
    };
    assert_eq!(recovered(linked).1, []);
    let owned = |file: &Path| {
        if std::os::unix::fs::chown(file, Some(12_345), None).is_err() && possible {
            // Only root can give a file away.
            std::fs::remove_file(file).expect("there");
        }
    };
    assert_eq!(recovered(owned).1, []);
}

#[test]
fn a_length_that_is_no_buffers_is_not_believed_and_sizes_no_memory() {
    for len in [0, 1, 4095, 12_288, 1 << 17, 1 << 40, (1 << 40) + 1] {
        let cut = |file: &Path| {
            let file = std::fs::OpenOptions::new().write(true).open(file).expect("opened");
            file.set_len(len).expect("sparse");
        };
        assert_eq!(recovered(cut).1, [], "{len}");
    }
}

/// Whoever plants something under the name that the buffer would have gains nothing, and loses nothing.
#[test]
fn what_stands_in_its_place_is_not_followed() {
    let temporary = tempfile::tempdir().expect("a directory");
    let (dir, victim) = (temporary.path().join("log"), temporary.path().join("victim"));
    std::fs::create_dir(&dir).expect("created");
    std::fs::write(&victim, b"precious").expect("written");
    std::os::unix::fs::symlink(&victim, shared(&dir)).expect("linked");
    let (wal, all) = log_in(&dir);
    assert_eq!(records(&wal), all);
    wal.close().expect("closed");
    // A directory there can be neither removed nor replaced: the log's own directory is the next place, or none.
    std::fs::create_dir(shared(&dir)).expect("created");
    let options = Options::new().segment_size(1 << 16).buffer_size(1 << 14);
    let wal = options.open(&dir).expect("opens");
    assert_eq!(wal.stats().expect("open").shared_buffer, dir.join(BUFFER).exists());
    let lsn = wal.append(b"there").expect("appended");
    let scratch = temporary.path().join("copy");
    if dir.join(BUFFER).exists() {
        copy(&dir, &scratch);
        assert_eq!(Wal::open(&scratch).expect("opens").read(lsn).expect("there").data, b"there");
    }
    wal.close().expect("closed");
    std::fs::remove_dir(shared(&dir)).expect("still there");
    assert_eq!(std::fs::read(&victim).expect("there"), b"precious");
}

#[test]
fn memory_that_is_left_is_read_as_it_was_written() {
    let temporary = tempfile::tempdir().expect("a directory");
    let storage = FileStorage::new(temporary.path());
    // A process that died before its log was removed may have left one to a directory with the same number.
    storage.remove_memory(BUFFER);
    assert!(storage.left_memory(BUFFER).expect("no error").is_none());
    let Some(_memory) = storage.create_memory(BUFFER, 1 << 16) else { return };
    let left = storage.left_memory(BUFFER).expect("no error").expect("left");
    assert_eq!(bytes_of(&*left), vec![0; 1 << 16]);
    storage.remove_memory(BUFFER);
    assert!(storage.left_memory(BUFFER).expect("no error").is_none());
}
