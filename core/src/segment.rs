//! The files of a log: segments prepared ahead of the stream, recycled behind it, and the control slots that list them.
//!
//! A segment goes through these steps, each durable before the next, so that a crash leaves nothing half-made under a
//! segment's name:
//!
//! 1. `N.new` is created, allocated, written full of zeros, given its identity, and synced; or a `.spare` file gets a new
//!    identity and no entry, and is synced. Writing into blocks that hold data already makes `fdatasync` skip the
//!    journal commit; a log that hardly syncs does without the zeros.
//! 2. It is renamed to `N.wal`, and the directory is synced.
//! 3. The control slots name it. From then on its absence is damage. Only now is its space offered to appends.
//! 4. The stream enters it: the first write carries the entry sector in front of the first bytes (`flush.rs`).
//! 5. Truncation moves the head in the control slots, and then renames the file to `N.spare` or removes it.

use std::io::{self, ErrorKind, IoSlice};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::format::{
    CONTROL_SLOT_OFFSETS, Control, Entry, HEADER_SIZE, HeaderError, Identity, LogId, MARKER_RECORD_SIZE, NO_POSITION,
    SECTOR,
};
use crate::poison::Poison;
use crate::primitive::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};
use crate::storage::{Mode, Storage, StorageFile};
use crate::watermark::Watermarks;

mod handles;
mod name;

pub(crate) use handles::Handles;
pub(crate) use name::{BUFFER_NAME, LOCK_NAME, Name, aside_name, segment_name, spare_name, unfinished_name};

/// Zeros are written in pieces of this length; see `docs/durability.md` for what was measured.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A sync of so many bytes and more takes many times as long as a journal commit.
const RARE_SYNCS: u64 = 16 << 20;

/// An open segment file.
pub(crate) struct Segment {
    pub(crate) index: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn StorageFile>,
}

/// The header page of a segment as it was read.
pub(crate) struct Header {
    pub(crate) identity: Identity,
    /// `Err` if the entry sector is damaged, which a torn write of it explains as well.
    pub(crate) entry: Result<Option<Entry>, HeaderError>,
}

impl Segment {
    /// Opens segment `index` by its name.
    pub(crate) fn open(storage: &dyn Storage, index: u64, mode: Mode) -> Result<Segment> {
        let name = segment_name(index);
        let path = storage.path().join(&name);
        let file = storage.open(&name, mode).map_err(|error| Error::io("open", &path, error))?;
        Ok(Segment { index, path, file })
    }

    /// Reads and checks the header page. `base` is where the segment's part of the stream begins, for the error.
    pub(crate) fn header(&self, base: u64) -> Result<Header> {
        let mut page = [0; 2 * SECTOR];
        let read = self.file.read_at(&mut page, 0).map_err(|error| Error::io("read", &self.path, error))?;
        if read < page.len() {
            return Err(Error::corrupt(base, &self.path, format!("the file is only {read} bytes long")));
        }
        let identity = Identity::parse(&page).map_err(|why| header_error(why, base, &self.path))?;
        let entry = Entry::parse_of(&page[SECTOR..], &identity);
        Ok(Header { identity, entry })
    }

    /// Whether the checksum of the identity sector fits, whatever it says.
    pub(crate) fn identity_is_whole(&self) -> Result<bool> {
        let mut sector = [0; SECTOR];
        let read = self.file.read_at(&mut sector, 0).map_err(|error| Error::io("read", &self.path, error))?;
        Ok(read == SECTOR && Identity::is_whole(&sector))
    }

    /// Whether the file is still this segment, not one that was made of it since it was opened. The new identity is
    /// written before any new byte of the stream, so bytes that were read before a positive answer are the segment's own.
    pub(crate) fn is_current(&self) -> Result<bool> {
        let mut sector = [0; SECTOR];
        let read = self.file.read_at(&mut sector, 0).map_err(|error| Error::io("read", &self.path, error))?;
        Ok(read == SECTOR && Identity::parse(&sector).is_ok_and(|identity| identity.index == self.index))
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync().map_err(|error| Error::io("sync", &self.path, error))
    }
}

/// What a header's defect means to the caller.
pub(crate) fn header_error(why: HeaderError, lsn: u64, path: &std::path::Path) -> Error {
    match why {
        HeaderError::Version(found) => {
            Error::UnsupportedVersion { path: path.into(), found, supported: crate::format::VERSION }
        }
        why => Error::corrupt(lsn, path, why.to_string()),
    }
}

/// Reads both control slots. `None` if the file is empty: a creation that was cut off before its first write; or, if there
/// is no segment of any kind either (`creating`), in the middle of it.
pub(crate) fn read_control(file: &dyn StorageFile, path: &std::path::Path, creating: bool) -> Result<Option<Control>> {
    let mut slots = [[0; SECTOR]; 2];
    let mut all_zero = true;
    for (slot, offset) in slots.iter_mut().zip(CONTROL_SLOT_OFFSETS) {
        file.read_at(slot, offset).map_err(|error| Error::io("read", path, error))?;
        all_zero &= slot.iter().all(|&byte| byte == 0);
    }
    if all_zero {
        return Ok(None);
    }
    // The very first write goes to the second slot; a creation that failed in the middle of it has left the first empty.
    let cut_off = Control::parse(&slots[1]).is_err() && Control::may_be_cut_off(&slots[1]);
    if creating && cut_off && slots[0].iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    Control::newest([&slots[0], &slots[1]]).map(Some).map_err(|why| header_error(why, 0, path))
}

/// The segments of a log that is open for writing.
pub(crate) struct Segments {
    storage: Arc<dyn Storage>,
    pub(crate) id: LogId,
    pub(crate) shift: u32,
    recycle: usize,
    watermarks: Arc<Watermarks>,
    poison: Arc<Poison>,
    /// Held while a segment is made and its place in the control slots written. Taken before `files`.
    preparing: Mutex<()>,
    /// Whether the log is being closed, so that nobody goes on making a segment for it.
    closing: AtomicBool,
    /// Held while names and control slots are changed.
    files: Mutex<Files>,
    pub(crate) handles: Handles,
    /// Copies of what `files` holds, to be read without its lock.
    head: AtomicU64,
    end: AtomicU64,
    /// The position of the last durable checkpoint record.
    checkpoint: AtomicU64,
}

pub(crate) struct Files {
    pub(crate) control: Control,
    /// `None` once the log is closed.
    lock: Option<Arc<dyn StorageFile>>,
    spares: Vec<String>,
}

impl Segments {
    /// The segments that `control` lists. `lock` is the locked file with the control slots, `spares` names what can be reused.
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        control: Control,
        lock: Arc<dyn StorageFile>,
        spares: Vec<String>,
        recycle: usize,
        watermarks: Arc<Watermarks>,
        poison: Arc<Poison>,
    ) -> Segments {
        Segments {
            handles: Handles::new(Arc::clone(&storage), Arc::clone(&poison)),
            storage,
            id: control.id,
            shift: control.shift,
            recycle,
            watermarks,
            poison,
            head: AtomicU64::new(control.head),
            end: AtomicU64::new(control.end),
            checkpoint: AtomicU64::new(control.checkpoint.unwrap_or(NO_POSITION)),
            preparing: Mutex::new(()),
            closing: AtomicBool::new(false),
            files: Mutex::new(Files { control, lock: Some(lock), spares }),
        }
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    pub(crate) fn size(&self) -> u64 {
        1 << self.shift
    }

    /// The index of the oldest segment. Acquire: pairs with the release in [`Segments::truncate`].
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// One past the index of the newest segment. Acquire: pairs with the release in [`Segments::prepare`].
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// How far records may be appended: the end of the prepared space, less what a last marker needs.
    pub(crate) fn limit(&self) -> u64 {
        (self.end() << self.shift).saturating_sub(MARKER_RECORD_SIZE)
    }

    /// The last durable checkpoint. Relaxed: a single value that refers to durable bytes only.
    pub(crate) fn checkpoint(&self) -> Option<u64> {
        Some(self.checkpoint.load(Ordering::Relaxed)).filter(|&lsn| lsn != NO_POSITION)
    }

    /// Records that the checkpoint record at `lsn` is durable.
    pub(crate) fn set_checkpoint(&self, lsn: u64) {
        let newer = |old: u64| (old == NO_POSITION || old < lsn).then_some(lsn);
        // An older one that became durable late does not take the place of a newer one.
        let _ = self.checkpoint.fetch_update(Ordering::Relaxed, Ordering::Relaxed, newer);
    }

    /// Prepares segments until the limit is at least `position`. Each is ready on disk before the limit moves.
    pub(crate) fn prepare_to(&self, position: u64) -> Result<()> {
        while self.limit() < position {
            let _alone = self.preparing.lock();
            // Somebody else may have prepared one while this thread waited for the lock.
            if self.limit() < position {
                self.prepare()?;
            }
        }
        Ok(())
    }

    /// Prepares the next segment: steps 1 to 3 above. Under the lock of `preparing`, without which nobody gives the lock of
    /// the log back: no other handle owns these files meanwhile. The lock of `files` is free while the segment is made, which
    /// takes long: a checkpoint may want the control slots.
    fn prepare(&self) -> Result<()> {
        self.poison.check()?;
        let files = self.files.lock();
        // A thread that comes late must not touch what may be another handle's.
        if files.lock.is_none() {
            return Err(Error::Closed);
        }
        let index = files.control.end;
        drop(files);
        if (index + 1) << self.shift > crate::lsn::Lsn::MAX.get() {
            return Err(Error::invalid("the stream has reached its last position"));
        }
        let name = segment_name(index);
        let path = self.storage.path().join(&name);
        // A crash between steps 2 and 3 leaves a finished segment that no slot names. It is made again.
        self.remove_if_there(&name)?;
        let identity = Identity { id: self.id, index, shift: self.shift };
        let spare = self.files.lock().spares.pop();
        let (from, file) = match spare {
            Some(spare) => (spare.clone(), self.reuse(&spare, &identity)),
            None => {
                let new = unfinished_name(index);
                self.remove_if_there(&new)?;
                (new.clone(), self.make(&new, &identity))
            }
        };
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                // Whatever failed, the file is worth nothing now, and a later attempt begins with a fresh one: a sync that
                // failed is never tried again on the same file. If it cannot even be removed, the next open does it.
                let _ = self.storage.remove(&from);
                return Err(match error.kind() {
                    ErrorKind::StorageFull => Error::NoSpace { path: self.storage.path() },
                    _ if self.closing() => Error::Closed,
                    _ => Error::io("prepare", path, error),
                });
            }
        };
        let mut files = self.files.lock();
        self.storage.rename(&from, &name).map_err(|error| Error::io("rename", &path, error))?;
        self.sync_dir()?;
        self.write_control(&mut files, |control| control.end = index + 1)?;
        self.handles.keep(Segment { index, path, file });
        self.end.store(index + 1, Ordering::Release);
        Ok(())
    }

    /// Whether the log is being closed. Relaxed: a hint, for somebody who may as well go on.
    fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Ends the work on segments that are not needed any more: the log is about to be closed.
    pub(crate) fn prepare_no_more(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// A new file of zeros with the header page of `identity`, synced.
    fn make(&self, name: &str, identity: &Identity) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.storage.open(name, Mode::CreateNew)?;
        let len = HEADER_SIZE + self.size();
        let allocated = file.allocate(len)?;
        let mut offset = 0;
        while offset < len && !(allocated && self.hardly_syncs()) {
            if self.closing() {
                return Err(io::Error::new(ErrorKind::Interrupted, "the log is being closed"));
            }
            let piece = (len - offset).min(ZEROS.len() as u64);
            file.write_all_at(&mut [IoSlice::new(&ZEROS[..piece as usize])], offset)?;
            offset += piece;
        }
        file.write_all_at(&mut [IoSlice::new(&identity.to_bytes())], 0)?;
        file.sync()?;
        Ok(file)
    }

    /// Whether so much was flushed since the last sync that the journal commit will not be felt in the next one. To such a
    /// log zeros are of no use, and they are in its way: whoever writes them cannot flush meanwhile. Looked at before each
    /// piece of them, for the first segments are made before anybody knows.
    fn hardly_syncs(&self) -> bool {
        self.watermarks.flushed.load().saturating_sub(self.watermarks.durable.load()) >= RARE_SYNCS
    }

    /// A freed file with the header page of `identity`, synced. Its old records stay: they are sealed with positions that
    /// do not come back.
    fn reuse(&self, name: &str, identity: &Identity) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.storage.open(name, Mode::Write)?;
        // The space of a file of another length is not what this segment needs; `allocate` never shortens.
        file.allocate(HEADER_SIZE + self.size())?;
        if file.len()? != HEADER_SIZE + self.size() {
            return Err(io::Error::new(ErrorKind::InvalidData, "a spare file is longer than a segment"));
        }
        let no_entry = &ZEROS[..HEADER_SIZE as usize - SECTOR];
        file.write_all_at(&mut [IoSlice::new(&identity.to_bytes()), IoSlice::new(no_entry)], 0)?;
        file.sync()?;
        Ok(file)
    }

    fn remove_if_there(&self, name: &str) -> Result<()> {
        match self.storage.remove(name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", self.storage.path().join(name), error))
            }
            _ => Ok(()),
        }
    }

    /// Frees the segments below `index`: step 5 above.
    pub(crate) fn truncate(&self, index: u64) -> Result<()> {
        let mut files = self.files.lock();
        let old = files.control.head;
        // The head keeps a durable byte, and with it a durable entry: recovery reads there where to begin, and in which
        // epoch. In a segment that was never entered it could only guess, and take a record for the log's own that an
        // earlier recovery had shut out.
        let index = index.min(self.watermarks.durable.load().saturating_sub(1) >> self.shift);
        if index <= old {
            return Ok(());
        }
        self.poison.check()?;
        self.write_control(&mut files, |control| control.head = index)?;
        // Release: pairs with the acquire in `head`.
        self.head.store(index, Ordering::Release);
        self.handles.retire_below(index);
        drop(files);
        (old..index).try_for_each(|freed| self.free(freed))?;
        // Not needed for correctness, since the head has moved; but space that was promised to be free should be.
        self.sync_dir()
    }

    /// Renames or removes the file of one segment below the head. One at a time: removing a file takes long, and an append may
    /// want the lock to prepare a segment.
    fn free(&self, index: u64) -> Result<()> {
        let mut files = self.files.lock();
        // Whoever opens the log next removes what this did not come to.
        if files.lock.is_none() {
            return Ok(());
        }
        let name = segment_name(index);
        if files.spares.len() >= self.recycle {
            return self.remove_if_there(&name);
        }
        let spare = spare_name(index);
        let renamed = self.storage.rename(&name, &spare);
        renamed.map_err(|error| Error::io("rename", self.storage.path().join(&name), error))?;
        files.spares.push(spare);
        Ok(())
    }

    /// Changes the control slots durably.
    pub(crate) fn update_control(&self, change: impl FnOnce(&mut Control)) -> Result<()> {
        self.write_control(&mut self.files.lock(), change)
    }

    /// Changes the control slots durably for the last time: under the same lock, nobody changes them afterwards.
    pub(crate) fn finish_control(&self, change: impl FnOnce(&mut Control)) -> Result<()> {
        let _alone = self.preparing.lock();
        let mut files = self.files.lock();
        let written = self.write_control(&mut files, change);
        files.lock = None;
        written
    }

    /// Lets go of the lock file, and with it of the lock. Nothing can be changed afterwards.
    pub(crate) fn unlock(&self) {
        let _alone = self.preparing.lock();
        self.files.lock().lock = None;
        self.handles.clear();
    }

    /// Takes the state of the files out, once recovery has used this to bring them in order.
    pub(crate) fn into_parts(self) -> (Control, Vec<String>) {
        let files = self.files.into_inner();
        (files.control, files.spares)
    }

    fn write_control(&self, files: &mut Files, change: impl FnOnce(&mut Control)) -> Result<()> {
        let mut control = files.control;
        control.durable = control.durable.max(self.watermarks.durable.load());
        control.checkpoint = self.checkpoint();
        control.clean_end = None;
        change(&mut control);
        control.sequence += 1;
        let lock = files.lock.as_ref().ok_or(Error::Closed)?;
        // A sync of the other slot that failed leaves this one the only one that is known to be good.
        self.poison.check()?;
        store_control(&**lock, &control)
            .map_err(|error| self.poison.set(Error::io("write", self.storage.path().join(LOCK_NAME), error)))?;
        files.control = control;
        Ok(())
    }

    /// A directory whose sync failed may or may not remember what was done to it, and a second sync would not tell.
    fn sync_dir(&self) -> Result<()> {
        let synced = self.storage.sync_dir();
        synced.map_err(|error| self.poison.set(Error::io("sync", self.storage.path(), error)))
    }
}

/// Writes `control` to the slot that does not hold the newest state, and syncs it.
pub(crate) fn store_control(file: &dyn StorageFile, control: &Control) -> io::Result<()> {
    let slot = CONTROL_SLOT_OFFSETS[(control.sequence % 2) as usize];
    file.write_all_at(&mut [IoSlice::new(&control.to_bytes())], slot)?;
    file.sync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_others_stay_others() {
        assert_eq!(Name::parse(&segment_name(17)), Name::Segment(17));
        assert_eq!(Name::parse("00000000000000000017.spare"), Name::Spare);
        assert_eq!(Name::parse("00000000000000000017.new"), Name::Unfinished);
        assert_eq!(Name::parse("LOCK"), Name::Lock);
        assert_eq!(Name::parse("BUFFER"), Name::Buffer);
        for other in ["17.wal", "0000000000000000001x.wal", "+0000000000000000017.wal", "notes.txt", ""] {
            assert_eq!(Name::parse(other), Name::Other, "{other}");
        }
    }

    #[test]
    fn nothing_is_touched_once_the_lock_is_given_back() {
        let storage = crate::storage::SimStorage::new();
        storage.create_dir().unwrap();
        let lock = storage.open(LOCK_NAME, Mode::CreateNew).unwrap();
        let control = Control::first(LogId::from_bytes([1; 16]), 12, 0);
        let watermarks = Arc::new(Watermarks::at(0));
        let shared: Arc<dyn Storage> = Arc::new(storage.clone());
        let segments = Segments::new(shared, control, lock, Vec::new(), 0, watermarks, Arc::default());
        segments.prepare_to(100).unwrap();
        segments.finish_control(|control| control.clean_end = Some(0)).unwrap();
        let (names, operations) = (storage.names(), storage.operations());
        // A thread that was on its way when the log was closed: the files may be another handle's by now.
        assert!(matches!(segments.prepare_to(5000), Err(Error::Closed)));
        assert!(matches!(segments.update_control(|_| {}), Err(Error::Closed)));
        assert!(matches!(segments.truncate(1), Ok(()) | Err(Error::Closed)));
        assert_eq!((storage.names(), storage.operations()), (names, operations));
    }
}
