//! From a position to the record that begins there.

use super::{Cursor, Input, Record, Step, Want};
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::segment::Header;

/// A log as readers see it: one that this process writes, or one that another process does.
pub(crate) trait Source: Send + Sync {
    /// A fresh input.
    fn input(&self) -> Input;

    /// The index of the oldest segment.
    fn head_index(&self) -> Result<u64>;

    /// How far can be read now, after all that was appended before is flushed, and the epoch in force there. Always a
    /// record boundary outside any batch.
    fn end(&self) -> Result<(u64, u32)>;

    /// Whether the log really ends at `end`, which is what [`end`](Source::end) answered.
    ///
    /// # Errors
    /// `Corrupt` if records that were acknowledged should follow, and damage does.
    fn check_end(&self, _end: u64) -> Result<()> {
        Ok(())
    }

    /// Whether nothing will be appended any more: what [`end`](Source::end) answers after this is the last word.
    fn ended(&self) -> bool {
        false
    }

    /// The last durable checkpoint, as far as is known now. It may have been truncated away.
    fn checkpoint(&self) -> Result<Option<u64>>;

    /// The failure that keeps what was appended from being read, if there was one.
    fn failure(&self) -> Result<()> {
        Ok(())
    }

    /// Damaged ranges to pass over, ascending. Empty but for a salvage.
    fn holes(&self) -> &[Hole] {
        &[]
    }

    /// What vouches for the entry sectors, as far as is known now. `None` for a log that is open for writing: recovery has put
    /// all of them right.
    fn claims(&self) -> Result<Option<Claims>> {
        Ok(None)
    }

    /// For a salvage, where the log begins and in which epoch: its entry sectors may be damaged.
    fn salvaged_head(&self) -> Option<(u64, u32)> {
        None
    }
}

/// Where a log began, and the highest claim of durability.
#[derive(Clone, Copy)]
pub(crate) struct Claims {
    pub(crate) begun: u64,
    pub(crate) durable: u64,
}

impl Claims {
    /// Where the log began, if nothing vouches for the entry sector of the segment at `base`: a crash may have left none there,
    /// or an older one.
    fn unclaimed(self, base: u64) -> Option<u64> {
        (base.max(self.begun) >= self.durable).then_some(self.begun)
    }
}

/// A range of the stream that cannot be read, and the epoch behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) epoch: u32,
}

/// The position of the first record that can be read.
pub(crate) fn head_lsn(source: &dyn Source) -> Result<u64> {
    if let Some((head, _)) = source.salvaged_head() {
        return Ok(head);
    }
    loop {
        let index = source.head_index()?;
        let mut input = source.input();
        let base = index << input.shift;
        match input.header(base)? {
            // Not entered: the stream stands exactly at its beginning.
            Some(header) => return Ok(oldest_boundary(source, base, header)?.map_or(base, |(first, _)| first)),
            // Truncated since.
            None if source.head_index()? != index => {}
            None => {
                // A creation that was cut off before its first segment: nothing to read yet.
                let (end, _) = source.end()?;
                let begun = source.claims()?.and_then(|claims| claims.unclaimed(base));
                if end <= begun.unwrap_or(0).max(base) {
                    return Ok(end);
                }
                return Err(Error::corrupt(base, input.path(base), "the segment is missing"));
            }
        }
    }
}

/// The last checkpoint that was not truncated away.
pub(crate) fn last_checkpoint(source: &dyn Source) -> Result<Option<u64>> {
    let mut known = source.checkpoint()?;
    while let Some(lsn) = known {
        if source.head_index()? <= lsn >> source.input().shift {
            break;
        }
        // Truncated away since it was asked for, and then there is a newer one, or before, and then there is none.
        known = source.checkpoint()?.filter(|&newer| newer > lsn);
    }
    Ok(known)
}

/// The error for a segment that is gone: truncated, or missing.
pub(crate) fn gone(source: &dyn Source, position: u64) -> Error {
    let input = source.input();
    match source.head_index() {
        Ok(head) if head > position >> input.shift => match head_lsn(source) {
            Ok(head) => Error::Truncated { head: Lsn::new(head) },
            Err(error) => error,
        },
        Ok(_) => Error::corrupt(position, input.path(position), "the segment is missing"),
        Err(error) => error,
    }
}

/// A cursor at the record that begins at `lsn`, or at the end of the log.
///
/// The common case costs one read, or two: the record's checksum is bound to the position and the log's
/// random id, so bytes inside a payload do not pass for a record, unless somebody who has read the log's files put them
/// there for that very position. Only if it does not fit, the segment is walked from its first
/// record, to tell an epoch change, a position inside a record, and damage from each other. So it is from an earlier segment
/// where a crash may have cost the entry sector.
///
/// # Errors
/// `Truncated` below the head, `InvalidArgument` inside a record or beyond the end, `Corrupt` for damage.
pub(crate) fn seek(source: &dyn Source, lsn: u64) -> Result<Cursor> {
    let (end, epoch_at_end) = source.end()?;
    if lsn > end {
        source.failure()?;
        source.check_end(end)?;
        return Err(Error::invalid(format!("LSN {lsn} lies beyond the end of the log, {end}")));
    }
    if lsn == end {
        return Ok(Cursor::new(source.input(), lsn, epoch_at_end));
    }
    if let Some((head, epoch)) = source.salvaged_head() {
        return match lsn < head {
            true => Err(Error::Truncated { head: Lsn::new(head) }),
            false => walk_to(source, head, epoch, lsn, end),
        };
    }
    let inside = || Error::invalid(format!("LSN {lsn} is not the beginning of a record"));
    let mut input = source.input();
    if lsn >> input.shift < source.head_index()? {
        return Err(gone(source, lsn));
    }
    if lsn % 8 != 0 {
        return Err(inside());
    }
    let base = lsn >> input.shift << input.shift;
    let Some(header) = input.header(lsn)? else {
        return Err(gone(source, lsn));
    };
    if let Some(entry) = header.entry.ok().flatten().filter(|entry| entry.first_record <= lsn) {
        // Behind the place where a recovery cut the log, it is the epoch at the end.
        for epoch in [entry.epoch, epoch_at_end] {
            if matches!(Cursor::new(source.input(), lsn, epoch).step(end, Want::Check)?, Step::Record(_)) {
                return Ok(Cursor::new(source.input(), lsn, epoch));
            }
        }
    }
    let (first, epoch) = boundary(source, base)?;
    if lsn < first {
        let head = head_lsn(source)?;
        return Err(if lsn < head { Error::Truncated { head: Lsn::new(head) } } else { inside() });
    }
    walk_to(source, first, epoch, lsn, end)
}

/// The record boundary that the entry sector of the segment at `base` names, and its epoch. Where no claim vouches for that
/// sector, one from an earlier segment, as a recovery finds it.
fn boundary(source: &dyn Source, mut base: u64) -> Result<(u64, u32)> {
    let mut input = source.input();
    loop {
        let Some(header) = input.header(base)? else {
            return Err(gone(source, base));
        };
        let found = if base >> input.shift <= source.head_index()? {
            oldest_boundary(source, base, header)?
        } else if source.claims()?.is_some_and(|claims| claims.unclaimed(base).is_some()) {
            base -= 1 << input.shift;
            continue;
        } else {
            header.entry.ok().flatten().map(|entry| (entry.first_record, entry.epoch))
        };
        let damaged = || Error::corrupt(base, input.path(base), "the segment's entry sector is damaged");
        return found.ok_or_else(damaged);
    }
}

/// The same for the oldest segment, which begins at `base`; `None` if its entry sector names none. It is not entered anew
/// while it is the oldest. Where no claim vouches for the sector, it tells where the log begins, or nothing: one that names a
/// record above all claims is no log's, and a recovery passes it over too.
fn oldest_boundary(source: &dyn Source, base: u64, header: Header) -> Result<Option<(u64, u32)>> {
    let entry = header.entry.ok().flatten().map(|entry| (entry.first_record, entry.epoch));
    // Asked for behind the sector: of a log that is being written, what made this segment the oldest one is claimed by then.
    let Some(claims) = source.claims()? else { return Ok(entry) };
    let Some(begun) = claims.unclaimed(base) else { return Ok(entry) };
    let believed = entry.filter(|&(first, _)| first <= claims.durable);
    Ok(Some(believed.unwrap_or((base.max(begun), 0))))
}

/// Walks from a known record boundary to `lsn`.
fn walk_to(source: &dyn Source, first: u64, epoch: u32, lsn: u64, end: u64) -> Result<Cursor> {
    let mut cursor = Cursor::new(source.input(), first, epoch);
    while cursor.position() < lsn {
        let position = cursor.position();
        if let Some(hole) = source.holes().iter().find(|hole| hole.from == position) {
            cursor = Cursor::new(source.input(), hole.to, hole.epoch);
            continue;
        }
        match cursor.step(end, Want::Check)? {
            Step::Record(_) => {}
            Step::Gone => return Err(gone(source, position)),
            Step::End => break,
            Step::Invalid(why) => {
                return Err(Error::corrupt(position, source.input().path(position), why.to_string()));
            }
        }
    }
    if cursor.position() != lsn {
        return Err(Error::invalid(format!("LSN {lsn} is not the beginning of a record")));
    }
    Ok(cursor)
}

/// Reads the one record that begins at `lsn`.
///
/// # Errors
/// As [`seek`]; also `InvalidArgument` at the end of the log and where one of the log's own records stands.
pub(crate) fn read_record(source: &dyn Source, lsn: u64) -> Result<Record> {
    let mut cursor = seek(source, lsn)?;
    // Asked for behind the seek, which may have found a record that was flushed since the end was asked for.
    let (end, _) = source.end()?;
    // The first member of a batch that a salvage passes over may be whole.
    let dropped = source.holes().iter().any(|hole| hole.from == lsn);
    match cursor.step(end, Want::Payload)? {
        Step::Record(found) if found.kind.is_user() && !dropped => {
            Ok(Record { lsn: Lsn::new(lsn), kind: found.kind, data: cursor.payload(&found).to_vec() })
        }
        Step::Record(_) | Step::End => {
            source.check_end(lsn)?;
            Err(Error::invalid(format!("no record begins at LSN {lsn}")))
        }
        Step::Gone => Err(gone(source, lsn)),
        Step::Invalid(why) => Err(Error::corrupt(lsn, source.input().path(lsn), why.to_string())),
    }
}
