//! Memory for a log's buffer: the process's own, or a file that is mapped, which the death of the process leaves behind.
//!
//! On Linux the file is on the tmpfs that is mounted on `/dev/shm`. Where there is none, or no room, it is in the log's own
//! directory, if the file system there overwrites in place: to one that moves what is overwritten, a full disk is met by a
//! store into the mapping, and the system answers that with a signal. Elsewhere there is none.
//!
//! `/dev/shm` belongs to everybody. The file is named after the directory's device and inode, so that a copy of the log does
//! not meet the original's; it is created anew (`O_EXCL`, no links followed, mode 0600); and one that was left behind is
//! looked at only if nobody else can have written it. What is in it proves itself, record by record (`recovery`), so
//! nothing else about it is trusted.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::storage::Storage;

const PAGE: usize = 4096;

/// Memory of a fixed length, zeroed when it was made, that nobody else knows of, or nobody who is alive.
#[derive(Debug)]
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
    mapped: bool,
    /// Where it is, if it has a name.
    place: Option<Place>,
}

// SAFETY: it is memory that it owns alone, with no thread affinity.
unsafe impl Send for Memory {}
// SAFETY: as above; who gets the address from `base` says itself why accesses through it do not conflict.
unsafe impl Sync for Memory {}

impl Memory {
    /// The process's own, aligned to a page; `None` if there is none left.
    pub(crate) fn allocate(len: usize) -> Option<Memory> {
        let layout = Memory::layout(len)?;
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Memory { base, len, mapped: false, place: None })
    }

    /// `None` for lengths that cannot be.
    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len, PAGE).ok().filter(|layout| layout.size() > 0)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes the pages present, so that no store has to wait for one. For a mapping that takes a third of the time that the
    /// stores would take; what the process allocates for itself has no such call, and comes in larger pages.
    pub(crate) fn populate(&self) {
        #[cfg(target_os = "linux")]
        if self.mapped {
            // It may fail, on kernels before 5.14: then the stores do it.
            // SAFETY: the range is that of the mapping, whose bytes stay as they are.
            unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_POPULATE_WRITE) };
        }
    }

    /// Whether the death of the process leaves it behind.
    pub(crate) fn outlives_process(&self) -> bool {
        self.mapped
    }

    /// Takes away what the death of the process would leave behind, which `storage` made under `name`. The memory stays
    /// usable. What is found there by the directory's path now may be another log's.
    pub(crate) fn remove(&self, storage: &dyn Storage, name: &str) {
        match &self.place {
            Some(place) => place.remove(),
            None if self.mapped => storage.remove_memory(name),
            None => {}
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.mapped {
            #[cfg(target_os = "linux")]
            // SAFETY: `base` and `len` are those of a mapping that `map` made and that nobody uses any more.
            unsafe {
                libc::munmap(self.base.as_ptr().cast(), self.len)
            };
        } else if let Some(layout) = Memory::layout(self.len) {
            // SAFETY: allocated in `allocate` with this very layout.
            unsafe { dealloc(self.base.as_ptr(), layout) };
        }
    }
}

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
pub(super) use linux::{Place, anonymous, create, left, remove};
#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
pub(super) use none::{Place, anonymous, create, left, remove};

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
mod linux {
    use std::ffi::CStr;
    use std::fs::{self, File, Metadata, OpenOptions};
    use std::io::{self, ErrorKind};
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    use std::path::{Path, PathBuf};
    use std::ptr::{self, NonNull};

    use super::super::sys::{self, Directory};
    use super::Memory;
    use crate::storage::Mode;

    const SHARED_MEMORY: &str = "/dev/shm";

    /// The name of a file when it was made, and which file that is. No other has these numbers while it is mapped.
    #[derive(Debug)]
    pub(in super::super) struct Place {
        path: PathBuf,
        device: u64,
        inode: u64,
    }

    impl Place {
        fn new(path: &Path, file: &File) -> io::Result<Place> {
            let made = file.metadata()?;
            Ok(Place { path: path.to_owned(), device: made.dev(), inode: made.ino() })
        }

        /// Takes the name away, unless it is another file's by now.
        pub(in super::super) fn remove(&self) {
            let is_it = |found: Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
            if fs::symlink_metadata(&self.path).is_ok_and(is_it) {
                remove_durably(&self.path);
            }
        }
    }

    /// Where the memory of the log in `dir` is: in the order in which they are tried.
    fn places(dir: &Path, name: &str) -> io::Result<[PathBuf; 2]> {
        let log = fs::metadata(dir)?;
        let shared = format!("libwal-{:x}-{:x}-{name}", log.dev(), log.ino());
        Ok([Path::new(SHARED_MEMORY).join(shared), dir.join(name)])
    }

    /// Makes `len` zeroed bytes for the log in `dir`, in place of what was left behind. `None` if no place will do.
    pub(in super::super) fn create(dir: &Path, name: &str, len: usize) -> Option<Memory> {
        remove(dir, name);
        let places = places(dir, name).ok()?;
        let overwrites = |place: &&PathBuf| place.parent().is_some_and(overwrites_in_place);
        places.iter().filter(overwrites).find_map(|path| create_at(path, len).ok())
    }

    /// Whether a store into a mapped file there, whose space is allocated, needs no more of it.
    fn overwrites_in_place(dir: &Path) -> bool {
        let Ok(dir) = File::open(dir) else { return false };
        let mut about = std::mem::MaybeUninit::<libc::statfs>::zeroed();
        // SAFETY: the descriptor is open, and the kernel fills a place of the right type.
        if unsafe { libc::fstatfs(dir.as_raw_fd(), about.as_mut_ptr()) } == -1 {
            return false;
        }
        // SAFETY: filled by the call, and zeroed before it.
        let kind = unsafe { about.assume_init() }.f_type;
        [libc::TMPFS_MAGIC, libc::EXT4_SUPER_MAGIC, libc::XFS_SUPER_MAGIC].contains(&kind)
    }

    fn create_at(path: &Path, len: usize) -> io::Result<Memory> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let place = || Place::new(path, &file).map(Some);
        let mapped = allocated(&file, len).and_then(|()| map(&file, len, place()?));
        mapped.inspect_err(|_| drop(fs::remove_file(path)))
    }

    /// Gives the file its length, and all the space for it.
    fn allocated(file: &File, len: usize) -> io::Result<()> {
        if sys::allocate(file, len as u64)? { Ok(()) } else { Err(ErrorKind::Unsupported.into()) }
    }

    /// Maps the whole of a file that has `len` bytes and that nobody else writes or shortens.
    fn map(file: &File, len: usize, place: Option<Place>) -> io::Result<Memory> {
        // SAFETY: the kernel chooses the place, so no memory that is in use changes.
        let base = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(ErrorKind::OutOfMemory)?;
        Ok(Memory { base, len, mapped: true, place })
    }

    /// Memory in a file without a name.
    pub(in super::super) fn anonymous(len: usize) -> io::Result<(Memory, File)> {
        const NAME: &CStr = c"libwal";
        // SAFETY: the name is a C string.
        let descriptor = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC) };
        if descriptor == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else has.
        let file = unsafe { File::from_raw_fd(descriptor) };
        allocated(&file, len)?;
        Ok((map(&file, len, None)?, file))
    }

    /// The file that a process which died has left behind, if there is one that nobody else can have written.
    pub(in super::super) fn left(dir: &Path, name: &str) -> io::Result<Option<File>> {
        let log = fs::metadata(dir)?;
        for path in places(dir, name)? {
            let ours = |found: &Metadata| is_ours(found, &log);
            match fs::symlink_metadata(&path) {
                Ok(found) if ours(&found) => {}
                Ok(_) => continue,
                // Where one may not look, one could not have left anything.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => continue,
                Err(error) => return Err(error),
            }
            // Left by root, say, when another user's log was open there: not to look at it would lose records.
            let file = sys::open(&path, Mode::Read)?;
            // Looked at again: this is the file that was opened.
            if ours(&file.metadata()?) {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Whether only those could write the file who could write the log itself: its owner, root, and this process.
    fn is_ours(found: &Metadata, log: &Metadata) -> bool {
        // SAFETY: the call has no arguments and cannot fail.
        let user = unsafe { libc::geteuid() };
        found.is_file() && found.mode() & 0o077 == 0 && [user, log.uid(), 0].contains(&found.uid())
    }

    /// Takes away what is there. What cannot be taken away is another's, or is not believed again: a log that is closed
    /// cleanly asks for none, and one that was recovered is in another epoch. Where the disk was too full for a new epoch
    /// that is not so; therefore it must not come back with a loss of power either.
    pub(in super::super) fn remove(dir: &Path, name: &str) {
        places(dir, name).iter().flatten().for_each(|path| remove_durably(path));
    }

    fn remove_durably(path: &Path) {
        let removed = fs::remove_file(path).is_ok();
        let log = path.parent().filter(|dir| *dir != Path::new(SHARED_MEMORY));
        if let (true, Some(log)) = (removed, log) {
            let _ = Directory::open(log).and_then(|log| log.sync());
        }
    }
}

/// Elsewhere, and for checkers, which do not know of mappings.
#[cfg(not(all(target_os = "linux", not(any(loom, miri)))))]
mod none {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    use super::Memory;

    /// There is none.
    #[derive(Debug)]
    pub(in super::super) enum Place {}

    impl Place {
        pub(in super::super) fn remove(&self) {
            match *self {}
        }
    }

    pub(in super::super) fn create(_dir: &Path, _name: &str, _len: usize) -> Option<Memory> {
        None
    }

    pub(in super::super) fn left(_dir: &Path, _name: &str) -> io::Result<Option<File>> {
        Ok(None)
    }

    pub(in super::super) fn remove(_dir: &Path, _name: &str) {}

    pub(in super::super) fn anonymous(_len: usize) -> io::Result<(Memory, File)> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
