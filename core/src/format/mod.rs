//! Bytes on disk <-> records: pure functions, shared by the writer, the reader and recovery.
//!
//! `docs/format.md` describes every byte. In short: a record is one 8-byte header word (CRC-32C, kind and length) and its
//! payload, padded with zeros to a multiple of 8 bytes. The checksum covers more than the bytes: it binds the record to
//! its log, to an epoch of that log, and to its position, so that bytes of another log, another position, a recycled
//! segment or a tail that a recovery cut off never pass for a record.
//!
//! ```
//! use libwal::format::{self, Kind, LogId, Seal};
//!
//! let seal = Seal::new(LogId::from_bytes([7; 16]), 0);
//! let mut bytes = Vec::new();
//! format::write_record(&mut bytes, seal, 4096, Kind::Data, b"hello")?;
//! assert_eq!(bytes.len(), 16);
//!
//! let (kind, payload) = format::read_record(&mut &bytes[..], seal, 4096, 1024)?.expect("a record");
//! assert_eq!((kind, &payload[..]), (Kind::Data, &b"hello"[..]));
//! // The same bytes at another position are no record.
//! assert!(format::read_record(&mut &bytes[..], seal, 8192, 1024).is_err());
//! # Ok::<(), std::io::Error>(())
//! ```

mod control;
#[allow(unsafe_code)] // One instruction; the block says why it is sound.
mod crc;
mod header;
mod marker;
mod record;
mod unseal;

pub(crate) use control::LAST_EPOCH;
pub use control::{CONTROL_SIZE, CONTROL_SLOT_OFFSETS, Control};
pub use header::{Entry, HEADER_SIZE, HeaderError, Identity, SECTOR};
pub use marker::{Durability, MARKER_RECORD_SIZE};
pub(crate) use record::padding;
pub use record::{
    Decoded, HEADER_WORD, Invalid, Kind, MAX_PAYLOAD, Seal, Word, decode, encode_word, read_record, record_size,
    write_record,
};
pub(crate) use unseal::{Sum, Unseal};

/// The newest version of the format, and the only one so far. It stands in every segment header and in the control
/// slots of the lock file.
pub const VERSION: u32 = 1;

/// Stands where there is no position: no checkpoint, no clean end.
pub(crate) const NO_POSITION: u64 = u64::MAX;

/// The random identity of a log: it is part of every checksum.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LogId([u8; 16]);

impl LogId {
    /// The identity made of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> LogId {
        LogId(bytes)
    }

    /// The identity's bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl std::fmt::Display for LogId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Little-endian integers out of a slice whose length the caller knows to suffice.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
