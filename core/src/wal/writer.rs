//! The log as its writers see it: how an append, a sync and a close pass through the stages.

use super::background::Signal;
use super::completion::{Completions, Done};
use crate::error::{Error, Result};
use crate::flush::Flush;
use crate::format::{Durability, HEADER_WORD, Kind, MARKER_RECORD_SIZE, MAX_PAYLOAD, record_size};
use crate::options::{Options, Retention};
use crate::poison::Poison;
use crate::primitive::{Arc, AtomicBool, AtomicU64, Ordering};
use crate::reader::{head_lsn, seek};
use crate::recovery;
use crate::reserve::{Claim, Refused, Reserve};
use crate::segment::{BUFFER_NAME, Segments};
use crate::storage::{Memory, Storage};
use crate::sync::Sync;
use crate::watermark::Watermarks;

/// A log that is open for writing.
pub(super) struct Writer {
    pub(super) reserve: Arc<Reserve>,
    pub(super) flush: Arc<Flush>,
    pub(super) segments: Arc<Segments>,
    pub(super) sync: Sync,
    pub(super) signal: Signal,
    pub(super) completions: Completions,
    /// Payloads shorter than this go the short way of [`Writer::append`].
    short: usize,
    options: Options,
    /// The durable position that the last commit marker named. Relaxed: written by sync leaders only, one at a time.
    marked: AtomicU64,
    closed: AtomicBool,
    /// Whether the log had been closed cleanly when it was opened.
    pub(super) found_clean: bool,
}

impl Writer {
    /// Recovers or creates the log, and sets up the stages where it ends.
    pub(super) fn open(options: Options, storage: &Arc<dyn Storage>) -> Result<Writer> {
        let opened = recovery::open(&options, storage)?;
        let position = opened.position;
        let capacity = options.buffer_size.min(1 << opened.control.shift);
        let watermarks = Arc::new(Watermarks::at(position));
        let poison = Arc::new(Poison::default());
        let segments = Arc::new(Segments::new(
            Arc::clone(storage),
            opened.control,
            opened.lock,
            opened.spares,
            options.recycle,
            Arc::clone(&watermarks),
            Arc::clone(&poison),
        ));
        // Opened now: to run out of descriptors at the first flush would be a write that failed.
        if segments.end() << segments.shift > position {
            segments.handles.get(position >> segments.shift)?;
        }
        // A log that was recovered on a full disk may end in the room that is kept for its last marker.
        let reserve = Arc::new(Reserve::new(position, segments.limit().max(position)));
        poison.shuts(Arc::clone(&reserve));
        let memory = buffer(&options, &**storage, capacity)?;
        let flush = Arc::new(Flush::new(memory, position, opened.epoch, Arc::clone(&segments), watermarks, poison));
        let fits = |most: u64| usize::try_from(most).map_or(usize::MAX, |most| most.saturating_add(1));
        let short = flush.seal.short().min(fits(capacity - HEADER_WORD as u64)).min(fits(options.max_record_size));
        Ok(Writer {
            reserve,
            segments,
            sync: Sync::new(Arc::clone(&flush)),
            flush,
            signal: Signal::default(),
            completions: Completions::default(),
            short,
            options,
            marked: AtomicU64::new(position),
            closed: AtomicBool::new(false),
            found_clean: opened.clean,
        })
    }

    /// Appends one record; returns the claim's position and end.
    ///
    /// This is the way of nearly every record: short, with room for it. There is no call on it. What is rarer ends in one, so
    /// nothing has to be kept over a call: the atomic addition waits for every store before it, those of saved registers too.
    #[inline]
    pub(super) fn append(&self, kind: Kind, data: &[u8]) -> Result<(u64, u64)> {
        let flush = &*self.flush;
        if data.len() >= self.short {
            return self.append_any(kind, data);
        }
        match self.reserve.add(record_size(data.len())) {
            Ok(mut claim) => {
                let (position, end) = (claim.position(), claim.end());
                if end > flush.room_end() || !flush.ring.write_short(&mut claim, flush.seal, kind, data) {
                    return self.append_claimed(claim, kind, data);
                }
                flush.publish.publish(claim);
                if crosses(position, end, flush.run_length()) {
                    return self.append_filled(position, end);
                }
                Ok((position, end))
            }
            Err(word) => self.append_settled(word, kind, data),
        }
    }

    /// An append whose addition met `word`, and may not stand.
    #[cold]
    fn append_settled(&self, word: u64, kind: Kind, data: &[u8]) -> Result<(u64, u64)> {
        let size = record_size(data.len());
        let claim = self.reserve.claim_settled(word, size).or_else(|refused| self.claim_slow(size, refused))?;
        self.append_claimed(claim, kind, data)
    }

    /// Appends a record of any length.
    fn append_any(&self, kind: Kind, data: &[u8]) -> Result<(u64, u64)> {
        self.check_len(data.len() as u64)?;
        let size = record_size(data.len());
        if size > self.flush.ring.capacity() {
            return self.append_long(kind, data);
        }
        self.append_claimed(self.claim(size)?, kind, data)
    }

    /// Appends the record that `claim` was made for, once there is room for it in the ring.
    fn append_claimed(&self, mut claim: Claim, kind: Kind, data: &[u8]) -> Result<(u64, u64)> {
        let (position, end) = (claim.position(), claim.end());
        self.flush.wait_room(end)?;
        self.flush.ring.write_record(&mut claim, self.flush.seal, kind, data);
        self.flush.publish.publish(claim);
        self.filled(position, end);
        Ok((position, end))
    }

    /// The end of an append that filled a part of the ring.
    #[cold]
    fn append_filled(&self, position: u64, end: u64) -> Result<(u64, u64)> {
        self.filled_slow();
        Ok((position, end))
    }

    /// Appends a record that is longer than the buffer.
    #[cold]
    fn append_long(&self, kind: Kind, data: &[u8]) -> Result<(u64, u64)> {
        let claim = self.claim(record_size(data.len()))?;
        let (position, end) = (claim.position(), claim.end());
        self.flush.write_direct(claim, &[(kind, data)])?;
        self.filled(position, end);
        Ok((position, end))
    }

    /// Appends one record if that needs no waiting. As for [`Writer::append`], there is no call on the way of
    /// most records; always inlined, because the compiler would not (`bindings/python/bench.py`: a twentieth).
    #[inline(always)]
    pub(super) fn try_append(&self, data: &[u8]) -> Result<u64> {
        let flush = &*self.flush;
        let short = data.len() < self.short;
        if !short {
            self.check_try_len(data.len())?;
        }
        let mut claim = match self.reserve.try_claim(record_size(data.len()), flush.room_end()) {
            Ok(claim) => claim,
            Err(refused) => return Err(self.why_not_now(&refused)),
        };
        let (position, end) = (claim.position(), claim.end());
        if !(short && flush.ring.write_short(&mut claim, flush.seal, Kind::Data, data)) {
            flush.ring.write_record(&mut claim, flush.seal, Kind::Data, data);
        }
        flush.publish.publish(claim);
        if crosses(position, end, flush.run_length()) {
            self.signal.raise();
        }
        Ok(position)
    }

    #[cold]
    fn check_try_len(&self, len: usize) -> Result<()> {
        let (len, max) = (len as u64, self.flush.ring.capacity() - HEADER_WORD as u64);
        self.check_len(len)?;
        if len > max { Err(Error::TooLarge { len, max }) } else { Ok(()) }
    }

    #[cold]
    fn why_not_now(&self, refused: &Refused) -> Error {
        match refused {
            Refused::Shut => self.why_shut(),
            Refused::NeedSpace | Refused::Full => {
                self.signal.raise();
                Error::Full
            }
        }
    }

    /// Appends all of `records` in one claim: all or nothing across a crash. Returns their positions and the end.
    pub(super) fn append_batch(&self, records: &[&[u8]]) -> Result<(Vec<u64>, u64)> {
        let kind_of = |nth: usize| match nth + 1 == records.len() {
            true if nth == 0 => Kind::Data,
            true => Kind::BatchEnd,
            false => Kind::Batch,
        };
        let mut size = 0;
        for record in records {
            self.check_len(record.len() as u64)?;
            size += record_size(record.len());
        }
        if size > u64::from(u32::MAX) {
            return Err(Error::TooLarge { len: size, max: u64::from(u32::MAX) });
        }
        let mut claim = self.claim(size)?;
        let (position, end) = (claim.position(), claim.end());
        let mut lsns = Vec::with_capacity(records.len());
        let mut next = position;
        for record in records {
            lsns.push(next);
            next += record_size(record.len());
        }
        if size > self.flush.ring.capacity() {
            let records: Vec<_> = records.iter().enumerate().map(|(nth, record)| (kind_of(nth), *record)).collect();
            self.flush.write_direct(claim, &records)?;
            self.filled(position, end);
            return Ok((lsns, end));
        }
        self.flush.wait_room(end)?;
        for (nth, (record, &lsn)) in records.iter().zip(&lsns).enumerate() {
            let size = record_size(record.len());
            self.flush.ring.write_member(&mut claim, lsn, size, self.flush.seal, kind_of(nth), record);
        }
        self.flush.publish.publish_batch(claim, records.iter().map(|record| record_size(record.len())));
        self.filled(position, end);
        Ok((lsns, end))
    }

    #[inline]
    fn check_len(&self, len: u64) -> Result<()> {
        let max = self.options.max_record_size.min(MAX_PAYLOAD as u64);
        if len > max { Err(Error::TooLarge { len, max }) } else { Ok(()) }
    }

    /// Claims `size` bytes; prepares disk space for them first where it is not there.
    fn claim(&self, size: u64) -> Result<Claim> {
        let claim =
            if size > self.flush.ring.capacity() { self.reserve.claim_long(size) } else { self.reserve.claim(size) };
        claim.or_else(|refused| self.claim_slow(size, refused))
    }

    #[cold]
    fn claim_slow(&self, size: u64, mut refused: Refused) -> Result<Claim> {
        loop {
            if refused == Refused::Shut {
                return Err(self.why_shut());
            }
            let end = self.reserve.reserved() + size;
            if self.segments.limit() < end {
                // The background thread had no turn yet, and so has not dropped anything either. First, since what is dropped
                // may be reused. What fails here is no matter of this append, unless it is latched. Not where the segment is
                // there already: this would wait for whoever is making the one after it.
                let _ = self.retain();
                self.segments.prepare_to(end)?;
            }
            self.raise_limit();
            let long = size > self.flush.ring.capacity();
            match if long { self.reserve.claim_long(size) } else { self.reserve.claim(size) } {
                Ok(claim) => return Ok(claim),
                Err(again) => refused = again,
            }
        }
    }

    /// Offers what is prepared to appends.
    fn raise_limit(&self) {
        self.reserve.raise(self.segments.limit(), self.flush.watermarks.flushed.load());
    }

    fn why_shut(&self) -> Error {
        self.flush.poison.check().err().unwrap_or(Error::Closed)
    }

    /// After an append: whoever fills the next part of the ring sees to it that it is flushed, and that the next segment
    /// is prepared.
    #[inline]
    fn filled(&self, position: u64, end: u64) {
        if crosses(position, end, self.flush.run_length()) {
            self.filled_slow();
        }
    }

    #[cold]
    fn filled_slow(&self) {
        if self.options.background {
            self.signal.raise();
        } else {
            // The record is appended, whatever comes of this. A failed write is latched, and a disk that is full now will
            // refuse the append that needs the space.
            let _ = self.flush.flush_if_free();
            let _ = self.look_after_segments();
        }
    }

    /// Prepares the next segment if the stream has reached the last one, and drops what retention does not keep.
    pub(super) fn look_after_segments(&self) -> Result<()> {
        let prepared = self.prepare_ahead();
        self.retain()?;
        prepared
    }

    fn prepare_ahead(&self) -> Result<()> {
        let index = self.reserve.reserved() >> self.segments.shift;
        let ahead = ((index + 2) << self.segments.shift) - MARKER_RECORD_SIZE;
        let prepared = if self.segments.limit() < ahead { self.segments.prepare_to(ahead) } else { Ok(()) };
        self.raise_limit();
        prepared
    }

    /// Drops the segments that retention does not keep: see [`Retention`].
    fn retain(&self) -> Result<()> {
        let flushed = self.flush.watermarks.flushed.load();
        let shift = self.segments.shift;
        let wanted = match self.options.retention {
            Retention::None => return Ok(()),
            Retention::Bytes(bytes) => flushed.saturating_sub(bytes) >> shift,
            Retention::Segments(segments) => (flushed.saturating_sub(1) >> shift).saturating_sub(segments.max(1) - 1),
        };
        let mut index = wanted.min(self.flush.watermarks.durable.load() >> shift);
        if self.options.retain_checkpoint {
            let Some(checkpoint) = self.segments.checkpoint() else {
                return Ok(());
            };
            index = index.min(checkpoint >> shift);
        }
        self.segments.truncate(index)
    }

    /// Makes everything that was appended before durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.commit(self.reserve.reserved())?;
        self.stand_in();
        Ok(())
    }

    /// Hands everything that was appended before to the operating system.
    pub(super) fn flush(&self) -> Result<()> {
        self.flush.flush_to(self.reserve.reserved())?;
        self.stand_in();
        Ok(())
    }

    /// Does the background thread's work where there is none: a log that is only written with `try_append` has nobody else
    /// to prepare its segments, and to drop old ones.
    fn stand_in(&self) {
        if !self.options.background {
            // On a full disk the append that needs the space is refused.
            let _ = self.look_after_segments();
        }
    }

    pub(super) fn commit(&self, target: u64) -> Result<()> {
        self.sync.commit(target, &|durable| self.leave_marker(durable))
    }

    /// Appends one record and has `done` called once it is durable, or will never be. Not if this fails.
    pub(super) fn append_async(self: &Arc<Self>, data: &[u8], done: Done) -> Result<u64> {
        let begun = self.completions.begin(self)?;
        let (position, end) = self.append(Kind::Data, data)?;
        begun.request(position, end, done);
        Ok(position)
    }

    /// Has `done` called with `lsn` once everything below `target`, which must have been claimed, is durable, or will
    /// never be.
    pub(super) fn when_durable(self: &Arc<Self>, lsn: u64, target: u64, done: Done) -> Result<()> {
        self.completions.begin(self)?.request(lsn, target, done);
        Ok(())
    }

    /// Leaves a commit marker in the stream: evidence for recovery that everything below `durable` was acknowledged. It
    /// never waits; a sync must not need space.
    fn leave_marker(&self, durable: u64) {
        if durable <= self.marked.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(mut claim) = self.reserve.try_claim(MARKER_RECORD_SIZE, self.flush.room_end()) {
            let payload = self.durability(durable, false).to_bytes();
            self.flush.ring.write_record(&mut claim, self.flush.seal, Kind::Commit, &payload);
            self.flush.publish.publish(claim);
            self.marked.store(durable, Ordering::Relaxed);
        }
    }

    fn durability(&self, durable: u64, clean_close: bool) -> Durability {
        Durability { durable, checkpoint: self.segments.checkpoint(), epoch: self.flush.seal.epoch(), clean_close }
    }

    /// Appends a checkpoint record and makes it the one that the log is replayed from.
    pub(super) fn checkpoint(&self, state: &[u8]) -> Result<u64> {
        let (position, end) = self.append(Kind::Checkpoint, state)?;
        self.commit(end)?;
        self.segments.set_checkpoint(position);
        // Markers that were written between the sync and this line name an older checkpoint; the control slot does not.
        self.segments.update_control(|_| {})?;
        // The checkpoint is in force, whatever comes of this. What poisons the log is latched; a file that could not be
        // removed is no longer the log's, and the next open tries again.
        let _ = self.retain();
        Ok(position)
    }

    /// Frees the segments that lie wholly below the record at `lsn`. Returns the new head.
    pub(super) fn truncate_before(&self, lsn: u64) -> Result<u64> {
        if lsn > head_lsn(self)? {
            seek(self, lsn)?;
            let durable = self.flush.watermarks.durable.load();
            self.segments.truncate(lsn.min(durable) >> self.segments.shift)?;
        }
        head_lsn(self)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends the stream, makes all of it durable, and leaves the evidence of a clean close: a last marker in the stream,
    /// and its position in the control slot, outside the last segment.
    pub(super) fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(Error::Closed);
        }
        let closed = self.close_stream();
        // Where that failed, a thread may still be inside a write: behind the lock it would land on what the next handle
        // has appended there.
        self.flush.wait_for_writes();
        self.segments.unlock();
        self.completions.close();
        closed
    }

    fn close_stream(&self) -> Result<()> {
        let end = self.reserve.shut();
        self.flush.flush_to(end)?;
        self.sync.commit(end, &|_| {})?;
        // The room for it is kept free (`Segments::limit`), unless recovery on a full disk had to use it.
        let room = (self.segments.end() << self.segments.shift) - end >= MARKER_RECORD_SIZE;
        let clean_end = if room {
            self.flush.write_last(end, &self.durability(end, true).to_record(self.segments.id, end, Kind::Commit))?;
            end + MARKER_RECORD_SIZE
        } else {
            end
        };
        // All that was in it is durable. The lock is held still: who takes it next has a buffer of its own under this name.
        self.flush.ring.memory().remove(&**self.segments.storage(), BUFFER_NAME);
        let epoch = self.flush.seal.epoch();
        self.segments.finish_control(|control| {
            control.durable = end;
            control.clean_end = Some(clean_end);
            control.epoch = epoch;
        })
    }
}

/// Memory for the ring, in place of what an earlier process left there; recovery has made that durable.
fn buffer(options: &Options, storage: &dyn Storage, capacity: u64) -> Result<Memory> {
    let none = || Error::invalid(format!("no memory for a buffer of {capacity} bytes"));
    let len = usize::try_from(capacity).map_err(|_| none())?;
    let shared = if options.shared_buffer {
        storage.create_memory(BUFFER_NAME, len)
    } else {
        storage.remove_memory(BUFFER_NAME);
        None
    };
    shared.or_else(|| Memory::allocate(len)).ok_or_else(none)
}

/// Whether a record at `position .. end` contains or reaches a multiple of `length`.
#[inline]
fn crosses(position: u64, end: u64, length: u64) -> bool {
    debug_assert!(length.is_power_of_two());
    (position ^ end) & !(length - 1) != 0
}
