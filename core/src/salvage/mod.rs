//! Reading a whole log, also around damage: [`verify`], [`repair`], and opening with
//! [`Recovery::Salvage`](crate::Recovery::Salvage).
//!
//! Where recovery reads the tail and refuses what it cannot explain, this reads everything and lists it. Each segment says
//! where its first record begins, so segments are scanned independently, in parallel. Behind a bad record the scan looks
//! for the next valid one; what lies between is a hole. A hole below any claim of durability is damage; the first one
//! beyond all claims is the end of the log, as recovery would find it.

mod files;
mod mend;
mod ranges;
mod scan;
mod search;
mod settled;
mod sums;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Result;
use crate::lsn::Lsn;
use crate::recovery::{Damage, Salvaged, View};
use crate::storage::{FileStorage, Storage};
use scan::Scan;

/// How far a [`verify`] has come, in bytes of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes checked so far.
    pub done: u64,
    /// Bytes there are to check.
    pub total: u64,
}

/// A file of a log that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileDamage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What a [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The first position of the log.
    pub head: Lsn,
    /// The end of the log.
    pub tail: Lsn,
    /// How many segments the log has, those prepared ahead included.
    pub segments: u64,
    /// How many valid records it holds, the log's own not counted.
    pub records: u64,
    /// How many bytes their payloads have.
    pub payload_bytes: u64,
    /// Whether it was closed cleanly.
    pub closed_cleanly: bool,
    /// The last valid checkpoint record.
    pub checkpoint: Option<Lsn>,
    /// The end of the log, if bytes follow it that are no record: a torn tail that the next open cuts, or the old content
    /// of a recycled segment. Neither was acknowledged. Always `None` for a log that was closed cleanly.
    pub torn_tail: Option<Lsn>,
    /// Files that are missing, of another log, of a wrong length, or with a damaged header.
    pub files: Vec<FileDamage>,
    /// Ranges of acknowledged data that cannot be read.
    pub damage: Vec<Damage>,
}

impl Report {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.files.is_empty() && self.damage.is_empty()
    }
}

/// Checks every byte of the log in the directory `dir`, with `threads` threads (at least one), and changes nothing.
/// `progress` is called now and then, from any of the threads. A log that is being written can be verified as far as it
/// reaches.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if something cannot be read or the directory does not exist,
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if it holds no log, [`Error::UnsupportedVersion`](crate::Error::UnsupportedVersion). Damage is no error: it is reported.
pub fn verify(dir: impl AsRef<Path>, threads: usize, progress: &(dyn Fn(Progress) + Sync)) -> Result<Report> {
    verify_on(Arc::new(FileStorage::new(dir.as_ref())), threads, progress)
}

/// As [`verify`], on any storage.
///
/// # Errors
/// As [`verify`].
pub fn verify_on(storage: Arc<dyn Storage>, threads: usize, progress: &(dyn Fn(Progress) + Sync)) -> Result<Report> {
    Ok(Scan::settled(&storage, threads.max(1), progress)?.report(&storage))
}

/// Mends the log in the directory `dir`, so that it can be opened strictly again: damaged ranges become padding, damaged
/// files are rebuilt from what is readable in them. The bytes of every damaged range and file are first copied, durably,
/// to the directory `keep`, which must be empty or not exist. Returns what was found, as [`verify`] does. A log that is
/// sound stays as it is, but for what a repair that was interrupted left to clear away, and `keep` is not made; what such a
/// repair wrote is made durable.
///
/// The positions of lost records are not used again. A batch that lost a member is dropped as a whole, unless nothing of its first
/// member can be told, not even the header word, and more than its last one is left. If this is interrupted, or fails, the log can
/// be opened for [`Salvage`](crate::Recovery::Salvage) only, until it was called again (with another `keep`) and has come to its
/// end.
///
/// # Errors
/// As [`verify`]; [`Error::Locked`](crate::Error::Locked) if the log is open for writing,
/// [`Error::NoSpace`](crate::Error::NoSpace).
pub fn repair(dir: impl AsRef<Path>, keep: impl AsRef<Path>) -> Result<Report> {
    let keep: Arc<dyn Storage> = Arc::new(FileStorage::new(keep.as_ref()));
    repair_on(Arc::new(FileStorage::new(dir.as_ref())), keep)
}

/// As [`repair`], on any storage.
///
/// # Errors
/// As [`repair`].
pub fn repair_on(storage: Arc<dyn Storage>, keep: Arc<dyn Storage>) -> Result<Report> {
    mend::mend(&storage, &*keep)
}

/// The view of a log that is opened for salvage.
pub(crate) fn view(storage: &Arc<dyn Storage>) -> Result<View> {
    let scan = Scan::settled(storage, 1, &|_| {})?;
    let damage = scan.report(storage).damage;
    let salvaged = Salvaged { holes: scan.holes(), head: scan.head(), damage };
    let end = (scan.end, scan.epoch);
    Ok(View::salvaged(storage, &scan.files.control, end, scan.checkpoint(), salvaged))
}
