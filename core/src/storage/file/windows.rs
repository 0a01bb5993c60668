//! Files and directories on Windows.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::windows::fs::FileExt;
use std::os::windows::io::{AsRawHandle, RawHandle};
use std::path::Path;

use super::super::Mode;

/// Opens a file and never truncates it. The standard library lets others read, write, rename and delete it meanwhile,
/// so a removed segment stays readable for those who have it open.
pub(super) fn open(path: &Path, mode: Mode) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(mode != Mode::Read).create_new(mode == Mode::CreateNew);
    options.open(path)
}

/// Reads once; the count may be short.
pub(super) fn read_once_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(buf, offset)
}

/// Writes all bytes of `bufs` at `offset`. Windows gathers only whole pages, so each buffer is a write of its own.
pub(super) fn write_all_at(file: &File, mut bufs: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        match file.seek_write(&bufs[0], offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                IoSlice::advance_slices(&mut bufs, count);
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the file at least `len` bytes long; NTFS allocates the space with the length.
pub(super) fn allocate(file: &File, len: u64) -> io::Result<bool> {
    super::extend(file, len).map(|()| true).map_err(|error| match error.raw_os_error() {
        // To the log, a quota that is used up is a disk that is full.
        Some(ERROR_DISK_QUOTA_EXCEEDED) => io::Error::new(ErrorKind::StorageFull, error),
        _ => error,
    })
}

const ERROR_DISK_QUOTA_EXCEEDED: i32 = 1295;

/// Makes the file's bytes and its length durable: `FlushFileBuffers`, in one attempt, because a second one that
/// succeeds would say nothing about what the first one lost.
pub(super) fn sync(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// A directory. There is nothing to open and nothing to do: Windows has no call that syncs a directory opened for
/// reading. NTFS keeps creates, renames and removes in its own journal, in order, and flushing a file flushes that
/// journal as far as the file's own entry.
#[derive(Debug)]
pub(super) struct Directory;

impl Directory {
    pub(super) fn open(_path: &Path) -> io::Result<Directory> {
        Ok(Directory)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Renames a file and never replaces one. Between the check and the rename nobody else creates `to`: the log holds the
/// lock of the directory.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(to) {
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => std::fs::rename(from, to),
        Err(error) => Err(error),
    }
}

/// `OVERLAPPED` of the Windows API, with its union in the form of a position.
#[repr(C)]
struct Overlapped {
    internal: usize,
    internal_high: usize,
    offset: u32,
    offset_high: u32,
    event: RawHandle,
}

#[link(name = "kernel32")]
unsafe extern "system" {
    fn LockFileEx(
        file: RawHandle,
        flags: u32,
        reserved: u32,
        length: u32,
        length_high: u32,
        position: *mut Overlapped,
    ) -> i32;
}

const LOCKFILE_FAIL_IMMEDIATELY: u32 = 1;
const LOCKFILE_EXCLUSIVE_LOCK: u32 = 2;
const ERROR_LOCK_VIOLATION: i32 = 33;
const ERROR_IO_PENDING: i32 = 997;

/// Takes the exclusive lock of the file, without waiting; it belongs to the handle and goes with it.
///
/// Locks of Windows are mandatory: nobody else could read the bytes that are locked. So the lock is on one byte, far
/// beyond any that a file has. A handle that holds it already gets `false`, unlike on Unix.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    let mut position = Overlapped {
        internal: 0,
        internal_high: 0,
        offset: u32::MAX,
        offset_high: i32::MAX as u32,
        event: std::ptr::null_mut::<c_void>(),
    };
    let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: the handle is open, since `file` is borrowed, and synchronous, since the standard library opened it, so
    // the call is over when it returns and `position`, which has the layout of `OVERLAPPED`, outlives it.
    if unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &mut position) } != 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(ERROR_LOCK_VIOLATION | ERROR_IO_PENDING) => Ok(false),
        _ => Err(error),
    }
}

/// Nobody else has the handle: closing it gives the lock back.
pub(super) fn unlock(_file: &File) {}

/// There are no forks on Windows.
pub(crate) fn watch_forks() -> u32 {
    0
}

/// There are no forks on Windows.
#[inline]
pub(crate) fn fork_count() -> u32 {
    0
}
