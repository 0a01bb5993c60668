//! A storage that tells what is done to it.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use libwal::storage::{Mode, SimStorage, Storage, StorageFile};

/// What is done to a watched disk.
pub(crate) enum Seen<'a> {
    /// The directory was listed.
    Listed,
    /// The file of this name is about to be opened.
    ToOpen(&'a str),
    /// It is about to be removed.
    ToRemove(&'a str),
    /// It is about to be read, from this offset on.
    ToRead(&'a str, u64),
    /// It was read, with this result.
    HasRead(&'a str, u64, &'a mut [u8]),
    /// This is about to be written to it, at this offset.
    ToWrite(&'a str, u64, &'a [IoSlice<'a>]),
    /// Space is about to be allocated for it.
    ToAllocate(&'a str),
    /// It is about to be synced.
    ToSync(&'a str),
}

type Watcher = Arc<dyn Fn(Seen<'_>) + Send + Sync>;

struct Watched {
    disk: SimStorage,
    watcher: Watcher,
}

/// One of its files.
struct WatchedFile {
    file: Arc<dyn StorageFile>,
    name: String,
    watcher: Watcher,
}

/// A simulated disk on which `watcher` sees, and perhaps does something, whenever something is done.
pub(crate) fn watched(disk: &SimStorage, watcher: impl Fn(Seen<'_>) + Send + Sync + 'static) -> Arc<dyn Storage> {
    Arc::new(Watched { disk: disk.clone(), watcher: Arc::new(watcher) })
}

impl Storage for Watched {
    fn path(&self) -> PathBuf {
        self.disk.path()
    }
    fn create_dir(&self) -> io::Result<()> {
        self.disk.create_dir()
    }
    fn exists(&self) -> io::Result<bool> {
        self.disk.exists()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        let names = self.disk.list();
        (self.watcher)(Seen::Listed);
        names
    }
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn StorageFile>> {
        (self.watcher)(Seen::ToOpen(name));
        let file = self.disk.open(name, mode)?;
        Ok(Arc::new(WatchedFile { file, name: name.to_owned(), watcher: Arc::clone(&self.watcher) }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        (self.watcher)(Seen::ToRemove(name));
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

impl StorageFile for WatchedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.watcher)(Seen::ToRead(&self.name, offset));
        let read = self.file.read_at(buf, offset)?;
        (self.watcher)(Seen::HasRead(&self.name, offset, &mut buf[..read]));
        Ok(read)
    }
    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        (self.watcher)(Seen::ToWrite(&self.name, offset, bufs));
        self.file.write_all_at(bufs, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<bool> {
        (self.watcher)(Seen::ToAllocate(&self.name));
        self.file.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        (self.watcher)(Seen::ToSync(&self.name));
        self.file.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
