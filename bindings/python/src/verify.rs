//! `wal.verify` and `wal.repair`.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

use libwal::{Damage, Error, Lsn, Progress, Report, Result};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::Raise;
use crate::log::SLICE;

enum News {
    Progress(Progress),
    Done(Box<Result<Report>>),
}

/// A check of the log at `path` in a thread of its own. The thread reads on to its end even if nobody waits for it any more; it
/// changes nothing.
#[pyclass(frozen, module = "wal._wal")]
pub(crate) struct Verification {
    // A receiver belongs to one thread at a time.
    news: Mutex<Receiver<News>>,
}

#[pymethods]
impl Verification {
    #[new]
    fn new(path: PathBuf, threads: usize) -> PyResult<Verification> {
        let (tell, news) = mpsc::channel();
        let work = move || {
            let report = libwal::verify(path, threads, &|progress| drop(tell.send(News::Progress(progress))));
            drop(tell.send(News::Done(Box::new(report))));
        };
        std::thread::Builder::new().name("libwal-verify".to_owned()).spawn(work)?;
        Ok(Verification { news: Mutex::new(news) })
    }

    /// Waits for what is new: bytes done and bytes in all, or the report, after which nothing comes. Ctrl-C interrupts it.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loop {
            let heard = py.detach(|| self.news.lock().recv_timeout(SLICE));
            py.check_signals()?;
            return match heard {
                Ok(News::Progress(Progress { done, total })) => Ok((done, total).into_pyobject(py)?.into_any()),
                Ok(News::Done(result)) => Ok(report(py, &(*result).or_raise(py)?)?.into_any()),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => Err(PyRuntimeError::new_err("the verifying thread died")),
            };
        }
    }
}

/// Mends the log at `path`; the damaged bytes go to `keep`.
#[pyfunction]
pub(crate) fn _repair(py: Python<'_>, path: PathBuf, keep: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let mended: std::result::Result<Report, Error> = py.detach(|| libwal::repair(path, keep));
    report(py, &mended.or_raise(py)?)
}

/// Damaged ranges as tuples: from, to, path, reason.
pub(crate) fn damage<'py>(py: Python<'py>, damage: &[Damage]) -> PyResult<Bound<'py, PyList>> {
    let tuples =
        damage.iter().map(|damage| (damage.from.get(), damage.to.get(), damage.path.as_os_str(), &damage.reason));
    PyList::new(py, tuples.collect::<Vec<_>>())
}

fn report<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("head", report.head.get())?;
    dict.set_item("tail", report.tail.get())?;
    dict.set_item("segments", report.segments)?;
    dict.set_item("records", report.records)?;
    dict.set_item("payload_bytes", report.payload_bytes)?;
    dict.set_item("closed_cleanly", report.closed_cleanly)?;
    dict.set_item("checkpoint", report.checkpoint.map(Lsn::get))?;
    dict.set_item("torn_tail", report.torn_tail.map(Lsn::get))?;
    let files = report.files.iter().map(|file| (file.path.as_os_str(), &file.reason));
    dict.set_item("files", files.collect::<Vec<_>>())?;
    dict.set_item("damage", damage(py, &report.damage)?)?;
    Ok(dict)
}
