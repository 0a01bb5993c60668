//! One record: the header word, the checksum, and how both are checked.

use std::io::{self, Read, Write};

use super::{LogId, u32_at};

/// The length of a record's header word, in bytes. Also the alignment of every record.
pub const HEADER_WORD: usize = 8;

/// The longest payload the format can express, in bytes: 28 bits of length.
pub const MAX_PAYLOAD: usize = (1 << 28) - 1;

const LEN_BITS: u32 = 28;
const ZEROS: [u8; HEADER_WORD] = [0; HEADER_WORD];

// A record's header word must fill exactly one alignment unit, and the length must leave four bits for the kind.
const _: () = assert!(HEADER_WORD == 8 && MAX_PAYLOAD < 1 << LEN_BITS && LEN_BITS + 4 == 32);

/// What a record is. Zero is no kind: space that was only prepared reads as "nothing here".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A record that was appended on its own.
    Data = 1,
    /// A checkpoint: the state that the log's owner gave.
    Checkpoint = 2,
    /// A member of an atomic batch; more members follow directly.
    Batch = 3,
    /// The last member of an atomic batch.
    BatchEnd = 4,
    /// Internal: says how far the log was known to be durable when it was written ([`Durability`](super::Durability)).
    Commit = 5,
    /// Internal: written by a recovery at the position where it cut the log; raises the epoch of all that follows.
    Epoch = 6,
    /// Internal: bytes to skip. The checksum covers the header word only.
    Padding = 7,
}

impl Kind {
    /// The kind with this number, if there is one.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Kind> {
        Some(match number {
            1 => Kind::Data,
            2 => Kind::Checkpoint,
            3 => Kind::Batch,
            4 => Kind::BatchEnd,
            5 => Kind::Commit,
            6 => Kind::Epoch,
            7 => Kind::Padding,
            _ => return None,
        })
    }

    /// Whether readers of the log see records of this kind; the others are the log's own.
    #[must_use]
    pub const fn is_user(self) -> bool {
        matches!(self, Kind::Data | Kind::Checkpoint | Kind::Batch | Kind::BatchEnd)
    }
}

/// How many bytes of the stream a record with a payload of `len` bytes occupies.
#[inline]
#[must_use]
pub const fn record_size(len: usize) -> u64 {
    (HEADER_WORD as u64 + len as u64).next_multiple_of(HEADER_WORD as u64)
}

/// What binds a record's checksum to its log: the CRC-32C of the log's id and of the epoch.
///
/// The CRC-32C of a record covers, in this order: the log's id (16 bytes), the epoch (u32), the LSN (u64), the upper
/// half of the header word widened to u64, the payload, and the zeros that pad it. Two records with the same bytes at the
/// same place of two segments with indexes below 2^32 never have the same checksum: their LSNs differ in at most 32
/// neighbouring bits, and a CRC detects every such burst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seal {
    state: u32,
    epoch: u32,
    one_pass: super::crc::OnePass,
}

impl Seal {
    /// The seal of epoch `epoch` of the log `id`.
    #[must_use]
    pub fn new(id: LogId, epoch: u32) -> Seal {
        let state = crc32c::crc32c_append(crc32c::crc32c(&id.to_bytes()), &epoch.to_le_bytes());
        Seal { state, epoch, one_pass: super::crc::OnePass::detect() }
    }

    /// The epoch this seal belongs to.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        self.epoch
    }

    /// The checksum of all that stands before the payload; continue it over the payload and its padding.
    #[inline]
    #[must_use]
    pub fn begin(self, lsn: u64, word: Word) -> u32 {
        super::crc::extend_by_words(self.state, lsn, u64::from(word.meta))
    }

    /// Copies `payload` and its padding to `to`, which has exactly their length, and returns the checksum of the record,
    /// taken over the copy.
    #[inline]
    pub(crate) fn copy(self, lsn: u64, word: Word, to: &mut [u8], payload: &[u8]) -> u32 {
        if to.len() < self.one_pass.below() {
            return self.copy_short(lsn, word, to, payload);
        }
        super::crc::copy(self.state, lsn, u64::from(word.meta), to, payload)
    }

    /// Payloads shorter than this are short: [`Seal::copy_short`] takes them. 0 where the processor cannot do it.
    pub(crate) fn short(self) -> usize {
        // A payload that ends inside the last word is padded to its end.
        self.one_pass.below().saturating_sub(HEADER_WORD - 1)
    }

    /// As [`Seal::copy`], of a short payload, without a call on the way.
    #[inline]
    pub(crate) fn copy_short(self, lsn: u64, word: Word, to: &mut [u8], payload: &[u8]) -> u32 {
        self.one_pass.copy(self.state, lsn, u64::from(word.meta), to, payload)
    }

    /// Continues a checksum that [`Seal::begin`] began over `bytes` of the payload, its padding included.
    #[inline]
    #[must_use]
    pub fn extend(crc: u32, bytes: &[u8]) -> u32 {
        super::crc::extend(crc, bytes)
    }
}

/// A header word taken apart: nothing in it is trusted until the checksum fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// The checksum that the header word claims.
    pub crc: u32,
    pub(super) meta: u32,
}

impl Word {
    /// The header word of a record before its checksum is known.
    #[inline]
    #[must_use]
    pub const fn new(kind: Kind, len: usize) -> Word {
        debug_assert!(len <= MAX_PAYLOAD);
        Word { crc: 0, meta: (kind as u32) << LEN_BITS | len as u32 }
    }

    /// Reads a header word from the first 8 bytes of `bytes`.
    ///
    /// # Errors
    /// [`Invalid::Empty`] for zeros, [`Invalid::Kind`] for a kind this version does not know.
    ///
    /// # Panics
    /// If `bytes` is shorter than 8.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Word, Invalid> {
        let word = Word { crc: u32_at(bytes, 0), meta: u32_at(bytes, 4) };
        if word.meta >> LEN_BITS == 0 {
            return Err(if word.crc == 0 && word.meta == 0 { Invalid::Empty } else { Invalid::Kind });
        }
        Kind::from_u8((word.meta >> LEN_BITS) as u8).map(|_| word).ok_or(Invalid::Kind)
    }

    /// What stands in `bytes`, were it of this kind, and its payload of this length, or as long as it says.
    pub(crate) fn corrected(bytes: &[u8; HEADER_WORD], kind: Kind, len: Option<usize>) -> Word {
        let stands = u32_at(bytes, 4) & ((1 << LEN_BITS) - 1);
        Word { crc: u32_at(bytes, 0), ..Word::new(kind, len.unwrap_or(stands as usize)) }
    }

    /// The 8 bytes of this header word with the checksum `crc`.
    #[inline]
    #[must_use]
    pub fn to_bytes(self, crc: u32) -> [u8; HEADER_WORD] {
        (u64::from(self.meta) << 32 | u64::from(crc)).to_le_bytes()
    }

    /// The record's kind.
    #[inline]
    #[must_use]
    pub fn kind(self) -> Kind {
        Kind::from_u8((self.meta >> LEN_BITS) as u8).expect("parse and new admit known kinds only")
    }

    /// The length of the payload in bytes, at most [`MAX_PAYLOAD`].
    #[inline]
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(self) -> usize {
        (self.meta & ((1 << LEN_BITS) - 1)) as usize
    }

    /// How many bytes of the stream the record occupies.
    #[inline]
    #[must_use]
    pub const fn size(self) -> u64 {
        record_size(self.len())
    }

    /// How many bytes behind the header word the checksum covers: the payload and its padding, or nothing
    /// ([`Kind::Padding`]).
    #[inline]
    #[must_use]
    pub fn covered(self) -> u64 {
        if self.kind() == Kind::Padding { 0 } else { self.size() - HEADER_WORD as u64 }
    }

    /// Checks the record: `crc` was taken over all that the checksum covers, and `covered` is the end of that, 8 bytes at
    /// least where there are any. The padding is checked as well as summed: a checksum can be made over bytes that are no
    /// zeros, and what is read must be what would be written.
    #[inline]
    pub(crate) fn check(self, crc: u32, covered: &[u8]) -> Result<(), Invalid> {
        if crc != self.crc {
            return Err(Invalid::Checksum);
        }
        // In the last word the payload has 1 to 8 bytes, and the padding what is above them.
        let but_one = self.len().wrapping_sub(1) % HEADER_WORD;
        match covered.last_chunk() {
            Some(&last) if u64::from_le_bytes(last) >> 8 >> (8 * but_one) != 0 => Err(Invalid::Padding),
            _ => Ok(()),
        }
    }
}

/// Why some bytes are no record at their position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Invalid {
    /// A header word of zeros: nothing was ever written here.
    #[error("nothing was written here")]
    Empty,
    /// The kind is none this version knows.
    #[error("unknown record kind")]
    Kind,
    /// The record would end beyond the bytes there are.
    #[error("the record's length does not fit what is there")]
    Length,
    /// The checksum does not fit: damaged, torn, or bytes of another log, epoch or position.
    #[error("checksum mismatch")]
    Checksum,
    /// The checksum fits, and the bytes behind the payload are not the zeros that libwal writes there.
    #[error("the padding is not zeros")]
    Padding,
}

/// A record that was found valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decoded<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its payload.
    pub payload: &'a [u8],
    /// How many bytes of the stream it occupies; the next record begins that much further.
    pub size: u64,
}

/// Decodes the record at the beginning of `bytes`, which stand at position `lsn` of the stream.
///
/// # Errors
/// Why the bytes are no record.
#[inline]
pub fn decode(bytes: &[u8], seal: Seal, lsn: u64) -> Result<Decoded<'_>, Invalid> {
    if bytes.len() < HEADER_WORD {
        return Err(Invalid::Length);
    }
    let word = Word::parse(bytes)?;
    let size = word.size();
    if size > bytes.len() as u64 {
        return Err(Invalid::Length);
    }
    let covered = &bytes[HEADER_WORD..HEADER_WORD + word.covered() as usize];
    word.check(Seal::extend(seal.begin(lsn, word), covered), covered)?;
    Ok(Decoded { kind: word.kind(), payload: &bytes[HEADER_WORD..HEADER_WORD + word.len()], size })
}

/// The header word of the record (`kind`, `payload`) at position `lsn`, with its checksum.
#[must_use]
pub fn encode_word(seal: Seal, lsn: u64, kind: Kind, payload: &[u8]) -> [u8; HEADER_WORD] {
    let word = Word::new(kind, payload.len());
    let mut crc = seal.begin(lsn, word);
    if kind != Kind::Padding {
        crc = Seal::extend(Seal::extend(crc, payload), padding(payload.len()));
    }
    word.to_bytes(crc)
}

/// The zeros that follow a payload of `len` bytes.
#[must_use]
pub(crate) fn padding(len: usize) -> &'static [u8] {
    &ZEROS[..record_size(len) as usize - HEADER_WORD - len]
}

/// Writes one whole record to `out`.
///
/// # Errors
/// `InvalidInput` if the payload is longer than [`MAX_PAYLOAD`]; otherwise what `out` answers.
pub fn write_record(out: &mut impl Write, seal: Seal, lsn: u64, kind: Kind, payload: &[u8]) -> io::Result<()> {
    if payload.len() > MAX_PAYLOAD {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "payload longer than a record can be"));
    }
    out.write_all(&encode_word(seal, lsn, kind, payload))?;
    out.write_all(payload)?;
    out.write_all(padding(payload.len()))
}

/// Reads one whole record from `input`, which stands at position `lsn` of the stream. `None` at the end of the input or
/// at a header word of zeros. Memory grows with the bytes that are really there, never by a length that was only read.
///
/// # Errors
/// `InvalidData` with an [`Invalid`] inside if the bytes are no record, or if its payload is longer than `max_len`;
/// otherwise what `input` answers.
pub fn read_record(input: &mut impl Read, seal: Seal, lsn: u64, max_len: usize) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let invalid = |why: Invalid| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut head = Vec::with_capacity(HEADER_WORD);
    if input.by_ref().take(HEADER_WORD as u64).read_to_end(&mut head)? == 0 {
        return Ok(None);
    }
    if head.len() < HEADER_WORD {
        return Err(invalid(Invalid::Length));
    }
    let word = match Word::parse(&head) {
        Ok(word) => word,
        Err(Invalid::Empty) => return Ok(None),
        Err(why) => return Err(invalid(why)),
    };
    if word.len() > max_len {
        return Err(invalid(Invalid::Length));
    }
    let rest = word.size() - HEADER_WORD as u64;
    let mut body = Vec::new();
    if input.by_ref().take(rest).read_to_end(&mut body)? as u64 != rest {
        return Err(invalid(Invalid::Length));
    }
    let covered = &body[..word.covered() as usize];
    word.check(Seal::extend(seal.begin(lsn, word), covered), covered).map_err(invalid)?;
    body.truncate(word.len());
    Ok(Some((word.kind(), body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LogId = LogId::from_bytes(*b"0123456789abcdef");

    // With arbitrary payloads, kinds and positions: core/tests/record_properties.rs.
    #[test]
    fn what_was_written_is_read_at_every_short_length() {
        for len in 0..40 {
            let payload: Vec<u8> = (0..len).map(|n| n as u8 ^ 0xA5).collect();
            let mut bytes = Vec::new();
            write_record(&mut bytes, Seal::new(ID, 7), 64, Kind::Data, &payload).unwrap();
            let decoded = decode(&bytes, Seal::new(ID, 7), 64).unwrap();
            assert_eq!(decoded, Decoded { kind: Kind::Data, payload: &payload, size: bytes.len() as u64 });
        }
    }

    #[test]
    fn a_corrupt_length_allocates_nothing() {
        // The header word promises 256 MiB; four bytes follow.
        let mut bytes = Word::new(Kind::Data, MAX_PAYLOAD).to_bytes(1).to_vec();
        bytes.extend([0; 4]);
        assert_eq!(decode(&bytes, Seal::new(ID, 0), 0), Err(Invalid::Length));
        assert!(read_record(&mut &bytes[..], Seal::new(ID, 0), 0, MAX_PAYLOAD).is_err());
    }

    #[test]
    fn zeros_are_nothing() {
        assert_eq!(decode(&[0; 64], Seal::new(ID, 0), 0), Err(Invalid::Empty));
        assert_eq!(read_record(&mut &[0u8; 64][..], Seal::new(ID, 0), 0, 10).unwrap(), None);
    }

    #[test]
    fn nonzero_padding_is_damage() {
        let mut bytes = Vec::new();
        write_record(&mut bytes, Seal::new(ID, 0), 0, Kind::Data, b"abc").unwrap();
        bytes[15] = 1;
        assert_eq!(decode(&bytes, Seal::new(ID, 0), 0), Err(Invalid::Checksum));
    }

    #[test]
    fn nonzero_padding_with_a_checksum_made_for_it_is_no_record() {
        let seal = Seal::new(ID, 0);
        for len in 0..=24 {
            let body = vec![0xA5; len];
            let size = record_size(len) as usize;
            for at in HEADER_WORD + len..size {
                let mut bytes = [&[0; HEADER_WORD], &body[..], padding(len)].concat();
                bytes[at] = 1;
                let word = Word::new(Kind::Data, len);
                let crc = Seal::extend(seal.begin(64, word), &bytes[HEADER_WORD..]);
                bytes[..HEADER_WORD].copy_from_slice(&word.to_bytes(crc));
                assert_eq!(decode(&bytes, seal, 64), Err(Invalid::Padding), "{len} bytes, byte {at}");
                let error = read_record(&mut &bytes[..], seal, 64, len).unwrap_err();
                assert_eq!(error.to_string(), Invalid::Padding.to_string());
            }
        }
        // What follows the header word of a record that is all padding may be anything.
        let mut bytes = encode_word(seal, 64, Kind::Padding, &[0; 3]).to_vec();
        bytes.extend([7; 8]);
        assert_eq!(decode(&bytes, seal, 64).map(|record| record.payload), Ok(&[7; 3][..]));
    }
}
