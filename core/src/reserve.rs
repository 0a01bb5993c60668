//! RESERVE: one `fetch_add` hands out positions of the stream, and refuses what the prepared disk space cannot hold.
//!
//! # The word
//!
//! The watermark `reserved` lives in one u64: a version in the upper 8 bits, and the position in units of 8 bytes below.
//! `limit` is packed alike: the version that is in force, and the end of the prepared space. To append is to add one's
//! size to the word; the value that was there before says what one got:
//!
//! - same version as the limit read before, and the end is not above that limit: the claim stands. Nothing else is
//!   looked at. This is every append but one in hundreds of thousands.
//! - otherwise [`Reserve::settle`] decides under a lock, by the limit of the version that the addition met.
//!
//! An addition that overruns the limit of its version reserves nothing. Exactly one of those that overran began at or
//! below the limit: it is the one that knows where the valid claims end, and *reopens* the word by storing that position
//! back into it, which wipes out every addition that overran. So a full disk refuses appends before they are ordered,
//! without a compare-and-swap loop for those that fit, and no position is ever claimed that cannot be kept.
//!
//! Why the version: the limit is raised while others add. Raising it changes the word (to the next version) and the
//! limit in two steps; the version that an addition met tells by which limit it is to be judged. Reopening without a new
//! limit needs no new version: what overran a limit overruns it whenever it is looked at.
//!
//! Why 8 bits are enough. A version is kept until everything below its limit was flushed ([`Reserve::raise`]), so that of a
//! valid claim, which is not published before it is settled, is always there, and found among those with the same 8 bits
//! by its position. An addition that overran, and whose thread then slept through 256 raises or more, is held against
//! newer versions too, but also against the position at which each began ([`Extent::base`]). Each raise adds at least a
//! segment, and the limit is never more than a few segments ahead; so that position lies some 250 segments beyond the
//! limit that was overrun, further than additions of at most a ring each, one for each thread, overrun it. (Longer claims
//! do not add, they compare and swap: [`Reserve::claim_long`].)

use std::collections::VecDeque;

use crate::format::HEADER_WORD;
use crate::primitive::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, Padded, hint};

const POSITION_BITS: u32 = 56;
const VERSIONS: usize = 256;

// All positions of a stream fit, with as much room again for additions that overrun.
const _: () = assert!(crate::lsn::Lsn::MAX.get() / HEADER_WORD as u64 * 2 == 1 << POSITION_BITS);

/// An exclusive part of the stream. Not `Clone`, and made only here: rule R1 of the ring.
#[derive(Debug)]
pub(crate) struct Claim {
    position: u64,
    size: u64,
}

impl Claim {
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    #[inline]
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.position + self.size
    }

    #[cfg(test)]
    pub(crate) fn for_test(position: u64, size: u64) -> Claim {
        Claim { position, size }
    }
}

/// Why nothing was claimed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The prepared disk space does not hold it.
    NeedSpace,
    /// The log is closed or poisoned.
    Shut,
    /// `try_claim` only: it would have to wait.
    Full,
}

/// One version: where the stream stood when it began, and how far it may go.
struct Extent {
    base: u64,
    limit: u64,
}

/// What is decided under the lock.
struct Gate {
    /// The versions that may still be asked for, the newest at the back.
    extents: VecDeque<Extent>,
    /// The version of the newest extent, in full.
    version: u64,
    /// The end of the prepared space; ahead of the newest extent's limit while the word is overrun.
    available: u64,
    /// Everything below was flushed, so every claim there is settled.
    flushed: u64,
    /// Where the stream ends, once it was shut.
    shut_at: Option<u64>,
}

impl Gate {
    /// The limit in force.
    fn limit(&self) -> u64 {
        self.extents.back().expect("there is always a version").limit
    }

    /// Where the version in force began.
    fn base(&self) -> u64 {
        self.extents.back().expect("there is always a version").base
    }
}

/// The reservation.
pub(crate) struct Reserve {
    word: Padded<AtomicU64>,
    limit: Padded<AtomicU64>,
    gate: Mutex<Gate>,
    reopened: Condvar,
}

const fn pack(version: u64, position: u64) -> u64 {
    (version << POSITION_BITS) | (position / HEADER_WORD as u64)
}

#[inline]
const fn position_of(word: u64) -> u64 {
    (word & ((1 << POSITION_BITS) - 1)) * HEADER_WORD as u64
}

#[inline]
const fn same_version(a: u64, b: u64) -> bool {
    (a ^ b) >> POSITION_BITS == 0
}

impl Reserve {
    /// Starts at `position`, with disk space prepared up to `limit`.
    pub(crate) fn new(position: u64, limit: u64) -> Reserve {
        debug_assert!(position % 8 == 0 && limit % 8 == 0 && position <= limit);
        let gate = Gate {
            extents: VecDeque::from([Extent { base: position, limit }]),
            version: 0,
            available: limit,
            flushed: position,
            shut_at: None,
        };
        Reserve {
            word: Padded(AtomicU64::new(pack(0, position))),
            limit: Padded(AtomicU64::new(pack(0, limit))),
            gate: Mutex::new(gate),
            reopened: Condvar::new(),
        }
    }

    /// Claims `size` bytes, a multiple of 8.
    ///
    /// Acquire on the limit pairs with the release in [`Reserve::begin_version`]: an addition that follows
    /// the load of a limit in the code then follows the change of the word to that limit's version in the word's
    /// modification order, so equal versions mean that this very limit was in force. The addition itself is relaxed: it
    /// only has to be atomic; the bytes and the ring space are ordered by `publish.rs` and `flush.rs`.
    #[inline]
    pub(crate) fn claim(&self, size: u64) -> Result<Claim, Refused> {
        self.add(size).or_else(|word| self.claim_settled(word, size))
    }

    /// Adds `size`; the claim if it obviously stands, else the word that the addition met, which must then be
    /// [settled](Reserve::claim_settled).
    #[inline]
    pub(crate) fn add(&self, size: u64) -> Result<Claim, u64> {
        let limit = self.limit.load(Ordering::Acquire);
        let word = self.word.fetch_add(size / HEADER_WORD as u64, Ordering::Relaxed);
        let position = position_of(word);
        if same_version(word, limit) && position + size <= position_of(limit) {
            return Ok(Claim { position, size });
        }
        Err(word)
    }

    /// Settles an addition that met `word`, and adds again for as long as it was wiped out.
    #[cold]
    pub(crate) fn claim_settled(&self, mut word: u64, size: u64) -> Result<Claim, Refused> {
        loop {
            if let Some(claim) = self.settle(word, size)? {
                return Ok(claim);
            }
            match self.add(size) {
                Ok(claim) => return Ok(claim),
                Err(again) => word = again,
            }
        }
    }

    /// Claims `size` bytes if that needs no waiting: the space is prepared and the claim ends at or below `room_end`, the
    /// end of the free ring space. A compare-and-swap, since nothing may be added that does not stand.
    pub(crate) fn try_claim(&self, size: u64, room_end: u64) -> Result<Claim, Refused> {
        loop {
            let limit = self.limit.load(Ordering::Acquire);
            let word = self.word.load(Ordering::Relaxed);
            let position = position_of(word);
            if !same_version(word, limit) {
                hint::spin_loop();
                continue;
            }
            if position_of(limit) == 0 {
                return Err(Refused::Shut);
            }
            if position > position_of(limit) || position + size > room_end {
                return Err(Refused::Full);
            }
            if position + size > position_of(limit) {
                return Err(Refused::NeedSpace);
            }
            let next = word + size / HEADER_WORD as u64;
            if self.word.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(Claim { position, size });
            }
        }
    }

    /// Claims `size` bytes that are more than a ring: by compare-and-swap, so that an addition never overruns by much.
    pub(crate) fn claim_long(&self, size: u64) -> Result<Claim, Refused> {
        loop {
            match self.try_claim(size, u64::MAX) {
                // Overrun: wait until it is reopened.
                Err(Refused::Full) => {
                    self.settled(&mut self.gate.lock());
                }
                result => return result,
            }
        }
    }

    /// Judges an addition that met `word`, by the limit of the version it met. `None`: it overran and was wiped out, add
    /// again.
    fn settle(&self, word: u64, size: u64) -> Result<Option<Claim>, Refused> {
        let mut gate = self.gate.lock();
        let position = position_of(word);
        let age = gate.version.wrapping_sub(word >> POSITION_BITS) as usize % VERSIONS;
        let mut met = gate.extents.iter().rev().skip(age).step_by(VERSIONS);
        if met.any(|extent| extent.base <= position && position + size <= extent.limit) {
            return Ok(Some(Claim { position, size }));
        }
        if let Some(end) = gate.shut_at {
            // However often somebody tries, the additions must not reach the version's bits.
            self.reset(pack(gate.version, end));
            return Err(Refused::Shut);
        }
        let limit = gate.limit();
        if age == 0 && position <= limit && gate.base() <= position {
            // This addition is the one that overran the limit from at or below it. Everything below `position` is claimed;
            // all that was added since overran as well, and is wiped out by this store.
            let raised = gate.available;
            self.reset(pack(gate.version + u64::from(raised > limit), position));
            if raised > limit {
                self.begin_version(&mut gate, position, raised);
            }
            self.reopened.notify_all();
            return if position + size <= raised { Ok(None) } else { Err(Refused::NeedSpace) };
        }
        self.settled(&mut gate);
        Ok(None)
    }

    /// Wipes out whatever was added. A swap where a store would do, off the fast path: loom does not know that nothing comes
    /// between an addition and the value it met, and would let the store take effect there.
    fn reset(&self, word: u64) {
        self.word.swap(word, Ordering::Relaxed);
    }

    /// Where the valid claims end, once the word is not overrun (whoever has to reopen it needs nothing but the lock).
    /// Claims may go on meanwhile. Where the stream was shut, its end.
    fn settled(&self, gate: &mut MutexGuard<'_, Gate>) -> u64 {
        loop {
            if let Some(end) = gate.shut_at {
                return end;
            }
            let position = position_of(self.word.load(Ordering::Relaxed));
            if position <= gate.limit() {
                return position;
            }
            self.reopened.wait(gate);
        }
    }

    /// Disk space is now prepared up to `end`, and everything below `flushed` was flushed.
    pub(crate) fn raise(&self, end: u64, flushed: u64) {
        let mut gate = self.gate.lock();
        gate.flushed = gate.flushed.max(flushed);
        if gate.shut_at.is_some() || end <= gate.available {
            return;
        }
        gate.available = end;
        loop {
            let word = self.word.load(Ordering::Relaxed);
            if position_of(word) > gate.limit() {
                // Whoever overran from below the limit is on its way, and raises the limit when it reopens the word.
                return;
            }
            if self.change_version(&mut gate, word, end) {
                return;
            }
        }
    }

    /// Ends the stream: every claim from now on is refused. Returns where it ends; all that was claimed lies below.
    pub(crate) fn shut(&self) -> u64 {
        let mut gate = self.gate.lock();
        while gate.shut_at.is_none() {
            self.settled(&mut gate);
            let word = self.word.load(Ordering::Relaxed);
            if position_of(word) <= gate.limit() && self.change_version(&mut gate, word, 0) {
                gate.shut_at = Some(position_of(word));
                self.reopened.notify_all();
            }
        }
        gate.shut_at.expect("just set")
    }

    /// Whether the stream was shut. Whoever sees it and then asks for [`Reserve::reserved`] is told the stream's end.
    pub(crate) fn is_shut(&self) -> bool {
        // Acquire: pairs with the release in `begin_version`; the word has the version that refuses claims already.
        position_of(self.limit.load(Ordering::Acquire)) == 0
    }

    /// Puts the next version in force, with `limit`, where the word still is `word`, which is not overrun.
    fn change_version(&self, gate: &mut Gate, word: u64, limit: u64) -> bool {
        let base = position_of(word);
        let next = pack(gate.version + 1, base);
        let changed = self.word.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if changed {
            self.begin_version(gate, base, limit);
        }
        changed
    }

    /// Records the version that the word has just got.
    fn begin_version(&self, gate: &mut Gate, base: u64, limit: u64) {
        gate.version += 1;
        gate.extents.push_back(Extent { base, limit });
        while gate.extents.len() > 1 && gate.extents[0].limit <= gate.flushed {
            gate.extents.pop_front();
        }
        // Release: pairs with the acquire in `claim`, `try_claim` and `reserved`; the word has this version already.
        self.limit.store(pack(gate.version, limit), Ordering::Release);
    }

    /// The watermark: every claim that was made before this call ends at or below it.
    pub(crate) fn reserved(&self) -> u64 {
        let limit = self.limit.load(Ordering::Acquire);
        let word = self.word.load(Ordering::Relaxed);
        if same_version(word, limit) && position_of(word) <= position_of(limit) {
            return position_of(word);
        }
        self.settled(&mut self.gate.lock())
    }

    /// The end of the prepared space.
    #[cfg(test)]
    fn available(&self) -> u64 {
        self.gate.lock().available
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::{Arc, thread};

    #[test]
    fn a_claim_beyond_the_limit_is_refused_and_a_smaller_one_still_fits() {
        let reserve = Reserve::new(0, 100 * 8);
        assert_eq!(reserve.claim(90 * 8).unwrap().position(), 0);
        assert_eq!(reserve.claim(11 * 8).unwrap_err(), Refused::NeedSpace);
        assert_eq!(reserve.reserved(), 90 * 8);
        assert_eq!(reserve.claim(10 * 8).unwrap().position(), 90 * 8);
        assert_eq!(reserve.claim(8).unwrap_err(), Refused::NeedSpace);
        reserve.raise(101 * 8, 0);
        assert_eq!(reserve.claim(8).unwrap().position(), 100 * 8);
    }

    #[test]
    fn nothing_is_claimed_once_shut() {
        let reserve = Reserve::new(0, 800);
        reserve.claim(80).unwrap();
        assert_eq!(reserve.shut(), 80);
        assert_eq!(reserve.claim(8).unwrap_err(), Refused::Shut);
        assert_eq!(reserve.try_claim(8, u64::MAX).unwrap_err(), Refused::Shut);
        reserve.raise(8000, 0);
        assert_eq!(reserve.claim(8).unwrap_err(), Refused::Shut);
        assert_eq!((reserve.shut(), reserve.reserved()), (80, 80));
    }

    #[test]
    fn try_claim_never_waits() {
        let reserve = Reserve::new(0, 800);
        assert_eq!(reserve.try_claim(88, 80).unwrap_err(), Refused::Full);
        assert_eq!(reserve.try_claim(88, 88).unwrap().position(), 0);
        assert_eq!(reserve.try_claim(720, 8000).unwrap_err(), Refused::NeedSpace);
    }

    /// Many threads claim while the limit is raised in small steps: whatever overran, was judged late or was wiped out,
    /// the claims that stand are disjoint, leave no gap, and end below the limit.
    #[test]
    fn claims_are_contiguous_under_contention() {
        const LIMIT: u64 = if cfg!(miri) { 40 } else { 3000 } * 64;
        let reserve = Arc::new(Reserve::new(0, 64));
        let workers: Vec<_> = (1..=if cfg!(miri) { 3 } else { 6u64 })
            .map(|worker| {
                let reserve = Arc::clone(&reserve);
                thread::spawn(move || {
                    let mut claims = Vec::new();
                    loop {
                        match reserve.claim(8 * (1 + (worker + claims.len() as u64) % 7)) {
                            Ok(claim) => claims.push((claim.position(), claim.end())),
                            Err(Refused::NeedSpace) if reserve.available() < LIMIT => thread::yield_now(),
                            Err(_) => return claims,
                        }
                    }
                })
            })
            .collect();
        while reserve.available() < LIMIT {
            // Nothing is flushed, as far as this one knows, so nothing is forgotten.
            reserve.raise(reserve.available() + 64, 0);
            if reserve.available() % 640 == 0 {
                thread::yield_now();
            }
        }
        let mut claims: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        claims.sort_unstable();
        let mut end = 0;
        for (from, to) in claims {
            assert_eq!(from, end);
            end = to;
        }
        assert!(end <= LIMIT && end > LIMIT - 64 && end == reserve.reserved());
    }
}
