//! Error codes, the calling thread's last message, and the boundary that every call passes: no panic crosses it, and every
//! failure leaves its message.

use std::cell::Cell;
use std::ffi::{c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use libwal::Error;

use crate::handle::{Refused, TableFull};
use crate::message;

/// Success.
pub const WAL_OK: c_int = 0;
/// There is no further record, or none of what was asked for. Not an error.
pub const WAL_END: c_int = 1;
/// The time passed first. Not an error.
pub const WAL_TIMEOUT: c_int = 2;
/// The operating system refused an operation on a file; wal_last_error_details() has its error number.
pub const WAL_ERR_IO: c_int = -1;
/// There is no disk space for the record. Nothing was appended; appends work again once space is freed.
pub const WAL_ERR_NO_SPACE: c_int = -2;
/// Acknowledged data, or a structure of the log, is damaged or missing.
pub const WAL_ERR_CORRUPT: c_int = -3;
/// The log is open for writing elsewhere, in this process or in another one.
pub const WAL_ERR_LOCKED: c_int = -4;
/// An earlier write or sync failed; the log accepts nothing until it is opened again.
pub const WAL_ERR_POISONED: c_int = -5;
/// The log, the iterator or the options were closed.
pub const WAL_ERR_CLOSED: c_int = -6;
/// The record or batch is longer than the limit.
pub const WAL_ERR_TOO_LARGE: c_int = -7;
/// wal_try_append() only: the append would have had to wait.
pub const WAL_ERR_FULL: c_int = -8;
/// An argument is outside its domain, a handle is none, or a position is not the beginning of a record.
pub const WAL_ERR_INVALID_ARGUMENT: c_int = -9;
/// The position was truncated away.
pub const WAL_ERR_TRUNCATED: c_int = -10;
/// The handle was opened before a fork; only the parent may use it.
pub const WAL_ERR_FORKED: c_int = -11;
/// The log was written by a newer version of this library.
pub const WAL_ERR_UNSUPPORTED_VERSION: c_int = -12;
/// A bug of the library: it panicked. The message is on standard error too. Close the log and report it.
pub const WAL_ERR_PANIC: c_int = -13;

/// What no position is: wal_error_t and others have it where there is none.
pub const WAL_NO_LSN: u64 = u64::MAX;

/// What the calling thread's last failure was, in numbers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wal_error_t {
    /// The error code; 0 if no call of this thread has failed yet.
    pub code: c_int,
    /// For WAL_ERR_POISONED the code of the first failure; otherwise the same as `code`.
    pub cause: c_int,
    /// The operating system's error number (errno) behind it, or 0.
    pub os_error: c_int,
    /// Reserved; 0.
    pub reserved: c_int,
    /// Where the damage is (WAL_ERR_CORRUPT) or where the log begins (WAL_ERR_TRUNCATED); otherwise WAL_NO_LSN.
    pub lsn: u64,
}

const NONE: wal_error_t = wal_error_t { code: 0, cause: 0, os_error: 0, reserved: 0, lsn: WAL_NO_LSN };

thread_local! {
    // Constant and without a destructor: it can be used to the very end of a thread, and costs nothing to begin.
    static LAST: Cell<wal_error_t> = const { Cell::new(NONE) };
}

/// What a call returns to the boundary when it does not succeed.
pub(crate) enum Failure {
    Log(Error),
    Handle(Refused, &'static str),
    Argument(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Log(error)
    }
}

impl From<TableFull> for Failure {
    fn from(_: TableFull) -> Failure {
        Failure::argument("too many open handles")
    }
}

impl Failure {
    pub(crate) fn argument(reason: impl Into<String>) -> Failure {
        Failure::Argument(reason.into())
    }

    fn details(&self) -> wal_error_t {
        let code = match self {
            Failure::Log(error) => return details_of(error),
            Failure::Handle(Refused::Closed, _) => WAL_ERR_CLOSED,
            Failure::Handle(Refused::Forked, _) => WAL_ERR_FORKED,
            Failure::Handle(..) | Failure::Argument(_) => WAL_ERR_INVALID_ARGUMENT,
        };
        wal_error_t { code, cause: code, ..NONE }
    }

    fn message(&self) -> String {
        match self {
            Failure::Log(error) => error.to_string(),
            Failure::Argument(reason) => format!("invalid argument: {reason}"),
            Failure::Handle(Refused::Null, what) => format!("invalid argument: the {what} is NULL"),
            Failure::Handle(Refused::Wrong, what) => format!("invalid argument: this is no handle of a {what}"),
            Failure::Handle(Refused::Busy, what) => {
                format!("invalid argument: another thread uses the {what}, which belongs to one thread at a time")
            }
            Failure::Handle(Refused::Closed, what) => format!("the {what} is closed"),
            Failure::Handle(Refused::Forked, what) => format!("the {what} was opened before a fork"),
        }
    }
}

fn details_of(error: &Error) -> wal_error_t {
    let cause = match error {
        Error::Poisoned { cause } => cause.code(),
        _ => error.code(),
    };
    let lsn = match error {
        Error::Corrupt { lsn, .. } | Error::Truncated { head: lsn } => lsn.get(),
        _ => WAL_NO_LSN,
    };
    wal_error_t { code: error.code(), cause, os_error: error.errno().unwrap_or(0), reserved: 0, lsn }
}

/// Remembers a failure for the calling thread, and returns its code.
#[cold]
pub(crate) fn remember(failure: &Failure) -> c_int {
    let details = failure.details();
    keep(details, &failure.message());
    details.code
}

fn keep(details: wal_error_t, text: &str) {
    LAST.set(details);
    message::keep(text);
}

/// Runs a call: its success is a code that is not negative, its failure and its panic become one that is.
#[inline]
pub(crate) fn boundary(call: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    // A failure is turned into its code inside, so that nothing larger than a number passes through.
    let call = || call().unwrap_or_else(|failure| remember(&failure));
    // What the closure leaves behind after a panic is behind the locks of the core, which do not poison, and in entries of
    // handles, whose guards put them back.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| panicked(&*panic))
}

#[cold]
fn panicked(panic: &(dyn std::any::Any + Send)) -> c_int {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    keep(wal_error_t { code: WAL_ERR_PANIC, cause: WAL_ERR_PANIC, ..NONE }, &format!("the library panicked: {text}"));
    WAL_ERR_PANIC
}

/// The message of the calling thread's last failure, in UTF-8 and never NULL; "" if there was none. It names the file and
/// the LSN where there are any, and is cut at 1023 bytes; it is wal_strerror()'s text if there was no memory for it. A call
/// that succeeds leaves it alone. The text belongs to the library and holds until the next failure on this thread, or its
/// end. Any thread; never fails.
#[unsafe(no_mangle)]
pub extern "C" fn wal_last_error() -> *const c_char {
    match LAST.get().code {
        0 => c"".as_ptr(),
        code => message::kept().unwrap_or_else(|| wal_strerror(code)),
    }
}

/// The same failure in numbers. `size` is sizeof(wal_error_t) as the caller knows it; that many bytes are written.
/// Any thread. WAL_ERR_INVALID_ARGUMENT if `out` is NULL or `size` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_last_error_details(out: *mut wal_error_t, size: usize) -> c_int {
    let details = LAST.get();
    boundary(|| {
        // SAFETY: the caller passes a place of `size` bytes, or NULL.
        unsafe { crate::arguments::write_sized(out, &details, size) }?;
        Ok(WAL_OK)
    })
}

/// What a code means, in a few words of English; "unknown code" for others. The text is constant. Any thread; never fails.
#[unsafe(no_mangle)]
pub extern "C" fn wal_strerror(code: c_int) -> *const c_char {
    let text = match code {
        WAL_OK => c"success",
        WAL_END => c"the end",
        WAL_TIMEOUT => c"the time passed",
        WAL_ERR_IO => c"input/output error",
        WAL_ERR_NO_SPACE => c"no disk space",
        WAL_ERR_CORRUPT => c"acknowledged data is damaged or missing",
        WAL_ERR_LOCKED => c"open for writing elsewhere",
        WAL_ERR_POISONED => c"poisoned by an earlier failure",
        WAL_ERR_CLOSED => c"closed",
        WAL_ERR_TOO_LARGE => c"too large",
        WAL_ERR_FULL => c"would have to wait",
        WAL_ERR_INVALID_ARGUMENT => c"invalid argument",
        WAL_ERR_TRUNCATED => c"truncated away",
        WAL_ERR_FORKED => c"opened before a fork",
        WAL_ERR_UNSUPPORTED_VERSION => c"written by a newer version",
        WAL_ERR_PANIC => c"the library panicked",
        _ => c"unknown code",
    };
    text.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn last_message() -> String {
        // SAFETY: the pointer leads to a text that ends in NUL, and this thread fails in no call meanwhile.
        unsafe { CStr::from_ptr(wal_last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_code_and_a_message() {
        let code = boundary(|| std::panic::resume_unwind(Box::new("planted")));
        assert_eq!(code, WAL_ERR_PANIC);
        assert_eq!(last_message(), "the library panicked: planted");
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        remember(&Failure::argument("ä".repeat(2000)));
        assert!(last_message().len() >= message::LONGEST - 3 && last_message().ends_with('ä'));
        remember(&Failure::argument("short"));
        assert_eq!(last_message(), "invalid argument: short");
    }

    #[test]
    fn the_codes_are_those_of_the_core() {
        let path = std::path::PathBuf::new;
        assert_eq!(Error::Closed.code(), WAL_ERR_CLOSED);
        assert_eq!(Error::Full.code(), WAL_ERR_FULL);
        assert_eq!(Error::Forked.code(), WAL_ERR_FORKED);
        assert_eq!(Error::Locked { path: path() }.code(), WAL_ERR_LOCKED);
        assert_eq!(Error::NoSpace { path: path() }.code(), WAL_ERR_NO_SPACE);
        assert_eq!(Error::TooLarge { len: 0, max: 0 }.code(), WAL_ERR_TOO_LARGE);
        assert_eq!(Error::InvalidArgument(String::new()).code(), WAL_ERR_INVALID_ARGUMENT);
        assert_eq!(Error::Truncated { head: libwal::Lsn::ZERO }.code(), WAL_ERR_TRUNCATED);
        let lsn = libwal::Lsn::new(8);
        assert_eq!(Error::Corrupt { lsn, path: path(), reason: String::new() }.code(), WAL_ERR_CORRUPT);
        assert_eq!(
            Error::UnsupportedVersion { path: path(), found: 2, supported: 1 }.code(),
            WAL_ERR_UNSUPPORTED_VERSION
        );
        let io = Error::Io { op: "", path: path(), source: std::sync::Arc::new(std::io::Error::from_raw_os_error(5)) };
        assert_eq!(io.code(), WAL_ERR_IO);
        let poisoned = Error::Poisoned { cause: std::sync::Arc::new(io) };
        let details = details_of(&poisoned);
        assert_eq!((details.code, details.cause, details.os_error), (WAL_ERR_POISONED, WAL_ERR_IO, 5));
    }
}
