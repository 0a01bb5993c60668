//! [`Channel`]: the way of completions from the log's commit thread to an event loop.
//!
//! The commit thread never attaches to the interpreter: it puts the result into a queue and, if that was empty, one byte
//! into a socket that the loop watches. So it neither waits for the interpreter nor touches it when it is being
//! finalized, and a close, which waits for that thread, needs nothing of the loop.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use libwal::{Lsn, Result};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::error::exception;

struct Shared {
    queue: Mutex<Vec<(u64, Result<Lsn>)>>,
    bell: UnixStream,
}

impl Shared {
    fn push(&self, id: u64, result: Result<Lsn>) {
        let mut queue = self.queue.lock();
        let first = queue.is_empty();
        queue.push((id, result));
        drop(queue);
        if first {
            // Fails if nobody listens any more, or if rings are waiting that were not heard yet: both are as well.
            let _ = (&self.bell).write(&[1]);
        }
    }
}

/// Where the completions of one log for one event loop arrive.
#[pyclass(frozen, module = "wal._wal")]
pub(crate) struct Channel {
    shared: Arc<Shared>,
    heard: UnixStream,
    process: u32,
}

impl Channel {
    /// What the log calls with a result, for whoever waits under `id`.
    pub(crate) fn told(&self, id: u64) -> impl FnOnce(Result<Lsn>) + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move |result| shared.push(id, result)
    }
}

#[pymethods]
impl Channel {
    #[new]
    fn new() -> PyResult<Channel> {
        let (bell, heard) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        let shared = Arc::new(Shared { queue: Mutex::default(), bell });
        Ok(Channel { shared, heard, process: std::process::id() })
    }

    /// The file descriptor that is readable when something has arrived.
    fn fileno(&self) -> i32 {
        self.heard.as_raw_fd()
    }

    /// Appends to `arrived`, a deque, all that has arrived: ids with an LSN or an exception. What this returned would be lost if
    /// an interrupt came before it is kept.
    fn take(&self, arrived: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = arrived.py();
        // The child of a fork shares the socket with its parent, and must not take its bytes, nor a lock that may have
        // been held at the fork.
        if std::process::id() != self.process {
            return Ok(());
        }
        // First the bytes, then the queue: what is pushed in between rings again, or is taken along.
        let mut bytes = [0; 64];
        loop {
            match (&self.heard).read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let append = arrived.getattr("append")?;
        let queue = std::mem::take(&mut *self.shared.queue.lock());
        for (id, result) in queue {
            let (lsn, error) = match result {
                Ok(lsn) => (Some(lsn.get()), None),
                Err(error) => (None, Some(exception(py, &error).into_value(py))),
            };
            append.call1(((id, lsn, error),))?;
        }
        Ok(())
    }
}
