//! A storage that tells what is about to be done to it.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use libwal::storage::{Mode, SimStorage, Storage, StorageFile};

/// Called in front of each operation with its name, as the trait has it, and the name of its file.
pub(crate) type Hook = Arc<dyn Fn(&str, &str) + Send + Sync>;

struct Hooked {
    disk: SimStorage,
    hook: Hook,
}

struct HookedFile {
    file: Arc<dyn StorageFile>,
    name: String,
    hook: Hook,
}

/// A simulated disk with a hook.
pub(crate) fn hooked(disk: &SimStorage, hook: impl Fn(&str, &str) + Send + Sync + 'static) -> Arc<dyn Storage> {
    Arc::new(Hooked { disk: disk.clone(), hook: Arc::new(hook) })
}

impl Storage for Hooked {
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
        self.disk.list()
    }
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn StorageFile>> {
        (self.hook)("open", name);
        let (file, hook) = (self.disk.open(name, mode)?, Arc::clone(&self.hook));
        Ok(Arc::new(HookedFile { file, name: name.to_owned(), hook }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        (self.hook)("remove", name);
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

impl StorageFile for HookedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.hook)("read_at", &self.name);
        self.file.read_at(buf, offset)
    }
    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bufs, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.file.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
