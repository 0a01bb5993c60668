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

use crate::error::{Error, Result};
use crate::format::{Entry, Kind, Seal, decode};
use crate::primitive::Arc;
use crate::segment::{BUFFER_NAME, Segments};
use crate::storage::{Storage, StorageFile};
use crate::stream;

use super::survey::{Files, Survey};

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
    let bytes = bytes_from(&*left, segments.size(), survey.end).map_err(|error| Error::io("read", path(), error))?;
    let most = ((files.control.end << segments.shift) - survey.end).min(bytes.len() as u64);
    let starts = complete(&bytes[..most as usize], Seal::new(segments.id, survey.epoch), survey.end);
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

/// All bytes of the buffer, beginning with the one at `position` of the stream. None, if its length is no buffer's of a log
/// with segments of `segment_size`.
fn bytes_from(left: &dyn StorageFile, segment_size: u64, position: u64) -> std::io::Result<Vec<u8>> {
    let len = left.len()?;
    if !len.is_power_of_two() || len > segment_size {
        return Ok(Vec::new());
    }
    let at = position % len;
    let mut bytes = vec![0; len as usize];
    let (first, second) = bytes.split_at_mut((len - at) as usize);
    let read = left.read_at(first, at)? + left.read_at(second, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Where the records begin that follow one another from `position` on, and where the last of them ends; a batch only as a
/// whole. Empty if there are none.
fn complete(bytes: &[u8], seal: Seal, position: u64) -> Vec<u64> {
    let (mut starts, mut at, mut kept) = (vec![position], 0, 0);
    while let Ok(record) = decode(&bytes[at..], seal, position + at as u64) {
        at += record.size as usize;
        starts.push(position + at as u64);
        if record.kind != Kind::Batch {
            kept = starts.len();
        }
    }
    starts.truncate(kept);
    starts
}
