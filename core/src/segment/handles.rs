//! The open files of segments that may still be written or synced.
//!
//! A handle stays open from the write to the sync: an error of writing back is told to those who had the file open then,
//! and on some systems to nobody else. So that small segments and rare syncs do not take every descriptor of the process,
//! whoever writes on syncs the oldest segment by itself once there are too many.

use std::collections::BTreeMap;

use super::Segment;
use crate::error::Result;
use crate::poison::Poison;
use crate::primitive::{Arc, Mutex};
use crate::storage::{Mode, Storage};

/// How many handles a log keeps. To make a segment takes three syncs, so one more for each is no matter where segments are
/// so small, or syncs so rare, that this is reached.
const MOST_OPEN: usize = 64;

pub(crate) struct Handles {
    storage: Arc<dyn Storage>,
    poison: Arc<Poison>,
    /// Held only for a moment.
    open: Mutex<Open>,
    /// Held during the sync of a segment, until its failure is latched.
    syncing: Mutex<()>,
}

struct Open {
    segments: BTreeMap<u64, Arc<Segment>>,
    /// Segments below this index were written to their end and synced.
    synced_below: u64,
}

impl Handles {
    pub(crate) fn new(storage: Arc<dyn Storage>, poison: Arc<Poison>) -> Handles {
        let open = Open { segments: BTreeMap::new(), synced_below: 0 };
        Handles { storage, poison, open: Mutex::new(open), syncing: Mutex::new(()) }
    }

    /// The handle of segment `index`, open for writing.
    pub(crate) fn get(&self, index: u64) -> Result<Arc<Segment>> {
        if let Some(segment) = self.open.lock().segments.get(&index) {
            return Ok(Arc::clone(segment));
        }
        let segment = Arc::new(Segment::open(&*self.storage, index, Mode::Write)?);
        self.open.lock().segments.insert(index, Arc::clone(&segment));
        Ok(segment)
    }

    /// Keeps the handle of a segment that was made for later, unless it is one of very many: nothing was written to it that
    /// is not synced, so it can be opened again.
    pub(super) fn keep(&self, segment: Segment) {
        let mut open = self.open.lock();
        if open.segments.len() < MOST_OPEN {
            open.segments.insert(segment.index, Arc::new(segment));
        }
    }

    /// The handle of segment `index`, for the stream to go on in. The segments below are written to their ends.
    pub(crate) fn to_write(&self, index: u64) -> Result<Arc<Segment>> {
        while let Some(oldest) = self.one_too_many(index) {
            self.sync_one(&oldest)?;
            let mut open = self.open.lock();
            open.segments.remove(&oldest.index);
            open.synced_below = open.synced_below.max(oldest.index + 1);
        }
        self.get(index)
    }

    /// The oldest segment, if it has to be closed before `index`, which is above it, is opened.
    fn one_too_many(&self, index: u64) -> Option<Arc<Segment>> {
        let open = self.open.lock();
        if open.segments.len() < MOST_OPEN || open.segments.contains_key(&index) {
            return None;
        }
        let (&oldest, segment) = open.segments.first_key_value()?;
        (oldest < index).then(|| Arc::clone(segment))
    }

    /// Syncs segment `index`, unless it is known that nothing was written to it since it was.
    pub(crate) fn sync(&self, index: u64) -> Result<()> {
        let open = self.open.lock();
        if index < open.synced_below {
            return Ok(());
        }
        let segment = open.segments.get(&index).cloned();
        drop(open);
        self.sync_one(&*segment.map_or_else(|| self.get(index), Ok)?)
    }

    /// An error of writing back is told once for each handle. Whoever else syncs this one must not take the silence
    /// afterwards for a success, so it waits, and then meets the poison.
    fn sync_one(&self, segment: &Segment) -> Result<()> {
        let _alone = self.syncing.lock();
        self.poison.check()?;
        segment.sync().map_err(|error| self.poison.set(error))
    }

    /// Forgets the handles of segments below `index`: durable, they will not be written again.
    pub(crate) fn retire_below(&self, index: u64) {
        let mut open = self.open.lock();
        if open.segments.first_key_value().is_some_and(|(&first, _)| first < index) {
            open.segments = open.segments.split_off(&index);
        }
    }

    pub(super) fn clear(&self) {
        self.open.lock().segments.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::segment::segment_name;
    use crate::storage::{Fault, SimOp, SimStorage};

    /// A disk with `count` segments, and the stream's way through them.
    fn written(count: u64) -> (SimStorage, Handles) {
        let disk = SimStorage::new();
        disk.create_dir().unwrap();
        let handles = Handles::new(Arc::new(disk.clone()), Arc::default());
        for index in 0..count {
            disk.open(&segment_name(index), Mode::CreateNew).unwrap();
            handles.to_write(index).unwrap();
            assert!(handles.open.lock().segments.len() <= MOST_OPEN);
        }
        (disk, handles)
    }

    #[test]
    fn each_segment_is_synced_once_however_many_they_are() {
        for count in [1, MOST_OPEN as u64, 200] {
            let (disk, handles) = written(count);
            assert_eq!(disk.syncs(), count.saturating_sub(MOST_OPEN as u64));
            // None is opened again.
            disk.inject(Fault::new(SimOp::Open, 0, ErrorKind::Other));
            (0..count).for_each(|index| handles.sync(index).unwrap());
            assert_eq!(disk.syncs(), count);
        }
    }

    #[test]
    fn segments_that_are_ready_take_no_more_handles_than_those_that_are_written() {
        let (disk, handles) = written(0);
        for index in 0..200 {
            let file = disk.open(&segment_name(index), Mode::CreateNew).unwrap();
            handles.keep(Segment { index, path: segment_name(index).into(), file });
        }
        assert_eq!(handles.open.lock().segments.len(), MOST_OPEN);
        (0..200).for_each(|index| drop(handles.to_write(index).unwrap()));
        assert_eq!(handles.open.lock().segments.len(), MOST_OPEN);
        (0..200).for_each(|index| handles.sync(index).unwrap());
        assert_eq!(disk.syncs(), 200);
    }

    #[test]
    fn what_could_not_be_synced_early_is_never_called_synced() {
        let (disk, handles) = written(MOST_OPEN as u64);
        disk.inject(Fault::new(SimOp::Sync, 0, ErrorKind::Other));
        disk.open(&segment_name(MOST_OPEN as u64), Mode::CreateNew).unwrap();
        assert!(handles.to_write(MOST_OPEN as u64).is_err());
        // The disk would take a second sync for a good one.
        assert!(handles.sync(0).is_err());
    }
}
