//! The control slots of the lock file: which segments make up the log, and whether it was closed cleanly.

use super::{HeaderError, LogId, NO_POSITION, SECTOR, VERSION, u32_at, u64_at};

/// Where the two control slots stand in the lock file. Each write goes to the slot that does not hold the newest state,
/// in a page of its own, so a torn write leaves the other one readable.
pub const CONTROL_SLOT_OFFSETS: [u64; 2] = [0, 4096];

/// The length of the lock file in bytes.
pub const CONTROL_SIZE: u64 = 8192;

const MAGIC: [u8; 8] = *b"walctl\r\n";
const LEN: usize = 96;
/// The highest epoch: two thousand million recoveries. Half of what the field holds, so that one more is always a number.
pub(crate) const LAST_EPOCH: u32 = u32::MAX / 2;

const _: () = assert!(LEN + 4 <= SECTOR && CONTROL_SLOT_OFFSETS[1] + SECTOR as u64 <= CONTROL_SIZE);

/// The state of a log that stands outside its segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    /// Raised by one with each write; the valid slot with the higher number holds the state.
    pub sequence: u64,
    /// The log's id.
    pub id: LogId,
    /// The binary logarithm of the segment size.
    pub shift: u32,
    /// The position at which the log began.
    pub first_lsn: u64,
    /// The index of the oldest segment of the log; older files are left-overs of a truncation.
    pub head: u64,
    /// One past the index of the newest segment that certainly exists.
    pub end: u64,
    /// Everything below this position is on stable storage.
    pub durable: u64,
    /// The last checkpoint known.
    pub checkpoint: Option<u64>,
    /// Where the log ends, if it was closed cleanly and not opened for writing since.
    pub clean_end: Option<u64>,
    /// The highest epoch that any recovery has begun to put in force.
    pub epoch: u32,
    /// Whether a repair has begun to change the log and has not come to its end.
    pub repairing: bool,
}

impl Control {
    /// The state of a new log, which has no segment yet.
    pub(crate) fn first(id: LogId, shift: u32, first_lsn: u64) -> Control {
        let segment = first_lsn >> shift;
        Control {
            sequence: 1,
            id,
            shift,
            first_lsn,
            head: segment,
            end: segment,
            durable: first_lsn,
            checkpoint: None,
            clean_end: None,
            epoch: 0,
            repairing: false,
        }
    }

    /// The sector's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.shift.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.id.to_bytes());
        let numbers = [
            self.sequence,
            self.first_lsn,
            self.head,
            self.end,
            self.durable,
            self.checkpoint.unwrap_or(NO_POSITION),
            self.clean_end.unwrap_or(NO_POSITION),
            u64::from(self.epoch) | u64::from(self.repairing) << 32,
        ];
        for (number, at) in numbers.iter().zip((32..).step_by(8)) {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..LEN]);
        bytes[LEN..LEN + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads one slot.
    ///
    /// # Errors
    /// What does not fit.
    ///
    /// # Panics
    /// If `bytes` is shorter than a sector.
    pub fn parse(bytes: &[u8]) -> Result<Control, HeaderError> {
        if bytes[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(HeaderError::Version(version));
        }
        if !Control::is_whole(bytes) {
            return Err(HeaderError::Checksum);
        }
        let optional = |at| Some(u64_at(bytes, at)).filter(|&number| number != NO_POSITION);
        let control = Control {
            shift: u32_at(bytes, 12),
            id: LogId::from_bytes(bytes[16..32].try_into().expect("sixteen bytes")),
            sequence: u64_at(bytes, 32),
            first_lsn: u64_at(bytes, 40),
            head: u64_at(bytes, 48),
            end: u64_at(bytes, 56),
            durable: u64_at(bytes, 64),
            checkpoint: optional(72),
            clean_end: optional(80),
            epoch: u32_at(bytes, 88),
            repairing: u32_at(bytes, 92) == 1,
        };
        if version == 0 || u32_at(bytes, 92) > 1 || !control.is_possible() {
            Err(HeaderError::Field)
        } else {
            Ok(control)
        }
    }

    /// Whether a log can be in this state, so that no arithmetic on it overflows: the checksum of a slot that some other
    /// program wrote fits as well.
    pub(crate) fn is_possible(&self) -> bool {
        let most = crate::lsn::Lsn::MAX.get();
        let last = most.checked_shr(self.shift).unwrap_or(0);
        (12..=32).contains(&self.shift)
            && self.head <= self.end
            && self.end <= last
            && self.first_lsn <= most
            && self.first_lsn % 8 == 0
            // The stream begins inside the segments; those of a creation that was cut off are yet to be named.
            && (self.first_lsn <= self.end << self.shift || self.first_lsn >> self.shift == self.head)
            && self.durable <= self.first_lsn.max(self.end << self.shift)
            && self.clean_end.is_none_or(|end| {
                end >= self.first_lsn.max(self.durable) && end <= self.end << self.shift
            })
            && self.sequence <= u64::MAX / 2
            && self.epoch <= LAST_EPOCH
    }

    /// Whether a first write that was cut off can have left this in a slot: each byte is a zero, or what every new log has there.
    pub(crate) fn may_be_cut_off(bytes: &[u8; SECTOR]) -> bool {
        let first = Control::first(LogId::from_bytes([0; 16]), 12, 0).to_bytes();
        // The shift, the id, the positions and the checksum are each log's own.
        let own = |at| matches!(at, 12 | 16..32 | 40..72 | 96..100);
        bytes.iter().enumerate().all(|(at, &byte)| byte == 0 || byte == first[at] || own(at))
    }

    fn is_whole(bytes: &[u8]) -> bool {
        crc32c::crc32c(&bytes[..LEN]) == u32_at(bytes, LEN)
    }

    /// The newest state that the two slots of the lock file hold.
    ///
    /// # Errors
    /// If neither slot is valid, what is wrong with the first one; a newer version is told if
    /// its slot's checksum fits, or if no slot is valid.
    ///
    /// # Panics
    /// If a slot is shorter than a sector.
    pub fn newest(slots: [&[u8]; 2]) -> Result<Control, HeaderError> {
        match slots.map(Control::parse) {
            // A newer version keeps the checksum where it is, so a slot whose checksum does not fit is only damaged.
            [Err(HeaderError::Version(version)), other] if other.is_err() || Control::is_whole(slots[0]) => {
                Err(HeaderError::Version(version))
            }
            [other, Err(HeaderError::Version(version))] if other.is_err() || Control::is_whole(slots[1]) => {
                Err(HeaderError::Version(version))
            }
            [Ok(a), Ok(b)] => Ok(if a.sequence > b.sequence { a } else { b }),
            [Ok(one), Err(_)] | [Err(_), Ok(one)] => Ok(one),
            [Err(why), Err(_)] => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(sequence: u64) -> Control {
        Control {
            sequence,
            id: LogId::from_bytes([5; 16]),
            shift: 12,
            first_lsn: 8,
            head: 1,
            end: 4,
            durable: 9000,
            checkpoint: Some(8192),
            clean_end: None,
            epoch: 3,
            repairing: true,
        }
    }

    #[test]
    fn the_newer_valid_slot_counts() {
        let (old, new) = (control(6).to_bytes(), control(7).to_bytes());
        assert_eq!(Control::newest([&old, &new]), Ok(control(7)));
        assert_eq!(Control::newest([&new, &old]), Ok(control(7)));
        let mut torn = new;
        torn[60] ^= 1;
        assert_eq!(Control::newest([&old, &torn]), Ok(control(6)));
        assert_eq!(Control::newest([&torn, &torn]), Err(HeaderError::Checksum));
    }

    #[test]
    fn a_state_that_no_log_can_be_in_is_refused() {
        let refused = |change: &dyn Fn(&mut Control)| {
            let mut control = control(7);
            change(&mut control);
            assert_eq!(Control::parse(&control.to_bytes()), Err(HeaderError::Field), "{control:?}");
        };
        refused(&|control| control.sequence = u64::MAX);
        refused(&|control| control.epoch = LAST_EPOCH + 1);
        refused(&|control| control.clean_end = Some(0));
        refused(&|control| control.clean_end = Some(4 * 4096 + 8));
        refused(&|control| control.clean_end = Some(8992));
        refused(&|control| control.durable = 4 * 4096 + 8);
        refused(&|control| control.first_lsn = u64::MAX);
        refused(&|control| control.first_lsn = 4 * 4096 + 8);
        refused(&|control| control.first_lsn = 12);
        refused(&|control| control.end = 1 << 47);
        refused(&|control| control.head = 5);
        refused(&|control| control.shift = 33);
        let mut sector = control(7).to_bytes();
        sector[92] = 2;
        let crc = crc32c::crc32c(&sector[..LEN]);
        sector[LEN..LEN + 4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Control::parse(&sector), Err(HeaderError::Field));
    }

    #[test]
    fn a_newer_version_is_never_ignored() {
        let mut newer = control(8).to_bytes();
        newer[8] = 9;
        // Damage looks like this as well, and the other slot is good.
        assert_eq!(Control::newest([&control(7).to_bytes(), &newer]), Ok(control(7)));
        assert_eq!(Control::newest([&newer, &newer]), Err(HeaderError::Version(9)));
        let crc = crc32c::crc32c(&newer[..LEN]);
        newer[LEN..LEN + 4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Control::newest([&control(7).to_bytes(), &newer]), Err(HeaderError::Version(9)));
        assert_eq!(Control::newest([&newer, &control(7).to_bytes()]), Err(HeaderError::Version(9)));
    }
}
