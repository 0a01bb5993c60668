//! COPY: the buffer between the appending threads and the flusher. One of the few files with unsafe code.
//!
//! The ring holds the bytes of the stream at positions `flushed .. flushed + capacity`; position `p` lives at offset
//! `p % capacity`. Three rules keep every access exclusive or shared-and-unchanging:
//!
//! - R1. [`Claim`]s are disjoint: `reserve.rs` makes each from one atomic addition and never hands out a position twice.
//! - R2. A claim is written only while `claim.end() <= flushed + capacity`, so no other claim maps to the same bytes; and
//!   only by the one thread that owns it, before it is published.
//! - R3. A [`Run`] lies between `flushed` and `published`, and `flushed` does not pass it while it is borrowed. Published
//!   bytes are never written.

use std::ptr::NonNull;

use crate::format::{HEADER_WORD, Kind, Seal, Word};
use crate::primitive::Accesses;
use crate::publish::Run;
use crate::reserve::Claim;
use crate::storage::Memory;

/// A model checker counts every word.
const SMALLEST: usize = if cfg!(loom) { 64 } else { 4096 };

/// A fixed buffer of a power-of-two number of bytes.
pub(crate) struct Ring {
    base: NonNull<u8>,
    capacity: usize,
    accesses: Accesses,
    /// Where `base` points.
    memory: Memory,
}

// SAFETY: the ring is memory it owns alone, with no thread affinity.
unsafe impl Send for Ring {}
// SAFETY: by R1 to R3, accesses from several threads either touch disjoint bytes or only read; what one thread wrote
// another reads only after the publish (release) and the flusher's walk (acquire) ordered the two.
unsafe impl Sync for Ring {}

impl Ring {
    /// A ring that is all of `memory`.
    pub(crate) fn new(memory: Memory) -> Ring {
        let capacity = memory.len();
        assert!(capacity.is_power_of_two() && capacity >= SMALLEST, "options.rs checks the capacity");
        Ring { base: memory.base(), capacity, accesses: Accesses::new(capacity), memory }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    /// Writes the one record that `claim` was made for, if its payload is short (see [`Seal::short`]) and the ring does not
    /// end within it. `false`: nothing was written. Always inlined: there are two who call it, so the compiler would not, and the
    /// Python append would take a twentieth longer (`bindings/python/bench.py`).
    #[inline(always)]
    pub(crate) fn write_short(&self, claim: &mut Claim, seal: Seal, kind: Kind, payload: &[u8]) -> bool {
        debug_assert_ne!(kind, Kind::Padding);
        let word = Word::new(kind, payload.len());
        debug_assert_eq!(claim.size(), word.size());
        let (at, len) = (self.offset(claim.position()), claim.size() as usize - HEADER_WORD);
        let body = at + HEADER_WORD;
        if body + len > self.capacity {
            return false;
        }
        self.accesses.write(claim.position(), claim.size());
        // SAFETY: body + len <= capacity (just checked). Exclusive: R1 and R2.
        let copy = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(body), len) };
        let crc = seal.copy_short(claim.position(), word, copy, payload);
        // SAFETY: at is a multiple of 8 below the capacity, which is one too. Exclusive: R1 and R2.
        unsafe { self.base.as_ptr().add(at).cast::<[u8; HEADER_WORD]>().write(word.to_bytes(crc)) };
        true
    }

    /// Writes the one record that `claim` was made for: payload, padding and header word.
    pub(crate) fn write_record(&self, claim: &mut Claim, seal: Seal, kind: Kind, payload: &[u8]) {
        let (position, size) = (claim.position(), claim.size());
        self.write_member(claim, position, size, seal, kind, payload);
    }

    /// Writes one record of a claim for several: that of `size` bytes at position `lsn`.
    ///
    /// The checksum is taken over the copy, not over `payload`: if the caller's buffer changes meanwhile (another thread
    /// of a C program), the log still holds what its checksum says.
    #[inline]
    pub(crate) fn write_member(&self, claim: &mut Claim, lsn: u64, size: u64, seal: Seal, kind: Kind, payload: &[u8]) {
        assert!(lsn >= claim.position() && lsn + size <= claim.end(), "a record stays inside its claim");
        debug_assert_ne!(kind, Kind::Padding);
        let word = Word::new(kind, payload.len());
        debug_assert_eq!(size, word.size());
        self.accesses.write(lsn, size);
        let at = self.offset(lsn);
        let len = size as usize - HEADER_WORD;
        // A header word never wraps: positions and the capacity are multiples of its length.
        let body = at + HEADER_WORD;
        let crc = if body + len <= self.capacity {
            // SAFETY: body + len <= capacity (just checked). Exclusive: R1 and R2.
            let copy = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(body), len) };
            seal.copy(lsn, word, copy, payload)
        } else {
            // SAFETY: body <= capacity, since a header word never wraps; the assertion above, R1 and R2 say the rest.
            unsafe { self.write_wrapped(body, len, seal.begin(lsn, word), payload) }
        };
        // SAFETY: at is a multiple of 8 below the capacity, which is one too. Exclusive: R1 and R2.
        unsafe { self.base.as_ptr().add(at).cast::<[u8; HEADER_WORD]>().write(word.to_bytes(crc)) };
    }

    /// Copies `payload` and its padding, `len` bytes in all, to offset `body` and, behind the ring's end, to its front, and
    /// continues the checksum `crc` over them.
    ///
    /// # Safety
    /// `body` is not above the capacity, and these bytes of the ring are those of a claim that the caller borrows.
    #[cold]
    unsafe fn write_wrapped(&self, body: usize, len: usize, crc: u32, payload: &[u8]) -> u32 {
        let before = (self.capacity - body).min(len);
        let (first, second) = payload.split_at(before.min(payload.len()));
        // SAFETY: body + before <= capacity and len - before < capacity. Exclusive: the caller's claim, R1 and R2. The two
        // do not overlap each other, since a claim in the ring is not longer than it.
        let (tail, front) = unsafe {
            (
                std::slice::from_raw_parts_mut(self.base.as_ptr().add(body), before),
                std::slice::from_raw_parts_mut(self.base.as_ptr(), len - before),
            )
        };
        copy_padded(tail, first);
        copy_padded(front, second);
        Seal::extend(Seal::extend(crc, tail), front)
    }

    /// The bytes of a published run, in two parts where it wraps.
    pub(crate) fn slices(&self, run: &Run) -> (&[u8], &[u8]) {
        let len = usize::try_from(run.end() - run.start()).expect("a run fits the ring");
        assert!(len <= self.capacity, "a run fits the ring");
        self.accesses.read(run.start(), len as u64);
        let at = self.offset(run.start());
        let first = len.min(self.capacity - at);
        // SAFETY: at + first <= capacity and len - first <= at. Not written while borrowed: R3. Initialised: the whole
        // ring was zeroed, and the walk (acquire) that made the run saw each record's publish (release).
        unsafe {
            (
                std::slice::from_raw_parts(self.base.as_ptr().add(at), first),
                std::slice::from_raw_parts(self.base.as_ptr(), len - first),
            )
        }
    }

    #[inline]
    fn offset(&self, position: u64) -> usize {
        (position & (self.capacity as u64 - 1)) as usize
    }
}

/// Copies `payload` to the front of `to` and zeros what is left: the padding, at most 7 bytes.
fn copy_padded(to: &mut [u8], payload: &[u8]) {
    let (front, zeros) = to.split_at_mut(payload.len());
    front.copy_from_slice(payload);
    zeros.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{LogId, decode, record_size};
    use crate::primitive::Arc;
    use crate::publish::Publish;
    use crate::reserve::Reserve;
    use crate::watermark::Watermarks;
    use std::thread;

    #[test]
    fn records_come_out_as_they_went_in_wherever_they_wrap() {
        let ring = Ring::new(Memory::allocate(SMALLEST).unwrap());
        let seal = Seal::new(LogId::from_bytes([1; 16]), 0);
        // Under Miri only where it begins, wraps and begins anew.
        let from = if cfg!(miri) { SMALLEST as u64 - 112 } else { 0 };
        let until = if cfg!(miri) { SMALLEST as u64 + 16 } else { 2 * SMALLEST as u64 };
        for start in (from..until).step_by(8) {
            let payload: Vec<u8> = (0..77).map(|n| (n ^ start) as u8).collect();
            let size = record_size(payload.len());
            let mut claim = Claim::for_test(start, size);
            ring.write_record(&mut claim, seal, Kind::Data, &payload);
            let (a, b) = ring.slices(&Run::for_test(start, start + size));
            let bytes = [a, b].concat();
            assert_eq!(decode(&bytes, seal, start).unwrap().payload, payload);
        }
    }

    /// What a record of `size` bytes holds at `lsn`: with any padding from none to seven bytes.
    fn payload_at(lsn: u64, size: u64) -> Vec<u8> {
        let len = (size - HEADER_WORD as u64).saturating_sub(lsn / 8 % 8);
        (0..len).map(|n| (n ^ (lsn >> 3)) as u8).collect()
    }

    /// The way of a record without the files: writers claim, wait for room, copy and publish, here a record and there a
    /// batch; the flusher walks, reads and releases. No lock is on the way, so what Miri and ThreadSanitizer see ordered
    /// is ordered by the orderings of `publish.rs` and `watermark.rs`.
    #[test]
    fn what_writers_publish_is_what_the_flusher_reads() {
        const WRITERS: u64 = 3;
        let rounds = if cfg!(miri) { 8 } else { 3000 };
        let ring = Ring::new(Memory::allocate(SMALLEST).unwrap());
        let reserve = Reserve::new(0, 1 << 32);
        let watermarks = Arc::new(Watermarks::at(0));
        let (publish, mut walker) = Publish::new(SMALLEST as u64, 0, Arc::clone(&watermarks));
        let seal = Seal::new(LogId::from_bytes([1; 16]), 0);
        let write = |sizes: &[u64]| {
            let mut claim = reserve.claim(sizes.iter().sum()).unwrap();
            while claim.end() > watermarks.flushed.load() + SMALLEST as u64 {
                thread::yield_now();
            }
            let mut lsn = claim.position();
            for size in sizes {
                ring.write_member(&mut claim, lsn, *size, seal, Kind::Data, &payload_at(lsn, *size));
                lsn += size;
            }
            match sizes.len() {
                1 => publish.publish(claim),
                _ => publish.publish_batch(claim, sizes.iter().copied()),
            }
        };
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let write = &write;
                scope.spawn(move || {
                    for round in 0..rounds {
                        match (writer + round) % 4 {
                            0 => write(&[8, 104, 16]),
                            other => write(&[8 * (1 + 31 * other % 47)]),
                        }
                    }
                });
            }
            let (mut records, mut expected) = (0, 0);
            for writer in 0..WRITERS {
                expected += (0..rounds).map(|round| if (writer + round) % 4 == 0 { 3 } else { 1 }).sum::<u64>();
            }
            while records < expected {
                let run = publish.walk(&mut walker, SMALLEST as u64, 20);
                if run.start() == run.end() {
                    thread::yield_now();
                    continue;
                }
                let (a, b) = ring.slices(&run);
                let bytes = [a, b].concat();
                let mut lsn = run.start();
                while lsn < run.end() {
                    let record = decode(&bytes[(lsn - run.start()) as usize..], seal, lsn).unwrap();
                    assert_eq!(record.payload, payload_at(lsn, record.size));
                    lsn += record.size;
                }
                assert_eq!(lsn, run.end());
                records += run.records;
                watermarks.flushed.advance(run.end());
            }
            assert_eq!(records, expected);
        });
    }
}
