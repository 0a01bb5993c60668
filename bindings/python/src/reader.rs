//! [`Reader`]: the records of a log in order.
//!
//! Records are read ahead in chunks, detached, and handed out of the chunk, attached and without waiting. What is read
//! ahead lies below the end that the log had when it was looked at, so nothing that an append or a truncation does later
//! is missed or seen too early.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libwal::{Error, Iter, Lsn, Wal};
use parking_lot::{Mutex, MutexGuard};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyType};

use crate::error::exception;
use crate::log::{Log, SLICE, State};
use crate::options::patience;
use crate::view::View;

/// A chunk ends with the record that reaches this many bytes, or with this many records.
const CHUNK_BYTES: usize = 128 << 10;
const CHUNK_RECORDS: usize = 2048;

#[derive(Clone, Copy)]
struct Entry {
    lsn: u64,
    kind: u8,
    start: usize,
    end: usize,
}

/// Records that were read ahead.
#[derive(Default)]
struct Chunk {
    /// Shared with views; only ever written to while it is not.
    bytes: Arc<Vec<u8>>,
    entries: Vec<Entry>,
    next: usize,
}

impl Chunk {
    fn is_empty(&self) -> bool {
        self.next == self.entries.len()
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.get(self.next).copied()?;
        self.next += 1;
        Some(entry)
    }
}

struct Reading {
    iter: Iter,
    chunk: Chunk,
    /// What the iterator failed with; raised once, when all that was read before is handed out.
    failure: Option<Error>,
}

impl Reading {
    /// Reads the next chunk, waiting up to `wait` for a first record if there is a time to wait. Called detached, when the
    /// last chunk is used up. Returns whether there is something to hand out or to raise.
    fn fill(&mut self, wait: Option<Duration>) -> bool {
        if !self.chunk.is_empty() || self.failure.is_some() {
            return true;
        }
        if Arc::get_mut(&mut self.chunk.bytes).is_none() {
            // A view still looks at it.
            self.chunk.bytes = Arc::default();
        }
        let Chunk { bytes, entries, next } = &mut self.chunk;
        // Never `None`: it is ours alone since the line above.
        let Some(bytes) = Arc::get_mut(bytes) else { return false };
        bytes.clear();
        entries.clear();
        *next = 0;
        while bytes.len() < CHUNK_BYTES && entries.len() < CHUNK_RECORDS {
            let mut record = self.iter.next_ref();
            if let (Ok(None), Some(wait), true) = (&record, wait, entries.is_empty()) {
                record = self.iter.follow(wait);
            }
            match record {
                Ok(Some(record)) => {
                    let start = bytes.len();
                    bytes.extend_from_slice(record.data);
                    entries.push(Entry { lsn: record.lsn.get(), kind: record.kind as u8, start, end: bytes.len() });
                }
                Ok(None) => break,
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        !self.chunk.is_empty() || self.failure.is_some()
    }
}

/// An iterator over the records of a log.
#[pyclass(frozen, subclass, module = "wal._wal")]
pub(crate) struct Reader {
    reading: Mutex<Reading>,
    state: Arc<State>,
    /// The log, if it is this process's to write.
    own: Option<Wal>,
    follows: bool,
    patience: Option<Duration>,
    view: bool,
}

impl Reader {
    fn lock(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, Reading>> {
        if self.state.forked() {
            return Err(exception(py, &Error::Forked));
        }
        // Never waits: a finalizer that runs in this thread may come here while the thread holds it.
        self.reading.try_lock().ok_or_else(|| PyRuntimeError::new_err("the reader is in use by another thread"))
    }

    fn payload<'py>(&self, py: Python<'py>, bytes: &Arc<Vec<u8>>, entry: Entry) -> PyResult<Bound<'py, PyAny>> {
        if self.view {
            return View::export(py, Arc::clone(bytes), entry.start..entry.end);
        }
        Ok(PyBytes::new(py, bytes.get(entry.start..entry.end).unwrap_or_default()).into_any())
    }

    /// Sees to it that there is a record in the chunk. `false`: there will be none.
    fn prepare(&self, py: Python<'_>, reading: &mut Reading) -> PyResult<bool> {
        let until = self.patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            if !reading.chunk.is_empty() {
                return Ok(true);
            }
            if let Some(error) = reading.failure.take() {
                return Err(exception(py, &error));
            }
            // Looked at first: what was appended before the log was closed is still found.
            let last = !self.follows || self.state.ended();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let slice = if last { Duration::ZERO } else { left.map_or(SLICE, |left| left.min(SLICE)) };
            let found = py.detach(|| reading.fill(self.follows.then_some(slice)));
            if found {
                continue;
            }
            if last || reading.iter.ended() || left.is_some_and(|left| left <= slice) {
                return Ok(false);
            }
            py.check_signals()?;
        }
    }

    fn pop<'py>(&self, py: Python<'py>, reading: &mut Reading) -> PyResult<Option<(u64, Bound<'py, PyAny>, u8)>> {
        let Some(entry) = reading.chunk.pop() else { return Ok(None) };
        let payload = self.payload(py, &reading.chunk.bytes, entry)?;
        Ok(Some((entry.lsn, payload, entry.kind)))
    }
}

type Pair<'py> = (u64, Bound<'py, PyAny>);

#[pymethods]
impl Reader {
    #[new]
    #[pyo3(signature = (log, start=None, *, checkpoint=false, view=false, follow=false, timeout=None))]
    fn new(
        py: Python<'_>,
        log: &Bound<'_, Log>,
        start: Option<u64>,
        checkpoint: bool,
        view: bool,
        follow: bool,
        timeout: Option<f64>,
    ) -> PyResult<Reader> {
        let log = log.get();
        log.state().check(py)?;
        let patience = patience(timeout)?;
        let iter = py.detach(|| match start {
            Some(lsn) => log.wal().iter_from(Lsn::new(lsn)),
            None if checkpoint => log.wal().iter_from_checkpoint(),
            None => log.wal().iter(),
        });
        let iter = iter.map_err(|error| exception(py, &error))?;
        Ok(Reader {
            reading: Mutex::new(Reading { iter, chunk: Chunk::default(), failure: None }),
            state: Arc::clone(log.state()),
            own: log.writes().then(|| log.wal().clone()),
            follows: follow,
            patience,
            view,
        })
    }

    /// For type checkers: `Reader[bytes]` is a `Reader` all the same.
    #[classmethod]
    fn __class_getitem__<'py>(class: &Bound<'py, PyType>, _item: &Bound<'py, PyAny>) -> Bound<'py, PyType> {
        class.clone()
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Pair<'py>>> {
        let mut reading = self.lock(py)?;
        if !self.prepare(py, &mut reading)? {
            return Ok(None);
        }
        Ok(self.pop(py, &mut reading)?.map(|(lsn, data, _)| (lsn, data)))
    }

    /// The next record with its kind as a number, or `None` at the end.
    fn _next_record<'py>(&self, py: Python<'py>) -> PyResult<Option<(u64, Bound<'py, PyAny>, u8)>> {
        let mut reading = self.lock(py)?;
        if !self.prepare(py, &mut reading)? {
            return Ok(None);
        }
        self.pop(py, &mut reading)
    }

    /// Up to `size` records at once, as a list of `(lsn, data)`; an empty list at the end.
    ///
    /// It waits only for the first one, and only if the reader follows the log.
    #[pyo3(signature = (size=1000))]
    fn read_batch<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyList>> {
        let batch = PyList::empty(py);
        let mut guard = self.lock(py)?;
        let reading = &mut *guard;
        if size == 0 || !self.prepare(py, reading)? {
            return Ok(batch);
        }
        loop {
            while batch.len() < size {
                let Some((lsn, data, _)) = self.pop(py, reading)? else { break };
                batch.append((lsn, data))?;
            }
            // An error waits for the next call, so that what was read before it is not lost.
            let more = batch.len() < size && reading.failure.is_none();
            let wait = self.follows.then_some(Duration::ZERO);
            if !more || !py.detach(|| reading.fill(wait)) {
                return Ok(batch);
            }
        }
    }

    /// Where the reader stands: at the record that comes next, or at the end.
    #[getter]
    fn position(&self, py: Python<'_>) -> PyResult<u64> {
        let reading = self.lock(py)?;
        let next = reading.chunk.entries.get(reading.chunk.next);
        Ok(next.map_or_else(|| reading.iter.position().get(), |entry| entry.lsn))
    }

    /// What was read ahead, or `None` if there is nothing.
    fn _ready<'py>(&self, py: Python<'py>) -> PyResult<Option<Pair<'py>>> {
        let mut reading = self.lock(py)?;
        if let Some((lsn, data, _)) = self.pop(py, &mut reading)? {
            return Ok(Some((lsn, data)));
        }
        match reading.failure.take() {
            Some(error) => Err(exception(py, &error)),
            None => Ok(None),
        }
    }

    /// Reads ahead without waiting for an append. Returns whether there is something now.
    fn _fill(&self, py: Python<'_>) -> PyResult<bool> {
        let mut guard = self.lock(py)?;
        let reading = &mut *guard;
        let wait = self.follows.then_some(Duration::ZERO);
        Ok(py.detach(|| reading.fill(wait)))
    }

    /// Whether looking for more is in vain from now on.
    fn _last(&self) -> bool {
        !self.follows || self.state.ended() || self.reading.try_lock().is_some_and(|reading| reading.iter.ended())
    }

    /// Whether looking for more is in vain right now, as far as can be told without asking the disk.
    fn _idle(&self, py: Python<'_>) -> PyResult<bool> {
        let reading = self.lock(py)?;
        let Some(own) = &self.own else { return Ok(false) };
        Ok(reading.chunk.is_empty()
            && reading.failure.is_none()
            && own.tail().is_ok_and(|tail| tail == reading.iter.position()))
    }

    /// How many seconds a follower waits for a record, or `None`.
    fn _patience(&self) -> Option<f64> {
        self.patience.map(|patience| patience.as_secs_f64())
    }
}
