//! From [`libwal::Error`] to the exceptions of `wal._errors`.

use std::io::ErrorKind;

use libwal::Error;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What every call returns of a failed one of the core.
pub(crate) trait Raise<T> {
    /// Turns the core's error into an exception.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> Raise<T> for libwal::Result<T> {
    #[inline]
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}

/// The exception for `error`. If it cannot be made, the exception that says why.
#[cold]
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    build(py, error).unwrap_or_else(|failure| failure)
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let text = error.to_string();
    let make = |name: &str, arguments: Bound<'_, PyTuple>| -> PyResult<PyErr> {
        let class = py.import("wal._errors")?.getattr(name)?;
        Ok(PyErr::from_value(class.call1(arguments)?))
    };
    match error {
        Error::Io { op, path, source } => {
            // The core makes up some errors of its own, which have a kind but no number.
            let name = match source.kind() {
                ErrorKind::NotFound => "NotFoundError",
                ErrorKind::PermissionDenied => "AccessError",
                _ => "WalIOError",
            };
            let errno = source.raw_os_error();
            let reason = match errno {
                Some(errno) => py.import("os")?.getattr("strerror")?.call1((errno,))?,
                None => source.to_string().into_pyobject(py)?.into_any(),
            };
            make(name, (errno, reason, path, *op).into_pyobject(py)?)
        }
        Error::NoSpace { path } => {
            let errno = py.import("errno")?.getattr("ENOSPC")?;
            make("NoSpaceError", (errno, "no disk space for the next segment", path).into_pyobject(py)?)
        }
        Error::Corrupt { lsn, path, .. } => make("CorruptError", (text, lsn.get(), path).into_pyobject(py)?),
        Error::Locked { path } => make("LockedError", (text, path).into_pyobject(py)?),
        Error::Poisoned { cause } => {
            let poisoned = make("PoisonedError", (text,).into_pyobject(py)?)?;
            poisoned.set_cause(py, Some(exception(py, cause)));
            Ok(poisoned)
        }
        Error::Closed => make("ClosedError", (text,).into_pyobject(py)?),
        Error::TooLarge { len, max } => make("TooLargeError", (text, *len, *max).into_pyobject(py)?),
        Error::Full => make("FullError", (text,).into_pyobject(py)?),
        Error::InvalidArgument(_) => make("InvalidArgumentError", (text,).into_pyobject(py)?),
        Error::Truncated { head } => make("TruncatedError", (text, head.get()).into_pyobject(py)?),
        Error::Forked => make("ForkedError", (text,).into_pyobject(py)?),
        Error::UnsupportedVersion { path, found, supported } => {
            make("UnsupportedVersionError", (text, path, *found, *supported).into_pyobject(py)?)
        }
        // The core's list is open; the code is stable.
        other => make("WalError", (other.to_string(),).into_pyobject(py)?),
    }
}
