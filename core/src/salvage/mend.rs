//! Making a damaged log whole again: what cannot be read becomes padding.
//!
//! The order, each step durable before the next:
//!
//! 1. Copies of everything that is about to change, outside the log.
//! 2. What a repair before this one may have written, and not come to sync: this one judges by what the page cache shows.
//! 3. The control slots. What they name from now on is found damaged, also where the damage itself told that it is there.
//! 4. Each damaged file is built anew beside the old one and takes its place.
//! 5. The padding's header words.
//! 6. The entry sectors, from a walk over the mended stream.
//! 7. Zeros over what the padding covers; what was put aside goes.
//! 8. The control slots again: from step 3 to here they say that the log is being mended.
//!
//! An interruption leaves a log that can be mended again, and that does not open before it is: what was written last may be in
//! the page cache only. One that is sound already gets steps 2 and 7 only, for the lock file may be lost as well.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use super::Report;
use super::files::State;
use super::scan::{Bad, Scan};
use crate::error::{Error, Result};
use crate::format::{
    CONTROL_SIZE, CONTROL_SLOT_OFFSETS, Control, Durability, Entry, HEADER_SIZE, HEADER_WORD, Identity, Kind, LogId,
    MARKER_RECORD_SIZE, SECTOR, Seal, Word,
};
use crate::reader::{Cursor, Hole, Input, Step, Want, open_or_aside};
use crate::segment::{LOCK_NAME, Name, Segment, aside_name, segment_name, store_control, unfinished_name};
use crate::storage::{Mode, Storage, StorageFile};

const PIECE: usize = 1 << 20;

/// As [`super::repair_on`].
pub(super) fn mend(storage: &Arc<dyn Storage>, keep: &dyn Storage) -> Result<Report> {
    // Judged once before anything is made, so that a directory that holds no log stays as it is.
    Scan::settled(storage, 1, &|_| {})?;
    let lock = take_lock(&**storage)?;
    let mut scan = Scan::settled(storage, 1, &|_| {})?;
    let report = scan.report(storage);
    if !report.is_sound() {
        keep_copies(storage, keep, &scan)?;
    }
    make_durable(storage, &*lock, &scan)?;
    if report.is_sound() {
        // A repair that was cut off may have left no more to do than this.
        clear(storage, &scan, &scan.padding)?;
        remove_asides(&**storage)?;
        return Ok(report);
    }
    scan.files.control = mended_control(&scan);
    write_control(&**storage, &*lock, &mut scan.files.control)?;
    for state in scan.files.segments.iter().filter(|state| state.damaged) {
        rebuild(&**storage, &scan, state)?;
    }
    let padding = fill_holes(&**storage, &scan)?;
    write_entries(storage, &scan)?;
    // Only now: an entry sector may have named a record in a hole, and would lead to zeros.
    clear(storage, &scan, &[&scan.padding[..], &padding].concat())?;
    remove_asides(&**storage)?;
    scan.files.control.repairing = false;
    write_control(&**storage, &*lock, &mut scan.files.control)?;
    Ok(report)
}

/// What the control slots are to say while the log is being mended.
fn mended_control(scan: &Scan) -> Control {
    let mut control = scan.files.control;
    control.clean_end = None;
    control.end = control.end.max(scan.end.div_ceil(1 << control.shift));
    // A record boundary with a known epoch must lie at or below it: where nothing else is known, the head is one.
    let mended = scan.bad.last().map_or(0, |bad| bad.hole.to).max(scan.head().0);
    control.durable = scan.end.min(control.durable.max(mended));
    control.checkpoint = scan.checkpoint();
    control.epoch = control.epoch.max(scan.epoch);
    control.repairing = true;
    control
}

/// Steps 3 and 8: into both slots.
fn write_control(storage: &dyn Storage, lock: &dyn StorageFile, control: &mut Control) -> Result<()> {
    // First over the slot that does not hold the newest state, or is damaged: where the power goes in that write, the state
    // that the damage was found by still counts. Then over the other one, which may hold an older log's end, or be another
    // log's.
    for _ in 0..2 {
        control.sequence += 1;
        store_control(lock, control).map_err(|error| Error::io("write", storage.path().join(LOCK_NAME), error))?;
    }
    // The lock file may be a new one.
    storage.sync_dir().map_err(|error| Error::io("sync", storage.path(), error))
}

/// Step 2. Nothing here changes what the files are seen to hold. Written again, not only synced: after a sync that failed,
/// the page counts as clean. First the control slots: the next step overwrites the one that is not believed, and the disk
/// may know no other. The directory before anything is removed: what was put aside may be all that it knows of a segment.
fn make_durable(storage: &Arc<dyn Storage>, lock: &dyn StorageFile, scan: &Scan) -> Result<()> {
    for offset in CONTROL_SLOT_OFFSETS {
        let written = write_again(lock, offset, SECTOR).and_then(|()| lock.sync());
        written.map_err(|error| Error::io("write", storage.path().join(LOCK_NAME), error))?;
    }
    // What a repair writes, as far as it is seen: the first word of padding, epoch records, entry sectors.
    let words = scan.padding.iter().map(|&(from, _)| (from, from + HEADER_WORD as u64));
    let records = scan.epoch_records.iter().map(|&from| (from, from + MARKER_RECORD_SIZE));
    let written: Vec<(u64, u64)> = words.chain(records).collect();
    let shift = scan.files.control.shift;
    // The others are built anew.
    for state in scan.files.segments.iter().filter(|state| !state.damaged) {
        let segment = Segment::open(&**storage, state.index, Mode::Write)?;
        let again = |offset, len| {
            let written = write_again(&*segment.file, offset, len);
            written.map_err(|error| Error::io("write", &segment.path, error))
        };
        again(SECTOR as u64, SECTOR)?;
        let (base, end) = (state.index << shift, (state.index + 1) << shift);
        for (from, to) in written.iter().map(|&(from, to)| (from.max(base), to.min(end))).filter(|(from, to)| from < to)
        {
            again(HEADER_SIZE + (from - base), (to - from) as usize)?;
        }
        segment.sync()?;
    }
    storage.sync_dir().map_err(|error| Error::io("sync", storage.path(), error))
}

/// Writes over at most `len` bytes what stands there.
fn write_again(file: &dyn StorageFile, offset: u64, len: usize) -> std::io::Result<()> {
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, offset)?;
    file.write_all_at(&mut [IoSlice::new(&bytes[..read])], offset)
}

fn take_lock(storage: &dyn Storage) -> Result<Arc<dyn StorageFile>> {
    let path = storage.path().join(LOCK_NAME);
    let lock = match storage.open(LOCK_NAME, Mode::Write) {
        Err(error) if error.kind() == ErrorKind::NotFound => storage.open(LOCK_NAME, Mode::CreateNew),
        result => result,
    };
    let lock = lock.map_err(|error| Error::io("open", &path, error))?;
    match lock.try_lock() {
        Ok(true) => {}
        Ok(false) => return Err(Error::Locked { path: storage.path() }),
        Err(error) => return Err(Error::io("lock", path, error)),
    }
    lock.allocate(CONTROL_SIZE).map_err(|error| match error.kind() {
        ErrorKind::StorageFull => Error::NoSpace { path: storage.path() },
        _ => Error::io("write", path, error),
    })?;
    Ok(lock)
}

/// Copies every damaged file, every damaged header page and the bytes of every hole to `keep`, and makes the copies durable.
fn keep_copies(storage: &Arc<dyn Storage>, keep: &dyn Storage, scan: &Scan) -> Result<()> {
    let dir = keep.path();
    keep.create_dir().map_err(|error| Error::io("create", &dir, error))?;
    let names = keep.list().map_err(|error| Error::io("list", &dir, error))?;
    if !names.is_empty() {
        return Err(Error::invalid(format!("{} is not empty", dir.display())));
    }
    let whole = |name: &str, file: &dyn StorageFile| {
        copy(keep, name, |position, buffer| {
            file.read_at(buffer, position).map_err(|error| Error::io("read", storage.path().join(name), error))
        })
    };
    for state in scan.files.segments.iter().filter(|state| state.damaged && state.exists) {
        whole(&segment_name(state.index), &*open_or_aside(&**storage, state.index)?.file)?;
    }
    if scan.files.lock_damaged {
        match storage.open(LOCK_NAME, Mode::Read) {
            Ok(file) => whole(LOCK_NAME, &*file)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("open", storage.path().join(LOCK_NAME), error)),
        }
    }
    for &index in &scan.without_entry {
        let segment = Segment::open(&**storage, index, Mode::Read)?;
        copy(keep, &format!("{}.header", segment_name(index)), |offset, buffer| {
            let wanted = (HEADER_SIZE as usize).saturating_sub(offset as usize);
            let read = segment.file.read_at(&mut buffer[..wanted], offset);
            read.map_err(|error| Error::io("read", &segment.path, error))
        })?;
    }
    for bad in &scan.bad {
        let (from, to) = (bad.hole.from, bad.hole.to);
        let mut input = Input::new(Arc::clone(storage), scan.files.control.id, scan.files.control.shift).lenient();
        copy(keep, &format!("lsn-{from}-{to}.bin"), |offset, buffer| {
            let wanted = usize::try_from(to - from - offset).unwrap_or(PIECE).min(buffer.len());
            if wanted == 0 { Ok(0) } else { Ok(input.read(from + offset, &mut buffer[..wanted])?.unwrap_or(0)) }
        })?;
    }
    keep.sync_dir().map_err(|error| Error::io("sync", dir, error))
}

/// Makes a file in `keep` of what `read` gives for each offset, until it gives nothing.
fn copy(keep: &dyn Storage, name: &str, mut read: impl FnMut(u64, &mut [u8]) -> Result<usize>) -> Result<()> {
    let path = keep.path().join(name);
    let failed = |error| Error::io("write", &path, error);
    let file = keep.open(name, Mode::CreateNew).map_err(failed)?;
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let got = read(offset, &mut buffer)?;
        if got == 0 {
            return file.sync().map_err(failed);
        }
        file.write_all_at(&mut [IoSlice::new(&buffer[..got])], offset).map_err(failed)?;
        offset += got as u64;
    }
}

/// Builds a segment file anew from what is readable in it.
fn rebuild(storage: &dyn Storage, scan: &Scan, state: &State) -> Result<()> {
    let control = &scan.files.control;
    let name = segment_name(state.index);
    let path = storage.path().join(&name);
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::StorageFull => Error::NoSpace { path: storage.path() },
        _ => Error::io("rebuild", &path, error),
    };
    let new = unfinished_name(state.index);
    remove_if_there(storage, &new)?;
    let file = storage.open(&new, Mode::CreateNew).map_err(failed)?;
    let len = HEADER_SIZE + (1 << control.shift);
    file.allocate(len).map_err(failed)?;
    let old = if state.exists { Some(open_or_aside(storage, state.index)?.file) } else { None };
    let mut buffer = vec![0; usize::try_from(len).unwrap_or(PIECE).min(PIECE)];
    let mut offset = 0;
    // Zeros are written where there is nothing to copy, so that all of the file holds data.
    while offset < len {
        let piece = usize::try_from(len - offset).unwrap_or(PIECE).min(buffer.len());
        buffer.fill(0);
        if let Some(old) = &old {
            old.read_at(&mut buffer[..piece], offset).map_err(failed)?;
        }
        file.write_all_at(&mut [IoSlice::new(&buffer[..piece])], offset).map_err(failed)?;
        offset += piece as u64;
    }
    let identity = Identity { id: control.id, index: state.index, shift: control.shift };
    let entry = state.entry.map_or([0; SECTOR], |entry| entry.to_bytes(control.id, state.index));
    let page = [&identity.to_bytes()[..], &entry[..], &[0; HEADER_SIZE as usize - 2 * SECTOR]].concat();
    file.write_all_at(&mut [IoSlice::new(&page)], 0).map_err(failed)?;
    file.sync().map_err(failed)?;
    // The old file steps aside under a name that no log uses. Where this is cut off before the new one has its name, the
    // next repair reads the old one there, and builds the new one again.
    let aside = aside_name(state.index);
    if state.exists && !state.aside {
        // Left over from an earlier repair: what has the name was built from it.
        remove_if_there(storage, &aside)?;
        storage.rename(&name, &aside).map_err(failed)?;
    }
    storage.rename(&new, &name).and_then(|()| storage.sync_dir()).map_err(failed)?;
    if state.exists {
        storage.remove(&aside).and_then(|()| storage.sync_dir()).map_err(failed)?;
    }
    Ok(())
}

fn remove_if_there(storage: &dyn Storage, name: &str) -> Result<()> {
    match storage.remove(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", storage.path().join(name), error)),
        _ => Ok(()),
    }
}

/// Removes what a repair put aside and, cut off, did not come to remove. By now each has been built anew under its name, or is
/// no segment of the log any more.
fn remove_asides(storage: &dyn Storage) -> Result<()> {
    let dir = storage.path();
    let names = storage.list().map_err(|error| Error::io("list", &dir, error))?;
    let mut removed = false;
    for name in names.iter().filter(|name| matches!(Name::parse(name), Name::Aside(_))) {
        remove_if_there(storage, name)?;
        removed = true;
    }
    if removed { storage.sync_dir().map_err(|error| Error::io("sync", dir, error)) } else { Ok(()) }
}

/// Writes the header words of padding over the holes, durably, and returns what is padding then, from where to where.
///
/// A hole may begin with good members of a batch that lost one, and they are what tells the next repair where the hole ends:
/// without them, or with zeros behind them, it would take the batch behind the hole for the rest of this one, or the rest of
/// this one for a batch. So nothing in a hole changes but what padding takes, and of that the first word last: until it is
/// there, the hole is found as before, or ends at padding that is written already, which is right as well; from then on all of
/// it is passed over. The word lies in one sector. The control slots claim all holes, so none of them passes for a torn tail
/// meanwhile.
fn fill_holes(storage: &dyn Storage, scan: &Scan) -> Result<Vec<(u64, u64)>> {
    let control = &scan.files.control;
    let mut padding = Vec::new();
    for (position, bytes) in scan.bad.iter().flat_map(|bad| filling(control.id, bad).into_iter().rev()) {
        match Word::parse(&bytes) {
            Ok(word) if word.kind() == Kind::Padding => padding.push((position, position + word.size())),
            _ => {}
        }
        let mut written = 0;
        // An epoch record may reach into the next segment.
        while written < bytes.len() {
            let at = position + written as u64;
            let within = at & ((1 << control.shift) - 1);
            let left = ((1u64 << control.shift) - within).min((bytes.len() - written) as u64) as usize;
            let segment = Segment::open(storage, at >> control.shift, Mode::Write)?;
            let piece = &bytes[written..written + left];
            let done = segment.file.write_all_at(&mut [IoSlice::new(piece)], HEADER_SIZE + within);
            done.map_err(|error| Error::io("write", &segment.path, error))?;
            segment.sync()?;
            written += left;
        }
    }
    Ok(padding)
}

/// Writes zeros over what stands in padding, and makes them durable: records that were dropped would still be found by who
/// asks for their position. The words of the padding are durable, so whatever part of the zeros a crash leaves is passed over;
/// the next repair writes the others.
fn clear(storage: &Arc<dyn Storage>, scan: &Scan, padding: &[(u64, u64)]) -> Result<()> {
    let shift = scan.files.control.shift;
    for &(from, to) in padding {
        let mut at = from + HEADER_WORD as u64;
        while at < to {
            let end = to.min(((at >> shift) + 1) << shift);
            clear_in_segment(&**storage, shift, at, end)?;
            at = end;
        }
    }
    Ok(())
}

/// The same from `at` to `end`, in one segment.
fn clear_in_segment(storage: &dyn Storage, shift: u32, mut at: u64, end: u64) -> Result<()> {
    let segment = Segment::open(storage, at >> shift, Mode::Write)?;
    let zeros = vec![0; usize::try_from(end - at).unwrap_or(PIECE).min(PIECE)];
    while at < end {
        let piece = &zeros[..usize::try_from(end - at).unwrap_or(PIECE).min(zeros.len())];
        // Also where zeros stand already: those of a repair before this one may be in the page cache only.
        let done = segment.file.write_all_at(&mut [IoSlice::new(piece)], HEADER_SIZE + (at & ((1 << shift) - 1)));
        done.map_err(|error| Error::io("write", &segment.path, error))?;
        at += piece.len() as u64;
    }
    segment.sync()
}

/// Writes the entry sector of every segment that the mended stream enters and whose own is not right.
fn write_entries(storage: &Arc<dyn Storage>, scan: &Scan) -> Result<()> {
    let control = &scan.files.control;
    let (head, epoch) = scan.head();
    let mut cursor = Cursor::new(Input::new(Arc::clone(storage), control.id, control.shift), head, epoch);
    let mut index = control.head;
    loop {
        let (from, epoch) = (cursor.position(), cursor.epoch());
        let more = match cursor.step(scan.end, Want::Check)? {
            Step::Record(_) => true,
            Step::End => false,
            Step::Gone => return Err(Error::corrupt(from, cursor.input.path(from), "the segment is missing")),
            Step::Invalid(why) => return Err(Error::corrupt(from, cursor.input.path(from), why.to_string())),
        };
        let to = cursor.position();
        // The segments whose first record is now known: the one at whose base the record began, and those it reached.
        while index << control.shift <= from || (index << control.shift) < to {
            let base = index << control.shift;
            let starts_here = from >= base;
            if starts_here && from == scan.end && from == base {
                break;
            }
            let (first_record, epoch) = if starts_here { (from, epoch) } else { (to, cursor.epoch()) };
            let right = scan.files.segments.get((index - control.head) as usize).and_then(|state| state.entry);
            if right.is_none_or(|entry| (entry.first_record, entry.epoch) != (first_record, epoch)) {
                write_entry(&**storage, scan, index, Entry { first_record, durable: head, checkpoint: None, epoch })?;
            }
            index += 1;
        }
        if !more {
            return Ok(());
        }
    }
}

fn write_entry(storage: &dyn Storage, scan: &Scan, index: u64, entry: Entry) -> Result<()> {
    let segment = Segment::open(storage, index, Mode::Write)?;
    let bytes = entry.to_bytes(scan.files.control.id, index);
    let written = segment.file.write_all_at(&mut [IoSlice::new(&bytes)], SECTOR as u64);
    written.map_err(|error| Error::io("write", &segment.path, error))?;
    segment.sync()
}

/// The padding and the epoch record that take the place of a hole.
fn filling(id: LogId, bad: &Bad) -> Vec<(u64, Vec<u8>)> {
    let Hole { from, to, epoch } = bad.hole;
    let mut pieces = Vec::new();
    // An epoch record was lost in the hole; it takes as much room as the new one.
    let raises = epoch > bad.epoch_before && to - from >= MARKER_RECORD_SIZE;
    let padded = if raises { to - MARKER_RECORD_SIZE } else { to };
    let seal = Seal::new(id, bad.epoch_before);
    let mut position = from;
    while position < padded {
        let most = crate::format::MAX_PAYLOAD as u64 / 8 * 8 - 8;
        let len = (padded - position - HEADER_WORD as u64).min(most);
        let word = Word::new(Kind::Padding, len as usize);
        pieces.push((position, word.to_bytes(seal.begin(position, word)).to_vec()));
        position += word.size();
    }
    if raises {
        let marker = Durability { durable: padded, checkpoint: None, epoch, clean_close: false };
        pieces.push((padded, marker.to_record(id, padded, Kind::Epoch).to_vec()));
    }
    pieces
}
