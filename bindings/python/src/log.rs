//! [`Log`]: the handle.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libwal::{Error, Lsn, Wal};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::channel::Channel;
use crate::data::{Lent, Record};
use crate::error::{Raise, exception};
use crate::options::{Given, patience};
use crate::view::View;

/// How long a wait goes on before it looks for a Ctrl-C.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// How often a second close looks whether the first one has ended.
const MOMENT: Duration = Duration::from_millis(1);

/// What the log's readers know of it. The flag only says what was begun or has ended in this object; that the log itself
/// refuses calls after a close is the core's doing. Release/Acquire: who sees `CLOSED` sees all that the close did.
pub(crate) struct State {
    stage: AtomicU8,
    /// How many forks lay behind this process when the log was opened. In a child there are more.
    forks: u32,
}

/// How many times this process's ancestors forked since the module was imported. The core counts for itself and refuses
/// what reaches it; this is for what does not: records that were read ahead, and locks of this layer, which another thread
/// may have held at the fork. Relaxed: changes only in a child that has a single thread.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Called by the interpreter in the child of a fork.
#[pyfunction]
pub(crate) fn _count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const CLOSED: u8 = 2;

impl State {
    pub(crate) fn forked(&self) -> bool {
        FORKS.load(Ordering::Relaxed) != self.forks
    }

    /// Whether a close has ended: nothing will be appended through this object any more.
    pub(crate) fn ended(&self) -> bool {
        self.stage.load(Ordering::Acquire) == CLOSED
    }

    pub(crate) fn check(&self, py: Python<'_>) -> PyResult<()> {
        if self.forked() {
            return Err(exception(py, &Error::Forked));
        }
        if self.stage.load(Ordering::Acquire) != OPEN {
            return Err(exception(py, &Error::Closed));
        }
        Ok(())
    }
}

/// A log that is open.
#[pyclass(frozen, subclass, module = "wal._wal")]
pub(crate) struct Log {
    wal: Wal,
    state: Arc<State>,
    read_only: bool,
}

impl Log {
    pub(crate) fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Whether the log is this process's to write.
    pub(crate) fn writes(&self) -> bool {
        !self.read_only
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Calls `call` detached, unless the log is closed or the parent's.
    fn detached<T: Send>(&self, py: Python<'_>, call: impl FnOnce(&Wal) -> libwal::Result<T> + Send) -> PyResult<T> {
        self.state.check(py)?;
        py.detach(|| call(&self.wal)).or_raise(py)
    }

    /// Appends one record. The common case never waits and so never lets go of the interpreter, which would cost more than
    /// the append.
    #[inline(always)]
    pub(crate) fn append(&self, data: &Bound<'_, PyAny>) -> PyResult<u64> {
        match data.cast_exact::<PyBytes>() {
            Ok(bytes) => match self.wal.try_append(bytes.as_bytes()) {
                Ok(lsn) => Ok(lsn.get()),
                Err(error) => self.append_waiting(data.py(), bytes.as_bytes(), &error),
            },
            Err(_) => self.append_lent(data),
        }
    }

    /// An append that could not be made at once, or failed.
    #[cold]
    fn append_waiting(&self, py: Python<'_>, data: &[u8], error: &Error) -> PyResult<u64> {
        match error {
            // What does not fit into the buffer is no error for an append that may wait.
            Error::Full | Error::TooLarge { .. } => self.detached(py, |wal| wal.append(data)).map(Lsn::get),
            // Of a log that is open for reading only and was closed, the latter is said, as of any other.
            _ => self.state.check(py).and_then(|()| Err(exception(py, error))),
        }
    }

    #[cold]
    fn append_lent(&self, data: &Bound<'_, PyAny>) -> PyResult<u64> {
        let py = data.py();
        let lent = Lent::of(data)?;
        match lent.with(py, |bytes| self.wal.try_append(bytes)) {
            Ok(lsn) => Ok(lsn.get()),
            Err(error) => {
                let copy = lent.copy(py);
                // Given back before it waits.
                drop(lent);
                self.append_waiting(py, &copy, &error)
            }
        }
    }
}

#[pymethods]
impl Log {
    #[new]
    #[pyo3(signature = (
        path, *, segment_size=None, buffer_size=None, shared_buffer=true, max_record_size=None, recycle=None,
        retain_bytes=None, retain_segments=None, retain_checkpoint=true, sync_interval=None, background=true,
        read_only=false, create=true, recovery="strict", first_lsn=0
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        segment_size: Option<u64>,
        buffer_size: Option<u64>,
        shared_buffer: bool,
        max_record_size: Option<u64>,
        recycle: Option<usize>,
        retain_bytes: Option<u64>,
        retain_segments: Option<u64>,
        retain_checkpoint: bool,
        sync_interval: Option<f64>,
        background: bool,
        read_only: bool,
        create: bool,
        recovery: &str,
        first_lsn: u64,
    ) -> PyResult<Log> {
        let given = Given {
            segment_size,
            buffer_size,
            shared_buffer,
            max_record_size,
            recycle,
            retain_bytes,
            retain_segments,
            retain_checkpoint,
            sync_interval,
            background,
            read_only,
            create,
            recovery,
            first_lsn,
        };
        let options = given.options()?;
        let wal = py.detach(|| options.open(path)).or_raise(py)?;
        let state = State { stage: AtomicU8::new(OPEN), forks: FORKS.load(Ordering::Relaxed) };
        Ok(Log { wal, state: Arc::new(state), read_only: read_only || recovery == "salvage" })
    }

    /// Append one record if that needs no waiting, neither for room in the buffer nor for disk space.
    ///
    /// Raises `FullError` if it would have to wait.
    fn try_append(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<u64> {
        let lsn = match data.cast::<PyBytes>() {
            Ok(bytes) => self.wal.try_append(bytes.as_bytes()),
            Err(_) => Lent::of(data)?.with(py, |bytes| self.wal.try_append(bytes)),
        };
        lsn.or_raise(py).map(Lsn::get)
    }

    /// Raises if the log is closed, or the parent's.
    fn _check(&self, py: Python<'_>) -> PyResult<()> {
        self.state.check(py)
    }

    /// Appends all of `records`, which are `bytes`, and returns their LSNs: as one batch, or each on its own.
    #[pyo3(signature = (records, atomic))]
    fn _append_many(&self, py: Python<'_>, records: Vec<Bound<'_, PyBytes>>, atomic: bool) -> PyResult<Vec<u64>> {
        let records: Vec<&[u8]> = records.iter().map(|record| record.as_bytes()).collect();
        let plain = |lsns: Vec<Lsn>| lsns.into_iter().map(Lsn::get).collect::<Vec<u64>>();
        if atomic {
            return self.detached(py, |wal| wal.append_batch(&records)).map(plain);
        }
        let mut lsns = Vec::with_capacity(records.len());
        let appended = self.detached(py, |wal| {
            for record in &records {
                lsns.push(wal.append(record)?);
            }
            Ok(())
        });
        match appended {
            Ok(()) => Ok(plain(lsns)),
            Err(error) => {
                error.value(py).setattr("lsns", plain(lsns))?;
                Err(error)
            }
        }
    }

    /// Append one record, make it durable together with everything appended before it, and return its LSN.
    ///
    /// Threads that wait at the same time share one sync. If the sync fails, the record may or may not be in the log
    /// when it is opened again.
    fn append_and_sync(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<u64> {
        let record = Record::of(data)?;
        self.detached(py, |wal| wal.append_and_sync(record.as_ref())).map(Lsn::get)
    }

    /// Hand every record appended before to the operating system: they survive this process.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.detached(py, Wal::flush)
    }

    /// Make every record appended before durable: they survive a loss of power.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.detached(py, Wal::sync)
    }

    /// Make every record up to and including the one that begins at `lsn` durable.
    fn sync_to(&self, py: Python<'_>, lsn: u64) -> PyResult<()> {
        self.detached(py, |wal| wal.sync_to(Lsn::new(lsn)))
    }

    /// Wait until the record that begins at `lsn` is durable by the syncs of others, at most `timeout` seconds.
    ///
    /// Returns whether it is. It does not sync by itself. Ctrl-C interrupts it.
    #[pyo3(signature = (lsn, timeout=None))]
    fn wait_durable(&self, py: Python<'_>, lsn: u64, timeout: Option<f64>) -> PyResult<bool> {
        let until = patience(timeout)?.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let slice = left.map_or(SLICE, |left| left.min(SLICE));
            if self.detached(py, |wal| wal.wait_durable(Lsn::new(lsn), Some(slice)))? {
                return Ok(true);
            }
            py.check_signals()?;
            if left.is_some_and(|left| left <= slice) {
                return Ok(false);
            }
        }
    }

    /// Append a checkpoint record that holds `state`, make it durable, and return its LSN.
    ///
    /// `from_checkpoint` begins with it from then on, and the log may be truncated before it. Everything that the state
    /// does not contain must be appended after this call.
    ///
    /// >>> with wal.open("log") as log:
    /// ...     _ = log.append(b"x = 1")
    /// ...     lsn = log.checkpoint(b"all so far")
    /// ...     _ = log.append(b"x = 2")
    /// ...     [data for lsn, data in log.from_checkpoint()]
    /// [b'all so far', b'x = 2']
    fn checkpoint(&self, py: Python<'_>, state: &Bound<'_, PyAny>) -> PyResult<u64> {
        let record = Record::of(state)?;
        self.detached(py, |wal| wal.checkpoint(record.as_ref())).map(Lsn::get)
    }

    /// Drop the records below `lsn`, as far as they fill whole segments and are durable. Returns the new head.
    fn truncate_before(&self, py: Python<'_>, lsn: u64) -> PyResult<u64> {
        self.detached(py, |wal| wal.truncate_before(Lsn::new(lsn))).map(Lsn::get)
    }

    /// The payload of the record that begins at `lsn`, as `bytes` or, with `view`, as a memoryview without a copy.
    ///
    /// >>> with wal.open("log") as log:
    /// ...     log.read(log.append(b"one"))
    /// b'one'
    #[pyo3(signature = (lsn, *, view=false))]
    fn read<'py>(&self, py: Python<'py>, lsn: u64, view: bool) -> PyResult<Bound<'py, PyAny>> {
        self._read_record(py, lsn, view).map(|(data, _)| data)
    }

    /// The same as `read`, and the record's kind as a number.
    #[pyo3(signature = (lsn, *, view))]
    fn _read_record<'py>(&self, py: Python<'py>, lsn: u64, view: bool) -> PyResult<(Bound<'py, PyAny>, u8)> {
        let record = self.detached(py, |wal| wal.read(Lsn::new(lsn)))?;
        let kind = record.kind as u8;
        if view {
            let range = 0..record.data.len();
            return Ok((View::export(py, Arc::new(record.data), range)?, kind));
        }
        Ok((PyBytes::new(py, &record.data).into_any(), kind))
    }

    /// Everything below this position is durable. For a log that is open read-only: is known to be.
    #[getter]
    fn durable_lsn(&self, py: Python<'_>) -> PyResult<u64> {
        if self.read_only {
            // Another thread may be reading the disk to learn how far the log reaches.
            return self.detached(py, |wal| Ok(wal.durable_lsn().get()));
        }
        self.state.check(py)?;
        Ok(self.wal.durable_lsn().get())
    }

    /// The position of the first record that can be read; the tail, if there is none.
    #[getter]
    fn head(&self, py: Python<'_>) -> PyResult<u64> {
        self.detached(py, Wal::head).map(Lsn::get)
    }

    /// The end of the log: the next record will begin here or later.
    #[getter]
    fn tail(&self, py: Python<'_>) -> PyResult<u64> {
        self.detached(py, Wal::tail).map(Lsn::get)
    }

    /// The LSN of the last durable checkpoint, or `None`.
    #[getter]
    fn last_checkpoint(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        self.detached(py, |wal| Ok(wal.last_checkpoint().map(Lsn::get)))
    }

    /// The log's directory.
    #[getter]
    fn _path(&self) -> OsString {
        self.wal.path().into_os_string()
    }

    /// Whether `close` was called.
    #[getter]
    fn closed(&self) -> bool {
        self.state.stage.load(Ordering::Acquire) != OPEN
    }

    /// Whether the log is open for reading only.
    #[getter]
    fn read_only(&self) -> bool {
        self.read_only
    }

    /// Close the log: wait for appends under way, make everything durable, release the lock.
    ///
    /// Raises the first failure of the log's life if there was one. A second close does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.state.forked() {
            return Err(exception(py, &Error::Forked));
        }
        // AcqRel: one caller closes.
        let first = self.state.stage.compare_exchange(OPEN, CLOSING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !first {
            // What a close promises holds when any of them returns.
            while !self.state.ended() {
                py.detach(|| std::thread::sleep(MOMENT));
            }
            return Ok(());
        }
        let closed = py.detach(|| self.wal.clone().close());
        self.state.stage.store(CLOSED, Ordering::Release);
        closed.or_raise(py)
    }

    fn _forked(&self) -> bool {
        self.state.forked()
    }

    fn _damage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.state.check(py)?;
        crate::verify::damage(py, &self.wal.damage())
    }

    fn _stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        crate::stats::to_dict(py, &self.detached(py, Wal::stats)?)
    }

    /// Appends a record and returns its LSN. `None`: it would have to wait, and nothing was appended.
    fn _append_now(&self, data: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let py = data.py();
        self.state.check(py)?;
        let appended = match data.cast::<PyBytes>() {
            Ok(bytes) => self.wal.try_append(bytes.as_bytes()),
            Err(_) => Lent::of(data)?.with(py, |bytes| self.wal.try_append(bytes)),
        };
        match appended {
            Ok(lsn) => Ok(Some(lsn.get())),
            Err(Error::Full | Error::TooLarge { .. }) => Ok(None),
            Err(error) => Err(exception(py, &error)),
        }
    }

    /// Tells the channel under each of the ids when the record at the LSN beside it, which was appended, is durable; also
    /// if the log was closed since. Empties the list, in one step for whoever may be interrupted.
    fn _when_durable(&self, channel: &Channel, records: &Bound<'_, PyList>) -> PyResult<()> {
        let asked: Vec<(u64, u64)> = records.extract()?;
        records.del_slice(0, asked.len())?;
        if self.state.forked() {
            return Ok(()); // Nobody tells the child anything.
        }
        for (id, lsn) in asked {
            let lsn = Lsn::new(lsn);
            if let Err(error) = self.wal.when_durable(lsn, channel.told(id)) {
                channel.told(id)(if lsn < self.wal.durable_lsn() { Ok(lsn) } else { Err(error) });
            }
        }
        Ok(())
    }

    /// Appends a record that has to wait. Its durability is told to the channel under `id`.
    fn _commit_waiting(&self, py: Python<'_>, channel: &Channel, id: u64, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        let (done, data) = (channel.told(id), data.as_bytes());
        self.detached(py, |wal| wal.append_async(data, done)).map(drop)
    }

    /// Tells the channel when the record at `lsn`, or everything appended before, is durable.
    fn _synced(&self, py: Python<'_>, channel: &Channel, id: u64, lsn: Option<u64>) -> PyResult<()> {
        self.state.check(py)?;
        match lsn {
            Some(lsn) => self.wal.when_durable(Lsn::new(lsn), channel.told(id)),
            None => self.wal.sync_async(channel.told(id)),
        }
        .or_raise(py)
    }

    /// Takes what `append` takes, and does nothing: what a call of a method that pyo3 makes costs. For bench.py only.
    #[allow(clippy::unused_self)]
    fn _noop(&self, data: &Bound<'_, PyAny>) -> PyResult<u64> {
        match data.cast::<PyBytes>() {
            Ok(bytes) => Ok(std::hint::black_box(bytes.as_bytes()).len() as u64),
            Err(_) => Err(PyValueError::new_err("bytes only")),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // The Python half has closed it by now, unless it could not. Dropping the core's handle would close it too, but
        // this thread is attached, and a close waits for threads and for the disk. In a forked child it does nothing.
        if self.closed() || self.state.forked() {
            return;
        }
        let wal = self.wal.clone();
        // Without an interpreter (it is being finalized) there is nothing to detach from. Nobody is left to tell of a
        // failure.
        let _ = match Python::try_attach(|py| py.detach(|| wal.clone().close())) {
            Some(closed) => closed,
            None => wal.close(),
        };
    }
}
