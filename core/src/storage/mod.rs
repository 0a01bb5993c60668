//! Where a log's bytes live: one narrow trait, and the two backends that ship.
//!
//! A [`Storage`] is one flat directory of named files. What the log relies on is stated with each method; a backend
//! that keeps these promises loses nothing that was acknowledged. [`FileStorage`] is a directory of the file system;
//! [`SimStorage`] is memory, with power cuts, torn and lost writes, and errors to order.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

#[allow(unsafe_code)] // System calls; each block says why it is sound.
mod file;
mod sim;

pub use file::{FileStorage, Memory};
pub(crate) use file::{fork_count, watch_forks};
pub use sim::{Fault, SimOp, SimStorage};

/// A directory of files. Shared by all threads of a log.
pub trait Storage: Send + Sync + 'static {
    /// The directory's path, or another name for it, for error messages.
    fn path(&self) -> PathBuf;

    /// Makes the directory exist, and makes its existence durable, its parents' too. Called before anything is made in
    /// it, and whenever a log is opened for writing.
    ///
    /// # Errors
    /// What the operating system answers.
    fn create_dir(&self) -> io::Result<()>;

    /// Whether the directory exists.
    ///
    /// # Errors
    /// What the operating system answers when it cannot tell.
    fn exists(&self) -> io::Result<bool>;

    /// The names of all files in the directory, in any order. A subdirectory counts as a file.
    ///
    /// # Errors
    /// What the operating system answers.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens the file `name` in the given mode.
    ///
    /// # Errors
    /// `NotFound` if it does not exist (`Read`, `Write`), `AlreadyExists` if it does (`CreateNew`); otherwise what the
    /// operating system answers.
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn StorageFile>>;

    /// Renames `from` to `to` atomically, replacing nothing: `to` does not exist.
    ///
    /// # Errors
    /// What the operating system answers.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the file `name`. Open handles to it stay usable.
    ///
    /// # Errors
    /// What the operating system answers.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every create, rename and remove that returned before durable.
    ///
    /// # Errors
    /// What the operating system answers. The call is not tried again.
    fn sync_dir(&self) -> io::Result<()>;

    /// Makes `len` zeroed bytes of memory that the death of the process leaves behind under `name`, in place of what was
    /// left there. `None` if there is none of that kind: the log then uses the process's own, as for storages that do not
    /// implement this and the next two. A storage that stands in front of another one hands them on.
    fn create_memory(&self, name: &str, len: usize) -> Option<Memory> {
        let _ = (name, len);
        None
    }

    /// What the last process that died left in its memory, to be read.
    ///
    /// # Errors
    /// What the operating system answers when it cannot tell, or cannot open it.
    fn left_memory(&self, name: &str) -> io::Result<Option<Arc<dyn StorageFile>>> {
        let _ = name;
        Ok(None)
    }

    /// Takes away what is under `name`. The memory itself stays usable by who has it. A close does not ask for it where the
    /// memory came from a [`FileStorage`], which knows its file.
    fn remove_memory(&self, name: &str) {
        let _ = name;
    }
}

/// How [`Storage::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that does not exist yet, for reading and writing; nobody else can have created it.
    CreateNew,
}

/// An open file. Shared by all threads; positions are explicit.
#[allow(clippy::len_without_is_empty)] // The length is a question to the operating system, and can fail.
pub trait StorageFile: Send + Sync {
    /// Reads at `offset` into `buf` and returns how many bytes were read: fewer than asked for only at the end of the
    /// file, and 0 beyond it. Interrupted and short reads are continued by the backend.
    ///
    /// # Errors
    /// What the operating system answers.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes of `bufs`, one after the other, at `offset`. Interrupted and short writes are continued by the
    /// backend. The bytes are with the operating system on return: they survive this process. After an error any part
    /// of them may have been written.
    ///
    /// # Errors
    /// What the operating system answers.
    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Allocates disk space for the first `len` bytes and makes the file at least that long; new bytes read as zero. Returns
    /// whether the space is there now; `false` where the storage cannot allocate, and writing the bytes claims it.
    ///
    /// # Errors
    /// `StorageFull` if there is no space; otherwise what the operating system answers.
    fn allocate(&self, len: u64) -> io::Result<bool>;

    /// Makes every byte written before the call, and the file's length, durable: it survives loss of power.
    ///
    /// # Errors
    /// What the operating system answers. What was written since the last successful sync may or may not be durable
    /// then, whatever a later call says.
    fn sync(&self) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the operating system answers.
    fn len(&self) -> io::Result<u64>;

    /// Takes the exclusive lock of the file, without waiting; `false` if another handle holds it. The lock is held
    /// until the last reference to this handle is dropped or the process dies.
    ///
    /// # Errors
    /// What the operating system answers.
    fn try_lock(&self) -> io::Result<bool>;
}
