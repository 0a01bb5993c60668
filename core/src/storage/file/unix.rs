//! Files and directories on Linux, macOS and the other Unix systems.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

// Offsets of 64 bits on 32-bit Linux too, like the standard library's own.
#[cfg(not(target_os = "linux"))]
use libc::{off_t as Offset, pwritev};
#[cfg(target_os = "linux")]
use libc::{off64_t as Offset, pwritev64 as pwritev};

use super::super::Mode;

/// The most buffers one call takes: `IOV_MAX`, which is 1024 on every system we know.
const MAX_BUFFERS: usize = 1024;
/// The most bytes we hand to one call: macOS refuses more than `i32::MAX`.
const MAX_BYTES: usize = 1 << 30;

const _: () = assert!(MAX_BYTES <= i32::MAX as usize);

/// Opens a file and never truncates it.
///
/// A symbolic link in place of a segment is refused, because removing and renaming would act on the link and not on
/// the file behind it. `O_NONBLOCK` means nothing to a regular file; it keeps the opening of a fifo from waiting for
/// its other end, so that the caller gets to see what it is and can refuse it.
pub(super) fn open(path: &Path, mode: Mode) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(mode != Mode::Read)
        .create_new(mode == Mode::CreateNew)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    opened.map_err(|error| match error.raw_os_error() {
        // A symbolic link (two ways to say so), a directory opened for writing, and a socket.
        Some(libc::ELOOP | libc::EMLINK | libc::EISDIR | libc::ENXIO) => super::not_a_regular_file(path),
        _ => error,
    })
}

/// Reads once; the count may be short.
pub(super) fn read_once_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buf, offset)
}

/// Writes all bytes of `bufs` at `offset`.
pub(super) fn write_all_at(file: &File, mut bufs: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    // Empty slices in front go, here and after each write: a call that returns 0 had something to write then.
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        match write_once_at(file, bufs, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                IoSlice::advance_slices(&mut bufs, count);
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(quota_is_space(error)),
        }
    }
    Ok(())
}

/// Writes as much from the front of `bufs` as one call takes; the count may be short.
fn write_once_at(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    if bufs[0].len() > MAX_BYTES {
        return file.write_at(&bufs[0][..MAX_BYTES], offset);
    }
    let mut bytes = 0;
    let fits = |buf: &&IoSlice<'_>| {
        bytes += buf.len();
        bytes <= MAX_BYTES
    };
    let count = bufs.iter().take(MAX_BUFFERS).take_while(fits).count();
    let offset = Offset::try_from(offset).map_err(|_| ErrorKind::FileTooLarge)?;
    // SAFETY:
    // - the descriptor is open: `file` is borrowed for the length of the call;
    // - `IoSlice` is guaranteed to have the layout of `iovec` on Unix, and `count` of them stand at the pointer, since
    //   `count` counts a front part of `bufs`;
    // - each describes bytes that are borrowed, and so readable, for the length of the call. The kernel only reads.
    let written = unsafe { pwritev(file.as_raw_fd(), bufs.as_ptr().cast(), count as libc::c_int, offset) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Allocates the first `len` bytes and makes the file at least that long. `false`: only the latter.
#[cfg(target_os = "linux")]
pub(super) fn allocate(file: &File, len: u64) -> io::Result<bool> {
    if len == 0 {
        return Ok(true); // fallocate refuses an empty range.
    }
    let length = Offset::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?;
    loop {
        // SAFETY: the descriptor is open, since `file` is borrowed; no memory is passed. Mode 0 never shrinks a file.
        if unsafe { libc::fallocate64(file.as_raw_fd(), 0, 0, length) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // The file system, or the kernel, does not know how.
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => {
                return super::extend(file, len).map(|()| false).map_err(quota_is_space);
            }
            _ => return Err(quota_is_space(error)),
        }
    }
}

/// Makes the file at least `len` bytes long, and allocates nothing.
#[cfg(not(target_os = "linux"))]
pub(super) fn allocate(file: &File, len: u64) -> io::Result<bool> {
    super::extend(file, len).map(|()| false).map_err(quota_is_space)
}

/// To the log, a quota that is used up is a disk that is full.
fn quota_is_space(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EDQUOT) => io::Error::new(ErrorKind::StorageFull, error),
        _ => error,
    }
}

/// Makes the file's bytes and its length durable, in one attempt.
///
/// Not even `EINTR` is tried again, and `File::sync_data` is not used because it does that. A kernel reports a failed
/// write-back once and may mark the pages clean, so a second call that succeeds says nothing about the bytes that the
/// first one met; and after an interrupted call nobody knows what it had met by then.
pub(super) fn sync(file: &File) -> io::Result<()> {
    let descriptor = file.as_raw_fd();
    // SAFETY: the descriptor is open, since `file` is borrowed; no memory is passed.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let result = unsafe { libc::fdatasync(descriptor) };
    // fsync alone leaves the bytes in the drive's cache on Apple's systems.
    // SAFETY: as above; this command takes no argument.
    #[cfg(target_vendor = "apple")]
    let result = unsafe { libc::fcntl(descriptor, libc::F_FULLFSYNC) };
    // SAFETY: as above.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    let result = unsafe { libc::fsync(descriptor) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A directory, open so that its entries can be synced.
#[derive(Debug)]
pub(super) struct Directory(File);

impl Directory {
    pub(super) fn open(path: &Path) -> io::Result<Directory> {
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path).map(Directory)
    }

    #[cfg(all(test, not(any(loom, shuttle))))]
    pub(super) fn inode(&self) -> io::Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::ino(&self.0.metadata()?))
    }

    /// Makes the directory's entries durable, in one attempt like [`sync`].
    pub(super) fn sync(&self) -> io::Result<()> {
        // Entries are metadata, which fdatasync may leave out.
        #[cfg(not(target_vendor = "apple"))]
        // SAFETY: the descriptor is open, since `self` owns it; no memory is passed.
        let result =
            if unsafe { libc::fsync(self.0.as_raw_fd()) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
        #[cfg(target_vendor = "apple")]
        let result = sync(&self.0);
        result
    }
}

/// Renames a file and never replaces one.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match rename_no_replace(from, to) {
        // The file system, or the kernel, does not know the flag.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {}
        result => return result,
    }
    // Between the check and the rename nobody else creates `to`: the log holds the lock of the directory.
    match std::fs::symlink_metadata(to) {
        Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => std::fs::rename(from, to),
        Err(error) => Err(error),
    }
}

#[cfg(target_os = "linux")]
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;

    let from = CString::new(from.as_os_str().as_bytes())?;
    let to = CString::new(to.as_os_str().as_bytes())?;
    let here = libc::AT_FDCWD;
    // By number, because not every C library we build for has a function for it.
    // SAFETY: the arguments have the number and the types that the call expects, and both pointers lead to strings that
    // end in NUL and live until after it.
    let result =
        unsafe { libc::syscall(libc::SYS_renameat2, here, from.as_ptr(), here, to.as_ptr(), libc::RENAME_NOREPLACE) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes the exclusive lock of the file, without waiting.
///
/// `flock`, and not the record locks of `fcntl`: those exclude no other handle of the same process, and the first
/// handle closed drops them. A child inherits the lock with the handle, and holds it until [`unlock`], or until it exits or
/// executes another program.
pub(super) fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        // SAFETY: the descriptor is open, since `file` is borrowed; no memory is passed.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            ErrorKind::Interrupted => {}
            ErrorKind::WouldBlock => return Ok(false),
            _ => return Err(error),
        }
    }
}

/// Gives the lock of the file back, in every process that has this handle.
pub(super) fn unlock(file: &File) {
    // It cannot fail; and if it did, closing the file would give the lock back too, unless a child has it.
    // SAFETY: as in `try_lock`.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
}

/// How many forks lie between this process and the first call of [`watch_forks`] in its ancestry.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Counts forks from now on, and returns the count. A handle compares it with [`fork_count`] later: in a child the two
/// differ.
pub(crate) fn watch_forks() -> u32 {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // The only failure is a lack of memory for one list entry. Forks then go unnoticed, which harms nobody who
        // does not use the log in a child.
        // SAFETY: the handler is a function that lives as long as the code that registers it, and all it does is an
        // atomic addition, which is safe in the child of a process with many threads.
        unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
    });
    fork_count()
}

/// The number of forks counted so far.
///
/// Relaxed: the handler runs in the child before anything else does, on its only thread, so every load there comes
/// after it in program order.
#[inline]
pub(crate) fn fork_count() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

unsafe extern "C" fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
