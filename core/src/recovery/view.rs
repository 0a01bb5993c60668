//! A log that is open for reading only, perhaps while another process writes it.

use std::io::ErrorKind;
use std::time::Duration;

use super::Damage;
use super::survey::{files_of, survey};
use crate::error::{Error, Result};
use crate::format::{Control, Invalid, Kind, LogId};
use crate::primitive::{Arc, Instant, Mutex, thread};
use crate::reader::{Claims, Cursor, Found, Hole, Input, Source, Step, Want};
use crate::segment::{BUFFER_NAME, LOCK_NAME, Name, read_control};
use crate::storage::{Mode, Storage};

/// How often opening is tried, how long it pauses in between, and for how long a try does not count because the writer was at
/// the segments meanwhile.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(2);

/// The readable part of a log, which may grow.
pub(crate) struct View {
    storage: Arc<dyn Storage>,
    id: LogId,
    shift: u32,
    /// Where the log began.
    first_lsn: u64,
    /// Whether the log was found closed cleanly.
    pub(crate) clean: bool,
    reached: Mutex<Reached>,
    /// What a salvage passes over; `None` if this is none.
    salvaged: Option<Salvaged>,
}

/// What a salvage found: it looks once, and reads what is there.
pub(crate) struct Salvaged {
    pub(crate) holes: Vec<Hole>,
    pub(crate) head: (u64, u32),
    pub(crate) damage: Vec<Damage>,
}

/// How far the log was found to reach.
#[derive(Clone, Copy)]
struct Reached {
    end: u64,
    epoch: u32,
    checkpoint: Option<u64>,
    durable: u64,
    /// What stands behind the end, and where, if records that were acknowledged should be there; nothing if it is no segment.
    damage: Option<(u64, Option<Invalid>)>,
}

/// How far a log may reach.
struct Bounds {
    /// The index of the oldest segment, and one past that of the newest.
    head: u64,
    end: u64,
    /// No record ends behind this: the end of the newest segment, or where the log was closed cleanly.
    limit: u64,
    /// Everything below is durable.
    claim: u64,
}

impl View {
    /// Opens the log without a lock and without changing anything.
    pub(crate) fn open(storage: &Arc<dyn Storage>) -> Result<View> {
        let (mut tries, mut before, begun) = (0, None, Instant::now());
        loop {
            let error = match View::try_open(storage) {
                Err(error) if may_pass(&error) => error,
                result => return result,
            };
            // Segments come and go with a change of the control slots. Without one from the try before to this one, this one
            // saw the log as it is.
            let after = read_slots(&**storage).ok().flatten().map(|control| control.sequence);
            if before.replace(after) == Some(after) || begun.elapsed() > PATIENCE {
                tries += 1;
            }
            if tries == TRIES {
                return Err(error);
            }
            thread::sleep(PAUSE);
        }
    }

    fn try_open(storage: &Arc<dyn Storage>) -> Result<View> {
        let none = || Error::not_found(storage.path());
        if !storage.exists().map_err(|error| Error::io("open", storage.path(), error))? {
            return Err(none());
        }
        let files = files_of(&**storage)?.ok_or_else(none)?;
        let Control { id, shift, first_lsn, .. } = files.control;
        let reached = if files.entries.is_empty() {
            Reached { end: first_lsn, epoch: 0, checkpoint: None, durable: first_lsn, damage: None }
        } else {
            let survey = survey(storage, &files)?;
            let (end, epoch, checkpoint, durable) = (survey.end, survey.epoch, survey.checkpoint, survey.durable);
            Reached { end, epoch, checkpoint, durable, damage: None }
        };
        let clean = files.control.clean_end.is_some();
        let (storage, reached) = (Arc::clone(storage), Mutex::new(reached));
        Ok(View { storage, id, shift, first_lsn, clean, reached, salvaged: None })
    }

    /// A view of a damaged log: it reads up to `end` and passes over `holes`.
    pub(crate) fn salvaged(
        storage: &Arc<dyn Storage>,
        control: &Control,
        end: (u64, u32),
        checkpoint: Option<u64>,
        salvaged: Salvaged,
    ) -> View {
        let reached = Reached { end: end.0, epoch: end.1, checkpoint, durable: end.0, damage: None };
        View {
            storage: Arc::clone(storage),
            id: control.id,
            shift: control.shift,
            first_lsn: control.first_lsn,
            clean: control.clean_end.is_some(),
            reached: Mutex::new(reached),
            salvaged: Some(salvaged),
        }
    }

    /// The last checkpoint that was seen.
    pub(crate) fn last_seen_checkpoint(&self) -> Option<u64> {
        self.reached.lock().checkpoint
    }

    /// What was known to be durable when the log was looked at last.
    pub(crate) fn durable(&self) -> u64 {
        self.reached.lock().durable
    }

    /// The damage that is passed over.
    pub(crate) fn damage(&self) -> &[Damage] {
        self.salvaged.as_ref().map_or(&[], |salvaged| &salvaged.damage)
    }

    /// Whether a process writes through a buffer that outlives it, or has left one behind.
    pub(crate) fn has_buffer(&self) -> Result<bool> {
        match self.storage.left_memory(BUFFER_NAME) {
            Ok(left) => Ok(left.is_some()),
            // It is there, and only its writer may read it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(true),
            Err(error) => Err(Error::io("open", self.storage.path().join(BUFFER_NAME), error)),
        }
    }

    pub(crate) fn segment_size(&self) -> u64 {
        1 << self.shift
    }

    /// The indexes of the log's segments: of the oldest, and one past the newest.
    pub(crate) fn segments(&self) -> Result<(u64, u64)> {
        self.bounds().map(|bounds| (bounds.head, bounds.end))
    }

    /// What the lock file says now, or the directory where that is missing.
    fn bounds(&self) -> Result<Bounds> {
        if let Some(Control { head, end, durable, clean_end, .. }) = read_slots(&*self.storage)? {
            return Ok(Bounds { head, end, limit: clean_end.unwrap_or(end << self.shift), claim: durable });
        }
        let names = self.storage.list().map_err(|error| Error::io("list", self.storage.path(), error))?;
        let indexes = names.iter().filter_map(|name| match Name::parse(name) {
            Name::Segment(index) => Some(index),
            _ => None,
        });
        let (first, last) = indexes.fold((u64::MAX, 0), |(first, last), index| (first.min(index), last.max(index)));
        if first > last {
            Err(Error::corrupt(0, self.storage.path(), "all segments are gone"))
        } else {
            Ok(Bounds { head: first, end: last + 1, limit: (last + 1) << self.shift, claim: 0 })
        }
    }

    /// Follows the writer: walks on from where the log ended when it was looked at last.
    fn extend(&self, reached: &mut Reached) -> Result<()> {
        let Bounds { head, limit, claim, .. } = self.bounds()?;
        if reached.end >> self.shift < head {
            return self.look_anew(reached);
        }
        reached.durable = reached.durable.max(claim);
        reached.damage = None;
        if limit <= reached.end {
            return Ok(());
        }
        let mut cursor = Cursor::new(self.input(), reached.end, reached.epoch);
        loop {
            let why = match cursor.step(limit, Want::Check)? {
                Step::Record(found) => {
                    reached.go_on(&found, &cursor);
                    continue;
                }
                Step::End => return Ok(()),
                Step::Gone if reached.end >> self.shift < self.bounds()?.head => return self.look_anew(reached),
                Step::Gone => None,
                Step::Invalid(why) => Some(why),
            };
            // What is claimed to be durable was there before the claim. What stands in front of the damage can be read.
            reached.damage = (reached.end < claim).then_some((cursor.position(), why));
            return Ok(());
        }
    }

    /// What follows was truncated away, so there is nothing to walk on from.
    fn look_anew(&self, reached: &mut Reached) -> Result<()> {
        let anew = View::open(&self.storage)?;
        *reached = *anew.reached.lock();
        Ok(())
    }
}

impl Reached {
    /// Goes on behind the record that was found.
    fn go_on(&mut self, found: &Found, cursor: &Cursor) {
        match found.kind {
            // Half a batch is nothing yet.
            Kind::Batch => return,
            Kind::Checkpoint => self.checkpoint = self.checkpoint.max(Some(found.lsn)),
            Kind::Commit | Kind::Epoch => {
                if let Ok(marker) = crate::format::Durability::parse(cursor.payload(found)) {
                    self.durable = self.durable.max(marker.durable);
                }
            }
            _ => {}
        }
        self.end = found.lsn + found.size;
        self.epoch = cursor.epoch();
    }
}

/// Whether it may have come of a segment that the writer truncated away, or got, meanwhile.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } => true,
        Error::Io { source, .. } => source.kind() == ErrorKind::NotFound,
        _ => false,
    }
}

/// What the lock file says; `None` if it is missing.
fn read_slots(storage: &dyn Storage) -> Result<Option<Control>> {
    let path = storage.path().join(LOCK_NAME);
    match storage.open(LOCK_NAME, Mode::Read) {
        Ok(file) => read_control(&*file, &path, false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open", path, error)),
    }
}

impl Source for View {
    fn input(&self) -> Input {
        let input = Input::new(Arc::clone(&self.storage), self.id, self.shift);
        if self.salvaged.is_some() { input.lenient() } else { input }
    }

    fn head_index(&self) -> Result<u64> {
        self.segments().map(|(head, _)| head)
    }

    fn end(&self) -> Result<(u64, u32)> {
        let mut reached = self.reached.lock();
        if self.salvaged.is_none() {
            self.extend(&mut reached)?;
        }
        Ok((reached.end, reached.epoch))
    }

    fn check_end(&self, end: u64) -> Result<()> {
        let reached = *self.reached.lock();
        match reached.damage {
            Some((at, why)) if end == reached.end => {
                let why = why.map_or("the segment is missing".to_owned(), |why| why.to_string());
                let reason = format!("{why}, below the acknowledged position {}", reached.durable);
                Err(Error::corrupt(at, self.input().path(at), reason))
            }
            _ => Ok(()),
        }
    }

    fn claims(&self) -> Result<Option<Claims>> {
        self.end()?;
        Ok(Some(Claims { begun: self.first_lsn, durable: self.durable() }))
    }

    fn checkpoint(&self) -> Result<Option<u64>> {
        self.end()?;
        Ok(self.last_seen_checkpoint())
    }

    fn salvaged_head(&self) -> Option<(u64, u32)> {
        self.salvaged.as_ref().map(|salvaged| salvaged.head)
    }

    fn holes(&self) -> &[Hole] {
        self.salvaged.as_ref().map_or(&[], |salvaged| &salvaged.holes)
    }
}
