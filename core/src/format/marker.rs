//! What commit markers and epoch records say.

use super::{Invalid, Kind, LogId, NO_POSITION, Seal, Word, decode, encode_word, record_size, u32_at, u64_at};

const PAYLOAD: usize = 24;
const CLEAN_CLOSE: u32 = 1;

/// How many bytes of the stream a commit marker or an epoch record occupies.
pub const MARKER_RECORD_SIZE: u64 = record_size(PAYLOAD);

/// The payload of [`Kind::Commit`] and [`Kind::Epoch`]: how far the log was known to be durable when it was written.
///
/// The claim is true for ever: what was once durable stays part of the log until it is truncated. So recovery may
/// believe every claim it can find, wherever in the log it stands and whatever epoch it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Durability {
    /// Everything below this position was on stable storage. For an epoch record, its own position.
    pub durable: u64,
    /// The position of the last checkpoint record known then.
    pub checkpoint: Option<u64>,
    /// The epoch in force; for an epoch record, the one that it puts in force behind it.
    pub epoch: u32,
    /// Whether the log was closed right behind this marker.
    pub clean_close: bool,
}

impl Durability {
    /// The payload of the marker.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PAYLOAD] {
        let mut bytes = [0; PAYLOAD];
        bytes[..8].copy_from_slice(&self.durable.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.checkpoint.unwrap_or(NO_POSITION).to_le_bytes());
        bytes[16..20].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[20..].copy_from_slice(&(if self.clean_close { CLEAN_CLOSE } else { 0 }).to_le_bytes());
        bytes
    }

    /// The whole record of kind `kind` at position `lsn`, sealed with the epoch it carries.
    #[must_use]
    pub fn to_record(&self, id: LogId, lsn: u64, kind: Kind) -> [u8; MARKER_RECORD_SIZE as usize] {
        let payload = self.to_bytes();
        let mut bytes = [0; MARKER_RECORD_SIZE as usize];
        bytes[..8].copy_from_slice(&encode_word(Seal::new(id, self.epoch), lsn, kind, &payload));
        bytes[8..].copy_from_slice(&payload);
        bytes
    }

    /// Reads the payload of a marker whose checksum was found to fit.
    ///
    /// # Errors
    /// [`Invalid::Length`] if it is not a marker's payload.
    pub fn parse(payload: &[u8]) -> Result<Durability, Invalid> {
        if payload.len() != PAYLOAD {
            return Err(Invalid::Length);
        }
        let checkpoint = u64_at(payload, 8);
        Ok(Durability {
            durable: u64_at(payload, 0),
            checkpoint: (checkpoint != NO_POSITION).then_some(checkpoint),
            epoch: u32_at(payload, 16),
            clean_close: u32_at(payload, 20) & CLEAN_CLOSE != 0,
        })
    }

    /// Whether a record that begins with `word` has a payload of the right length.
    pub(crate) fn is_in(word: Word) -> bool {
        word.len() == PAYLOAD
    }

    /// The marker at the beginning of `bytes`, if a valid one of any epoch stands there: the epoch it carries is the one
    /// it is sealed with.
    #[must_use]
    pub fn find(bytes: &[u8], id: LogId, lsn: u64) -> Option<(Kind, Durability)> {
        let bytes = bytes.get(..MARKER_RECORD_SIZE as usize)?;
        let word = Word::parse(bytes).ok()?;
        if !Durability::is_in(word) || !matches!(word.kind(), Kind::Commit | Kind::Epoch) {
            return None;
        }
        let marker = Durability::parse(&bytes[8..]).ok()?;
        decode(bytes, Seal::new(id, marker.epoch), lsn).ok()?;
        Some((word.kind(), marker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_where_it_stands_and_nowhere_else() {
        let id = LogId::from_bytes([3; 16]);
        let marker = Durability { durable: 800, checkpoint: Some(64), epoch: 5, clean_close: true };
        let bytes = marker.to_record(id, 4096, Kind::Commit);
        assert_eq!(Durability::find(&bytes, id, 4096), Some((Kind::Commit, marker)));
        assert_eq!(Durability::find(&bytes, id, 4104), None);
        assert_eq!(Durability::find(&bytes[..31], id, 4096), None);
        assert_eq!(Durability::find(&bytes, LogId::from_bytes([4; 16]), 4096), None);
    }

    #[test]
    fn no_checkpoint_is_told_from_a_checkpoint_at_zero() {
        for checkpoint in [None, Some(0)] {
            let marker = Durability { durable: 0, checkpoint, epoch: 0, clean_close: false };
            assert_eq!(Durability::parse(&marker.to_bytes()), Ok(marker));
        }
    }
}
