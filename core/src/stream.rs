//! Positions of the stream -> offsets of segment files, for writing.

use std::io::IoSlice;

use crate::error::{Error, Result};
use crate::format::{Entry, HEADER_SIZE, SECTOR};
use crate::segment::Segments;

/// Writes `parts`, one after the other, at position `start` of the stream, with one call for each segment touched.
///
/// Where the bytes enter a segment at its beginning, its entry sector goes in front of them in the same call: `entry`
/// gives it for the segment that begins at the position it is asked for.
pub(crate) fn write(segments: &Segments, start: u64, parts: &[&[u8]], entry: impl Fn(u64) -> Entry) -> Result<()> {
    let end = start + parts.iter().map(|part| part.len() as u64).sum::<u64>();
    let mut parts = parts.iter().copied();
    let mut rest: &[u8] = &[];
    let mut position = start;
    while position < end {
        let index = position >> segments.shift;
        let base = index << segments.shift;
        let mut left = (base + segments.size()).min(end) - position;
        // The rest of the header page behind the identity.
        let mut page = [0; HEADER_SIZE as usize - SECTOR];
        let mut bufs = Vec::with_capacity(parts.len() + 2);
        let mut offset = HEADER_SIZE + (position - base);
        if position == base {
            page[..SECTOR].copy_from_slice(&entry(base).to_bytes(segments.id, index));
            bufs.push(IoSlice::new(&page));
            offset = SECTOR as u64;
        }
        position += left;
        while left > 0 {
            if rest.is_empty() {
                rest = parts.next().expect("the parts add up to the end");
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            bufs.push(IoSlice::new(now));
            left -= now.len() as u64;
            rest = later;
        }
        let segment = segments.handles.to_write(index)?;
        segment.file.write_all_at(&mut bufs, offset).map_err(|error| Error::io("write", &segment.path, error))?;
    }
    Ok(())
}

/// Makes the positions `from .. to` of the stream durable: syncs every segment they touch, not only the newest.
pub(crate) fn sync(segments: &Segments, from: u64, to: u64) -> Result<()> {
    if from >= to {
        return Ok(());
    }
    for index in from >> segments.shift..=(to - 1) >> segments.shift {
        segments.handles.sync(index)?;
    }
    Ok(())
}
