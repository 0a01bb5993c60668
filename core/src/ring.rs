//! COPY: the buffer between the appending threads and the flusher. One of the two files with unsafe code.
//!
//! The ring holds the bytes of the stream at positions `flushed .. flushed + capacity`; position `p` lives at offset
//! `p % capacity`. Three rules keep every access exclusive or shared-and-unchanging:
//!
//! - R1. [`Claim`]s are disjoint: `reserve.rs` makes each from one atomic addition and never hands out a position twice.
//! - R2. A claim is written only while `claim.end() <= flushed + capacity`, so no other claim maps to the same bytes; and
//!   only by the one thread that owns it, before it is published.
//! - R3. A [`Run`] lies between `flushed` and `published`, and `flushed` does not pass it while it is borrowed. Published
//!   bytes are never written.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::format::{HEADER_WORD, Kind, Seal, Word, padding};
use crate::primitive::Accesses;
use crate::publish::Run;
use crate::reserve::Claim;

const PAGE: usize = 4096;
/// A model checker counts every word.
const SMALLEST: usize = if cfg!(loom) { 64 } else { PAGE };

/// A fixed buffer of a power-of-two number of bytes.
pub(crate) struct Ring {
    base: NonNull<u8>,
    capacity: usize,
    accesses: Accesses,
}

// SAFETY: the ring is memory it owns alone, with no thread affinity.
unsafe impl Send for Ring {}
// SAFETY: by R1 to R3, accesses from several threads either touch disjoint bytes or only read; what one thread wrote
// another reads only after the publish (release) and the flusher's walk (acquire) ordered the two.
unsafe impl Sync for Ring {}

impl Ring {
    /// A ring of `capacity` bytes; `None` if there is no memory for it.
    pub(crate) fn new(capacity: usize) -> Option<Ring> {
        assert!(capacity.is_power_of_two() && capacity >= SMALLEST, "options.rs checks the capacity");
        // SAFETY: the layout's size is not zero (asserted above).
        let base = unsafe { alloc_zeroed(Ring::layout(capacity)) };
        NonNull::new(base).map(|base| Ring { base, capacity, accesses: Accesses::new(capacity) })
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, PAGE).expect("a power of two of at least a page")
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity as u64
    }

    /// Writes one record into the part of `claim` that begins at position `lsn`: payload, padding and header word.
    ///
    /// The checksum is taken over the copy, not over `payload`: if the caller's buffer changes meanwhile (another thread
    /// of a C program), the log still holds what its checksum says. The copy is also aligned and in the cache.
    #[inline]
    pub(crate) fn write_record(&self, claim: &mut Claim, lsn: u64, seal: Seal, kind: Kind, payload: &[u8]) {
        let word = Word::new(kind, payload.len());
        assert!(lsn >= claim.position() && lsn + word.size() <= claim.end(), "a record stays inside its claim");
        debug_assert_ne!(kind, Kind::Padding);
        self.accesses.write(lsn, word.size());
        let at = self.offset(lsn);
        let len = (word.size() as usize) - HEADER_WORD;
        let crc = seal.begin(lsn, word);
        // A header word never wraps: positions and the capacity are multiples of its length.
        let body = at + HEADER_WORD;
        let crc = if body + len <= self.capacity {
            // SAFETY: body + len <= capacity (just checked). Exclusive: R1 and R2.
            let copy = unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(body), len) };
            copy_padded(copy, payload);
            Seal::extend(crc, copy)
        } else {
            let before = (self.capacity - body).min(len);
            let (first, second) = payload.split_at(before.min(payload.len()));
            // SAFETY: body + before <= capacity and len - before < capacity. Exclusive: R1 and R2; the two do not
            // overlap each other, since a record is not longer than the ring.
            let (tail, front) = unsafe {
                (
                    std::slice::from_raw_parts_mut(self.base.as_ptr().add(body), before),
                    std::slice::from_raw_parts_mut(self.base.as_ptr(), len - before),
                )
            };
            copy_padded(tail, first);
            copy_padded(front, second);
            Seal::extend(Seal::extend(crc, tail), front)
        };
        // SAFETY: at is a multiple of 8 below the capacity, which is one too. Exclusive: R1 and R2.
        unsafe { self.base.as_ptr().add(at).cast::<[u8; HEADER_WORD]>().write(word.to_bytes(crc)) };
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

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.base.as_ptr(), Ring::layout(self.capacity)) };
    }
}

/// Copies `payload` to the front of `to` and zeros what is left: the padding, at most 7 bytes.
#[inline]
fn copy_padded(to: &mut [u8], payload: &[u8]) {
    debug_assert!(to.len() - payload.len() <= padding(payload.len()).len() || payload.is_empty());
    // The last word first, as a whole: one store, where zeros of a length known late would be a call.
    if let Some(last) = to.last_chunk_mut::<HEADER_WORD>() {
        *last = [0; HEADER_WORD];
    }
    to[..payload.len()].copy_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{LogId, decode, record_size};

    #[test]
    fn records_come_out_as_they_went_in_wherever_they_wrap() {
        let ring = Ring::new(PAGE).unwrap();
        let seal = Seal::new(LogId::from_bytes([1; 16]), 0);
        for start in (0..2 * PAGE as u64).step_by(8) {
            let payload: Vec<u8> = (0..77).map(|n| (n ^ start) as u8).collect();
            let size = record_size(payload.len());
            let mut claim = Claim::for_test(start, size);
            ring.write_record(&mut claim, start, seal, Kind::Data, &payload);
            let (a, b) = ring.slices(&Run::for_test(start, start + size));
            let bytes = [a, b].concat();
            assert_eq!(decode(&bytes, seal, start).unwrap().payload, payload);
        }
    }
}
