//! The whole storage: its directory, its files, and the orders it has for failing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use super::super::file::anonymous_memory;
use super::super::{Memory, Mode, StorageFile};
use super::crash::Random;
use super::fault::{Fault, SimOp};
use super::inode::Inode;

/// What [`SimStorage`](super::SimStorage) and its handles share. Everything a seed decides goes by ordered maps, so
/// that the same calls and the same seed give the same bytes.
#[derive(Clone)]
pub(super) struct State {
    pub(super) directory: Directory,
    /// Every file that has a name, has a handle, or could have a name again after a crash.
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) random: Random,
    pub(super) capacity: Option<u64>,
    pub(super) faults: Vec<Fault>,
    /// How many changing operations are left before the power goes; `None` if it stays.
    pub(super) fuse: Option<u64>,
    pub(super) counts: Counts,
    /// The memory that a process made last.
    pub(super) memory: Option<Arc<dyn StorageFile>>,
    /// The next number for a file or a handle.
    next: u64,
}

/// Operations so far, failed ones included.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) changes: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) syncs: u64,
}

/// Names and the numbers of their files, as calls see them and as they are on disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub(super) exists: bool,
    pub(super) exists_durably: bool,
    pub(super) cached: BTreeMap<String, u64>,
    pub(super) durable: BTreeMap<String, u64>,
    /// What leads from `durable` to `cached`, in order.
    pub(super) pending: Vec<Change>,
}

/// A change of the directory, bound to the file it was made to.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Create { name: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
    Remove { name: String, inode: u64 },
}

impl Change {
    /// Makes the change, unless the entries are not those it was made to.
    pub(super) fn apply(&self, entries: &mut BTreeMap<String, u64>) {
        match self {
            Change::Create { name, inode } => {
                entries.entry(name.clone()).or_insert(*inode);
            }
            Change::Rename { from, to, inode } => {
                if entries.get(from) == Some(inode) && !entries.contains_key(to) {
                    entries.remove(from);
                    entries.insert(to.clone(), *inode);
                }
            }
            Change::Remove { name, inode } => {
                if entries.get(name) == Some(inode) {
                    entries.remove(name);
                }
            }
        }
    }

    fn inode(&self) -> u64 {
        match self {
            Change::Create { inode, .. } | Change::Rename { inode, .. } | Change::Remove { inode, .. } => *inode,
        }
    }
}

impl Directory {
    fn make(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.cached);
        self.pending.clear();
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        self.cached.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            directory: Directory::default(),
            inodes: BTreeMap::new(),
            random: Random::new(seed),
            capacity: None,
            faults: Vec::new(),
            fuse: None,
            counts: Counts::default(),
            memory: None,
            next: 0,
        }
    }

    /// The same content for another process: handles, locks, faults and counts are gone, and memory.
    pub(super) fn restarted(&self) -> State {
        let mut state =
            State { faults: Vec::new(), fuse: None, counts: Counts::default(), memory: None, ..self.clone() };
        for inode in state.inodes.values_mut() {
            inode.handles = 0;
            inode.lock = None;
        }
        state.relink();
        state
    }

    /// Fails if the power is off.
    pub(super) fn power(&self) -> io::Result<()> {
        match self.fuse {
            Some(0) => Err(io::Error::other("simulated power loss")),
            _ => Ok(()),
        }
    }

    /// Counts an operation, and returns the error that was ordered for it.
    pub(super) fn count(&mut self, op: SimOp) -> Option<io::Error> {
        if op.changes() {
            self.counts.changes += 1;
            self.fuse = self.fuse.map(|left| left.saturating_sub(1));
        }
        match op {
            SimOp::Read => self.counts.reads += 1,
            SimOp::Write => self.counts.writes += 1,
            SimOp::Sync => self.counts.syncs += 1,
            _ => {}
        }
        let mut struck = None;
        self.faults.retain_mut(|fault| fault.notice(op, &mut struck));
        struck
    }

    /// Lets an operation through that leaves nothing behind when it fails.
    pub(super) fn admit(&mut self, op: SimOp) -> io::Result<()> {
        self.power()?;
        self.count(op).map_or(Ok(()), Err)
    }

    /// The same for an operation that needs the directory.
    fn enter(&mut self, op: SimOp) -> io::Result<()> {
        self.admit(op)?;
        if self.directory.exists { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    pub(super) fn create_dir(&mut self) -> io::Result<()> {
        self.power()?;
        if let Some(error) = self.count(SimOp::CreateDir) {
            // The directory may stand there all the same, with only its sync missing.
            self.directory.exists |= self.random.chance(128);
            return Err(error);
        }
        self.directory.exists = true;
        self.directory.exists_durably = true;
        Ok(())
    }

    pub(super) fn list(&mut self) -> io::Result<Vec<String>> {
        self.enter(SimOp::List)?;
        Ok(self.directory.cached.keys().cloned().collect())
    }

    /// Opens a file, and returns its number and that of the handle.
    pub(super) fn open(&mut self, name: &str, mode: Mode) -> io::Result<(u64, u64)> {
        self.enter(if mode == Mode::CreateNew { SimOp::Create } else { SimOp::Open })?;
        let inode = match (self.directory.find(name), mode) {
            (Ok(_), Mode::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Err(_), Mode::CreateNew) => {
                let inode = self.add(Inode { linked: true, ..Inode::default() });
                self.directory.make(Change::Create { name: name.to_owned(), inode });
                inode
            }
            (found, Mode::Read | Mode::Write) => found?,
        };
        self.file(inode).handles += 1;
        Ok((inode, self.number()))
    }

    /// Closes a handle.
    pub(super) fn close(&mut self, inode: u64, handle: u64) {
        let file = self.file(inode);
        file.handles -= 1;
        if file.lock == Some(handle) {
            file.lock = None;
        }
        self.sweep();
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.enter(SimOp::Rename)?;
        let inode = self.directory.find(from)?;
        if self.directory.cached.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.directory.make(Change::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.enter(SimOp::Remove)?;
        let inode = self.directory.find(name)?;
        self.directory.make(Change::Remove { name: name.to_owned(), inode });
        self.file(inode).linked = false;
        Ok(())
    }

    /// Makes every entry durable. If it fails, nothing more is durable than before, and nothing less is pending: a
    /// journal that cannot be written keeps the directory's changes until it can.
    pub(super) fn sync_dir(&mut self) -> io::Result<()> {
        self.enter(SimOp::SyncDir)?;
        self.directory.sync();
        self.sweep();
        Ok(())
    }

    /// Writes, or fails having written a part.
    pub(super) fn write(&mut self, inode: u64, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.power()?;
        let total = bufs.iter().map(|buf| buf.len()).sum();
        let mut failure = self.count(SimOp::Write);
        let mut count = if failure.is_some() { self.random.prefix(offset, total) } else { total };
        let limit = self.limit(inode).max(self.file(inode).cache.len() as u64);
        let room = limit.saturating_sub(offset);
        if count as u64 > room {
            count = room as usize; // Below `count`, so it fits.
            failure.get_or_insert(ErrorKind::StorageFull.into());
        }
        let offset = usize::try_from(offset).map_err(|_| ErrorKind::FileTooLarge)?;
        self.file(inode).write(bufs, offset, count)?;
        failure.map_or(Ok(()), Err)
    }

    pub(super) fn allocate(&mut self, inode: u64, len: u64) -> io::Result<()> {
        self.admit(SimOp::Allocate)?;
        if len > self.limit(inode) && len > self.file(inode).cache.len() as u64 {
            return Err(ErrorKind::StorageFull.into());
        }
        self.file(inode).grow(usize::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?)
    }

    pub(super) fn sync(&mut self, inode: u64) -> io::Result<()> {
        self.power()?;
        if let Some(error) = self.count(SimOp::Sync) {
            let mut random = Random::new(self.random.next());
            self.file(inode).settle(&mut random);
            return Err(error);
        }
        self.file(inode).sync();
        Ok(())
    }

    pub(super) fn lock(&mut self, inode: u64, handle: u64) -> io::Result<bool> {
        self.admit(SimOp::Lock)?;
        Ok(*self.file(inode).lock.get_or_insert(handle) == handle)
    }

    /// What a process that dies now leaves in its memory. A copy, so the process may go on. `None` if there is no memory, or
    /// none for the copy.
    pub(super) fn left_memory(&self) -> Option<Arc<dyn StorageFile>> {
        let file = self.memory.as_ref()?;
        let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
        file.read_at(&mut bytes, 0).ok()?;
        let (_, copy) = anonymous_memory(bytes.len()).ok()?;
        copy.write_all_at(&mut [IoSlice::new(&bytes)], 0).ok()?;
        Some(copy)
    }

    pub(super) fn create_memory(&mut self, len: usize) -> Option<Memory> {
        let (memory, file) = anonymous_memory(len).ok()?;
        self.memory = Some(file);
        Some(memory)
    }

    /// The file of an open handle, or of an entry.
    pub(super) fn file(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("a file that has a handle or a name is never swept away")
    }

    /// Puts a file that is durable to the last byte under `name`, or these bytes into the file that is there.
    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) {
        self.directory.exists = true;
        self.directory.exists_durably = true;
        let durable = Inode { linked: true, ..Inode::durable(bytes) };
        match self.directory.find(name) {
            Ok(inode) => {
                let file = self.file(inode);
                *file = Inode { handles: file.handles, lock: file.lock, ..durable };
            }
            Err(_) => {
                let inode = self.add(durable);
                self.directory.cached.insert(name.to_owned(), inode);
            }
        }
        self.directory.sync();
        self.sweep();
    }

    /// Takes the file `name` away, durably.
    pub(super) fn take(&mut self, name: &str) -> bool {
        let Some(inode) = self.directory.cached.remove(name) else { return false };
        self.file(inode).linked = false;
        self.directory.sync();
        self.sweep();
        true
    }

    /// How long a file may become, given what the others take up.
    fn limit(&self, inode: u64) -> u64 {
        let others = self.inodes.iter().filter(|&(&id, file)| id != inode && (file.linked || file.handles > 0));
        let taken: u64 = others.map(|(_, file)| file.cache.len() as u64).sum();
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(taken))
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn add(&mut self, file: Inode) -> u64 {
        let inode = self.number();
        self.inodes.insert(inode, file);
        inode
    }

    /// Notes anew which files have a name, after the entries changed under them.
    pub(super) fn relink(&mut self) {
        let named: BTreeSet<u64> = self.directory.cached.values().copied().collect();
        for (id, inode) in &mut self.inodes {
            inode.linked = named.contains(id);
        }
        self.sweep();
    }

    /// Forgets the files that nothing can reach any more, not even after a crash.
    fn sweep(&mut self) {
        let pending = self.directory.pending.iter().map(Change::inode);
        let reachable: BTreeSet<u64> = self.directory.durable.values().copied().chain(pending).collect();
        self.inodes.retain(|id, inode| inode.linked || inode.handles > 0 || reachable.contains(id));
    }
}
