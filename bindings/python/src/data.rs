//! What can be appended: any contiguous bytes-like object.
//!
//! `bytes` never change, so their memory is read in place, also while other threads run. The memory of any other object
//! (a `bytearray`, an array, a memoryview, also a read-only one of something that is not) may change under the reader. It
//! is read in place only where no Python thread can run meanwhile: attached to an interpreter with its lock on. Otherwise
//! it is copied first.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PyString};

/// Whether attached threads run in parallel. Relaxed: set once, when the module is imported.
static FREE_THREADED: AtomicBool = AtomicBool::new(false);

/// Finds out whether the interpreter has a lock. Asked at run time, because one build may serve both kinds.
pub(crate) fn learn_about_the_interpreter(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    // Importing this module cannot turn the lock on, but another module can turn it on later: then copies are made that
    // are not needed.
    let locked = match sys.getattr_opt("_is_gil_enabled")? {
        Some(asks) => asks.call0()?.is_truthy()?,
        None => true,
    };
    FREE_THREADED.store(!locked, Ordering::Relaxed);
    Ok(())
}

/// The memory of an object that is not `bytes`. Readable while attached.
pub(crate) struct Lent {
    buffer: PyUntypedBuffer,
}

impl Lent {
    /// Takes hold of the object's memory; the object cannot be resized meanwhile.
    #[cold]
    pub(crate) fn of(data: &Bound<'_, PyAny>) -> PyResult<Lent> {
        if data.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("records are bytes, not str: encode it first, as in data.encode()"));
        }
        let name = || data.get_type().name().map_or_else(|_| "this object".to_owned(), |name| name.to_string());
        let buffer = PyUntypedBuffer::get(data).or_else(|error| {
            if error.is_instance_of::<PyTypeError>(data.py()) {
                return Err(PyTypeError::new_err(format!("a bytes-like object is required, not '{}'", name())));
            }
            // Some exporters (ctypes, scalars) leave out the shape or the strides, which a memoryview fills in.
            let bytes = PyMemoryView::from(data).and_then(|view| view.call_method1("cast", ("B",)));
            bytes.and_then(|bytes| PyUntypedBuffer::get(&bytes)).map_err(|_| error)
        })?;
        if !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err(format!(
                "the memory of this '{}' is not contiguous: copy it first",
                name()
            )));
        }
        if has_objects(buffer.format().to_bytes()) {
            return Err(PyTypeError::new_err("the elements are references to Python objects, not bytes"));
        }
        Ok(Lent { buffer })
    }

    /// Calls `read` with the memory, in place if that is sound.
    #[allow(unsafe_code)]
    pub(crate) fn with<T>(&self, py: Python<'_>, read: impl FnOnce(&[u8]) -> T) -> T {
        if FREE_THREADED.load(Ordering::Relaxed) {
            return read(&self.copy(py));
        }
        let (start, len) = (self.buffer.buf_ptr().cast_const().cast::<u8>(), self.buffer.len_bytes());
        if len == 0 || start.is_null() {
            return read(&[]);
        }
        // SAFETY: the exporter guarantees `len` contiguous readable bytes from `start` on until the buffer is released,
        // which `self` does when it is dropped. No Python thread can write to them before this returns: this thread is
        // attached, the interpreter has a lock, and `read` must not detach (it is called with nothing to do so).
        read(unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// A copy of the memory, for whoever detaches. Made by the interpreter's own means, as reading the object would.
    #[allow(unsafe_code)]
    pub(crate) fn copy(&self, _py: Python<'_>) -> Vec<u8> {
        let (start, len) = (self.buffer.buf_ptr().cast_const().cast::<u8>(), self.buffer.len_bytes());
        let mut copy = Vec::with_capacity(len);
        if len > 0 && !start.is_null() {
            // SAFETY: as in `with`, `len` bytes are readable from `start` on; `copy` has room for them, and is new. Without
            // an interpreter lock another thread may be writing to them: that is a race in the caller's program, in which
            // this copy takes part as every reader of the buffer protocol does; no reference to the memory is made.
            unsafe {
                std::ptr::copy_nonoverlapping(start, copy.as_mut_ptr(), len);
                copy.set_len(len);
            }
        }
        copy
    }
}

/// Whether a format, as `struct` and PEP 3118 have them, names references. The names of fields stand between colons.
fn has_objects(format: &[u8]) -> bool {
    format.split(|&byte| byte == b':').step_by(2).any(|types| types.contains(&b'O'))
}

/// The record that `data` holds, as it is now. `bytes` are given back as they are.
#[pyfunction]
#[pyo3(signature = (data, /))]
pub(crate) fn _bytes<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    match data.cast::<PyBytes>() {
        Ok(bytes) => Ok(bytes.clone()),
        Err(_) => Ok(PyBytes::new(data.py(), &Lent::of(data)?.copy(data.py()))),
    }
}

/// A record to be appended while detached: borrowed from `bytes`, or copied.
pub(crate) enum Record<'a> {
    Bytes(&'a [u8]),
    Copy(Vec<u8>),
}

impl<'a> Record<'a> {
    /// The record that `data` holds.
    pub(crate) fn of(data: &'a Bound<'_, PyAny>) -> PyResult<Record<'a>> {
        match data.cast::<PyBytes>() {
            Ok(bytes) => Ok(Record::Bytes(bytes.as_bytes())),
            Err(_) => Ok(Record::Copy(Lent::of(data)?.copy(data.py()))),
        }
    }
}

impl AsRef<[u8]> for Record<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Record::Bytes(bytes) => bytes,
            Record::Copy(copy) => copy,
        }
    }
}
