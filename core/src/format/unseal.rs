//! Which epoch a record is sealed with, told by its checksum.
//!
//! A CRC is linear: over a run of bytes the register becomes what the same number of zeros would make of it, combined by XOR
//! with the [`Sum`] of the bytes. What zeros make of it can be undone. So from the checksum that a header word claims, and the
//! sum of the payload, follows the register that the payload must have begun with, from that the one behind the log's id and
//! the epoch, and from that the epoch: four bytes fill the register, so there is exactly one for each checksum. Trying a
//! thousand epochs costs no more than trying one, and a long payload no more than a short one if its sum is known.

use super::{HEADER_WORD, LogId, MAX_PAYLOAD, Word};

/// The polynomial of CRC-32C; the highest bit is the lowest power.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// Numbers of words below `1 << POWERS` are counted.
const POWERS: usize = 26;
const _: () = assert!(MAX_PAYLOAD / HEADER_WORD < 1 << POWERS);

/// What numbers of words of zeros make of a register: a power of two each.
static ZEROS: [Map; POWERS] = Map::of_bits(8 * HEADER_WORD, true).powers();
/// The same undone.
static UNDONE: [Map; POWERS] = Map::of_bits(8 * HEADER_WORD, false).powers();
/// Undone what zeros in place of the epoch, the LSN and the upper half of the header word make of it.
static HEAD_UNDONE: Map = Map::of_bits(8 * (4 + 8 + 8), false);

/// A linear map of registers: what each four bits of one contribute.
#[derive(Clone, Copy)]
struct Map([[u32; 16]; 8]);

impl Map {
    /// What `bits` zeros make of a register, or the same undone.
    const fn of_bits(bits: usize, forth: bool) -> Map {
        let mut images = [0; 32];
        let mut nth = 0;
        while nth < 32 {
            let mut register: u32 = 1 << nth;
            let mut bit = 0;
            while bit < bits {
                register = match forth {
                    true if register & 1 == 1 => register >> 1 ^ POLYNOMIAL,
                    true => register >> 1,
                    // The polynomial has the highest bit, and nothing else can have brought it there.
                    false if register >> 31 == 1 => (register ^ POLYNOMIAL) << 1 | 1,
                    false => register << 1,
                };
                bit += 1;
            }
            images[nth] = register;
            nth += 1;
        }
        Map::of_images(&images)
    }

    /// The map that makes these of the single bits.
    const fn of_images(images: &[u32; 32]) -> Map {
        let mut map = [[0; 16]; 8];
        let mut digit = 0;
        while digit < 8 {
            let mut value: usize = 1;
            while value < 16 {
                map[digit][value] =
                    map[digit][value & (value - 1)] ^ images[4 * digit + value.trailing_zeros() as usize];
                value += 1;
            }
            digit += 1;
        }
        Map(map)
    }

    const fn apply(&self, register: u32) -> u32 {
        let mut image = 0;
        let mut digit = 0;
        while digit < 8 {
            image ^= self.0[digit][(register >> (4 * digit) & 15) as usize];
            digit += 1;
        }
        image
    }

    /// This map, twice this, twice that, and so on.
    const fn powers(self) -> [Map; POWERS] {
        let mut powers = [self; POWERS];
        let mut power = 1;
        while power < POWERS {
            let half = &powers[power - 1];
            let mut images = [0; 32];
            let mut nth = 0;
            while nth < 32 {
                images[nth] = half.apply(half.apply(1 << nth));
                nth += 1;
            }
            powers[power] = Map::of_images(&images);
            power += 1;
        }
        powers
    }
}

/// Applies the first of `powers` `times` times.
fn repeated(powers: &[Map; POWERS], mut register: u32, times: u64) -> u32 {
    debug_assert!(times < 1 << POWERS);
    let mut left = times;
    while left > 0 {
        register = powers[left.trailing_zeros() as usize % POWERS].apply(register);
        left &= left - 1;
    }
    register
}

/// What a run of bytes adds to a checksum: the register behind them if it was zero in front of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sum(u32);

impl Sum {
    /// The sum of the run and of `bytes` behind it.
    #[inline]
    pub(crate) fn and(self, bytes: &[u8]) -> Sum {
        Sum(!super::crc::extend(!self.0, bytes))
    }

    /// The sum of the run and of `len` zeros behind it, a multiple of eight. Behind more than a record can hold, any sum: no
    /// record begins in front of them and ends behind them.
    pub(crate) fn and_zeros(self, len: u64) -> Sum {
        let words = len / HEADER_WORD as u64;
        if words < 1 << POWERS { Sum(repeated(&ZEROS, self.0, words)) } else { self }
    }
}

/// Tells the epochs of a log's records.
#[derive(Clone, Copy)]
pub(crate) struct Unseal {
    /// The register behind the log's id.
    id: u32,
}

impl Unseal {
    pub(crate) fn new(id: LogId) -> Unseal {
        Unseal { id: !crc32c::crc32c(&id.to_bytes()) }
    }

    /// The only epoch in which the checksum fits of a record at `lsn` that begins with `word`: `before` and `behind` are the
    /// sums of the stream, from anywhere on, to the beginning and to the end of what the checksum covers behind the word.
    #[inline]
    pub(crate) fn epoch(self, lsn: u64, word: Word, before: Sum, behind: Sum) -> u32 {
        let words = word.covered() / HEADER_WORD as u64;
        let payload = before.0 ^ repeated(&UNDONE, !word.crc ^ behind.0, words);
        let head = !super::crc::extend_by_words(!0, lsn, u64::from(word.meta));
        HEAD_UNDONE.apply(payload ^ head) ^ self.id
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Seal, write_record};
    use super::*;

    const ID: LogId = LogId::from_bytes(*b"0123456789abcdef");

    #[test]
    fn zeros_and_undone_zeros_are_what_they_are() {
        let zeros = vec![0; 8 * 300];
        for words in [0, 1, 2, 3, 64, 255, 300] {
            let sum = Sum(0xDEAD_BEEF);
            let behind = sum.and_zeros(8 * words);
            assert_eq!(behind, sum.and(&zeros[..8 * words as usize]), "{words} words");
            assert_eq!(repeated(&UNDONE, behind.0, words), sum.0, "{words} words");
        }
        let most = (1 << POWERS) - 1;
        assert_eq!(repeated(&UNDONE, repeated(&ZEROS, 77, most), most), 77);
    }

    #[test]
    fn a_records_epoch_is_found_wherever_the_sums_begin() {
        for epoch in [0, 1, 5, 77, 1 << 20, u32::MAX] {
            for (kind, len) in
                [(Kind::Data, 0), (Kind::Data, 1), (Kind::Batch, 24), (Kind::Padding, 99), (Kind::Checkpoint, 5000)]
            {
                let payload: Vec<u8> = (0..len).map(|n: u32| (n ^ epoch) as u8).collect();
                let mut bytes = Vec::new();
                write_record(&mut bytes, Seal::new(ID, epoch), 1 << 40, kind, &payload).unwrap();
                let word = Word::parse(&bytes).unwrap();
                let end = HEADER_WORD + word.covered() as usize;
                for front in [&b""[..], b"what stands in front of it"] {
                    let before = Sum::default().and(front).and(&bytes[..HEADER_WORD]);
                    let behind = before.and(&bytes[HEADER_WORD..end]);
                    assert_eq!(Unseal::new(ID).epoch(1 << 40, word, before, behind), epoch, "{kind:?}, {len}");
                }
            }
        }
    }
}
