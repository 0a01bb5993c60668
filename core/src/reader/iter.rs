//! [`Iter`]: the records of a log in order.

use std::time::{Duration, Instant};

use super::seek::gone;
use super::{Cursor, Found, Source, Step, Want};
use crate::error::{Error, Result};
use crate::format::Kind;
use crate::lsn::Lsn;
use crate::primitive::{Arc, thread};
use crate::storage::fork_count;

const SHORTEST_NAP: Duration = Duration::from_micros(100);
const LONGEST_NAP: Duration = Duration::from_millis(10);

/// A record with its own copy of the payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where the record begins.
    pub lsn: Lsn,
    /// [`Kind::Data`], [`Kind::Checkpoint`], [`Kind::Batch`] or [`Kind::BatchEnd`].
    pub kind: Kind,
    /// The payload.
    pub data: Vec<u8>,
}

/// A record whose payload lies in the iterator's buffer, until the iterator moves on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordRef<'a> {
    /// Where the record begins.
    pub lsn: Lsn,
    /// [`Kind::Data`], [`Kind::Checkpoint`], [`Kind::Batch`] or [`Kind::BatchEnd`].
    pub kind: Kind,
    /// The payload.
    pub data: &'a [u8],
}

/// The records of a log in order, from a position to the end that the log had when the iterator was made.
///
/// Every record's checksum is checked. An iterator sees a prefix of what is appended meanwhile: nothing that was appended
/// before it was made is missing. It may outlive the [`Wal`](crate::Wal) it came from, and reads on while the log is
/// written, truncated or closed; where it meets a truncated position it ends with [`Error::Truncated`] (with
/// [`Error::Corrupt`], if the log was closed since, and another handle truncated it). After an error it yields nothing more; damage may lie inside a batch of which it has yielded the first members. It belongs to one thread at
/// a time.
///
/// As an [`Iterator`] it yields a [`Record`] with a copy of each payload; [`Iter::next_ref`] copies nothing.
pub struct Iter {
    source: Arc<dyn Source>,
    cursor: Cursor,
    end: u64,
    /// Where the next damaged range begins that a salvage passes over; `u64::MAX` if there is none.
    next_hole: u64,
    failed: bool,
    /// Whether the last record was followed that there will ever be.
    ended: bool,
    /// How many forks had happened when it was made: a child may not use it.
    forks: u32,
}

impl Iter {
    pub(crate) fn new(source: Arc<dyn Source>, cursor: Cursor) -> Result<Iter> {
        let (end, _) = source.end()?;
        let next_hole = hole_from(&*source, cursor.position());
        Ok(Iter { source, cursor, end, next_hole, failed: false, ended: false, forks: fork_count() })
    }

    /// The next record, or `None` at the end.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for damage, also where it follows the last record of another process's log that can be read;
    /// [`Error::Truncated`] if the position was truncated away meanwhile, [`Error::Io`],
    /// [`Error::Forked`].
    pub fn next_ref(&mut self) -> Result<Option<RecordRef<'_>>> {
        if self.failed {
            return Ok(None);
        }
        self.check_fork()?;
        match self.find()? {
            Some(found) => Ok(Some(self.record(&found))),
            None => {
                let ends = self.source.check_end(self.cursor.position());
                self.failed = ends.is_err();
                ends.map(|()| None)
            }
        }
    }

    /// Moves to the next record; after an error it is not to be called again.
    #[inline]
    fn find(&mut self) -> Result<Option<Found>> {
        // Nearly always, without the detour through the general case.
        if self.cursor.position() != self.next_hole {
            if let Some(found) = self.cursor.step_in_buffer(self.end) {
                if found.kind.is_user() {
                    return Ok(Some(found));
                }
            }
        }
        self.advance().inspect_err(|_| self.failed = true)
    }

    #[inline]
    fn record(&self, found: &Found) -> RecordRef<'_> {
        RecordRef { lsn: Lsn::new(found.lsn), kind: found.kind, data: self.cursor.payload(found) }
    }

    #[inline]
    fn check_fork(&self) -> Result<()> {
        if fork_count() == self.forks { Ok(()) } else { Err(Error::Forked) }
    }

    fn pass_hole(&mut self) {
        if let Some(hole) = self.source.holes().iter().find(|hole| hole.from == self.next_hole) {
            self.cursor = Cursor::new(self.source.input(), hole.to, hole.epoch);
            self.next_hole = hole_from(&*self.source, hole.to);
        }
    }

    /// Moves to the next record that is not the log's own.
    fn advance(&mut self) -> Result<Option<Found>> {
        loop {
            let position = self.cursor.position();
            if position == self.next_hole {
                self.pass_hole();
                continue;
            }
            match self.cursor.step(self.end, Want::Payload)? {
                Step::Record(found) if found.kind.is_user() => return Ok(Some(found)),
                Step::Record(_) => {}
                Step::End => return Ok(None),
                Step::Gone => return Err(gone(&*self.source, position)),
                Step::Invalid(why) => {
                    let path = self.cursor.input.path(position);
                    return Err(Error::corrupt(position, path, why.to_string()));
                }
            }
        }
    }

    /// Moves the iterator's end to where the log ends now. Returns whether there is more to read.
    ///
    /// # Errors
    /// What a flush of the log, or reading the directory of another process's log, answers; [`Error::Corrupt`] where that has
    /// become damaged below what its writer has acknowledged, as far as the control slots tell. They are written with each new
    /// segment, each checkpoint, and a close; until then a reader waits in front of the damage, and the next open reports it.
    pub fn refresh(&mut self) -> Result<bool> {
        self.check_fork()?;
        let (end, _) = self.source.end()?;
        self.end = self.end.max(end);
        let more = self.cursor.position() < self.end;
        if !more {
            self.source.check_end(self.cursor.position())?;
        }
        Ok(more && !self.failed)
    }

    /// The next record, waiting up to `timeout` for one to be appended. `None` if none came, and at once where none can come
    /// any more: at the end of a log that this process wrote and has closed, and after an error. [`Iter::ended`] tells. That
    /// another process has closed its log is not seen.
    ///
    /// It sees records as soon as they are flushed, which is before they are durable: after a crash of the writer, what was
    /// seen may turn out not to be part of the log. Compare with [`Wal::durable_lsn`](crate::Wal::durable_lsn) where that
    /// matters.
    ///
    /// # Errors
    /// As [`Iter::next_ref`] and [`Iter::refresh`].
    pub fn follow(&mut self, timeout: Duration) -> Result<Option<RecordRef<'_>>> {
        if self.failed {
            return Ok(None);
        }
        self.check_fork()?;
        let begun = Instant::now();
        let mut nap = SHORTEST_NAP;
        loop {
            // Asked first: what was appended before the log was closed is still found.
            let last = self.source.ended();
            // Own records may be all that is new, so look for a record, not only for a later end.
            if let Some(found) = self.find()? {
                return Ok(Some(self.record(&found)));
            }
            if self.refresh()? {
                continue;
            }
            self.ended = last;
            let left = timeout.saturating_sub(begun.elapsed());
            if last || left.is_zero() {
                return Ok(None);
            }
            thread::sleep(nap.min(left));
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }

    /// Whether [`Iter::follow`] has found that nothing can come any more: it met the end of a log that this process has
    /// closed, or the iterator met an error.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended || self.failed
    }

    /// Where the iterator stands: at the next record, or at one of the log's own in front of it.
    #[must_use]
    pub fn position(&self) -> Lsn {
        Lsn::new(self.cursor.position())
    }
}

/// Where the first hole at or behind `position` begins.
fn hole_from(source: &dyn Source, position: u64) -> u64 {
    source.holes().iter().map(|hole| hole.from).find(|&from| from >= position).unwrap_or(u64::MAX)
}

impl Iterator for Iter {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        let owned = |record: RecordRef<'_>| Record { lsn: record.lsn, kind: record.kind, data: record.data.to_vec() };
        self.next_ref().map(|record| record.map(owned)).transpose()
    }
}

impl std::fmt::Debug for Iter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").field("position", &self.position()).field("end", &self.end).finish_non_exhaustive()
    }
}
