//! [`View`]: bytes of Rust's, lent to Python without a copy.

use std::ffi::c_int;
use std::ops::Range;
use std::sync::Arc;

use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::types::PyMemoryView;
use pyo3::{Bound, PyResult, ffi};

/// A part of a chunk of records. Whoever exports it keeps the chunk alive, whose bytes no one changes any more: a reader
/// fills a chunk again only if it is the only one to hold it.
#[pyclass(frozen, module = "wal._wal", name = "_View")]
pub(crate) struct View {
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl View {
    /// A memoryview of `bytes[range]`.
    pub(crate) fn export(py: Python<'_>, bytes: Arc<Vec<u8>>, range: Range<usize>) -> PyResult<Bound<'_, PyAny>> {
        let view = Bound::new(py, View { bytes, range })?;
        Ok(PyMemoryView::from(view.as_any())?.into_any())
    }
}

#[pymethods]
impl View {
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let bytes = this.bytes.get(this.range.clone()).ok_or_else(|| PyBufferError::new_err("outside of its chunk"))?;
        let len = ffi::Py_ssize_t::try_from(bytes.len()).map_err(|_| PyBufferError::new_err("too long"))?;
        // SAFETY: the interpreter passes a valid `view` or null, which PyBuffer_FillInfo refuses. The bytes live as long
        // as `slf`, to which the filled view holds a reference, are behind an Arc that is never written through while
        // shared, and are exported read-only.
        let filled =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), bytes.as_ptr().cast_mut().cast(), len, 1, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
