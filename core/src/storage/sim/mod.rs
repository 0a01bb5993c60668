//! A storage in memory that can lose power, lose and tear writes, fill up and fail, all to order.
//!
//! `state` is the storage, `inode` one file in it, `fault` the errors to order, and `crash` decides what survives.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Memory, Mode, Storage, StorageFile};

mod crash;
mod fault;
mod inode;
mod state;
#[cfg(test)]
mod tests;

pub use fault::{Fault, SimOp};
use state::State;

/// Files in memory, with the failures of real ones: for logs that need not outlive the process, and for tests of what
/// happens when the power goes.
///
/// A clone is another reference to the same files. [`SimStorage::crash`] and [`SimStorage::kill`] make a storage of
/// their own: what the next open would find.
///
/// ```text
/// let disk = SimStorage::new();
/// // ... open a log on Arc::new(disk.clone()), append, sync, and then, at any instant:
/// for seed in 0..1000 {
///     let after = disk.crash(seed); // Open a log on this: nothing acknowledged may be missing.
/// }
/// ```
///
/// # What survives a crash
///
/// - Of a file, all that was synced. Every sector of 512 bytes that was written since is on its own: the durable
///   version survives, or one of those since. So it is with the length; a sector beyond the surviving one is lost.
/// - Of the directory, all that was synced, and any subset of the creates, renames and removes since; one that builds
///   on another that was lost is lost as well.
/// - After a sync that failed, each sector it was to write is on the disk or is not, and no later sync writes it, as on
///   Linux. Reads see the written bytes until the crash.
///
/// The same calls with the same seeds leave the same bytes, as long as one thread makes them.
#[derive(Clone)]
pub struct SimStorage {
    state: Arc<Mutex<State>>,
}

impl SimStorage {
    /// An empty storage, whose directory does not exist yet.
    #[must_use]
    pub fn new() -> SimStorage {
        SimStorage::with_seed(0)
    }

    /// The same with a seed of its own for what writes and syncs that fail leave behind.
    #[must_use]
    pub fn with_seed(seed: u64) -> SimStorage {
        SimStorage::of(State::new(seed))
    }

    fn of(state: State) -> SimStorage {
        SimStorage { state: Arc::new(Mutex::new(state)) }
    }

    /// What a power cut at this instant could leave, as a storage of its own. Each seed is another outcome: in some
    /// nearly everything survives, in some nearly nothing that was not synced. No locks are held there, no faults are
    /// waiting, and the counts begin at zero; the capacity stays.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimStorage {
        SimStorage::of(self.state.lock().crashed(seed))
    }

    /// What the death of the process at this instant leaves, while the machine runs on: all that was written, synced or
    /// not, and the memory that outlives it ([`Storage::create_memory`], on Linux), in a storage of its own, without locks,
    /// faults and counts.
    #[must_use]
    pub fn kill(&self) -> SimStorage {
        let state = self.state.lock();
        let mut left = state.restarted();
        left.memory = state.left_memory();
        SimStorage::of(left)
    }

    /// Cuts the power after `count` more of the operations that [`SimStorage::operations`] counts. Every operation
    /// fails from then on, with an error of the kind `Other`, and nothing changes any more; [`SimStorage::crash`] then
    /// tells what survived.
    pub fn crash_after(&self, count: u64) {
        self.state.lock().fuse = Some(count);
    }

    /// How many operations there were so far that change what a crash leaves: creates, renames, removes, writes,
    /// allocations and syncs, failed ones included. A test that runs once to learn this number can then run again with
    /// [`SimStorage::crash_after`] for each smaller one.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().counts.changes
    }

    /// How many reads of files there were.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.state.lock().counts.reads
    }

    /// How many writes to files there were.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state.lock().counts.writes
    }

    /// How many syncs of files there were, not counting those of the directory.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state.lock().counts.syncs
    }

    /// Orders an error. A write that fails has written some prefix of its bytes; of a sync that fails, any part of the
    /// sectors has become durable; any other operation that fails has done nothing, except that the directory may have
    /// been created. Each fault counts on its own, and of two that strike at once the one ordered first is returned.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Takes back all orders that have not struck, and the sticky ones.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Limits the sum of all files' lengths, those of removed files included while they are open; `None` lifts the
    /// limit. What would exceed it fails with `StorageFull`: an allocation as a whole, a write after what fits.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// The names of all files.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state.lock().directory.cached.keys().cloned().collect()
    }

    /// The bytes of a file, as reads see them. This and the methods below bypass faults, counts and power cuts.
    #[must_use]
    pub fn read_file(&self, name: &str) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        let inode = *state.directory.cached.get(name)?;
        Some(state.file(inode).cache.clone())
    }

    /// Puts `bytes` in place of a file's content, or into a new file, all of it durable at once. The entries of the
    /// directory become durable with it.
    pub fn write_file(&self, name: &str, bytes: &[u8]) {
        self.state.lock().put(name, bytes);
    }

    /// Takes a file away, durably; `false` if there is none. The other entries of the directory become durable with it.
    pub fn remove_file(&self, name: &str) -> bool {
        self.state.lock().take(name)
    }

    /// Turns over one bit of a file, both as reads see it and on disk; bit 0 is the lowest of its byte. `false` if
    /// there is no such file, byte or bit.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> bool {
        let mut state = self.state.lock();
        let Some(&inode) = state.directory.cached.get(name) else { return false };
        match (usize::try_from(offset), 1_u8.checked_shl(u32::from(bit))) {
            (Ok(offset), Some(mask)) => state.file(inode).flip(offset, mask),
            _ => false,
        }
    }
}

impl Default for SimStorage {
    fn default() -> SimStorage {
        SimStorage::new()
    }
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SimStorage").field("names", &self.names()).finish_non_exhaustive()
    }
}

impl Storage for SimStorage {
    /// A name for messages: there is no such path.
    fn path(&self) -> PathBuf {
        PathBuf::from("<memory>")
    }

    fn create_dir(&self) -> io::Result<()> {
        self.state.lock().create_dir()
    }

    fn exists(&self) -> io::Result<bool> {
        let mut state = self.state.lock();
        state.admit(SimOp::Exists)?;
        Ok(state.directory.exists)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.state.lock().list()
    }

    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn StorageFile>> {
        let (inode, handle) = self.state.lock().open(name, mode)?;
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), inode, handle, writable: mode != Mode::Read }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state.lock().rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state.lock().remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.state.lock().sync_dir()
    }

    /// For one log: there is one memory, whatever its name.
    fn create_memory(&self, _name: &str, len: usize) -> Option<Memory> {
        self.state.lock().create_memory(len)
    }

    fn left_memory(&self, _name: &str) -> io::Result<Option<Arc<dyn StorageFile>>> {
        let mut state = self.state.lock();
        state.admit(SimOp::Open)?;
        Ok(state.memory.clone())
    }

    fn remove_memory(&self, _name: &str) {
        self.state.lock().memory = None;
    }
}

/// A handle. The file stays while there is one, named or not, because `State` counts them.
struct SimFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    handle: u64,
    writable: bool,
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
    }
}

impl StorageFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.admit(SimOp::Read)?;
        Ok(state.file(self.inode).read(buf, offset))
    }

    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        self.state.lock().write(self.inode, bufs, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.check_writable()?;
        self.state.lock().allocate(self.inode, len).map(|()| true)
    }

    fn sync(&self) -> io::Result<()> {
        self.state.lock().sync(self.inode)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.admit(SimOp::Len)?;
        Ok(state.file(self.inode).cache.len() as u64)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.state.lock().lock(self.inode, self.handle)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.state.lock().close(self.inode, self.handle);
    }
}
