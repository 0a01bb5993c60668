//! [`Lsn`]: a position in the log.

use std::fmt;

/// A log sequence number: the byte position of a record in one endless stream.
///
/// LSNs are strictly increasing in the order of replay and are never used again for a different durable record. They
/// have gaps (a record occupies its payload plus a header, rounded up to 8 bytes), and they are always multiples of 8.
/// The first record of a new log is [`Lsn::ZERO`], unless [`Options::first_lsn`](crate::Options::first_lsn) says
/// otherwise.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Lsn(u64);

impl Lsn {
    /// The position at which a new log begins.
    pub const ZERO: Lsn = Lsn(0);

    /// The highest position a stream can reach: 2^58 bytes (256 PiB).
    pub const MAX: Lsn = Lsn(1 << 58);

    /// The LSN at byte position `position`.
    #[must_use]
    pub const fn new(position: u64) -> Lsn {
        Lsn(position)
    }

    /// The byte position.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Lsn {
    fn from(position: u64) -> Lsn {
        Lsn(position)
    }
}

impl From<Lsn> for u64 {
    fn from(lsn: Lsn) -> u64 {
        lsn.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({})", self.0)
    }
}
