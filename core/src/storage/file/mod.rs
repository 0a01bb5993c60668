//! A directory of the file system. What differs between operating systems is in `unix` and `windows`, which offer the
//! same functions; everything else is here.

use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{Mode, Storage, StorageFile};

#[cfg(unix)]
#[path = "unix.rs"]
mod sys;
#[cfg(windows)]
#[path = "windows.rs"]
mod sys;
#[cfg(not(any(unix, windows)))]
compile_error!("libwal knows the files of Unix and of Windows only");

mod memory;
#[cfg(all(test, not(any(loom, shuttle))))] // Nothing in it is for a checker.
mod tests;

pub use memory::Memory;
use sys::Directory;
pub(crate) use sys::{fork_count, watch_forks};

/// The files of one directory of the file system.
#[derive(Clone, Debug)]
pub struct FileStorage {
    path: PathBuf,
    /// The directory as it was when a log was opened in it last for writing. Kept open: to run out of descriptors later must not
    /// look like a sync that failed.
    directory: Arc<Mutex<Option<Arc<Directory>>>>,
}

impl FileStorage {
    /// Names the directory at `path`; nothing is opened or created yet. A relative path is resolved here, once, so that
    /// a later change of the working directory does not tear the log in two.
    pub fn new(path: impl Into<PathBuf>) -> FileStorage {
        let path = path.into();
        FileStorage { path: std::path::absolute(&path).unwrap_or(path), directory: Arc::default() }
    }
}

impl Storage for FileStorage {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn create_dir(&self) -> io::Result<()> {
        let mut missing = Vec::new();
        let mut level = self.path.as_path();
        while !is_directory(level)? {
            missing.push(level);
            level = parent(level).ok_or(ErrorKind::NotFound)?;
        }
        sync_parent_of_existing(level)?;
        missing.into_iter().rev().try_for_each(create_level)?;
        // Anew each time: the one before may have been removed, and then its entries are not those of this one.
        let directory = Directory::open(&self.path)?;
        *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(directory));
        Ok(())
    }

    fn exists(&self) -> io::Result<bool> {
        is_directory(&self.path)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn StorageFile>> {
        let path = self.path.join(name);
        let file = sys::open(&path, mode)?;
        if !file.metadata()?.is_file() {
            return Err(not_a_regular_file(&path));
        }
        Ok(Arc::new(OpenFile::new(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        sys::rename(&self.path.join(from), &self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        let open = self.directory.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match open {
            Some(directory) => directory.sync(),
            None => Directory::open(&self.path)?.sync(),
        }
    }

    fn create_memory(&self, name: &str, len: usize) -> Option<Memory> {
        memory::create(&self.path, name, len)
    }

    fn left_memory(&self, name: &str) -> io::Result<Option<Arc<dyn StorageFile>>> {
        let left = memory::left(&self.path, name)?;
        Ok(left.map(|file| Arc::new(OpenFile::new(file)) as Arc<dyn StorageFile>))
    }

    fn remove_memory(&self, name: &str) {
        memory::remove(&self.path, name);
    }
}

/// Memory, and the file that it is, which reads what any process left in it: for a storage that plays the operating system's
/// part itself.
pub(super) fn anonymous_memory(len: usize) -> io::Result<(Memory, Arc<dyn StorageFile>)> {
    let (memory, file) = memory::anonymous(len)?;
    Ok((memory, Arc::new(OpenFile::new(file))))
}

/// A regular file, open.
struct OpenFile {
    file: File,
    /// Who took the lock through this handle: the process, and how many forks had happened.
    locker: OnceLock<(u32, u32)>,
}

impl OpenFile {
    fn new(file: File) -> OpenFile {
        OpenFile { file, locker: OnceLock::new() }
    }
}

impl Drop for OpenFile {
    /// Gives the lock back. To close the file would not be enough: a child that was forked meanwhile has a copy of the
    /// handle, and the lock with it. In that child nothing is given back, for the lock is the parent's. It has two marks: a fork
    /// can pass unnoticed by the count, and in a name space of its own a child can have its parent's number.
    fn drop(&mut self) {
        if self.locker.get().is_some_and(|locker| *locker == (process::id(), fork_count())) {
            sys::unlock(&self.file);
        }
    }
}

impl StorageFile for OpenFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match sys::read_once_at(&self.file, &mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        sys::write_all_at(&self.file, bufs, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        sys::allocate(&self.file, len)
    }

    fn sync(&self) -> io::Result<()> {
        sys::sync(&self.file)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let taken = sys::try_lock(&self.file)?;
        if taken {
            let _ = self.locker.set((process::id(), fork_count()));
        }
        Ok(taken)
    }
}

/// Makes the file at least `len` bytes long. Where the system cannot allocate, this alone gives the new length, and the
/// zeros that the log writes before it uses a segment claim the space.
///
/// Nobody else changes the length in between: the log allocates a file before it shares it.
fn extend(file: &File, len: u64) -> io::Result<()> {
    if file.metadata()?.len() < len { file.set_len(len) } else { Ok(()) }
}

/// Whether `path` is a directory; `false` if there is nothing.
fn is_directory(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(true),
        Ok(_) => Err(not_a_directory(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The directory that holds the entry of `level`, by its name; `None` above the topmost one.
fn parent(level: &Path) -> Option<&Path> {
    let above = level.parent()?;
    match (above.as_os_str().is_empty(), level == Path::new(".")) {
        (false, _) => Some(above),
        (true, false) => Some(Path::new(".")),
        (true, true) => None,
    }
}

/// Creates one directory, whose parent exists, and makes its entry durable before anything is built on it.
///
/// The parent is opened first. If it cannot be, nothing is created, so a directory of ours never stands in a parent
/// that we could not sync; [`sync_parent_of_existing`] relies on that.
fn create_level(level: &Path) -> io::Result<()> {
    let above = Directory::open(parent(level).ok_or(ErrorKind::NotFound)?)?;
    match fs::create_dir(level) {
        Ok(()) => {}
        // Another process was faster, or a symbolic link that leads nowhere is in the way.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if !is_directory(level)? {
                return Err(not_a_directory(level));
            }
        }
        Err(error) => return Err(error),
    }
    above.sync()
}

/// Syncs the entry of a directory that was there before: an earlier open may have created it and failed before its
/// sync. One level is enough, because no level is created before the one above it is synced.
///
/// A parent that may not be read, or whose file system cannot sync directories, is passed over. We cannot have created
/// the directory there: [`create_level`] would have failed in the first case, and in the second either the log's own
/// directory cannot be synced, which fails soon enough, or the directory is a mount point and no entry of the parent.
fn sync_parent_of_existing(level: &Path) -> io::Result<()> {
    // The real path, because the entry that counts is the directory's own, not that of a link to it.
    let real = fs::canonicalize(level)?;
    let Some(above) = parent(&real) else { return Ok(()) };
    match Directory::open(above).and_then(|directory| directory.sync()) {
        Err(error) if !matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => Err(error),
        _ => Ok(()),
    }
}

fn not_a_directory(path: &Path) -> io::Error {
    io::Error::new(ErrorKind::NotADirectory, format!("{} is not a directory", path.display()))
}

fn not_a_regular_file(path: &Path) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("{} is not a regular file", path.display()))
}
