//! A simulated disk for checkers that decide which thread goes on: they are asked before each operation and after it.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use libwal::storage::{Memory, Mode, SimStorage, Storage, StorageFile};

/// What is called before and after each operation.
pub(crate) type Step = Arc<dyn Fn() + Send + Sync>;

/// See the module.
pub(crate) struct Stepping {
    disk: SimStorage,
    step: Step,
    allocates: bool,
}

impl Stepping {
    pub(crate) fn over(disk: &SimStorage, step: Step) -> Arc<dyn Storage> {
        Arc::new(Stepping { disk: disk.clone(), step, allocates: true })
    }

    /// A disk of a file system that cannot allocate: a file has the space that was written.
    pub(crate) fn without_allocation(disk: &SimStorage) -> Arc<dyn Storage> {
        Arc::new(Stepping { disk: disk.clone(), step: Arc::new(|| {}), allocates: false })
    }
}

fn stepwise<T>(step: &Step, operation: impl FnOnce() -> T) -> T {
    step();
    let done = operation();
    step();
    done
}

impl Storage for Stepping {
    fn path(&self) -> PathBuf {
        self.disk.path()
    }

    fn create_dir(&self) -> io::Result<()> {
        stepwise(&self.step, || self.disk.create_dir())
    }

    fn exists(&self) -> io::Result<bool> {
        self.disk.exists()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        stepwise(&self.step, || self.disk.list())
    }

    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn StorageFile>> {
        let file = stepwise(&self.step, || self.disk.open(name, mode))?;
        Ok(Arc::new(SteppingFile { file, step: Arc::clone(&self.step), allocates: self.allocates }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        stepwise(&self.step, || self.disk.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        stepwise(&self.step, || self.disk.remove(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        stepwise(&self.step, || self.disk.sync_dir())
    }

    fn create_memory(&self, name: &str, len: usize) -> Option<Memory> {
        stepwise(&self.step, || self.disk.create_memory(name, len))
    }

    fn left_memory(&self, name: &str) -> io::Result<Option<Arc<dyn StorageFile>>> {
        self.disk.left_memory(name)
    }

    fn remove_memory(&self, name: &str) {
        stepwise(&self.step, || self.disk.remove_memory(name));
    }
}

struct SteppingFile {
    file: Arc<dyn StorageFile>,
    step: Step,
    allocates: bool,
}

impl StorageFile for SteppingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        stepwise(&self.step, || self.file.read_at(buf, offset))
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        stepwise(&self.step, || self.file.write_all_at(bufs, offset))
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        stepwise(&self.step, || self.file.allocate(len)).map(|allocated| allocated && self.allocates)
    }

    fn sync(&self) -> io::Result<()> {
        stepwise(&self.step, || self.file.sync())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
