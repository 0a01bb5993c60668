//! FLUSH: hands the published prefix to the operating system; owns the watermark `flushed`.
//!
//! Whoever needs it becomes the flusher for one run of records: a sync, a full ring, a writer that filled the next part of
//! it, the background thread. One at a time, under the lock of [`State`]. A run is written in one call for each segment it
//! touches (two at most), then `flushed` moves and the ring space is free again.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::{Entry, HEADER_WORD, Kind, Seal, encode_word, padding, record_size};
use crate::poison::Poison;
use crate::primitive::{Arc, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, fence, thread};
use crate::publish::{Publish, Walker};
use crate::reserve::Claim;
use crate::ring::Ring;
use crate::segment::Segments;
use crate::stats::{Counters, count, read};
use crate::storage::Memory;
use crate::stream;
use crate::watermark::Watermarks;

/// The longest run in bytes. Shorter runs free ring space sooner, longer ones need fewer calls.
const LONGEST_RUN: u64 = 1 << 20;
/// How often a waiting thread yields before it sleeps.
const YIELDS: u32 = if cfg!(any(loom, shuttle)) { 1 } else { 64 };
/// How long it sleeps at most before it looks again. Only the flush of somebody else wakes it; that a writer has published
/// is told to nobody, so that publishing costs one store.
const NAP: Duration = Duration::from_millis(1);

/// The flusher's own state.
struct State {
    walker: Walker,
}

/// The path from the ring to the segment files.
pub(crate) struct Flush {
    pub(crate) ring: Ring,
    pub(crate) publish: Publish,
    pub(crate) segments: Arc<Segments>,
    pub(crate) watermarks: Arc<Watermarks>,
    pub(crate) poison: Arc<Poison>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) seal: Seal,
    /// Where the stream stood when the log was opened.
    start: u64,
    state: Mutex<State>,
    waiting: AtomicU64,
    sleepers: Mutex<()>,
    moved: Condvar,
}

impl Flush {
    /// Begins at `start`, where everything before is durable, with `memory` for the ring.
    pub(crate) fn new(
        memory: Memory,
        start: u64,
        epoch: u32,
        segments: Arc<Segments>,
        watermarks: Arc<Watermarks>,
        poison: Arc<Poison>,
    ) -> Flush {
        let ring = Ring::new(memory);
        let (publish, walker) = Publish::new(ring.capacity(), start, Arc::clone(&watermarks));
        Flush {
            ring,
            publish,
            seal: Seal::new(segments.id, epoch),
            segments,
            watermarks,
            poison,
            counters: Arc::default(),
            start,
            state: Mutex::new(State { walker }),
            waiting: AtomicU64::new(0),
            sleepers: Mutex::new(()),
            moved: Condvar::new(),
        }
    }

    /// The end of the free ring space.
    #[inline]
    pub(crate) fn room_end(&self) -> u64 {
        self.watermarks.flushed.load() + self.ring.capacity()
    }

    /// How many bytes of records make it worthwhile to flush.
    #[inline]
    pub(crate) fn run_length(&self) -> u64 {
        LONGEST_RUN.min(self.ring.capacity() / 4)
    }

    /// Waits until the ring has room up to position `end`: rule R2 of the ring. Helps to flush meanwhile.
    ///
    /// Acquire (in the load of `flushed`): pairs with the release in [`Flush::released`], which follows the flusher's last
    /// look at the bytes and the clearing of their links.
    #[inline]
    pub(crate) fn wait_room(&self, end: u64) -> Result<()> {
        if end <= self.room_end() {
            return Ok(());
        }
        self.wait_room_slow(end)
    }

    #[cold]
    fn wait_room_slow(&self, end: u64) -> Result<()> {
        count(&self.counters.waits, 1);
        let mut idle = 0;
        while end > self.room_end() {
            self.poison.check()?;
            let progress = match self.state.try_lock() {
                Some(mut state) => self.flush_run(&mut state)? > 0,
                None => false,
            };
            self.pause(&mut idle, progress, || end <= self.room_end());
        }
        Ok(())
    }

    /// Flushes until everything below `target`, which must have been claimed, is with the operating system.
    pub(crate) fn flush_to(&self, target: u64) -> Result<()> {
        let mut idle = 0;
        while self.watermarks.flushed.load() < target {
            self.poison.check()?;
            let progress = self.flush_run(&mut self.state.lock())? > 0;
            self.pause(&mut idle, progress, || self.watermarks.flushed.load() >= target);
        }
        self.poison.check()
    }

    /// Flushes what is published, unless somebody else is at it; at most as much as the ring holds now, however fast others
    /// publish.
    ///
    /// A short run is the last one: it has caught up, or come to a segment's end or to a record that is not published yet. What
    /// is left waits for whoever fills the next part of the ring, or needs it. To go on would be to write ever shorter runs right
    /// behind the appenders, which slows them: an append through C took 64 ns instead of 45 (`make bench-c`, before and after).
    pub(crate) fn flush_if_free(&self) -> Result<()> {
        let until = self.room_end();
        while self.watermarks.flushed.load() < until {
            let Some(mut state) = self.state.try_lock() else { break };
            if self.flush_run(&mut state)? < self.run_length() / 2 {
                break;
            }
        }
        Ok(())
    }

    /// After a look that brought nothing: a writer has claimed its part and not published it yet. It is likely about to,
    /// or waits for this processor.
    fn pause(&self, idle: &mut u32, progress: bool, done: impl Fn() -> bool) {
        *idle = if progress { 0 } else { *idle + 1 };
        if progress || done() {
            return;
        }
        if *idle < YIELDS {
            thread::yield_now();
            return;
        }
        // SeqCst fence: pairs with the one in `released`. Either that one comes first, and `done` sees the new watermark;
        // or this one does, and the flusher sees that somebody waits.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let mut sleepers = self.sleepers.lock();
        if !done() {
            self.moved.wait_for(&mut sleepers, NAP);
        }
        drop(sleepers);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Writes one run of published records. Returns its length, 0 if there was none.
    fn flush_run(&self, state: &mut MutexGuard<'_, State>) -> Result<u64> {
        self.poison.check()?;
        let run = self.publish.walk(&mut state.walker, self.run_length(), self.segments.shift);
        let len = run.end() - run.start();
        if len == 0 {
            return Ok(0);
        }
        let (first, second) = self.ring.slices(&run);
        let entered =
            |base| if base == run.start() { base } else { run.entered.expect("the run reached a segment's end") };
        stream::write(&self.segments, run.start(), &[first, second], |base| self.entry(entered(base)))
            .map_err(|error| self.fail(error))?;
        self.count(run.records, len);
        count(&self.counters.flushes, 1);
        self.released(run.end());
        Ok(len)
    }

    /// Writes the records of `claim` straight to the file, once everything before them is flushed: they are longer than
    /// the ring. Nobody else can pass them meanwhile, for their links stay empty.
    pub(crate) fn write_direct(&self, claim: Claim, records: &[(Kind, &[u8])]) -> Result<()> {
        self.flush_to(claim.position())?;
        let mut state = self.state.lock();
        self.poison.check()?;
        debug_assert_eq!(self.watermarks.flushed.load(), claim.position());
        let mut position = claim.position();
        let mut starts = Vec::with_capacity(records.len() + 1);
        let mut words: Vec<[u8; HEADER_WORD]> = Vec::with_capacity(records.len());
        for (kind, payload) in records {
            starts.push(position);
            words.push(encode_word(self.seal, position, *kind, payload));
            position += record_size(payload.len());
        }
        starts.push(position);
        debug_assert_eq!(position, claim.end());
        let mut parts = Vec::with_capacity(records.len() * 3);
        for (word, (_, payload)) in words.iter().zip(records) {
            parts.extend([&word[..], payload, padding(payload.len())]);
        }
        // The first record that begins at or behind a segment's base.
        let entered = |base| starts[starts.partition_point(|&start| start < base)];
        stream::write(&self.segments, claim.position(), &parts, |base| self.entry(entered(base)))
            .map_err(|error| self.fail(error))?;
        self.count(records.len() as u64, claim.size());
        count(&self.counters.direct_writes, 1);
        self.publish.skip(&mut state.walker, claim.end());
        self.released(claim.end());
        Ok(())
    }

    /// Counts records that were written, before `flushed` moves. In this order: see [`Flush::flushed_records`].
    fn count(&self, records: u64, bytes: u64) {
        count(&self.counters.bytes, bytes);
        self.counters.records.fetch_add(records, Ordering::Release);
    }

    /// `flushed`, and how many records were counted up to there.
    ///
    /// All of them are in the count, which is older than `flushed`. It holds more only in the moment before `flushed` follows;
    /// then the bytes do as well. Acquire: pairs with the release in [`Flush::count`], so that the bytes are not older than the
    /// records.
    pub(crate) fn flushed_records(&self) -> (u64, u64) {
        let flushed = self.watermarks.flushed.load();
        let records = self.counters.records.load(Ordering::Acquire);
        if self.start + read(&self.counters.bytes) == flushed {
            return (flushed, records);
        }
        // Whoever is there is about to give the lock back.
        let _state = self.state.lock();
        (self.watermarks.flushed.load(), read(&self.counters.records))
    }

    /// Writes the last bytes of a log that is being closed, behind everything else, and makes them durable. They are no
    /// part of what this handle reads.
    pub(crate) fn write_last(&self, position: u64, bytes: &[u8]) -> Result<()> {
        let _state = self.state.lock();
        self.poison.check()?;
        debug_assert_eq!(self.watermarks.flushed.load(), position);
        let end = position + bytes.len() as u64;
        stream::write(&self.segments, position, &[bytes], |base| self.entry(if base == position { base } else { end }))
            .and_then(|()| stream::sync(&self.segments, position, end))
            .map_err(|error| self.fail(error))
    }

    /// Returns once no write of the stream is under way. Of a poisoned log, and of one that was flushed to its end, none
    /// begins afterwards: each looks at that under this lock first.
    pub(crate) fn wait_for_writes(&self) {
        drop(self.state.lock());
    }

    fn entry(&self, first_record: u64) -> Entry {
        Entry {
            first_record,
            durable: self.watermarks.durable.load(),
            checkpoint: self.segments.checkpoint(),
            epoch: self.seal.epoch(),
        }
    }

    /// Moves `flushed` (release: see [`Flush::wait_room`]) and wakes those who wait for it.
    fn released(&self, end: u64) {
        self.watermarks.flushed.advance(end);
        // SeqCst fence: pairs with the one in `pause`.
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            let _sleepers = self.sleepers.lock();
            self.moved.notify_all();
        }
    }

    /// After a failed write nothing more is written: what the file holds behind it is unknown.
    fn fail(&self, error: Error) -> Error {
        let poisoned = self.poison.set(error);
        let _sleepers = self.sleepers.lock();
        self.moved.notify_all();
        poisoned
    }
}
