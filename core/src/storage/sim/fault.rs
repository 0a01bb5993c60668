//! Errors to order.

use std::io;

/// An operation of a [`SimStorage`](super::SimStorage), as a [`Fault`] names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SimOp {
    /// Making the directory exist.
    CreateDir,
    /// Asking whether the directory exists.
    Exists,
    /// Listing the directory.
    List,
    /// Opening a file in any mode, `Mode::CreateNew` included.
    Open,
    /// Opening a file in the mode `Mode::CreateNew`.
    Create,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Syncing the directory.
    SyncDir,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Allocating space for a file.
    Allocate,
    /// Syncing a file.
    Sync,
    /// Asking for a file's length.
    Len,
    /// Trying to lock a file.
    Lock,
    /// Every operation.
    Any,
}

impl SimOp {
    /// Whether the operation can change what a crash leaves: a power cut just before it and one just after it differ.
    pub(super) fn changes(self) -> bool {
        use SimOp::{Allocate, Create, CreateDir, Remove, Rename, Sync, SyncDir, Write};
        matches!(self, CreateDir | Create | Rename | Remove | SyncDir | Write | Allocate | Sync)
    }

    /// Whether a fault that names this operation is meant for an operation `actual`.
    fn covers(self, actual: SimOp) -> bool {
        self == SimOp::Any || self == actual || (self == SimOp::Open && actual == SimOp::Create)
    }
}

/// An error that a [`SimStorage`](super::SimStorage) is to return, once it is
/// [injected](super::SimStorage::inject).
#[derive(Clone, Debug)]
pub struct Fault {
    op: SimOp,
    /// How many operations it covers pass before it strikes.
    nth: u64,
    cause: Cause,
    sticky: bool,
}

#[derive(Clone, Debug)]
enum Cause {
    Kind(io::ErrorKind),
    Errno(i32),
}

impl Fault {
    /// A fault that strikes once, with an error of the given kind, at the `nth` operation `op` after it is injected;
    /// 0 is the next one.
    #[must_use]
    pub fn new(op: SimOp, nth: u64, kind: io::ErrorKind) -> Fault {
        Fault { op, nth, cause: Cause::Kind(kind), sticky: false }
    }

    /// The same with an error number of the operating system.
    #[must_use]
    pub fn errno(op: SimOp, nth: u64, errno: i32) -> Fault {
        Fault { op, nth, cause: Cause::Errno(errno), sticky: false }
    }

    /// Makes the fault strike at every operation from the `nth` on.
    #[must_use]
    pub fn sticky(self) -> Fault {
        Fault { sticky: true, ..self }
    }

    /// Notes one operation and puts the error into `struck` if it is the fault's turn, unless another fault was first.
    /// Returns whether the fault stays.
    pub(super) fn notice(&mut self, actual: SimOp, struck: &mut Option<io::Error>) -> bool {
        if !self.op.covers(actual) {
            return true;
        }
        if self.nth > 0 {
            self.nth -= 1;
            return true;
        }
        struck.get_or_insert_with(|| match self.cause {
            Cause::Kind(kind) => io::Error::new(kind, "simulated fault"),
            Cause::Errno(errno) => io::Error::from_raw_os_error(errno),
        });
        self.sticky
    }
}
