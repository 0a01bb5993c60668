//! [`Error`]: everything that can go wrong, with a stable numeric code for each.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::lsn::Lsn;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Tell errors apart by variant or by [`Error::code`], never by their text.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file. Code -1.
    #[error("{op} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        op: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// The operating system's error; `raw_os_error` gives errno.
        source: Arc<io::Error>,
    },
    /// There is no disk space for the record. Nothing was appended, and nothing accepted earlier is affected; appends
    /// work again once space is freed. Code -2.
    #[error("no disk space for the next segment in {}", path.display())]
    NoSpace {
        /// The log's directory.
        path: PathBuf,
    },
    /// Acknowledged data, or a structure of the log, is damaged or missing. Code -3.
    #[error("{} is corrupt at LSN {lsn}: {reason}", path.display())]
    Corrupt {
        /// The position of the damage in the stream.
        lsn: Lsn,
        /// The damaged or missing file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Another handle, in this process or another one, has the log open for writing. Code -4.
    #[error("{} is locked: the log is open for writing elsewhere", path.display())]
    Locked {
        /// The log's directory.
        path: PathBuf,
    },
    /// An earlier write or sync failed; the log accepts nothing until it is opened again. Code -5.
    #[error("the log is poisoned by an earlier failure: {cause}")]
    Poisoned {
        /// The first failure.
        cause: Arc<Error>,
    },
    /// The log was closed. Code -6.
    #[error("the log is closed")]
    Closed,
    /// The record or batch is longer than the limit. Code -7.
    #[error("{len} bytes are more than the limit of {max}")]
    TooLarge {
        /// The length asked for, in bytes.
        len: u64,
        /// The limit, in bytes.
        max: u64,
    },
    /// `try_append` only: the append would have had to wait. Code -8.
    #[error("the append would have to wait")]
    Full,
    /// An argument is outside its domain, or a position is not the beginning of a record. Code -9.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// The position lies below the head: it was truncated away. Code -10.
    #[error("the position was truncated; the log begins at LSN {head}")]
    Truncated {
        /// The first position that can still be read.
        head: Lsn,
    },
    /// The process was forked after the log was opened; only the parent may use this handle. Code -11.
    #[error("the log was opened before a fork; the child cannot use it")]
    Forked,
    /// The log was written by a newer version of this library. Code -12.
    #[error("{} has format version {found}; this library reads up to {supported}", path.display())]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this library reads.
        supported: u32,
    },
}

impl Error {
    /// The stable numeric code of this kind of error, shared with the C and Python interfaces. Always negative.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Error::Io { .. } => -1,
            Error::NoSpace { .. } => -2,
            Error::Corrupt { .. } => -3,
            Error::Locked { .. } => -4,
            Error::Poisoned { .. } => -5,
            Error::Closed => -6,
            Error::TooLarge { .. } => -7,
            Error::Full => -8,
            Error::InvalidArgument(_) => -9,
            Error::Truncated { .. } => -10,
            Error::Forked => -11,
            Error::UnsupportedVersion { .. } => -12,
        }
    }

    /// The operating system's error number behind this error, if there is one; looks through [`Error::Poisoned`].
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Io { source, .. } => source.raw_os_error(),
            Error::Poisoned { cause } => cause.errno(),
            _ => None,
        }
    }

    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::Io { op, path: path.into(), source: Arc::new(source) }
    }

    /// There is no log at `path`. With the number that the operating system would give: 2 is `ENOENT` on every Unix system
    /// and the like on Windows.
    pub(crate) fn not_found(path: impl Into<PathBuf>) -> Error {
        Error::io("open", path, io::Error::from_raw_os_error(2))
    }

    pub(crate) fn corrupt(lsn: u64, path: impl Into<PathBuf>, reason: impl Into<String>) -> Error {
        Error::Corrupt { lsn: Lsn::new(lsn), path: path.into(), reason: reason.into() }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> Error {
        Error::InvalidArgument(reason.into())
    }
}
