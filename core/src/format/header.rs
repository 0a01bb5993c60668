//! The header page of a segment: its identity, and what was known when the stream entered it.

use super::{LogId, NO_POSITION, VERSION, u32_at, u64_at};

/// The length of a segment's header page in bytes; the segment's part of the stream follows.
pub const HEADER_SIZE: u64 = 4096;

/// The grain at which a disk may tear a write, in bytes. The identity and the entry stand in sectors of their own, so
/// writing the one can never tear the other.
pub const SECTOR: usize = 512;

const MAGIC: [u8; 8] = *b"libwal\r\n";
const IDENTITY_LEN: usize = 40;
const ENTRY_LEN: usize = 28;

const _: () = assert!(IDENTITY_LEN + 4 <= SECTOR && ENTRY_LEN + 4 <= SECTOR && 2 * SECTOR as u64 <= HEADER_SIZE);

/// Why a sector is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// The magic bytes are missing: not a file of this format.
    #[error("not a libwal file")]
    Magic,
    /// The file was written by a newer version.
    #[error("format version {0} is newer than this library")]
    Version(u32),
    /// The checksum does not fit.
    #[error("header checksum mismatch")]
    Checksum,
    /// A field is outside its domain.
    #[error("header field out of range")]
    Field,
}

/// The first sector of a segment: which part of which log it is. Written before the file gets its name, never changed
/// afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The log's id.
    pub id: LogId,
    /// The segment holds the positions `index << shift .. (index + 1) << shift` of the stream.
    pub index: u64,
    /// The binary logarithm of the segment size.
    pub shift: u32,
}

impl Identity {
    /// The sector's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.shift.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.id.to_bytes());
        bytes[32..40].copy_from_slice(&self.index.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..IDENTITY_LEN]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Whether the checksum of the sector fits. Every version keeps the magic, the version and the checksum where they are,
    /// so a sector that claims a newer version is really of one if it does.
    pub(crate) fn is_whole(bytes: &[u8]) -> bool {
        crc32c::crc32c(&bytes[..IDENTITY_LEN]) == u32_at(bytes, IDENTITY_LEN)
    }

    /// Reads the sector. The version is judged before the checksum, so that a newer one is named even where it is damaged.
    ///
    /// # Errors
    /// What does not fit.
    ///
    /// # Panics
    /// If `bytes` is shorter than a sector.
    pub fn parse(bytes: &[u8]) -> Result<Identity, HeaderError> {
        if bytes[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(HeaderError::Version(version));
        }
        if !Identity::is_whole(bytes) {
            return Err(HeaderError::Checksum);
        }
        let shift = u32_at(bytes, 12);
        let index = u64_at(bytes, 32);
        if !(12..=32).contains(&shift) || version == 0 || index > crate::lsn::Lsn::MAX.get() >> shift {
            return Err(HeaderError::Field);
        }
        let id = LogId::from_bytes(bytes[16..32].try_into().expect("sixteen bytes"));
        Ok(Identity { id, index, shift })
    }
}

/// The second sector of a segment, zeros until the stream enters the segment, then written together with its first
/// bytes: what is needed to read the segment on its own, and what was durable by then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The position of the first record that begins in this segment, or beyond it if none does.
    pub first_record: u64,
    /// Everything below this position was on stable storage when the segment was entered.
    pub durable: u64,
    /// The last checkpoint known then.
    pub checkpoint: Option<u64>,
    /// The epoch of the record at `first_record`.
    pub epoch: u32,
}

impl Entry {
    /// The sector's bytes, bound to the log and the segment.
    #[must_use]
    pub fn to_bytes(&self, id: LogId, index: u64) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        bytes[..8].copy_from_slice(&self.first_record.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.durable.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.checkpoint.unwrap_or(NO_POSITION).to_le_bytes());
        bytes[24..28].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = Entry::checksum(&bytes, id, index);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the sector; `None` if the stream has not entered the segment.
    ///
    /// # Errors
    /// [`HeaderError::Checksum`] if the sector is neither empty nor valid for this log and segment.
    ///
    /// # Panics
    /// If `bytes` is shorter than a sector.
    pub fn parse(bytes: &[u8], id: LogId, index: u64) -> Result<Option<Entry>, HeaderError> {
        if bytes[..ENTRY_LEN + 4].iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if Entry::checksum(bytes, id, index) != u32_at(bytes, ENTRY_LEN) {
            return Err(HeaderError::Checksum);
        }
        let checkpoint = u64_at(bytes, 16);
        Ok(Some(Entry {
            first_record: u64_at(bytes, 0),
            durable: u64_at(bytes, 8),
            checkpoint: (checkpoint != NO_POSITION).then_some(checkpoint),
            epoch: u32_at(bytes, 24),
        }))
    }

    /// The entry of the segment with this identity. One that names a record in front of its segment, or between two possible
    /// positions, is damaged whatever its checksum says: readers that believed it would be led out of the log.
    pub(crate) fn parse_of(bytes: &[u8], identity: &Identity) -> Result<Option<Entry>, HeaderError> {
        let entry = Entry::parse(bytes, identity.id, identity.index)?;
        let base = identity.index << identity.shift;
        match entry {
            Some(entry) if entry.first_record < base || entry.first_record % 8 != 0 => Err(HeaderError::Field),
            entry => Ok(entry),
        }
    }

    fn checksum(bytes: &[u8], id: LogId, index: u64) -> u32 {
        let bound = crc32c::crc32c_append(crc32c::crc32c(&id.to_bytes()), &index.to_le_bytes());
        crc32c::crc32c_append(bound, &bytes[..ENTRY_LEN])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LogId = LogId::from_bytes([9; 16]);

    #[test]
    fn an_identity_comes_back_and_every_damage_is_seen() {
        let identity = Identity { id: ID, index: 77, shift: 26 };
        let bytes = identity.to_bytes();
        assert_eq!(Identity::parse(&bytes), Ok(identity));
        for at in 0..IDENTITY_LEN + 4 {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert!(Identity::parse(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = Identity { id: ID, index: 0, shift: 26 }.to_bytes();
        bytes[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        assert_eq!(Identity::parse(&bytes), Err(HeaderError::Version(VERSION + 1)));
    }

    #[test]
    fn an_entry_belongs_to_its_log_and_segment() {
        let entry = Entry { first_record: 4104, durable: 4000, checkpoint: None, epoch: 2 };
        let bytes = entry.to_bytes(ID, 1);
        assert_eq!(Entry::parse(&bytes, ID, 1), Ok(Some(entry)));
        assert_eq!(Entry::parse(&bytes, ID, 2), Err(HeaderError::Checksum));
        assert_eq!(Entry::parse(&bytes, LogId::from_bytes([8; 16]), 1), Err(HeaderError::Checksum));
        assert_eq!(Entry::parse(&[0; SECTOR], ID, 1), Ok(None));
    }
}
