//! The files of a log, taken as they are: what is wrong with one is noted, not an error.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::FileDamage;
use crate::error::{Error, Result};
use crate::format::{Control, Entry, HEADER_SIZE, Identity};
use crate::reader::open_or_aside;
use crate::segment::{LOCK_NAME, Name, aside_name, read_control, segment_name};
use crate::storage::{Mode, Storage};

/// How many segments may be missing where others are there. What names more of them, a control slot or a file's name, is not
/// believed: it would size the lists below.
const MOST_MISSING: u64 = 1 << 16;

/// What the directory holds.
pub(super) struct Files {
    /// The control slots, or what they would say.
    pub(super) control: Control,
    /// Whether the lock file has to be written anew.
    pub(super) lock_damaged: bool,
    /// The segments `control.head .. control.end`.
    pub(super) segments: Vec<State>,
    pub(super) damage: Vec<FileDamage>,
}

/// One segment file.
pub(super) struct State {
    pub(super) index: u64,
    pub(super) entry: Option<Entry>,
    /// Whether the entry sector holds something that is no entry: the stream came to this segment.
    torn: bool,
    /// Whether the file itself has to be built anew.
    pub(super) damaged: bool,
    /// Whether there is a file at all. What of its bytes is the log's, the checksums tell.
    pub(super) exists: bool,
    /// Whether it has the name that a repair gave it, which was cut off then.
    pub(super) aside: bool,
}

/// Takes stock.
pub(super) fn files(storage: &dyn Storage) -> Result<Files> {
    let dir = storage.path();
    let names = storage.list().map_err(|error| Error::io("list", &dir, error))?;
    let mut indexes: Vec<u64> = names.iter().filter_map(|name| segment_index(name)).collect();
    indexes.sort_unstable();
    indexes.dedup();
    let mut damage = Vec::new();
    let mut control = None;
    if names.iter().any(|name| name == LOCK_NAME) {
        match lock(storage) {
            Ok(Some(found)) if !agree(storage, &found, &indexes)? => {
                let reason = "the control slot is of another log than the segments, or of segments of another size";
                damage.push(FileDamage { path: dir.join(LOCK_NAME), reason: reason.to_owned() });
            }
            Ok(found) => control = found,
            Err(Error::Corrupt { path, reason, .. }) => damage.push(FileDamage { path, reason }),
            Err(error) => return Err(error),
        }
    }
    let is_guessed = control.is_none();
    let mut control = match control {
        Some(control) => control,
        None => guessed(storage, &indexes)?,
    };
    // A segment that no control slot names holds nothing, unless the slots are older than it.
    for &index in indexes.iter().filter(|&&index| index >= control.end).collect::<Vec<_>>() {
        let (state, _) = state(storage, &control, index)?;
        if state.damaged || state.torn || state.entry.is_some() {
            control.end = index + 1;
            let reason = format!("the control slot is older than segment {index}");
            damage.push(FileDamage { path: dir.join(LOCK_NAME), reason });
        }
    }
    // It was perhaps only made, or it has lost the write that entered it: what stands in it tells.
    while indexes.binary_search(&control.end).is_ok() {
        control.end += 1;
    }
    let (named, there) = (control.end - control.head, indexes.len() as u64);
    if named > there + MOST_MISSING {
        let reason = format!("the log would have {named} segments, and {there} are there");
        return Err(Error::corrupt(control.head << control.shift, dir, reason));
    }
    let lock_damaged = !damage.is_empty();
    if control.repairing {
        let reason = "a repair has begun, and not come to its end".to_owned();
        damage.push(FileDamage { path: dir.join(LOCK_NAME), reason });
    }
    let mut segments = Vec::new();
    for index in control.head..control.end {
        let (mut state, mut reason) = state(storage, &control, index)?;
        // The segments behind that record are gone, and no control slot tells so. An open refuses such a log.
        let behind = |entry: &Entry| entry.first_record > control.end << control.shift;
        if is_guessed && index == control.head && state.entry.take_if(|entry| behind(entry)).is_some() {
            state.damaged = true;
            reason = Some("the entry sector names a record behind the last segment".to_owned());
        }
        segments.push(state);
        damage.extend(reason.map(|reason| FileDamage { path: dir.join(segment_name(index)), reason }));
    }
    Ok(Files { control, lock_damaged, segments, damage })
}

/// The index of a segment, also of one that a repair has put aside.
fn segment_index(name: &str) -> Option<u64> {
    match Name::parse(name) {
        Name::Segment(index) | Name::Aside(index) => Some(index),
        _ => None,
    }
}

fn lock(storage: &dyn Storage) -> Result<Option<Control>> {
    let path = storage.path().join(LOCK_NAME);
    let file = storage.open(LOCK_NAME, Mode::Read).map_err(|error| Error::io("open", &path, error))?;
    read_control(&*file, &path, false)
}

/// What segment `index` says it is; `None` if it is gone, or its header page is damaged.
fn identity(storage: &dyn Storage, index: u64) -> Result<Option<Identity>> {
    let segment = match open_or_aside(storage, index) {
        Ok(segment) => segment,
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match segment.header(0) {
        Ok(header) => Ok(Some(header.identity)),
        Err(Error::Corrupt { .. }) => Ok(None),
        // Garbage that looks like a newer version.
        Err(Error::UnsupportedVersion { .. }) if !segment.identity_is_whole()? => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether most of the segments that say what they are say that they are of this log. Of a slot that they do not agree with,
/// every one of them would count as damaged, and be built anew in its size, empty.
fn agree(storage: &dyn Storage, control: &Control, indexes: &[u64]) -> Result<bool> {
    let (mut agreeing, mut others) = (0, 0);
    for &index in indexes {
        match identity(storage, index) {
            Ok(Some(found)) if (found.id, found.shift) == (control.id, control.shift) => agreeing += 1,
            Ok(Some(_)) => others += 1,
            // What it is worth is told where it is looked at as a segment of the log.
            Ok(None) | Err(Error::UnsupportedVersion { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(agreeing >= others)
}

/// What the control slots would say, from the identity that most segments have: one file may be another log's.
fn guessed(storage: &dyn Storage, indexes: &[u64]) -> Result<Control> {
    let mut found: Vec<(Identity, u64)> = Vec::new();
    for &index in indexes {
        let Some(identity) = identity(storage, index)? else { continue };
        match found.iter_mut().find(|(other, _)| (other.id, other.shift) == (identity.id, identity.shift)) {
            Some((_, times)) => *times += 1,
            None => found.push((identity, 1)),
        }
    }
    // Of several that are as frequent, the first.
    let Some((identity, _)) = found.into_iter().rev().max_by_key(|&(_, times)| times) else {
        return Err(Error::invalid(format!("{} holds no log", storage.path().display())));
    };
    let (first, last) = (indexes[0], indexes[indexes.len() - 1]);
    Ok(Control {
        sequence: 0,
        id: identity.id,
        shift: identity.shift,
        // Not known: at or below the oldest segment. Were it said to be that segment's base, the log would begin there, in
        // epoch zero.
        first_lsn: 0,
        head: first,
        end: last + 1,
        durable: first << identity.shift,
        checkpoint: None,
        clean_end: None,
        epoch: 0,
        repairing: false,
    })
}

fn state(storage: &dyn Storage, control: &Control, index: u64) -> Result<(State, Option<String>)> {
    let segment = match open_or_aside(storage, index) {
        Ok(segment) => segment,
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let state = State { index, entry: None, torn: false, damaged: true, exists: false, aside: false };
            return Ok((state, Some("the segment is missing".to_owned())));
        }
        Err(error) => return Err(error),
    };
    let aside = segment.path.ends_with(aside_name(index));
    let state = |entry, torn, damaged| State { index, entry, torn, damaged, exists: true, aside };
    let bad = |entry, reason| Ok((state(entry, false, true), Some(reason)));
    let header = match segment.header(index << control.shift) {
        Ok(header) => header,
        Err(Error::Corrupt { reason, .. }) => return bad(None, reason),
        // Really of a newer version, or garbage that looks like it.
        Err(Error::UnsupportedVersion { found, .. }) if !segment.identity_is_whole()? => {
            return bad(None, format!("the header says format version {found}"));
        }
        Err(error) => return Err(error),
    };
    let identity = header.identity;
    if (identity.id, identity.index, identity.shift) != (control.id, index, control.shift) {
        return bad(None, "the file is another segment, or another log's".to_owned());
    }
    let len = segment.file.len().map_err(|error| Error::io("stat", &segment.path, error))?;
    let expected = HEADER_SIZE + (1 << control.shift);
    let torn = header.entry.is_err();
    let entry = header.entry.ok().flatten();
    if len != expected {
        return bad(entry, format!("the file is {len} bytes long instead of {expected}"));
    }
    if aside {
        return bad(entry, "the segment is missing: a repair that was cut off has put it aside".to_owned());
    }
    Ok((state(entry, torn, false), None))
}

impl Files {
    /// The path of the segment that holds `position`.
    pub(super) fn path(&self, storage: &dyn Storage, position: u64) -> PathBuf {
        storage.path().join(segment_name(position >> self.control.shift))
    }

    /// The newest epoch that is known to have begun, or to have been about to.
    pub(super) fn newest_epoch(&self) -> u32 {
        let entries = self.segments.iter().filter_map(|state| state.entry).map(|entry| entry.epoch);
        entries.fold(self.control.epoch, u32::max)
    }

    /// The epochs that are known to have been in force, ascending.
    pub(super) fn epochs(&self) -> Vec<u32> {
        let entries = self.segments.iter().filter_map(|state| state.entry).map(|entry| entry.epoch);
        let mut epochs: Vec<u32> = entries.chain([self.control.epoch]).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs
    }
}
