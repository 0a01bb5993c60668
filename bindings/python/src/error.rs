//! From [`libwal::Error`] to the exceptions of `wal._errors`.

use std::io::ErrorKind;

use libwal::Error;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyModule, PyTuple};
use pyo3::{Py, PyTypeInfo};

/// What exceptions are made of.
pub(crate) struct Needed {
    /// The module `wal._errors`.
    errors: Py<PyModule>,
    /// `os.strerror`.
    strerror: Py<PyAny>,
    /// `errno.ENOSPC`.
    no_space: i32,
}

static NEEDED: PyOnceLock<Needed> = PyOnceLock::new();

/// Kept from when the module was imported on: an import runs Python code where it finds nothing, as at the interpreter's end.
pub(crate) fn needed(py: Python<'_>) -> PyResult<&'static Needed> {
    NEEDED.get_or_try_init(py, || {
        Ok(Needed {
            errors: py.import("wal._errors")?.unbind(),
            strerror: py.import("os")?.getattr("strerror")?.unbind(),
            no_space: py.import("errno")?.getattr("ENOSPC")?.extract()?,
        })
    })
}

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
                Some(errno) => needed(py)?.strerror.bind(py).call1((errno,))?,
                None => source.to_string().into_pyobject(py)?.into_any(),
            };
            let failed = make_of_system(py, name, (errno, reason, path.as_os_str()).into_pyobject(py)?)?;
            failed.value(py).setattr("operation", *op)?;
            Ok(failed)
        }
        Error::NoSpace { path } => {
            let (errno, reason) = (needed(py)?.no_space, "no disk space for the next segment");
            make_of_system(py, "NoSpaceError", (errno, reason, path.as_os_str()).into_pyobject(py)?)
        }
        Error::Corrupt { lsn, path, .. } => {
            make(py, "CorruptError", (text, lsn.get(), path.as_os_str()).into_pyobject(py)?, &["lsn", "path"])
        }
        Error::Locked { path } => make(py, "LockedError", (text, path.as_os_str()).into_pyobject(py)?, &["path"]),
        Error::Poisoned { cause } => {
            let poisoned = make(py, "PoisonedError", (text,).into_pyobject(py)?, &[])?;
            poisoned.set_cause(py, Some(exception(py, cause)));
            Ok(poisoned)
        }
        Error::Closed => make(py, "ClosedError", (text,).into_pyobject(py)?, &[]),
        Error::TooLarge { len, max } => {
            make(py, "TooLargeError", (text, *len, *max).into_pyobject(py)?, &["len", "max"])
        }
        Error::Full => make(py, "FullError", (text,).into_pyobject(py)?, &[]),
        Error::InvalidArgument(_) => make(py, "InvalidArgumentError", (text,).into_pyobject(py)?, &[]),
        Error::Truncated { head } => make(py, "TruncatedError", (text, head.get()).into_pyobject(py)?, &["head"]),
        Error::Forked => make(py, "ForkedError", (text,).into_pyobject(py)?, &[]),
        Error::UnsupportedVersion { path, found, supported } => {
            let arguments = (text, path.as_os_str(), *found, *supported).into_pyobject(py)?;
            make(py, "UnsupportedVersionError", arguments, &["path", "found", "supported"])
        }
        // The core's list is open; the code is stable.
        other => make(py, "WalError", (other.to_string(),).into_pyobject(py)?, &[]),
    }
}

/// An exception of `wal._errors` with these `args`, and `fields` that hold those behind the first one.
///
/// Not by a call of its class, which would run the class's `__init__`: that is Python code. Where Python code runs below this
/// library while the interpreter ends, the forced end of a daemon thread would unwind through it, and abort the process.
fn make(py: Python<'_>, name: &str, arguments: Bound<'_, PyTuple>, fields: &[&str]) -> PyResult<PyErr> {
    let class = needed(py)?.errors.bind(py).getattr(name)?;
    let made = class.getattr("__new__")?.call1(behind(&class, &arguments)?)?;
    for (field, value) in fields.iter().zip(arguments.iter().skip(1)) {
        made.setattr(*field, value)?;
    }
    Ok(PyErr::from_value(made))
}

/// The same of one that is an `OSError`: of the error's number, what it means, and the file's name.
fn make_of_system(py: Python<'_>, name: &str, arguments: Bound<'_, PyTuple>) -> PyResult<PyErr> {
    let made = make(py, name, arguments.clone(), &[])?;
    PyOSError::type_object(py).getattr("__init__")?.call1(behind(made.value(py).as_any(), &arguments)?)?;
    Ok(made)
}

/// `first`, and `arguments` behind it.
fn behind<'py>(first: &Bound<'py, PyAny>, arguments: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(first.py(), std::iter::once(first.clone()).chain(arguments.iter()).collect::<Vec<_>>())
}
