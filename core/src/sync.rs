//! SYNC: group commit; owns the watermark `durable`.
//!
//! Threads that want a sync join a batch, and one of them, its leader, syncs for all. One sync runs at a time; who comes
//! meanwhile joins the next batch. The first of that is on deck: it hands its records to the operating system while the
//! sync is still on the disk. When the sync has ended, its leader wakes its batch, and makes one of the next one the leader.
//!
//! Threads that commit one record after the other are back a moment after the sync that served them. A leader that began at
//! once would leave them behind, and they would share the syncs in two groups that take turns; so it waits for them where
//! that is short against a sync, and was worthwhile before: see [`Round`].

use std::time::Duration;

use crate::error::{Error, Result};
use crate::flush::Flush;
use crate::poison::Poison;
use crate::primitive::{Arc, AtomicBool, AtomicU64, Crowd, Instant, Mutex, Ordering, let_time_pass, thread};
use crate::stats::{count, read};
use crate::stream;

/// How often a passive waiter looks whether the log was poisoned.
const LOOK_UP: Duration = Duration::from_millis(100);
/// A leader that waits for company keeps a processor busy, also where a sync takes tens of milliseconds: this is as long as it
/// does. Threads that are not back by then have something else to do.
const LONGEST_WAIT: Duration = Duration::from_millis(1);
/// After so many waits in vain, in a row, a leader waits again after `1 << MOST_MISSES` syncs.
const MOST_MISSES: u32 = 6;

/// The threads that one sync serves.
#[derive(Default)]
struct Batch {
    number: u64,
    /// How many they are.
    threads: u64,
    /// The highest position that one of them needs durable.
    target: u64,
}

struct Queue {
    /// Those who wait for the next sync.
    next: Batch,
    /// Whether `next` has a leader, or the batch before it is being synced.
    led: bool,
    /// Whether one of `next` is to become its leader, whichever wakes first.
    wanted: bool,
    /// The number of the last batch whose sync has ended.
    ended: u64,
    round: Round,
}

impl Queue {
    /// Joins the next batch. Returns its number, and whether the caller is on deck.
    fn join(&mut self, target: u64) -> (u64, bool) {
        let next = &mut self.next;
        next.threads += 1;
        next.target = next.target.max(target);
        (next.number, next.threads == 1 && next.number > self.ended + 1)
    }

    /// Closes the next batch: its sync is about to begin.
    fn take(&mut self) -> Batch {
        let number = self.next.number + 1;
        std::mem::replace(&mut self.next, Batch { number, ..Batch::default() })
    }
}

/// What the last sync tells the next leader.
#[derive(Clone, Copy)]
struct Round {
    /// How many threads it served, and how many had come for the next one when it ended.
    threads: u64,
    ended: Instant,
    /// How long a sync takes if nothing disturbs it, about.
    sync: Duration,
    /// How often in a row it was in vain to wait for those threads, and how many syncs are still to begin without waiting.
    misses: u32,
    rest: u32,
}

impl Round {
    /// Before the first sync. Patience grows with the syncs that are seen.
    fn first() -> Round {
        Round { threads: 0, ended: Instant::now(), sync: Duration::ZERO, misses: 0, rest: 0 }
    }

    /// Until when a leader waits for the threads of this round: half a sync at most.
    fn patience(&self) -> Option<Instant> {
        (self.threads > 1 && self.rest == 0).then(|| self.ended + (self.sync / 2).min(LONGEST_WAIT))
    }

    /// Notes what a wait has brought: it was worthwhile if more threads are served in the same time for it.
    fn waited(&mut self, before: u64, after: u64, time: Duration) {
        let paid = after as f64 * self.sync.as_secs_f64() > before as f64 * (self.sync + time).as_secs_f64();
        self.misses = if paid || after >= self.threads { 0 } else { MOST_MISSES.min(self.misses + 1) };
        // One of them is this sync.
        self.rest = 1 << self.misses;
    }

    /// Ends with a sync that served `served` threads while `left` came for the next one.
    fn end(&mut self, served: u64, left: u64, sync: Option<Duration>) {
        self.threads = served + left;
        self.ended = Instant::now();
        self.rest = self.rest.saturating_sub(1);
        if let Some(sync) = sync {
            // A slow one now and then is no reason for patience.
            self.sync = if sync < self.sync { sync } else { self.sync + (sync - self.sync) / 8 };
        }
    }
}

/// A thread that waits for the syncs of others, and is never made the leader.
struct Passive {
    target: u64,
    told: AtomicBool,
    thread: thread::Thread,
}

/// Group commit.
pub(crate) struct Sync {
    flush: Arc<Flush>,
    /// Batches with an even number wait at the first place, those with an odd one at the second: when a batch is joined, the
    /// one before the last has ended.
    queue: Crowd<Queue>,
    /// `threads` of the next batch. Changed under the lock of `queue`; relaxed: a leader looks at it without, to decide how
    /// long it waits, and nothing else follows from it.
    arrived: AtomicU64,
    passive: Mutex<Vec<Arc<Passive>>>,
}

/// What a leader does before it flushes: leaves a marker of the given durable position in the stream.
pub(crate) type LeaveMarker<'a> = &'a dyn Fn(u64);

/// Where the members of batch `number` wait.
fn place(number: u64) -> usize {
    (number % 2) as usize
}

impl Sync {
    pub(crate) fn new(flush: Arc<Flush>) -> Sync {
        let next = Batch { number: 1, ..Batch::default() };
        let queue = Queue { next, led: false, wanted: false, ended: 0, round: Round::first() };
        Sync { flush, queue: Crowd::new(queue), arrived: AtomicU64::new(0), passive: Mutex::default() }
    }

    fn durable(&self) -> u64 {
        self.flush.watermarks.durable.load()
    }

    fn poison(&self) -> &Poison {
        &self.flush.poison
    }

    /// Returns when everything below `target`, which must have been claimed, is durable.
    pub(crate) fn commit(&self, target: u64, marker: LeaveMarker<'_>) -> Result<()> {
        self.poison().check()?;
        if self.durable() >= target {
            return Ok(());
        }
        let mut queue = self.queue.lock();
        if self.durable() >= target {
            return Ok(());
        }
        let (batch, on_deck) = queue.join(target);
        self.arrived.store(queue.next.threads, Ordering::Relaxed);
        if !std::mem::replace(&mut queue.led, true) {
            drop(queue);
            return self.lead(target, marker);
        }
        if on_deck {
            drop(queue);
            // A failure is latched, and met again by the batch's leader, which may be this thread.
            let _ = self.flush.flush_to(target);
            queue = self.queue.lock();
        }
        while queue.ended < batch {
            if queue.next.number == batch && std::mem::take(&mut queue.wanted) {
                drop(queue);
                return self.lead(target, marker);
            }
            queue = self.queue.wait(queue, place(batch));
        }
        drop(queue);
        if self.durable() >= target {
            return Ok(());
        }
        // A sync covers its whole batch, and every failure poisons; were one not to, this would still not be a success.
        let failure = self.poison().check().err();
        debug_assert!(failure.is_some(), "a sync ended without {target}, which one of its batch waits for");
        Err(failure.unwrap_or(Error::Closed))
    }

    /// Waits until `target` is durable by the syncs of others; `false` if `timeout` passed first.
    pub(crate) fn wait_durable(&self, target: u64, timeout: Option<Duration>) -> Result<bool> {
        if self.durable() >= target {
            return Ok(true);
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let waiter = Arc::new(Passive { target, told: AtomicBool::new(false), thread: thread::current() });
        self.passive.lock().push(Arc::clone(&waiter));
        // In this order: a leader looks for waiters after it has moved `durable`, under the lock. Acquire: pairs with the
        // release in `hand_on`.
        while self.durable() < target && !waiter.told.load(Ordering::Acquire) {
            if self.poison().check().is_err() {
                break;
            }
            // A write that fails outside a sync wakes nobody here, so look up now and then.
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                Some(left) => thread::park_timeout(left.min(LOOK_UP)),
                None => thread::park_timeout(LOOK_UP),
            }
        }
        self.passive.lock().retain(|other| !Arc::ptr_eq(other, &waiter));
        if self.durable() >= target {
            return Ok(true);
        }
        self.poison().check().map(|()| false)
    }

    /// Syncs for everyone, then hands the lead on.
    fn lead(&self, target: u64, marker: LeaveMarker<'_>) -> Result<()> {
        self.gather();
        let flushed = self.flush(target, marker);
        // As late as possible. Who comes from now on may be served by this sync or not, and does not count on it.
        let batch = self.queue.lock().take();
        let synced = flushed.and_then(|()| self.sync(batch.target));
        self.hand_on(&batch, &synced);
        synced.map(drop)
    }

    /// Waits for the threads of the last round to want a sync again, as long as that is worthwhile.
    fn gather(&self) {
        let round = self.queue.lock().round;
        let Some(patience) = round.patience() else { return };
        let arrived = || self.arrived.load(Ordering::Relaxed);
        let (before, begun) = (arrived(), Instant::now());
        let mut now = begun;
        while arrived() < round.threads && now < patience {
            let_time_pass();
            now = Instant::now();
        }
        self.queue.lock().round.waited(before, arrived(), now.saturating_duration_since(begun));
    }

    /// Hands to the operating system what the leader needs, and what else has come by now.
    fn flush(&self, target: u64, marker: LeaveMarker<'_>) -> Result<()> {
        self.poison().check()?;
        marker(self.durable());
        self.flush.flush_to(target)?;
        // The thread on deck may have flushed up to the target long before.
        self.flush.flush_if_free()
    }

    /// Makes everything below `target` durable, and what else is flushed. Returns how long the sync took.
    fn sync(&self, target: u64) -> Result<Duration> {
        let flush = &self.flush;
        flush.flush_to(target)?;
        let from = self.durable();
        // Read before the sync begins: what is flushed while it runs may miss it.
        let (upto, records) = flush.flushed_records();
        let begun = Instant::now();
        stream::sync(&flush.segments, from, upto).map_err(|error| self.poison().set(error))?;
        let took = begun.elapsed();
        flush.counters.latency.record(took);
        count(&flush.counters.syncs, 1);
        let synced = read(&flush.counters.records_synced);
        count(&flush.counters.records_synced, records.saturating_sub(synced));
        flush.watermarks.durable.advance(upto);
        flush.segments.handles.retire_below(upto >> flush.segments.shift);
        Ok(took)
    }

    /// Wakes those whose sync has ended, and one of those who came meanwhile to lead them.
    fn hand_on(&self, batch: &Batch, synced: &Result<Duration>) {
        let durable = self.durable();
        let mut queue = self.queue.lock();
        let mut served = batch.threads;
        queue.ended = batch.number;
        // Who was just about to join when the batch was taken: the records were flushed, and are durable now.
        let late = queue.next.threads > 0 && queue.next.target <= durable;
        if late {
            let late = queue.take();
            served += late.threads;
            queue.ended = late.number;
        }
        let left = queue.next.threads;
        queue.led = left > 0;
        queue.wanted = left > 0;
        self.arrived.store(left, Ordering::Relaxed);
        queue.round.end(served, left, synced.as_ref().ok().copied());
        drop(queue);
        // Those who were served first: what they commit next may still come into the sync that follows.
        if batch.threads > 1 {
            self.queue.wake_all(place(batch.number));
        }
        if late {
            self.queue.wake_all(place(batch.number + 1));
        } else if left > 0 {
            self.queue.wake_one(place(batch.number + 1));
        }
        for waiter in &*self.passive.lock() {
            // Release: pairs with the acquire in `wait_durable`.
            if (synced.is_err() || waiter.target <= durable) && !waiter.told.swap(true, Ordering::Release) {
                waiter.thread.unpark();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Duration = Duration::from_micros(100);

    /// A round of `threads` in a log whose syncs take [`SYNC`].
    fn round(threads: u64) -> Round {
        let mut round = Round::first();
        for _ in 0..100 {
            round.end(threads, 0, Some(SYNC));
        }
        round
    }

    #[test]
    fn one_thread_waits_for_nobody_and_no_wait_is_long() {
        assert_eq!(round(1).patience(), None);
        let two = round(2);
        let patience = two.patience().expect("another one may come back").saturating_duration_since(two.ended);
        assert!(patience <= SYNC / 2 && patience > SYNC / 3, "{patience:?}");
        let mut slow = two;
        for _ in 0..1000 {
            slow.end(2, 0, Some(SYNC * 1000));
        }
        let patience = slow.patience().expect("another one may come back").saturating_duration_since(slow.ended);
        assert_eq!(patience, LONGEST_WAIT);
    }

    #[test]
    fn a_sync_that_was_slow_once_is_no_reason_for_patience() {
        let mut round = round(2);
        round.end(2, 0, Some(SYNC * 8));
        assert!(round.sync < SYNC * 2);
        round.end(2, 0, Some(SYNC));
        assert_eq!(round.sync, SYNC);
    }

    #[test]
    fn waits_in_vain_become_rare_and_one_that_pays_brings_them_back() {
        let mut round = round(2);
        // How many syncs begin without a wait after so many waits in vain.
        for rests in [1, 3, 7, 15, 31, 63, 63, 63] {
            round.waited(1, 1, SYNC / 2);
            round.end(1, 1, Some(SYNC));
            let mut rested = 0;
            while round.patience().is_none() {
                round.end(1, 1, Some(SYNC));
                rested += 1;
            }
            assert_eq!(rested, rests);
        }
        round.waited(1, 2, SYNC / 10);
        round.end(2, 0, Some(SYNC));
        assert!(round.patience().is_some());
    }
}
