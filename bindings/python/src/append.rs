//! `Log.append`, the call that is made for every record.
//!
//! A method as pyo3 makes it takes keywords, for which the interpreter (3.11 to 3.14) has no specialized call, and looks
//! again at the type of its object, which the interpreter knows. That is more than a quarter of what an append from
//! Python would cost; `bench.py` measures beside it what a method of pyo3's costs that does nothing. So this one is
//! defined as a method written in C would be: one argument by position, called by the interpreter's shortest way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::log::Log;

/// What the interpreter keeps a pointer to for as long as it lives, and only reads.
struct Method(ffi::PyMethodDef);

// SAFETY: it is never written to, and its pointers are to constants.
unsafe impl Sync for Method {}

static APPEND: Method = Method(ffi::PyMethodDef {
    ml_name: c"append".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunction: append },
    ml_flags: ffi::METH_O,
    ml_doc: c"append($self, data, /)
--

Append one record and return its LSN.

`data` is any contiguous bytes-like object. The record is ordered and its disk space is set aside. It survives
this process where the buffer does (`stats().shared_buffer`), and else after `flush`; `sync` makes it survive a
loss of power.

>>> with wal.open(\"log\") as log:
...     first = log.append(b\"one\")
...     second = log.append(bytearray(b\"two\"))
>>> first < second
True"
        .as_ptr(),
});

/// # Safety
/// The calling thread is attached, `log` is an object of `Log` or of a class derived from it, and `data` is an object;
/// both are kept by the caller.
unsafe extern "C" fn append(log: *mut ffi::PyObject, data: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the thread is attached, and `py` and what is made with it do not outlive the call.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: objects that the caller keeps; `log` is of that class.
    let (log, data) = unsafe { (Borrowed::from_ptr(py, log).cast_unchecked::<Log>(), Borrowed::from_ptr(py, data)) };
    // No panic is known of, but one must not unwind into the interpreter.
    let appended = catch_unwind(AssertUnwindSafe(|| log.get().append(&data)))
        .unwrap_or_else(|_| Err(PanicException::new_err("append panicked")));
    match appended {
        // SAFETY: attached. Null, with an exception set, if there is no memory for the number.
        Ok(lsn) => unsafe { ffi::PyLong_FromUnsignedLongLong(lsn) },
        Err(error) => {
            error.restore(py);
            ptr::null_mut()
        }
    }
}

/// Gives a class that is derived from `Log` the method `append`, and returns the class.
// To the class of which the objects are, not to `_wal.Log`, because only a method of an object's own class is called by
// the shortest way.
#[pyfunction]
#[pyo3(signature = (class, /))]
pub(crate) fn _with_append<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    if !class.is_subclass_of::<Log>()? {
        return Err(PyTypeError::new_err("only a class derived from _wal.Log can append"));
    }
    let definition = (&raw const APPEND.0).cast_mut();
    // SAFETY: `definition` lives as long as the process and is only read. The method that is made refuses to be called on
    // objects that are not of `class` (with a TypeError, before it gets here), and `class` is derived from `Log`: what
    // `append` demands.
    let method =
        unsafe { Bound::from_owned_ptr_or_err(class.py(), ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.setattr("append", method)?;
    Ok(class.clone())
}
