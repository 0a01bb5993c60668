//! The half of recovery that only reads.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use super::claims::{claimed, later_claim};
use crate::error::{Error, Result};
use crate::format::{
    Control, Durability, Entry, HEADER_SIZE, HEADER_WORD, HeaderError, Invalid, Kind, MARKER_RECORD_SIZE, Word,
};
use crate::reader::{Cursor, Input, Step, Want};
use crate::segment::{LOCK_NAME, Name, Segment, aside_name, header_error, read_control, segment_name};
use crate::storage::{Mode, Storage};

/// The files of a log, as their names and headers tell.
pub(crate) struct Files {
    /// What the lock file says, or would say if it were not missing.
    pub(crate) control: Control,
    /// The entry sectors of the segments `control.head .. control.end`; a damaged one is an error of the survey where it
    /// matters, and nothing here.
    pub(crate) entries: Vec<Option<Entry>>,
    /// One past the index of the last segment whose entry sector holds anything, if only damage.
    pub(super) entered: u64,
    /// One past the index of the last segment that is there, also where no control slot names it.
    pub(super) there: u64,
    pub(crate) spares: Vec<String>,
    /// Left-overs: unfinished segments, segments below the head, a finished segment that was never offered to appends, and what
    /// a repair that was cut off has put aside.
    pub(crate) leftovers: Vec<String>,
}

impl Files {
    /// Those of a log that has no segment yet.
    pub(super) fn without_segments(control: Control, spares: Vec<String>, leftovers: Vec<String>) -> Files {
        Files { control, entries: Vec::new(), entered: control.head, there: control.head, spares, leftovers }
    }
}

/// Where the log ends, and what is known of it.
#[derive(Debug)]
pub(crate) struct Survey {
    /// The end: behind the last record that counts.
    pub(crate) end: u64,
    /// The epoch in force there.
    pub(crate) epoch: u32,
    /// Everything below is known to be durable.
    pub(crate) durable: u64,
    /// The last checkpoint record.
    pub(crate) checkpoint: Option<u64>,
    /// Whether the log was closed cleanly, so that nothing needs to be done.
    pub(crate) clean: bool,
    /// The segments whose beginning was walked over, by where they begin.
    pub(crate) entered: Vec<Entered>,
    /// Why the log ends here, if something that is no record follows.
    pub(crate) cut: Option<Invalid>,
}

/// What a walk has learnt of a segment: what its entry sector says, or should say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered {
    pub(crate) base: u64,
    /// The first record that begins there or later.
    pub(crate) first_record: u64,
    /// The epoch in force in front of it.
    pub(crate) epoch: u32,
}

/// Sorts the names in the directory and checks every header. `None` if there is no log: nothing, or a creation that was
/// cut off before anything was in it.
pub(crate) fn files_of(storage: &dyn Storage) -> Result<Option<Files>> {
    let dir = storage.path();
    let names = storage.list().map_err(|error| Error::io("list", &dir, error))?;
    let (mut segments, mut asides) = (BTreeSet::new(), BTreeSet::new());
    let (mut spares, mut leftovers, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let mut lock = false;
    for name in names {
        match Name::parse(&name) {
            Name::Segment(index) => drop(segments.insert(index)),
            Name::Spare => spares.push(name),
            Name::Unfinished => leftovers.push(name),
            Name::Lock => lock = true,
            // What it holds counts for nothing where there is no log.
            Name::Buffer => {}
            Name::Aside(index) => drop(asides.insert(index)),
            Name::Other => others.push(name),
        }
    }
    // A file system's own directory may stand in an otherwise empty one.
    others.retain(|name| name != "lost+found");
    // The first control slot is durable before anything else is made.
    let creating = segments.is_empty() && spares.is_empty() && leftovers.is_empty() && asides.is_empty();
    let control = if lock { read_lock(storage, creating)? } else { None };
    if let Some(control) = control.filter(|control| control.repairing) {
        // What it wrote last may be in the page cache only, and what it was to drop can still be found.
        let reason = "a repair of this log has not come to its end: repair it again";
        return Err(Error::corrupt(control.head << control.shift, dir.join(LOCK_NAME), reason));
    }
    let (Some(&first), Some(&last)) = (segments.first(), segments.last()) else {
        return match control {
            // Only a creation that was cut off leaves none: truncation always leaves one.
            Some(control) if control.end > control.head || control.head != control.first_lsn >> control.shift => {
                Err(missing(storage, &control, control.head))
            }
            _ if !asides.is_empty() => Err(put_aside(storage, 0, asides.first())),
            Some(control) => Ok(Some(Files::without_segments(control, spares, leftovers))),
            // What is left of a log without its control slots and segments is no empty directory either: whoever moved those
            // can bring them back, but not what a new log would remove.
            None => match spares.iter().chain(&leftovers).next().or(others.first().filter(|_| !lock)) {
                Some(name) => {
                    Err(Error::invalid(format!("{} is not a log: it holds {name} and no segment", dir.display())))
                }
                None => Ok(None),
            },
        };
    };
    let control = match control {
        Some(control) => control,
        None => rebuilt(storage, first, last)?,
    };
    if let Some(index) = asides.range(control.end..).find(|index| !segments.contains(index)) {
        return Err(put_aside(storage, control.shift, Some(index)));
    }
    // All others are what segments were built from that have their names now: each up to the end has to be there, below.
    leftovers.extend(asides.iter().map(|&index| aside_name(index)));
    for &index in segments.range(..control.head) {
        leftovers.push(segment_name(index));
    }
    for &index in segments.range(control.end..) {
        // Its space was never offered to appends, so the stream cannot have entered it; if it did, the lock file is an
        // older copy, and removing the segment would lose records.
        if !matches!(entry_of(storage, &control, index)?, Ok(None)) {
            let path = dir.join(LOCK_NAME);
            return Err(Error::corrupt(index << control.shift, path, "the lock file is older than the segments"));
        }
        leftovers.push(segment_name(index));
    }
    let (mut entries, mut entered) = (Vec::new(), control.head);
    for index in control.head..control.end {
        if !segments.contains(&index) && !is_there(storage, index)? {
            return Err(missing(storage, &control, index));
        }
        let entry = entry_of(storage, &control, index)?;
        if !matches!(entry, Ok(None)) {
            entered = index + 1;
        }
        entries.push(entry.ok().flatten());
    }
    let there = control.end.max(last + 1);
    Ok(Some(Files { control, entries, entered, there, spares, leftovers }))
}

/// Whether segment `index` is there, which the listing does not name: a log that is being written may have got it since, and
/// then the control slot that tells of it.
fn is_there(storage: &dyn Storage, index: u64) -> Result<bool> {
    let name = segment_name(index);
    match storage.open(&name, Mode::Read) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("open", storage.path().join(name), error)),
    }
}

/// The error for a segment that a repair has put aside where nothing has its name, and no control slot tells of it either.
fn put_aside(storage: &dyn Storage, shift: u32, index: Option<&u64>) -> Error {
    let index = index.copied().unwrap_or_default();
    let path = storage.path().join(aside_name(index));
    Error::corrupt(index << shift, path, "a repair that was cut off has put the segment aside")
}

fn missing(storage: &dyn Storage, control: &Control, index: u64) -> Error {
    let path = storage.path().join(segment_name(index));
    Error::corrupt(index << control.shift, path, "the segment is missing")
}

fn read_lock(storage: &dyn Storage, creating: bool) -> Result<Option<Control>> {
    let path = storage.path().join(LOCK_NAME);
    let file = storage.open(LOCK_NAME, Mode::Read).map_err(|error| Error::io("open", &path, error))?;
    read_control(&*file, &path, creating)
}

/// What the lock file would say, from the segments alone: somebody removed it. The segments describe themselves; what is
/// lost is the evidence of segments missing at either end.
fn rebuilt(storage: &dyn Storage, first: u64, last: u64) -> Result<Control> {
    let segment = Segment::open(storage, first, Mode::Read)?;
    let header = segment.header(0)?;
    let base = first << header.identity.shift;
    let entry = header.entry.ok().flatten();
    let control = Control {
        sequence: 0,
        id: header.identity.id,
        shift: header.identity.shift,
        first_lsn: entry.map_or(base, |entry| entry.first_record),
        head: first,
        end: last + 1,
        durable: entry.map_or(base, |entry| entry.first_record),
        checkpoint: None,
        clean_end: None,
        epoch: entry.map_or(0, |entry| entry.epoch),
        repairing: false,
    };
    if control.is_possible() { Ok(control) } else { Err(header_error(HeaderError::Field, base, &segment.path)) }
}

/// Checks the header page and the length of segment `index`, and gives its entry sector; what a damaged one means is not said
/// here.
fn entry_of(storage: &dyn Storage, control: &Control, index: u64) -> Result<Result<Option<Entry>, HeaderError>> {
    let base = index << control.shift;
    let segment = Segment::open(storage, index, Mode::Read)?;
    let header = segment.header(base)?;
    let corrupt = |reason: String| Err(Error::corrupt(base, &segment.path, reason));
    if header.identity.id != control.id {
        return corrupt(format!(
            "the segment belongs to another log ({} instead of {})",
            header.identity.id, control.id
        ));
    }
    if header.identity.index != index {
        return corrupt(format!("the file holds segment {}", header.identity.index));
    }
    if header.identity.shift != control.shift {
        return corrupt(format!(
            "the segment size is {} instead of {}",
            1u64 << header.identity.shift,
            1u64 << control.shift
        ));
    }
    let expected = HEADER_SIZE + (1 << control.shift);
    let len = segment.file.len().map_err(|error| Error::io("stat", &segment.path, error))?;
    if len != expected {
        return corrupt(format!("the file is {len} bytes long instead of {expected}"));
    }
    match header.entry {
        // A segment below the last position known to be durable was entered by a write that was synced as a whole. The
        // first one, where the stream begins inside it, while the log was created, which may have been cut off.
        Err(why) if base.max(control.first_lsn) < control.durable => Err(header_error(why, base, &segment.path)),
        entry => Ok(entry),
    }
}

/// Surveys the log whose files are `files`.
pub(crate) fn survey(storage: &Arc<dyn Storage>, files: &Files) -> Result<Survey> {
    let control = &files.control;
    match control.clean_end {
        Some(end) => survey_clean(storage, files, end),
        None => {
            let (position, epoch) = starting_point(files);
            survey_from(storage, files, position, epoch)
        }
    }
}

/// A cleanly closed log ends where the control slot says: with the marker that the close left there, in segments that
/// have all been entered.
fn survey_clean(storage: &Arc<dyn Storage>, files: &Files, end: u64) -> Result<Survey> {
    let control = &files.control;
    let clean = Survey {
        end,
        epoch: control.epoch,
        durable: end,
        checkpoint: standing(storage, files, end, named(files))?,
        clean: true,
        entered: Vec::new(),
        cut: None,
    };
    for (index, entry) in (control.head..).zip(&files.entries) {
        let base = index << control.shift;
        if base < end && entry.is_none_or(|entry| entry.first_record > end) && end > control.first_lsn {
            let path = storage.path().join(segment_name(index));
            return Err(Error::corrupt(base, path, "the entry sector of a cleanly closed log is missing or damaged"));
        }
    }
    // The close records the position of its marker, or the end itself if there was no room for one.
    if control.durable == end {
        return Ok(clean);
    }
    let mut input = Input::new(Arc::clone(storage), control.id, control.shift);
    let mut bytes = [0; MARKER_RECORD_SIZE as usize];
    let Some(position) = end.checked_sub(MARKER_RECORD_SIZE) else {
        return Err(Error::corrupt(end, storage.path().join(LOCK_NAME), "the clean end has no room for its marker"));
    };
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(position + filled as u64, &mut bytes[filled..])? {
            Some(read) => filled += read,
            None => return Err(Error::corrupt(position, input.path(position), "the segment is missing")),
        }
    }
    match Durability::find(&bytes, control.id, position) {
        Some((Kind::Commit, marker)) if marker.clean_close && marker.durable == position => Ok(clean),
        _ => Err(Error::corrupt(position, input.path(position), "the end of a cleanly closed log is missing")),
    }
}

/// A record boundary with a known epoch, not above the last position known to be durable, as late as the headers tell.
///
/// An entry is as durable as the first byte of its segment, with which it was synced. Before that an older one may stand in
/// its place, of a tail that a recovery has shut out: a walk that began there would bring that tail back. The oldest segment
/// is not entered anew while it is the oldest.
pub(super) fn starting_point(files: &Files) -> (u64, u32) {
    let Control { head, end, shift, first_lsn, .. } = files.control;
    let durable = claimed(files);
    // Not behind the last segment either: an entry that names a record there is no log's.
    let usable = |&(index, entry): &(u64, &Entry)| {
        entry.first_record <= durable.min(end << shift) && (index == head || index << shift < durable)
    };
    let entries = (head..).zip(&files.entries).filter_map(|(index, entry)| Some((index, entry.as_ref()?)));
    let latest = entries.filter(usable).last();
    latest.map_or((first_lsn.max(head << shift), 0), |(_, entry)| (entry.first_record, entry.epoch))
}

/// The checkpoints that the control slot and the entry sectors name.
fn named(files: &Files) -> Vec<u64> {
    let entries = files.entries.iter().flatten().map(|entry| entry.checkpoint);
    entries.chain([files.control.checkpoint]).flatten().collect()
}

/// The last of the checkpoints `named` that stands in the log still, which ends at `end`. A repair may have lost one that
/// entry sectors and markers name: its place is padding then, and the control slot names one before it.
fn standing(storage: &Arc<dyn Storage>, files: &Files, end: u64, mut named: Vec<u64>) -> Result<Option<u64>> {
    let Control { id, shift, head, .. } = files.control;
    named.sort_unstable();
    named.dedup();
    let mut input = Input::new(Arc::clone(storage), id, shift);
    for lsn in named.into_iter().rev() {
        // One that was truncated away stands nowhere any more, and those before it neither.
        if lsn >> shift < head {
            return Ok(Some(lsn));
        }
        // No log named another one.
        if lsn >= end || lsn % HEADER_WORD as u64 != 0 {
            continue;
        }
        let mut word = [0; HEADER_WORD];
        match input.read(lsn, &mut word)? {
            Some(_) if Word::parse(&word).is_ok_and(|word| word.kind() == Kind::Checkpoint) => return Ok(Some(lsn)),
            Some(_) => {}
            // Truncated away meanwhile.
            None => return Ok(Some(lsn)),
        }
    }
    Ok(None)
}

/// Walks the log from `position`, a record boundary of epoch `epoch`, to its end.
pub(crate) fn survey_from(storage: &Arc<dyn Storage>, files: &Files, position: u64, epoch: u32) -> Result<Survey> {
    let control = &files.control;
    let input = Input::new(Arc::clone(storage), control.id, control.shift);
    let mut walk = Walk {
        survey: Survey {
            end: position,
            epoch,
            durable: claimed(files),
            checkpoint: None,
            clean: false,
            entered: Vec::new(),
            cut: None,
        },
        cursor: Cursor::new(input, position, epoch),
        checkpoints: named(files),
        limit: control.end << control.shift,
        shift: control.shift,
    };
    loop {
        let bad = walk.walk_to_bad()?;
        let at = walk.cursor.position();
        walk.survey.cut = bad;
        let evidence = later_claim(storage, files, at)?.max(walk.survey.durable);
        if evidence <= walk.survey.end {
            let end = walk.survey.end;
            walk.survey.entered.retain(|entered| entered.base < end);
            check_entries(storage, files, &walk.survey)?;
            walk.survey.checkpoint = standing(storage, files, end, walk.checkpoints)?;
            return Ok(walk.survey);
        }
        // A log that is being written meanwhile may have got the record since it was looked at, and then the claim. A
        // record that is still bad after its claim was read is damaged.
        walk.cursor.forget();
        if !walk.is_good_now()? {
            let path = walk.cursor.input.path(at);
            let reason = match bad {
                Some(why) => why.to_string(),
                None if at > walk.survey.end => "a batch is not complete".to_owned(),
                None => "the control slots name no segment here".to_owned(),
            };
            return Err(Error::corrupt(at, path, format!("{reason}, below the acknowledged position {evidence}")));
        }
    }
}

/// A segment below a durable position was synced together with its entry sector, so that must be there, and name a record in
/// front of that position or at it; also where the walk began behind it, on the word of a later segment.
fn check_entries(storage: &Arc<dyn Storage>, files: &Files, survey: &Survey) -> Result<()> {
    let control = &files.control;
    for (index, entry) in (control.head..).zip(&files.entries) {
        let base = index << control.shift;
        let right = entry.is_some_and(|entry| entry.first_record <= survey.durable);
        if right || base.max(control.first_lsn) >= survey.durable {
            continue;
        }
        // A log that is being written may have entered it since it was looked at, and the walk found the claim.
        if !matches!(entry_of(&**storage, control, index)?, Ok(Some(entry)) if entry.first_record <= survey.durable) {
            let path = storage.path().join(segment_name(index));
            return Err(Error::corrupt(base, path, "the entry sector is damaged"));
        }
    }
    Ok(())
}

struct Walk {
    survey: Survey,
    cursor: Cursor,
    /// Where checkpoints are, or were once, as is said.
    checkpoints: Vec<u64>,
    limit: u64,
    shift: u32,
}

impl Walk {
    /// Walks to the first position that holds no record; `None` if that is the end of the last segment.
    fn walk_to_bad(&mut self) -> Result<Option<Invalid>> {
        loop {
            let (position, epoch) = (self.cursor.position(), self.cursor.epoch());
            let found = match self.cursor.step(self.limit, Want::Check)? {
                Step::Record(found) => found,
                Step::End => return Ok(None),
                Step::Invalid(why) => return Ok(Some(why)),
                Step::Gone => {
                    let path = self.cursor.input.path(position);
                    let error = std::io::Error::new(ErrorKind::NotFound, "the segment vanished while it was read");
                    return Err(Error::io("read", path, error));
                }
            };
            let next = found.lsn + found.size;
            self.note_entered(found.lsn, next, epoch);
            match found.kind {
                Kind::Commit | Kind::Epoch => {
                    // Its checksum fits, so it says what was written; another length would be a newer version's.
                    if let Ok(marker) = Durability::parse(self.cursor.payload(&found)) {
                        self.survey.durable = self.survey.durable.max(marker.durable);
                        self.note_checkpoint(marker.checkpoint);
                    }
                }
                Kind::Checkpoint => self.note_checkpoint(Some(found.lsn)),
                _ => {}
            }
            // A batch counts only as a whole.
            if found.kind != Kind::Batch {
                self.survey.end = next;
                self.survey.epoch = self.cursor.epoch();
            }
        }
    }

    fn note_checkpoint(&mut self, named: Option<u64>) {
        if self.checkpoints.last().copied() != named {
            self.checkpoints.extend(named);
        }
    }

    /// Notes the segments whose beginning lies in the record at `from .. to`, in front of which `epoch` was in force.
    fn note_entered(&mut self, from: u64, to: u64, epoch: u32) {
        let size = 1 << self.shift;
        if from % size == 0 {
            self.survey.entered.push(Entered { base: from, first_record: from, epoch });
        }
        for index in from / size + 1..to.div_ceil(size) {
            let entered = Entered { base: index * size, first_record: to, epoch: self.cursor.epoch() };
            self.survey.entered.push(entered);
        }
    }

    /// Whether the record at the cursor, which was bad, is a valid one now. The cursor stays in front of it.
    fn is_good_now(&mut self) -> Result<bool> {
        let (position, epoch) = (self.cursor.position(), self.cursor.epoch());
        let good = matches!(self.cursor.step(self.limit, Want::Check)?, Step::Record(_));
        self.cursor = Cursor::new(self.cursor.input.again(), position, epoch);
        Ok(good)
    }
}
