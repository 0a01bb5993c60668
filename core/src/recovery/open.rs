//! The half of recovery that writes: a directory -> a log that can be appended to.
//!
//! The order, each step durable before the next:
//!
//! 1. The lock, then the survey. If it fails, nothing has been changed. What a process that died left in its buffer is
//!    flushed behind the end that was found (`buffer.rs`), and all is surveyed again.
//! 2. The control slot that was believed, where it stands; then the slots: no longer closed cleanly, and the epoch that is about to begin. So no later recovery uses an epoch
//!    twice, whatever becomes of this one; and what the slots said may have been in the page cache only, so nothing is
//!    removed on their word before they have been written and synced again.
//! 3. Left-overs are removed.
//! 4. What was accepted beyond the last position known to be durable is written again, read again, and synced. After a sync
//!    that failed, the page cache can show bytes that no disk holds, on pages that count as clean; only writing them
//!    again makes them dirty. (Of very many segments the oldest are synced before the rest is read: what is in them is what
//!    was accepted, wherever this ends.)
//! 5. The epoch record behind it, which claims that all before it is durable, so it must not reach the disk first.
//! 6. Entry sectors of segments that the lost tail had entered are cleared: nothing may begin to read there.
//! 7. The control slots: all of it is durable.
//!
//! A crash between any two steps leaves a log that the next recovery brings to the same end, in a higher epoch.

use std::io::{ErrorKind, IoSlice};

use super::buffer::flush_left;
use super::survey::{Entered, Files, Survey, files_of, survey, survey_from};
use crate::error::{Error, Result};
use crate::format::{
    CONTROL_SIZE, CONTROL_SLOT_OFFSETS, Control, Durability, Entry, Kind, LAST_EPOCH, LogId, MARKER_RECORD_SIZE, SECTOR,
};
use crate::options::Options;
use crate::poison::Poison;
use crate::primitive::Arc;
use crate::segment::{LOCK_NAME, Segments, store_control};
use crate::storage::{Mode, Storage, StorageFile};
use crate::stream;
use crate::watermark::Watermarks;

/// A log that was recovered: everything below `position` is durable, and nothing beyond it can be read.
pub(crate) struct Opened {
    pub(crate) control: Control,
    pub(crate) lock: Arc<dyn StorageFile>,
    pub(crate) spares: Vec<String>,
    pub(crate) position: u64,
    pub(crate) epoch: u32,
    /// Whether it had been closed cleanly.
    pub(crate) clean: bool,
}

/// Opens the log for writing, recovering or creating it.
pub(crate) fn open(options: &Options, storage: &Arc<dyn Storage>) -> Result<Opened> {
    let lock = take_lock(options, storage)?;
    let (files, survey) = match files_of(&**storage)? {
        Some(files) if files.control.end > files.control.head => surveyed(storage, &lock, files)?,
        // A creation that was cut off: its control slot stands, and no segment is named yet.
        Some(files) => (files, None),
        None => (create(options, storage, &*lock)?, None),
    };
    sync_dir(storage)?;
    keep_slot(storage, &*lock, &files.control)?;
    let first = files.control.first_lsn;
    let durable = survey.as_ref().map_or(first, |survey| survey.durable);
    let segments = segments_of(storage, &lock, &files, options.recycle, durable);
    let clean = survey.as_ref().is_some_and(|survey| survey.clean);
    let next_epoch = begin_control(&segments, &files, survey.as_ref())?;
    let spares = keep_spares(options, storage, &files)?;
    enter_first(&segments, &files)?;
    let (position, epoch) = match survey {
        Some(survey) if survey.clean => (survey.end, survey.epoch),
        Some(survey) => settle(storage, &segments, &files, &survey, next_epoch)?,
        None => (first, 0),
    };
    match segments.prepare_to(position + MARKER_RECORD_SIZE) {
        // On a full disk everything that is there can be read and synced; appends will be refused until space is freed.
        Ok(()) | Err(Error::NoSpace { .. }) if segments.end() > segments.head() => {}
        prepared => prepared?,
    }
    let (control, _) = segments.into_parts();
    Ok(Opened { control, lock, spares, position, epoch, clean })
}

/// The rest of step 1.
fn surveyed(storage: &Arc<dyn Storage>, lock: &Arc<dyn StorageFile>, files: Files) -> Result<(Files, Option<Survey>)> {
    let found = survey(storage, &files)?;
    if found.clean || !flush_left(storage, &segments_of(storage, lock, &files, 0, found.durable), &files, &found)? {
        return Ok((files, Some(found)));
    }
    let Some(files) = files_of(&**storage)? else {
        let error = std::io::Error::new(ErrorKind::NotFound, "the log vanished while it was recovered");
        return Err(Error::io("read", storage.path(), error));
    };
    let found = survey(storage, &files)?;
    Ok((files, Some(found)))
}

/// The segments, to be written by recovery: no spare is used for them.
fn segments_of(
    storage: &Arc<dyn Storage>,
    lock: &Arc<dyn StorageFile>,
    files: &Files,
    recycle: usize,
    durable: u64,
) -> Segments {
    let watermarks = Arc::new(Watermarks::at(durable));
    Segments::new(
        Arc::clone(storage),
        files.control,
        Arc::clone(lock),
        Vec::new(),
        recycle,
        watermarks,
        Arc::new(Poison::default()),
    )
}

/// Step 2, first half: makes the newest control slot durable where it stands. It may have been in the page cache only, of
/// a process that died between writing and syncing it, or whose sync failed; the disk then is sure of the other slot alone.
/// Were that one overwritten first, a power cut in the middle of the write would leave neither.
fn keep_slot(storage: &Arc<dyn Storage>, lock: &dyn StorageFile, control: &Control) -> Result<()> {
    let offset = CONTROL_SLOT_OFFSETS[(control.sequence % 2) as usize];
    let path = || storage.path().join(LOCK_NAME);
    let mut slot = [0; SECTOR];
    lock.read_at(&mut slot, offset).map_err(|error| Error::io("read", path(), error))?;
    if slot != control.to_bytes() {
        // It was made up from the segments, and stands nowhere.
        return Ok(());
    }
    // Written again, not only synced: after a sync that failed its page counts as clean.
    let written = lock.write_all_at(&mut [IoSlice::new(&slot)], offset).and_then(|()| lock.sync());
    written.map_err(|error| Error::io("write", path(), error))
}

/// Step 2, second half. Returns the epoch that a recovery is to begin.
fn begin_control(segments: &Segments, files: &Files, survey: Option<&Survey>) -> Result<u32> {
    let last = files.control.epoch.max(survey.map_or(0, |survey| survey.epoch));
    if last >= LAST_EPOCH {
        let path = segments.storage().path();
        return Err(Error::corrupt(files.control.durable, path, format!("no epoch comes after {last}")));
    }
    let epoch = last + 1;
    match survey {
        Some(survey) if survey.clean => {
            // Into both slots: were only one to say that the log is in use again, damage to it would bring back the
            // other's word, and with it the old end, over whatever is acknowledged from now on.
            for _ in CONTROL_SLOT_OFFSETS {
                segments.update_control(|control| control.durable = survey.end)?;
            }
        }
        Some(_) => segments.update_control(|control| control.epoch = epoch)?,
        None => segments.update_control(|_| {})?,
    }
    Ok(epoch)
}

/// Opens and locks the lock file. A directory that does not exist or is empty gets one; anything else that is no log, or
/// a damaged one, is left untouched.
fn take_lock(options: &Options, storage: &Arc<dyn Storage>) -> Result<Arc<dyn StorageFile>> {
    let dir = storage.path();
    let path = dir.join(LOCK_NAME);
    let exists = storage.exists().map_err(|error| Error::io("open", &dir, error))?;
    let existing = if exists { storage.open(LOCK_NAME, Mode::Write) } else { Err(ErrorKind::NotFound.into()) };
    let lock = match existing {
        Ok(lock) => {
            storage.create_dir().map_err(|error| Error::io("sync", &dir, error))?;
            lock
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let log = if exists { files_of(&**storage)? } else { None };
            match &log {
                None if !options.create => return Err(Error::not_found(dir)),
                None => {}
                // The lock file was removed. Judge the rest before anything is written.
                Some(files) => drop(survey(storage, files)?),
            }
            storage.create_dir().map_err(|error| creation(storage, &dir, error))?;
            match storage.open(LOCK_NAME, Mode::CreateNew) {
                Ok(lock) => lock,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(Error::Locked { path: dir }),
                Err(error) => return Err(creation(storage, &path, error)),
            }
        }
        Err(error) => return Err(Error::io("open", path, error)),
    };
    match lock.try_lock() {
        Ok(true) => Ok(lock),
        Ok(false) => Err(Error::Locked { path: dir }),
        Err(error) => Err(Error::io("lock", path, error)),
    }
}

fn create(options: &Options, storage: &Arc<dyn Storage>, lock: &dyn StorageFile) -> Result<Files> {
    if !options.create {
        return Err(Error::not_found(storage.path()));
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Error::io("draw an id for", storage.path(), std::io::Error::other(error.to_string())))?;
    let shift = options.segment_size.trailing_zeros();
    let first_lsn = options.first_lsn.get();
    let control = Control::first(LogId::from_bytes(id), shift, first_lsn);
    write_first_control(storage, lock, &control)?;
    Ok(Files::without_segments(control, Vec::new(), Vec::new()))
}

fn write_first_control(storage: &Arc<dyn Storage>, lock: &dyn StorageFile, control: &Control) -> Result<()> {
    // Its full length, so that no later change of the control slots needs disk space.
    let written = lock.allocate(CONTROL_SIZE).and_then(|_| store_control(lock, control));
    written.map_err(|error| creation(storage, &storage.path().join(LOCK_NAME), error))
}

/// What the failure to create `path` means.
fn creation(storage: &Arc<dyn Storage>, path: &std::path::Path, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull => Error::NoSpace { path: storage.path() },
        _ => Error::io("create", path, error),
    }
}

/// An earlier open may have failed between creating something and syncing the directory.
fn sync_dir(storage: &Arc<dyn Storage>) -> Result<()> {
    storage.sync_dir().map_err(|error| Error::io("sync", storage.path(), error))
}

/// Removes what crashes left over, and spare files beyond what is wanted. None of it is part of the log.
fn keep_spares(options: &Options, storage: &Arc<dyn Storage>, files: &Files) -> Result<Vec<String>> {
    let mut spares = files.spares.clone();
    spares.sort_unstable();
    let surplus = spares.split_off(spares.len().min(options.recycle));
    let mut removed = false;
    for name in files.leftovers.iter().chain(&surplus) {
        removed = true;
        storage.remove(name).map_err(|error| Error::io("remove", storage.path().join(name), error))?;
    }
    if removed {
        sync_dir(storage)?;
    }
    Ok(spares)
}

/// Steps 4 to 7. Returns where the stream goes on, and in which epoch.
fn settle(
    storage: &Arc<dyn Storage>,
    segments: &Segments,
    files: &Files,
    survey: &Survey,
    epoch: u32,
) -> Result<(u64, u32)> {
    if survey.end > survey.durable {
        rewrite(segments, survey)?;
        let (first, first_epoch) = boundary_before(files, survey);
        let again = survey_from(storage, files, first, first_epoch)?;
        if again.end != survey.end {
            let error = std::io::Error::new(ErrorKind::InvalidData, "the tail changed while it was recovered");
            return Err(Error::io("read", storage.path(), error));
        }
        // Every segment that was written again, not only the newest.
        stream::sync(segments, survey.durable, survey.end)?;
    }
    let (position, epoch) = shut_out(segments, survey, epoch)?;
    clear_entries(segments, files, position)?;
    if let Some(checkpoint) = survey.checkpoint {
        segments.set_checkpoint(checkpoint);
    }
    segments.update_control(|control| control.durable = position)?;
    Ok((position, epoch))
}

/// Step 6. A sector that a lost tail left in a segment beyond the end would tell the next recovery, in the old epoch, that
/// records begin there.
fn clear_entries(segments: &Segments, files: &Files, position: u64) -> Result<()> {
    for index in files.control.head..files.entered {
        if index << segments.shift >= position {
            let segment = segments.handles.get(index)?;
            let cleared = segment.file.write_all_at(&mut [IoSlice::new(&[0; SECTOR])], SECTOR as u64);
            cleared.map_err(|error| Error::io("write", &segment.path, error))?;
            segment.sync()?;
        }
    }
    Ok(())
}

/// Where the second look begins: where the first one did.
fn boundary_before(files: &Files, survey: &Survey) -> (u64, u32) {
    let earlier = |entered: &&Entered| entered.first_record <= survey.durable;
    match survey.entered.iter().rev().find(earlier) {
        Some(entered) => (entered.first_record, entered.epoch),
        None => super::survey::starting_point(files),
    }
}

/// Writes the bytes between the last position known to be durable and the end once more.
fn rewrite(segments: &Segments, survey: &Survey) -> Result<()> {
    const PIECE: usize = 1 << 20;
    let mut input = crate::reader::Input::new(Arc::clone(segments.storage()), segments.id, segments.shift);
    let mut buffer = vec![0; PIECE.min(usize::try_from(survey.end - survey.durable).unwrap_or(PIECE))];
    let mut position = survey.durable;
    while position < survey.end {
        let wanted = buffer.len().min(usize::try_from(survey.end - position).unwrap_or(PIECE));
        let Some(read) = input.read(position, &mut buffer[..wanted])? else {
            return Err(Error::corrupt(position, input.path(position), "the segment is missing"));
        };
        stream::write(segments, position, &[&buffer[..read]], |base| entry(segments, survey, base, survey.epoch))?;
        position += read as u64;
    }
    Ok(())
}

/// The entry sector of the segment at `base`, whose beginning the survey walked over or ended at; `next_epoch` is in force
/// behind the epoch record that follows the end.
fn entry(segments: &Segments, survey: &Survey, base: u64, next_epoch: u32) -> Entry {
    let entered = survey.entered.iter().find(|entered| entered.base == base);
    let (first_record, epoch) = match entered {
        Some(entered) => (entered.first_record, entered.epoch),
        // The end itself: the epoch record begins here, or began before and reaches over.
        None if survey.end == base => (base, survey.epoch),
        None => (survey.end + MARKER_RECORD_SIZE, next_epoch),
    };
    Entry { first_record, durable: survey.durable, checkpoint: segments.checkpoint(), epoch }
}

/// Makes sure that nothing beyond the end can ever be read as a record: an epoch record raises the epoch of all that
/// follows. Where there is no room for one and no disk space for more, what is left of the last segment, less than the
/// length of the epoch record, is zeroed instead: a log must not need space to be recovered.
fn shut_out(segments: &Segments, survey: &Survey, epoch: u32) -> Result<(u64, u32)> {
    let end = survey.end;
    let prepared = segments.end() << segments.shift;
    if end + MARKER_RECORD_SIZE > prepared {
        match segments.prepare_to(end + MARKER_RECORD_SIZE) {
            Ok(()) => {}
            Err(Error::NoSpace { .. }) => {
                let zeros = [0; MARKER_RECORD_SIZE as usize];
                let rest = &zeros[..(prepared - end) as usize];
                stream::write(segments, end, &[rest], |base| entry(segments, survey, base, survey.epoch))?;
                stream::sync(segments, end, prepared)?;
                return Ok((end, survey.epoch));
            }
            Err(error) => return Err(error),
        }
    }
    let marker = Durability { durable: end, checkpoint: segments.checkpoint(), epoch, clean_close: false };
    let record = marker.to_record(segments.id, end, Kind::Epoch);
    stream::write(segments, end, &[&record], |base| entry(segments, survey, base, epoch))?;
    stream::sync(segments, end, end + MARKER_RECORD_SIZE)?;
    Ok((end + MARKER_RECORD_SIZE, epoch))
}

/// Where the stream begins in the middle of a segment, that segment is entered before there is a record: nothing else
/// would ever write its entry sector. An entry that is there already may be in the page cache only, of an open that failed
/// here; so it is written again until something behind it is durable, which no open comes to without this.
fn enter_first(segments: &Segments, files: &Files) -> Result<()> {
    let first = files.control.first_lsn;
    let index = first >> segments.shift;
    let entered = files.entries.first().is_some_and(Option::is_some) && files.control.durable > first;
    if files.control.head != index || first == index << segments.shift || entered {
        return Ok(());
    }
    segments.prepare_to(((index + 1) << segments.shift) - MARKER_RECORD_SIZE)?;
    let segment = segments.handles.get(index)?;
    // What is there stays what it is, unless it names another record, as no log's does: where the lock file was removed,
    // `first` is only where the oldest segment's first record begins, and that may be of any epoch.
    let fresh = Entry { first_record: first, durable: first, checkpoint: None, epoch: 0 };
    let entry = files.entries.first().copied().flatten().filter(|entry| entry.first_record == first).unwrap_or(fresh);
    let bytes = entry.to_bytes(segments.id, index);
    let written = segment.file.write_all_at(&mut [IoSlice::new(&bytes)], SECTOR as u64);
    written.map_err(|error| Error::io("write", &segment.path, error))?;
    segment.sync()
}
