//! The CRC-32C of short runs of bytes. For a record of a hundred bytes the general function's choice between ways to work
//! in parallel costs more than the checksum itself: with this, an append of 100 bytes takes a third to a half less time.

/// Up to here one instruction after the other is faster than several side by side.
#[cfg(target_arch = "x86_64")]
const SHORT: usize = 512;

/// Continues the checksum `crc` over two numbers, as they lie in memory on a little-endian machine.
#[inline]
pub(super) fn extend_by_words(crc: u32, first: u64, second: u64) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instructions that the function is compiled for, as was just asked.
        return unsafe { two_words(crc, first, second) };
    }
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..].copy_from_slice(&second.to_le_bytes());
    crc32c::crc32c_append(crc, &bytes)
}

/// Continues the checksum `crc` over `bytes`.
#[inline]
pub(super) fn extend(crc: u32, bytes: &[u8]) -> u32 {
    // Records are padded to whole words, so nothing that is short and common has a remainder.
    #[cfg(target_arch = "x86_64")]
    if bytes.len() <= SHORT && bytes.len() % 8 == 0 && is_x86_feature_detected!("sse4.2") {
        // SAFETY: as above.
        return unsafe { words(crc, bytes) };
    }
    crc32c::crc32c_append(crc, bytes)
}

/// Copies `from` to the front of `to`, which is as much longer as padding to whole words makes it, fills up with zeros, and
/// continues the checksum `crc` over two numbers and what `to` then holds.
pub(super) fn copy(crc: u32, first: u64, second: u64, to: &mut [u8], from: &[u8]) -> u32 {
    let crc = extend_by_words(crc, first, second);
    let (front, zeros) = to.split_at_mut(from.len());
    front.copy_from_slice(from);
    zeros.fill(0);
    extend(crc, to)
}

/// Short copies in one pass, where the processor can sum a word with one instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OnePass {
    /// Copies shorter than this are short. Not 0 only if the processor has SSE 4.2.
    below: usize,
}

impl OnePass {
    /// What this processor can do.
    pub(super) fn detect() -> OnePass {
        // Miri interprets no assembler.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if is_x86_feature_detected!("sse4.2") {
            return OnePass { below: SHORT };
        }
        OnePass { below: 0 }
    }

    /// Copies shorter than this may be made.
    pub(super) fn below(self) -> usize {
        self.below
    }

    /// As [`copy`], without a call on the way.
    ///
    /// Each word goes through a register once, from where it is both stored and summed. Copying first and reading the copy
    /// back made an append of 100 bytes take a third longer (`make bench-c` before and after): the wide stores of a copy that
    /// overlap each other cannot be forwarded to narrow loads.
    ///
    /// `inline(always)`: in the C library, where several functions append, the compiler made a call of it, with two arguments
    /// on the stack; each call from C took about a nanosecond more.
    #[inline(always)]
    pub(super) fn copy(self, crc: u32, first: u64, second: u64, to: &mut [u8], from: &[u8]) -> u32 {
        assert!(to.len() < self.below, "the caller looked");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `below` is not 0, so the processor has SSE 4.2.
        return unsafe { copy_in_one_pass(crc, first, second, to, from) };
        #[cfg(not(target_arch = "x86_64"))]
        copy(crc, first, second, to, from)
    }
}

/// # Safety
/// The processor has SSE 4.2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn copy_in_one_pass(crc: u32, first: u64, second: u64, to: &mut [u8], from: &[u8]) -> u32 {
    let mut state = u64::from(!crc);
    let mut next = |word| {
        // SAFETY: the function's own condition.
        let (sum, word) = unsafe { sum(state, word) };
        state = sum;
        word
    };
    next(first);
    next(second);
    let (whole, rest) = from.split_at(from.len() & !7);
    let (to, last) = to.split_at_mut(whole.len());
    let (mut to, mut whole) = (to.chunks_exact_mut(32), whole.chunks_exact(32));
    for (to, from) in to.by_ref().zip(whole.by_ref()) {
        for at in [0, 8, 16, 24] {
            to[at..at + 8].copy_from_slice(&next(u64_at(&from[at..at + 8])).to_le_bytes());
        }
    }
    for (to, word) in to.into_remainder().chunks_exact_mut(8).zip(whole.remainder().chunks_exact(8)) {
        to.copy_from_slice(&next(u64_at(word)).to_le_bytes());
    }
    if !rest.is_empty() {
        last.copy_from_slice(&next(last_word(from, rest)).to_le_bytes());
    }
    !(state as u32)
}

/// Continues a checksum, inverted as the instruction has it, over one word. Returns it and the word.
///
/// The instruction itself, for two reasons. A function that is compiled for a processor that has it is not inlined into one
/// that is not. And what the compiler knows nothing of it cannot load a second time: it would else make one copy of all words,
/// and sum the source, which another thread of a C program may change meanwhile.
///
/// # Safety
/// The processor has SSE 4.2.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn sum(mut state: u64, mut word: u64) -> (u64, u64) {
    // SAFETY: the processor has the instruction (the function's own condition); it touches no memory and no flags.
    unsafe {
        std::arch::asm!("crc32 {state}, {word}", state = inout(reg) state, word = inout(reg) word,
            options(pure, nomem, nostack, preserves_flags));
    }
    (state, word)
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn u64_at(word: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(word);
    u64::from_le_bytes(bytes)
}

/// The last bytes `rest`, 1 to 7, of `bytes` as a word, with zeros behind them.
#[cfg(target_arch = "x86_64")]
#[inline]
fn last_word(bytes: &[u8], rest: &[u8]) -> u64 {
    match bytes.last_chunk::<8>() {
        // One load and a shift; a copy of a length known late would be a call.
        Some(last) => u64_at(last) >> (8 * (8 - rest.len())),
        None => rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// # Safety
/// The processor has SSE 4.2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
#[allow(unused_unsafe)] // As above.
unsafe fn two_words(crc: u32, first: u64, second: u64) -> u32 {
    use std::arch::x86_64::_mm_crc32_u64;
    // SAFETY: the function's own condition.
    let state = unsafe { _mm_crc32_u64(_mm_crc32_u64(u64::from(!crc), first), second) };
    // The instruction leaves the upper half zero.
    !(state as u32)
}

/// # Safety
/// The processor has SSE 4.2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
#[allow(unused_unsafe)] // As above.
unsafe fn words(crc: u32, bytes: &[u8]) -> u32 {
    use std::arch::x86_64::_mm_crc32_u64;
    let mut state = u64::from(!crc);
    for chunk in bytes.chunks_exact(8) {
        // SAFETY: the function's own condition.
        state = unsafe { _mm_crc32_u64(state, u64_at(chunk)) };
    }
    !(state as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_what_was_copied_and_has_its_checksum() {
        let bytes: Vec<u8> = (0..700_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        // Miri takes seconds for each hundred.
        for len in (0..600).step_by(if cfg!(miri) { 37 } else { 1 }).chain([695]) {
            for start in [0, 1, 5] {
                let from = &bytes[start..start + len];
                let mut to = vec![0xEE; len.next_multiple_of(8)];
                let crc = copy(77, 1 << 40, len as u64, &mut to, from);
                assert_eq!(&to[..len], from);
                assert!(to[len..].iter().all(|&byte| byte == 0), "{len} bytes: padded with zeros");
                let numbers = [(1_u64 << 40).to_le_bytes(), (len as u64).to_le_bytes()].concat();
                assert_eq!(crc, crc32c::crc32c_append(crc32c::crc32c_append(77, &numbers), &to), "{len} bytes");
            }
        }
    }

    #[test]
    fn the_two_ways_agree() {
        assert_eq!(extend(0, b"123456789"), 0xE306_9283);
        let bytes: Vec<u8> = (0..2000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut crc = 0xDEAD_BEEF;
        // Miri takes seconds for each hundred.
        let step = if cfg!(miri) { 151 } else { 1 };
        for len in (0..600).step_by(step).chain([8, 512, 1000, 1999]) {
            let (first, second) = (u64::from(crc) << 7, len as u64);
            let both = [first.to_le_bytes(), second.to_le_bytes()].concat();
            assert_eq!(extend_by_words(crc, first, second), crc32c::crc32c_append(crc, &both));
            for start in [0, 1, 3] {
                let run = &bytes[start..(start + len).min(bytes.len())];
                assert_eq!(extend(crc, run), crc32c::crc32c_append(crc, run), "{len} bytes from {start}");
                assert_eq!(extend(0, run), crc32c::crc32c(run));
            }
            crc = crc.rotate_left(5) ^ len as u32;
        }
    }
}
