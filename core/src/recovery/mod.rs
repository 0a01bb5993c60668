//! RECOVER: what a directory holds -> where the log ends, and a log that can be appended to.
//!
//! Two halves. [`survey`] only reads: it finds which files make up the log, how far it reaches, and whether what is
//! missing may be missing. [`open`](open::open) takes the lock, surveys, and then makes the answer true on disk before
//! anything is appended: it writes again and syncs what it accepted beyond the last position known to be durable, and
//! shuts out what lies beyond the cut.
//!
//! What the survey believes, strongest first:
//!
//! 1. A claim of durability (a control slot, an entry sector, a commit marker, an epoch record), wherever it is found, is
//!    true for ever. A position below any claim is acknowledged; a bad record there is damage and an error.
//! 2. A record beyond all claims may be missing: it was never acknowledged (or its acknowledgement left no trace yet, as
//!    for the very last group commit). The log ends before the first bad record, or before its batch.
//! 3. A log that was closed cleanly ends where the control slot says, and nothing of it may be missing.
//! 4. A failed read is a failed read. It says nothing about the log.

mod buffer;
mod claims;
mod open;
mod survey;
mod view;

pub(crate) use open::open;
pub(crate) use view::{Salvaged, View};

/// A range of the stream that was once acknowledged and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Where it begins.
    pub from: crate::Lsn,
    /// Where reading goes on.
    pub to: crate::Lsn,
    /// The file in which it begins.
    pub path: std::path::PathBuf,
    /// What does not fit there.
    pub reason: String,
}
