//! One file: what reads see, what the disk holds, and what lies between the two.

use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;

/// What a disk writes as a whole, or not at all.
pub(super) const SECTOR: usize = 512;

/// A file, whatever its name; it may have none.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// What reads see.
    pub(super) cache: Vec<u8>,
    /// What is durable.
    pub(super) disk: Vec<u8>,
    /// The writes since the last sync, successful or failed, in order.
    pub(super) unsynced: Vec<Write>,
    /// The lengths the file had since then, in order. They only grow.
    pub(super) lengths: Vec<usize>,
    /// Whether it has a name.
    pub(super) linked: bool,
    /// How many handles are open.
    pub(super) handles: usize,
    /// The handle that holds the lock.
    pub(super) lock: Option<u64>,
}

/// The sectors that a write touched, as they were in the cache after it: a system writes back whole sectors of its
/// cache, and not the bytes that changed.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// Where the first sector begins.
    start: usize,
    bytes: Vec<u8>,
}

impl Write {
    /// The numbers of the sectors.
    pub(super) fn sectors(&self) -> Range<usize> {
        self.start / SECTOR..(self.start + self.bytes.len()).div_ceil(SECTOR)
    }

    /// Copies one of the sectors to the disk, as far as the file reaches there.
    pub(super) fn copy_sector(&self, sector: usize, disk: &mut [u8]) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.start + self.bytes.len()).min(disk.len());
        if start < end {
            disk[start..end].copy_from_slice(&self.bytes[start - self.start..end - self.start]);
        }
    }
}

impl Inode {
    /// A file that holds `bytes`, all durable.
    pub(super) fn durable(bytes: &[u8]) -> Inode {
        Inode { cache: bytes.to_vec(), disk: bytes.to_vec(), ..Inode::default() }
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let start = usize::try_from(offset).map_or(self.cache.len(), |offset| offset.min(self.cache.len()));
        let count = buf.len().min(self.cache.len() - start);
        buf[..count].copy_from_slice(&self.cache[start..start + count]);
        count
    }

    /// Writes the first `count` bytes of `bufs` into the cache.
    pub(super) fn write(&mut self, bufs: &[IoSlice<'_>], offset: usize, count: usize) -> io::Result<()> {
        if count == 0 {
            return Ok(()); // Not even the length changes.
        }
        let end = offset.checked_add(count).ok_or(ErrorKind::FileTooLarge)?;
        self.grow(end)?;
        let mut at = offset;
        for buf in bufs {
            let part = buf.len().min(end - at);
            self.cache[at..at + part].copy_from_slice(&buf[..part]);
            at += part;
        }
        let start = offset / SECTOR * SECTOR;
        let stop = end.div_ceil(SECTOR).saturating_mul(SECTOR).min(self.cache.len());
        self.unsynced.push(Write { start, bytes: self.cache[start..stop].to_vec() });
        Ok(())
    }

    /// Makes the file at least `len` bytes long.
    pub(super) fn grow(&mut self, len: usize) -> io::Result<()> {
        if let Some(more) = len.checked_sub(self.cache.len()).filter(|&more| more > 0) {
            self.cache.try_reserve(more).map_err(|_| ErrorKind::StorageFull)?;
            self.cache.resize(len, 0);
            self.lengths.push(len);
        }
        Ok(())
    }

    /// Makes durable what was written since the last sync, and the length. What an earlier sync failed to write stays
    /// lost: it is in `unsynced` no more.
    pub(super) fn sync(&mut self) {
        self.disk.resize(self.cache.len(), 0);
        for Write { start, bytes } in self.unsynced.drain(..) {
            self.disk[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        self.lengths.clear();
    }

    /// Turns one bit over, in the cache and wherever else the byte stands; `false` if the file is shorter.
    pub(super) fn flip(&mut self, offset: usize, mask: u8) -> bool {
        let Some(byte) = self.cache.get_mut(offset) else { return false };
        *byte ^= mask;
        if let Some(byte) = self.disk.get_mut(offset) {
            *byte ^= mask;
        }
        for Write { start, bytes } in &mut self.unsynced {
            if let Some(byte) = offset.checked_sub(*start).and_then(|at| bytes.get_mut(at)) {
                *byte ^= mask;
            }
        }
        true
    }
}
