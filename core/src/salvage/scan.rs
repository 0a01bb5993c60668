//! Walking over a whole log, segment by segment, and around what is bad.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::files::{Files, files};
use super::ranges::{Range, ranges};
use super::search::{Search, batch_goes_on, ends_batch, is_own};
use super::{FileDamage, Progress, Report};
use crate::error::Result;
use crate::format::{Durability, Entry, HEADER_WORD, Invalid, Kind};
use crate::lsn::Lsn;
use crate::primitive::Mutex;
use crate::reader::{Cursor, Hole, Input, Step, Want};
use crate::recovery::Damage;
use crate::storage::Storage;

/// A hole, and what was known in front of it.
#[derive(Clone, Debug)]
pub(super) struct Bad {
    pub(super) hole: Hole,
    pub(super) epoch_before: u32,
    reason: String,
    /// Whether it goes on with the batch that the hole in front of it, which ends here, has lost.
    rest: bool,
    /// What was found in front of it; first of its range only, then of the log.
    before: Tally,
}

/// What a part of the stream holds.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    records: u64,
    payload_bytes: u64,
    checkpoint: Option<u64>,
}

/// A batch of which not all was seen yet.
#[derive(Clone, Copy)]
enum Open {
    /// Nothing is missing so far; where it began, and what it holds, which counts only with the last member.
    Whole(u64, Tally),
    /// A member is lost, and so are all.
    Lost,
}

#[derive(Default)]
struct RangeScan {
    /// The epoch in force where the range begins.
    first_epoch: u32,
    holes: Vec<Bad>,
    tally: Tally,
    claim: u64,
    end: u64,
    epoch: u32,
    /// Whether something follows `end` that is neither a record nor zeros.
    followed: bool,
    /// Whether a record ended in the range that is not followed by more of its batch.
    closed: bool,
    /// The batch in which the range ends.
    batch: Option<Open>,
    /// The padding, ascending: from where to where.
    padding: Vec<(u64, u64)>,
    /// Where epoch records begin.
    epoch_records: Vec<u64>,
    /// Whether the last padding, or an epoch record, reaches into the next range: a repair was cut off before it wrote the
    /// entry sectors, and those name records that it dropped.
    reaches: bool,
    /// Such an epoch record: from where to where.
    reaching: Option<(u64, u64)>,
}

/// What was found in a log.
pub(super) struct Scan {
    pub(super) files: Files,
    pub(super) bad: Vec<Bad>,
    pub(super) end: u64,
    pub(super) epoch: u32,
    /// Where the log begins, and in which epoch.
    pub(super) head: (u64, u32),
    tally: Tally,
    torn: bool,
    /// The highest claim of durability.
    claim: u64,
    /// All padding below the end, ascending: from where to where.
    pub(super) padding: Vec<(u64, u64)>,
    /// Where the epoch records below the end begin.
    pub(super) epoch_records: Vec<u64>,
    /// Epoch records of a repair that was cut off before it wrote the entry sectors, of which one points inside.
    reaching: Vec<(u64, u64)>,
    /// The segments that the stream durably entered and whose entry sector does not say so, or names what is padding now.
    pub(super) without_entry: Vec<u64>,
}

impl Scan {
    /// Scans once.
    pub(super) fn once(
        storage: &Arc<dyn Storage>,
        threads: usize,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Scan> {
        let files = files(&**storage)?;
        let ranges = ranges(&files);
        let epochs = files.epochs();
        let total = ranges.iter().map(|range| range.to - range.from).sum();
        let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
        let results: Mutex<Vec<(usize, Result<RangeScan>)>> = Mutex::default();
        thread::scope(|scope| {
            for _ in 0..threads.min(ranges.len().max(1)) {
                scope.spawn(|| {
                    loop {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        let Some(range) = ranges.get(nth) else { return };
                        let scan = scan_range(input(storage, &files), range, &epochs, &mut None);
                        results.lock().push((nth, scan));
                        let done = done.fetch_add(range.to - range.from, Ordering::Relaxed) + range.to - range.from;
                        progress(Progress { done, total });
                    }
                });
            }
        });
        let mut results = results.into_inner();
        results.sort_by_key(|&(nth, _)| nth);
        let mut scans = Vec::with_capacity(results.len());
        for (_, scan) in results {
            scans.push(scan?);
        }
        if scans.iter().any(|scan| scan.reaches || !scan.holes.is_empty()) {
            // A batch may reach from one range into the next, and is lost as a whole; and so may padding. Look again, one
            // after the other.
            let mut batch = None;
            scans.clear();
            for range in &ranges {
                let range = range.behind(scans.last().map(|scan: &RangeScan| (scan.end, scan.epoch)));
                scans.push(scan_range(input(storage, &files), &range, &epochs, &mut batch)?);
            }
        } else {
            close_batches(&mut scans);
        }
        let first = ranges.first().zip(scans.first());
        let head = first.map_or((files.control.first_lsn, 0), |(range, scan)| (range.from, scan.first_epoch));
        Ok(Scan::conclude(files, head, scans))
    }

    /// Puts the ranges together: tells damage from the end of the log.
    fn conclude(files: Files, head: (u64, u32), scans: Vec<RangeScan>) -> Scan {
        let control = &files.control;
        let prepared = control.end << control.shift;
        let entries = files.segments.iter().filter_map(|state| state.entry);
        let claims = scans.iter().map(|scan| scan.claim).chain(entries.map(|entry| entry.durable));
        let claim = claims.fold(control.durable.max(control.clean_end.unwrap_or(0)), u64::max).min(prepared);
        let claim = claim.next_multiple_of(HEADER_WORD as u64); // No log made one inside a header word.
        let last = scans.last();
        let (bad, tally) = joined(&scans);
        let mut scan = Scan {
            head,
            bad,
            tally,
            end: last.map_or(control.first_lsn, |scan| scan.end),
            epoch: last.map_or(0, |scan| scan.epoch),
            torn: last.is_some_and(|scan| scan.followed),
            claim,
            padding: scans.iter().flat_map(|scan| scan.padding.clone()).collect(),
            epoch_records: scans.iter().flat_map(|scan| scan.epoch_records.clone()).collect(),
            reaching: scans.iter().filter_map(|scan| scan.reaching).collect(),
            without_entry: Vec::new(),
            files,
        };
        scan.leave_what_was_shut_out();
        if let Some(nth) = scan.bad.iter().position(|bad| bad.hole.from >= claim) {
            // Nothing from here on was acknowledged: recovery cuts here.
            (scan.end, scan.epoch, scan.torn) = (scan.bad[nth].hole.from, scan.bad[nth].epoch_before, true);
            scan.tally = scan.bad[nth].before;
            scan.bad.truncate(nth);
        } else if scan.end < claim {
            let hole = Hole { from: scan.end, to: claim, epoch: scan.epoch };
            let reason = "acknowledged records are missing at the end".to_owned();
            scan.bad.push(Bad { hole, epoch_before: scan.epoch, reason, rest: false, before: scan.tally });
            (scan.end, scan.torn) = (claim, false);
        }
        scan.torn &= scan.files.control.clean_end.is_none();
        scan.padding.retain(|&(_, to)| to <= scan.end);
        scan.epoch_records.retain(|&from| from < scan.end);
        scan.without_entry = scan.missing_entries();
        scan
    }

    /// Behind a hole that reaches to the highest claim, what is of an epoch before the newest is a tail that a recovery has shut
    /// out: all that was in force lies in the hole.
    fn leave_what_was_shut_out(&mut self) {
        let (claim, epoch) = (self.claim, self.files.newest_epoch());
        let reaches = |bad: &Bad| bad.hole.from < claim && claim <= bad.hole.to && bad.hole.epoch < epoch;
        let Some(nth) = self.bad.iter().position(reaches) else { return };
        self.bad.truncate(nth + 1);
        let bad = &mut self.bad[nth];
        (bad.hole.to, bad.hole.epoch) = (claim, epoch);
        self.tally = bad.before;
        (self.end, self.epoch, self.torn) = (claim, epoch, true);
    }

    fn missing_entries(&self) -> Vec<u64> {
        let control = &self.files.control;
        let missing = self.files.segments.iter().filter(|state| {
            let base = state.index << control.shift;
            let right = |entry: Entry| entry.first_record <= self.end && !self.is_inside(entry.first_record);
            let right = state.entry.is_some_and(right);
            // A segment below a claim was synced together with its entry sector; of another one a crash may have left none.
            !right && !state.damaged && base.max(control.first_lsn) < self.claim
        });
        missing.map(|state| state.index).collect()
    }

    /// Whether `position` lies inside padding, or an epoch record of a repair.
    fn is_inside(&self, position: u64) -> bool {
        let inside = |list: &[(u64, u64)]| {
            let behind = list.partition_point(|&(from, _)| from < position);
            behind > 0 && position < list[behind - 1].1
        };
        inside(&self.padding) || inside(&self.reaching)
    }

    pub(super) fn holes(&self) -> Vec<Hole> {
        self.bad.iter().map(|bad| bad.hole).collect()
    }

    /// The last checkpoint below the end.
    pub(super) fn checkpoint(&self) -> Option<u64> {
        self.tally.checkpoint
    }

    /// Where the log begins, and in which epoch; behind a hole if it begins with one.
    pub(super) fn head(&self) -> (u64, u32) {
        self.head
    }

    pub(super) fn report(&self, storage: &Arc<dyn Storage>) -> Report {
        let damage = self.bad.iter().map(|bad| Damage {
            from: Lsn::new(bad.hole.from),
            to: Lsn::new(bad.hole.to),
            path: self.files.path(&**storage, bad.hole.from),
            reason: bad.reason.clone(),
        });
        let entries = self.without_entry.iter().map(|&index| FileDamage {
            path: self.files.path(&**storage, index << self.files.control.shift),
            reason: "the entry sector is damaged".to_owned(),
        });
        Report {
            head: Lsn::new(self.head.0),
            tail: Lsn::new(self.end),
            segments: self.files.control.end - self.files.control.head,
            records: self.tally.records,
            payload_bytes: self.tally.payload_bytes,
            closed_cleanly: self.files.control.clean_end.is_some(),
            checkpoint: self.tally.checkpoint.map(Lsn::new),
            torn_tail: self.torn.then_some(Lsn::new(self.end)),
            files: self.files.damage.iter().cloned().chain(entries).collect(),
            damage: damage.collect(),
        }
    }
}

pub(super) fn input(storage: &Arc<dyn Storage>, files: &Files) -> Input {
    Input::new(Arc::clone(storage), files.control.id, files.control.shift).lenient()
}

/// The holes of all ranges, and what the ranges hold. What was lost of one batch is one hole.
fn joined(scans: &[RangeScan]) -> (Vec<Bad>, Tally) {
    let mut joined: Vec<Bad> = Vec::new();
    let mut tally = Tally::default();
    for scan in scans {
        for bad in &scan.holes {
            match joined.last_mut().filter(|last| bad.rest && last.hole.to == bad.hole.from) {
                Some(last) => (last.hole.to, last.hole.epoch) = (bad.hole.to, bad.hole.epoch),
                None => joined.push(Bad { before: tally.and(bad.before), ..bad.clone() }),
            }
        }
        tally = tally.and(scan.tally);
    }
    (joined, tally)
}

impl Tally {
    /// This, and what stands behind it.
    fn and(self, behind: Tally) -> Tally {
        Tally {
            records: self.records + behind.records,
            payload_bytes: self.payload_bytes + behind.payload_bytes,
            checkpoint: behind.checkpoint.or(self.checkpoint),
        }
    }
}

/// Where the last range ends inside a batch, the log ends in front of that batch, which may have begun in an earlier range.
/// What a batch holds counts where it is complete.
fn close_batches(scans: &mut [RangeScan]) {
    let mut begun: Option<(u64, u32, Tally)> = None;
    for scan in scans {
        let open = match scan.batch {
            Some(Open::Whole(_, tally)) => Some((scan.end, scan.epoch, tally)),
            _ => None,
        };
        if scan.closed {
            scan.tally = begun.map_or(scan.tally, |(_, _, tally)| tally.and(scan.tally));
            begun = open;
        } else if let Some((end, epoch, tally)) = &mut begun {
            (scan.end, scan.epoch) = (*end, *epoch);
            *tally = open.map_or(*tally, |(_, _, more)| tally.and(more));
        } else {
            begun = open;
        }
    }
}

/// Where the batch began, or `otherwise`.
fn begun(batch: &Option<Open>, otherwise: u64) -> u64 {
    match *batch {
        Some(Open::Whole(from, _)) => from,
        _ => otherwise,
    }
}

/// Walks over one range. `batch` is the batch in which the range before ended, if it did; and on return, the same for this
/// one.
fn scan_range(input: Input, range: &Range, epochs: &[u32], batch: &mut Option<Open>) -> Result<RangeScan> {
    let start = begun(batch, range.from);
    let epoch = range.epoch.unwrap_or(0);
    let mut scan = RangeScan { first_epoch: epoch, end: start, epoch, ..RangeScan::default() };
    let mut search = Search::new(&input, range, epochs);
    let mut cursor = Cursor::new(input, range.from, epoch);
    let mut bad = range.epoch.is_none().then_some("the first record is unknown".to_owned());
    scan.drop_rest(&mut cursor, range.to, batch)?;
    loop {
        let position = cursor.position();
        let unknown = bad.is_some();
        let reason = match bad.take() {
            Some(reason) => reason,
            None => match cursor.step(range.to, Want::Check)? {
                Step::Record(found) => {
                    scan.note(&found, &cursor, batch);
                    continue;
                }
                Step::End => {
                    scan.batch = *batch;
                    return Ok(scan);
                }
                // Longer than the range, as what a repair wrote may be.
                Step::Invalid(Invalid::Length) if scan.note_reaching(&cursor, range.limit, batch)? => return Ok(scan),
                Step::Invalid(why) => {
                    scan.followed = why != Invalid::Empty;
                    why.to_string()
                }
                Step::Gone => unreachable!("a lenient input has every segment"),
            },
        };
        let mut epoch_before = cursor.epoch();
        let from = if unknown { position } else { position + HEADER_WORD as u64 };
        let found = search.next_valid(from, epoch_before)?;
        let next = found.or(range.next.map(|epoch| (range.to, epoch)));
        let Some((to, epoch)) = next else {
            // The last range: whether this is the end or damage is decided by the claims.
            scan.batch = *batch;
            return Ok(scan);
        };
        cursor = Cursor::new(cursor.input.again(), to, epoch);
        if unknown {
            // No record stands in front of it, so it may as well be the epoch of all that is padding then.
            (scan.first_epoch, scan.epoch, epoch_before) = (epoch, epoch, epoch);
            if to == position {
                continue;
            }
        }
        let hole = Hole { from: begun(batch, position), to, epoch };
        let rest = matches!(batch, Some(Open::Lost));
        scan.lose(Bad { hole, epoch_before, reason, rest, before: scan.tally });
        let epochs = [epoch_before, epoch];
        // A log may begin inside a batch.
        let goes_on = batch_goes_on(&cursor.input, position, to, epochs, batch.is_some())?
            || !unknown && ends_batch(&cursor.input, to)?;
        *batch = goes_on.then_some(Open::Lost);
        scan.drop_rest(&mut cursor, range.to, batch)?;
    }
}

impl RangeScan {
    fn lose(&mut self, bad: Bad) {
        (self.end, self.epoch, self.followed) = (bad.hole.to, bad.hole.epoch, false);
        self.holes.push(bad);
    }

    /// Whether padding or an epoch record stands at the cursor, up to `limit` at most; it is noted then.
    fn note_reaching(&mut self, cursor: &Cursor, limit: u64, batch: &mut Option<Open>) -> Result<bool> {
        if !is_own(&cursor.input, cursor.position())? {
            return Ok(false);
        }
        let mut ahead = Cursor::new(cursor.input.again(), cursor.position(), cursor.epoch());
        let Step::Record(found) = ahead.step(limit, Want::Check)? else { return Ok(false) };
        self.note(&found, &ahead, batch);
        if found.kind == Kind::Epoch {
            self.reaching = Some((found.lsn, found.lsn + found.size));
        }
        (self.followed, self.reaches) = (false, true);
        Ok(true)
    }

    /// Of a batch that lost a member, drops what follows: to its end, to the next bad record, or to the end of the range.
    fn drop_rest(&mut self, cursor: &mut Cursor, end: u64, batch: &mut Option<Open>) -> Result<()> {
        let (from, epoch_before) = (cursor.position(), cursor.epoch());
        while let Some(Open::Lost) = batch {
            let (position, epoch) = (cursor.position(), cursor.epoch());
            match cursor.step(end, Want::Check)? {
                Step::Record(found) if found.kind == Kind::Batch => {}
                Step::Record(found) if found.kind == Kind::BatchEnd => *batch = None,
                Step::Record(_) => {
                    *cursor = Cursor::new(cursor.input.again(), position, epoch);
                    *batch = None;
                }
                // What stands behind it, or in the next range, may be more of the batch.
                _ => break,
            }
        }
        let hole = Hole { from, to: cursor.position(), epoch: cursor.epoch() };
        if hole.to > from {
            let reason = "a member of the batch was lost".to_owned();
            self.lose(Bad { hole, epoch_before, reason, rest: true, before: self.tally });
        }
        Ok(())
    }

    fn note(&mut self, found: &crate::reader::Found, cursor: &Cursor, batch: &mut Option<Open>) {
        match found.kind {
            Kind::Commit | Kind::Epoch => {
                if found.kind == Kind::Epoch {
                    self.epoch_records.push(found.lsn);
                }
                if let Ok(marker) = Durability::parse(cursor.payload(found)) {
                    self.claim = self.claim.max(marker.durable);
                }
            }
            Kind::Padding => self.padding.push((found.lsn, found.lsn + found.size)),
            _ => {}
        }
        let mut tally = match *batch {
            Some(Open::Whole(_, tally)) => tally,
            _ => Tally::default(),
        };
        if found.kind.is_user() {
            let checkpoint = (found.kind == Kind::Checkpoint).then_some(found.lsn);
            tally = tally.and(Tally { records: 1, payload_bytes: found.len as u64, checkpoint });
        }
        if found.kind == Kind::Batch {
            *batch = Some(Open::Whole(begun(batch, found.lsn), tally));
        } else {
            *batch = None;
            self.tally = self.tally.and(tally);
            self.closed = true;
            self.end = cursor.position();
            self.epoch = cursor.epoch();
        }
    }
}
