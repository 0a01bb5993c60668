//! What a process that died has left in its buffer: the records that were appended and not flushed yet.
//!
//! They are written to the segments, just as the dead process would have flushed them, before anything is decided about the
//! log's end. So what recovery then finds is what that process could have left itself, and nothing of the argument in
//! `open.rs` changes.
//!
//! - A record lies at its LSN modulo the buffer's length. Whatever the flusher had written, the rest of the published part
//!   begins at the end of the segments' valid records or before it, for room is given back after a flush only.
//! - Each proves itself by its checksum, which binds it to the log, the LSN and the epoch. The first one that does not ends
//!   the walk: a record that was not complete, one of an earlier round, or one of an earlier life.
//! - A crash in between leaves the buffer as it was.

use std::io;

use crate::error::{Error, Result};
use crate::format::{Entry, Invalid, Kind, Seal, decode};
use crate::primitive::Arc;
use crate::segment::{BUFFER_NAME, Segments};
use crate::storage::{Storage, StorageFile};
use crate::stream;

use super::survey::{Files, Survey};

/// How much is read at first.
const PIECE: u64 = 64 << 10;

/// Flushes what was left behind and continues the log that was surveyed. Returns whether there was anything.
pub(super) fn flush_left(
    storage: &Arc<dyn Storage>,
    segments: &Segments,
    files: &Files,
    survey: &Survey,
) -> Result<bool> {
    let path = || storage.path().join(BUFFER_NAME);
    let left = storage.left_memory(BUFFER_NAME).map_err(|error| Error::io("open", path(), error))?;
    let Some(left) = left else { return Ok(false) };
    let limit = files.control.end << segments.shift;
    let found = Found::in_buffer(&*left, segments, survey, limit).map_err(|error| Error::io("read", path(), error))?;
    let Found { bytes, starts } = found;
    let Some((&end, _)) = starts.split_last() else { return Ok(false) };
    let entry = |base| Entry {
        first_record: starts[starts.partition_point(|&start| start < base)],
        durable: survey.durable,
        checkpoint: survey.checkpoint,
        epoch: survey.epoch,
    };
    stream::write(segments, survey.end, &[&bytes[..(end - survey.end) as usize]], entry)?;
    Ok(true)
}

/// What the buffer holds from the end of the log on.
struct Found {
    bytes: Vec<u8>,
    /// Where the records begin that follow one another, and where the last of them ends; a batch counts only as a whole.
    /// Empty if there are none.
    starts: Vec<u64>,
}

impl Found {
    /// Finds the records below `limit`, the end of the prepared space. None, if the buffer's length is none of this log's.
    fn in_buffer(left: &dyn StorageFile, segments: &Segments, survey: &Survey, limit: u64) -> io::Result<Found> {
        let (from, seal) = (survey.end, Seal::new(segments.id, survey.epoch));
        let mut found = Found { bytes: Vec::new(), starts: vec![from] };
        let len = left.len()?;
        let most = if len.is_power_of_two() && len <= segments.size() { len.min(limit - from) } else { 0 };
        let (mut at, mut kept) = (0, 0);
        loop {
            match decode(&found.bytes[at..], seal, from + at as u64) {
                Ok(record) => {
                    at += record.size as usize;
                    found.starts.push(from + at as u64);
                    if record.kind != Kind::Batch {
                        kept = found.starts.len();
                    }
                }
                // There may be more of it.
                Err(Invalid::Length) if (found.bytes.len() as u64) < most => found.read_on(left, from, len, most)?,
                Err(_) => break,
            }
        }
        found.starts.truncate(kept);
        Ok(found)
    }

    /// Reads the next bytes, up to `most` in all: as many again as there are, so that what is set aside is not much more than
    /// what is found, however long the file says it is.
    fn read_on(&mut self, left: &dyn StorageFile, from: u64, len: u64, most: u64) -> io::Result<()> {
        let begun = self.bytes.len();
        let offset = (from + begun as u64) % len;
        let piece = (begun as u64).max(PIECE).min(most - begun as u64).min(len - offset);
        self.bytes.resize(begun + piece as usize, 0);
        let read = left.read_at(&mut self.bytes[begun..], offset)?;
        if (read as u64) < piece { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
