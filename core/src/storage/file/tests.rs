use std::fs;
use std::io::{ErrorKind, IoSlice};
use std::path::Path;

use super::*;

fn directory() -> (tempfile::TempDir, FileStorage) {
    let root = tempfile::tempdir().unwrap();
    let storage = FileStorage::new(root.path().join("log"));
    storage.create_dir().unwrap();
    (root, storage)
}

fn write(file: &dyn StorageFile, bytes: &[u8], offset: u64) {
    file.write_all_at(&mut [IoSlice::new(bytes)], offset).unwrap();
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

/// A storage may be used again where somebody removed the directory: what is synced must be the one that is there.
#[cfg(unix)]
#[test]
fn a_directory_that_was_made_anew_is_the_one_that_is_synced() {
    use std::os::unix::fs::MetadataExt;
    let (root, storage) = directory();
    storage.sync_dir().unwrap();
    fs::rename(root.path().join("log"), root.path().join("aside")).unwrap();
    storage.create_dir().unwrap();
    storage.sync_dir().unwrap();
    let open = storage.directory.lock().unwrap().clone().unwrap();
    assert_eq!(open.inode().unwrap(), fs::metadata(root.path().join("log")).unwrap().ino());
}

#[test]
fn every_missing_level_is_created() {
    let root = tempfile::tempdir().unwrap();
    let storage = FileStorage::new(root.path().join("a/b/c"));
    assert!(!storage.exists().unwrap());
    storage.create_dir().unwrap();
    assert!(storage.exists().unwrap());
    storage.create_dir().unwrap();
    storage.sync_dir().unwrap();
    assert_eq!(storage.path(), root.path().join("a/b/c"));
}

#[test]
fn the_topmost_directory_and_an_empty_path_are_survived() {
    FileStorage::new("/").create_dir().unwrap();
    assert_eq!(kind(FileStorage::new("").create_dir()), ErrorKind::NotFound);
    assert_eq!(parent(Path::new("log")), Some(Path::new(".")));
    assert_eq!(parent(Path::new(".")), None);
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("log");
    fs::write(&path, b"not a log").unwrap();
    let storage = FileStorage::new(&path);
    assert_eq!(kind(storage.create_dir()), ErrorKind::NotADirectory);
    assert_eq!(kind(storage.exists()), ErrorKind::NotADirectory);
    assert_eq!(kind(FileStorage::new(path.join("below")).create_dir()), ErrorKind::NotADirectory);
    assert_eq!(fs::read(&path).unwrap(), b"not a log");
}

#[test]
fn modes_open_what_they_say_and_truncate_nothing() {
    let (_root, storage) = directory();
    assert_eq!(kind(storage.open("f", Mode::Read)), ErrorKind::NotFound);
    assert_eq!(kind(storage.open("f", Mode::Write)), ErrorKind::NotFound);
    write(&*storage.open("f", Mode::CreateNew).unwrap(), b"abc", 0);
    assert_eq!(kind(storage.open("f", Mode::CreateNew)), ErrorKind::AlreadyExists);
    assert_eq!(storage.open("f", Mode::Write).unwrap().len().unwrap(), 3);
    let reader = storage.open("f", Mode::Read).unwrap();
    assert!(reader.write_all_at(&mut [IoSlice::new(b"x")], 0).is_err());
    let mut buf = [0; 8];
    assert_eq!(reader.read_at(&mut buf, 1).unwrap(), 2);
    assert_eq!(&buf[..2], b"bc");
    assert_eq!(reader.read_at(&mut buf, 3).unwrap(), 0);
    assert_eq!(reader.read_at(&mut buf, 1 << 40).unwrap(), 0);
    assert_eq!(storage.list().unwrap(), ["f"]);
}

#[test]
fn a_removed_file_stays_usable_while_open() {
    let (_root, storage) = directory();
    let file = storage.open("f", Mode::CreateNew).unwrap();
    write(&*file, b"abc", 0);
    storage.remove("f").unwrap();
    assert_eq!(kind(storage.remove("f")), ErrorKind::NotFound);
    assert_eq!(file.len().unwrap(), 3);
    assert!(storage.list().unwrap().is_empty());
}

#[test]
fn renaming_replaces_nothing() {
    let (_root, storage) = directory();
    write(&*storage.open("a", Mode::CreateNew).unwrap(), b"a", 0);
    write(&*storage.open("b", Mode::CreateNew).unwrap(), b"bb", 0);
    assert_eq!(kind(storage.rename("a", "b")), ErrorKind::AlreadyExists);
    assert_eq!(kind(storage.rename("gone", "c")), ErrorKind::NotFound);
    storage.rename("a", "c").unwrap();
    let mut names = storage.list().unwrap();
    names.sort();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(storage.open("c", Mode::Read).unwrap().len().unwrap(), 1);
}

#[test]
fn more_buffers_than_one_call_takes_are_all_written() {
    let (_root, storage) = directory();
    let file = storage.open("f", Mode::CreateNew).unwrap();
    let pieces: Vec<Vec<u8>> = (0..5000_usize).map(|i| vec![i as u8; i % 7]).collect();
    let mut bufs: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    bufs.splice(0..0, (0..3000).map(|_| IoSlice::new(b"")));
    file.write_all_at(&mut bufs, 10).unwrap();
    let expected = pieces.concat();
    let mut read = vec![0xFF; expected.len() + 100];
    assert_eq!(file.read_at(&mut read, 10).unwrap(), expected.len());
    assert_eq!(read[..expected.len()], expected);
    file.write_all_at(&mut [], 0).unwrap();
    file.write_all_at(&mut [IoSlice::new(b"")], 0).unwrap();
    assert_eq!(file.len().unwrap(), 10 + expected.len() as u64);
    file.sync().unwrap();
}

#[test]
fn allocating_extends_with_zeros_and_never_shrinks() {
    let (_root, storage) = directory();
    let file = storage.open("f", Mode::CreateNew).unwrap();
    file.allocate(0).unwrap();
    write(&*file, b"abc", 0);
    file.allocate(8192).unwrap();
    assert_eq!(file.len().unwrap(), 8192);
    file.allocate(100).unwrap();
    extend(&fs::File::options().write(true).open(storage.path().join("f")).unwrap(), 50).unwrap();
    assert_eq!(file.len().unwrap(), 8192);
    let mut buf = [1; 6];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 6);
    assert_eq!(&buf, b"abc\0\0\0");
}

#[test]
fn the_lock_excludes_other_handles_until_it_is_dropped() {
    let (_root, storage) = directory();
    let first = storage.open("LOCK", Mode::CreateNew).unwrap();
    let second = storage.open("LOCK", Mode::Write).unwrap();
    assert!(first.try_lock().unwrap());
    assert!(!second.try_lock().unwrap());
    drop(first);
    // Even if a process that another test starts meanwhile has a copy of every open file.
    assert!(second.try_lock().unwrap());
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let (root, storage) = directory();
        let outside = root.path().join("outside");
        fs::write(&outside, b"keep").unwrap();
        symlink(&outside, storage.path().join("link")).unwrap();
        fs::create_dir(storage.path().join("directory")).unwrap();
        let _socket = UnixListener::bind(storage.path().join("socket")).unwrap();
        let fifo = std::ffi::CString::new(storage.path().join("fifo").to_str().unwrap()).unwrap();
        // SAFETY: the pointer leads to a string that ends in NUL and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        for name in ["link", "directory", "socket", "fifo"] {
            for mode in [Mode::Read, Mode::Write] {
                assert_eq!(kind(storage.open(name, mode)), ErrorKind::InvalidInput, "{name} {mode:?}");
            }
            assert_eq!(kind(storage.open(name, Mode::CreateNew)), ErrorKind::AlreadyExists, "{name}");
        }
        assert_eq!(fs::read(&outside).unwrap(), b"keep");
    }

    #[test]
    fn a_link_to_a_directory_is_a_directory_and_one_to_nowhere_is_not() {
        let (root, storage) = directory();
        let link = root.path().join("link");
        symlink(storage.path(), &link).unwrap();
        FileStorage::new(&link).create_dir().unwrap();
        let dangling = root.path().join("dangling");
        symlink(root.path().join("nowhere"), &dangling).unwrap();
        assert_eq!(kind(FileStorage::new(&dangling).create_dir()), ErrorKind::NotADirectory);
    }

    #[test]
    fn an_unreadable_parent_hinders_creating_only() {
        let (root, storage) = directory();
        let sealed = |mode| fs::set_permissions(root.path(), fs::Permissions::from_mode(mode)).unwrap();
        sealed(0o300);
        let readable = fs::read_dir(root.path()).is_ok(); // The superuser may read everything.
        let existing = storage.create_dir();
        let missing = FileStorage::new(root.path().join("new")).create_dir();
        sealed(0o700);
        existing.unwrap();
        assert_eq!(missing.is_ok(), readable);
        assert_eq!(root.path().join("new").exists(), readable);
    }

    #[test]
    fn a_child_sees_the_fork() {
        let before = watch_forks();
        assert_eq!(watch_forks(), before);
        // SAFETY: the child does nothing but load an atomic and leave, both of which are allowed after a fork of a
        // process with many threads.
        match unsafe { libc::fork() } {
            0 => {
                let raised = fork_count() == before + 1;
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(!raised)) }
            }
            child => {
                assert!(child > 0);
                let mut status = -1;
                // SAFETY: the child is ours and not yet waited for; `status` outlives the call.
                assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
                assert_eq!(status, 0);
                assert_eq!(fork_count(), before);
            }
        }
    }

    #[test]
    fn a_child_that_drops_its_copy_does_not_give_the_lock_back() {
        let (_root, storage) = directory();
        let first = storage.open("LOCK", Mode::CreateNew).unwrap();
        let second = storage.open("LOCK", Mode::Write).unwrap();
        assert!(first.try_lock().unwrap());
        // SAFETY: the child closes a file, frees its memory (this C library's allocator survives a fork), and leaves.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(first);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
        assert!(child > 0);
        // SAFETY: the child is ours and not yet waited for, and the pointer leads to a live integer.
        assert_eq!(unsafe { libc::waitpid(child, &mut 0, 0) }, child);
        assert!(!second.try_lock().unwrap(), "the child gave the parent's lock back");
        drop(first);
        assert!(second.try_lock().unwrap());
    }
}
