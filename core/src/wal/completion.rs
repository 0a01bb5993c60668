//! Durability that is told by a call: any number of records may wait for their sync without a thread for each.
//!
//! One thread, started with the first request, commits for all that are pending, as one member of the group commit, and
//! then calls each. What comes meanwhile is the next batch. The calls are made there and nowhere else, so that no caller of
//! `sync` ever runs the code of another, with whatever locks it holds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::writer::Writer;
use super::{Wal, durable_target};
use crate::error::{Error, Result};
use crate::lsn::Lsn;
use crate::primitive::{Arc, Condvar, Mutex, thread};

impl Wal {
    /// Appends a record, returns its LSN at once, and calls `done` with it when the record is durable, or with the failure
    /// that keeps it from becoming so. If this call itself fails, `done` is not called; otherwise exactly once, at the
    /// latest before [`close`](Wal::close) returns. Only if such a call closes the log itself, the calls that are outstanding
    /// are made after it has returned. Any number of records may be waiting.
    ///
    /// A thread of the log's own, started with the first request, syncs for all that wait and makes the calls, one at a
    /// time and in the order of each appending thread. `done` delays the others while it runs. It may use the log, also
    /// append and close it, but a call that waits for a sync keeps the others waiting too. A panic in it is caught.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use std::sync::mpsc;
    ///
    /// let log = libwal::Wal::open(dir.path().join("log"))?;
    /// let (told, durable) = mpsc::channel();
    /// for n in 0..100 {
    ///     let told = told.clone();
    ///     log.append_async(format!("record {n}").as_bytes(), move |result| drop(told.send(result)))?;
    /// }
    /// for _ in 0..100 {
    ///     let lsn = durable.recv()??;
    ///     assert!(lsn < log.durable_lsn());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`append`](Wal::append); [`Error::Io`] if the thread cannot be started.
    pub fn append_async(&self, data: &[u8], done: impl FnOnce(Result<Lsn>) + Send + 'static) -> Result<Lsn> {
        self.writer()?.append_async(data, Box::new(done)).map(Lsn::new)
    }

    /// Makes every record that was appended before durable without waiting for it: calls `done` as
    /// [`append_async`](Wal::append_async) does, with the position below which everything is durable then.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Forked`]; [`Error::Io`] if the thread cannot be started; [`Error::InvalidArgument`] if
    /// opened read-only. A failed sync is told to `done`.
    pub fn sync_async(&self, done: impl FnOnce(Result<Lsn>) + Send + 'static) -> Result<()> {
        let writer = self.open_writer()?;
        let end = writer.reserve.reserved();
        writer.when_durable(end, end, Box::new(done))
    }

    /// Makes the record that begins at `lsn` durable without waiting for it, and calls `done` with `lsn` as
    /// [`append_async`](Wal::append_async) does. Whether a record begins there is not looked at. A log that is being closed
    /// still takes the request, so that whoever appended in time can ask; once it refuses, everything that will ever be
    /// durable lies below [`durable_lsn`](Wal::durable_lsn).
    ///
    /// # Errors
    /// As [`sync_async`](Wal::sync_async); [`Error::InvalidArgument`] beyond the end.
    pub fn when_durable(&self, lsn: Lsn, done: impl FnOnce(Result<Lsn>) + Send + 'static) -> Result<()> {
        let writer = self.writer()?;
        writer.when_durable(lsn.get(), durable_target(writer, lsn)?, Box::new(done))
    }
}

/// What is called once, when everything below the target is durable, or will never be.
pub(super) type Done = Box<dyn FnOnce(Result<Lsn>) + Send>;

struct Pending {
    /// What a success tells.
    lsn: u64,
    target: u64,
    done: Done,
}

#[derive(Default)]
struct Queue {
    pending: Vec<Pending>,
    /// Requests that were begun and are not in `pending` yet: their records may be appended already.
    begun: usize,
    closed: bool,
    /// Whether the thread waits for something to do.
    idle: bool,
    thread: Option<thread::JoinHandle<()>>,
}

/// The requests of one log.
#[derive(Default)]
pub(super) struct Completions {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// A request that was begun. A log that is being closed waits for it to be made or dropped, so that a record that was
/// accepted is always told of.
pub(super) struct Begun<'a> {
    completions: &'a Completions,
    request: Option<Pending>,
}

impl Begun<'_> {
    /// Asks for `done` to be called with `lsn` when everything below `target`, which must have been claimed, is durable.
    pub(super) fn request(mut self, lsn: u64, target: u64, done: Done) {
        self.request = Some(Pending { lsn, target, done });
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut queue = self.completions.queue.lock();
        queue.pending.extend(self.request.take());
        queue.begun -= 1;
        if std::mem::take(&mut queue.idle) {
            self.completions.changed.notify_one();
        }
    }
}

impl Completions {
    /// Begins a request, before the record it is for is appended. Starts the thread if there is none yet.
    pub(super) fn begin<'a>(&'a self, writer: &Arc<Writer>) -> Result<Begun<'a>> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(Error::Closed);
        }
        if queue.thread.is_none() {
            let shared = Arc::clone(writer);
            let thread = thread::Builder::new().name("libwal-commit".to_owned()).spawn(move || run(&shared));
            let path = || writer.segments.storage().path();
            queue.thread = Some(thread.map_err(|error| Error::io("start the commit thread of", path(), error))?);
        }
        queue.begun += 1;
        Ok(Begun { completions: self, request: None })
    }

    /// Everything that is pending; `None` if the log is closed and nothing will come.
    fn take(&self) -> Option<Vec<Pending>> {
        let mut queue = self.queue.lock();
        loop {
            if !queue.pending.is_empty() {
                return Some(std::mem::take(&mut queue.pending));
            }
            if queue.closed && queue.begun == 0 {
                return None;
            }
            queue.idle = true;
            self.changed.wait(&mut queue);
        }
    }

    /// Refuses further requests and returns when all that were made have been told of. The stream was shut before, so
    /// none of them waits for long. When called by the very code that is told, it leaves the rest to the thread.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.closed = true;
        queue.idle = false;
        let thread = queue.thread.take();
        drop(queue);
        self.changed.notify_one();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            // The thread catches what it calls; a panic of its own would be a bug, and close goes on.
            let _ = thread.join();
        }
    }
}

fn run(writer: &Writer) {
    while let Some(mut batch) = writer.completions.take() {
        // One thread's requests come in the order of its appends; of different threads' the earlier record goes first.
        batch.sort_by_key(|pending| pending.target);
        let last = batch.last().map_or(0, |pending| pending.target);
        let committed = writer.commit(last);
        let durable = writer.flush.watermarks.durable.load();
        for Pending { lsn, target, done } in batch {
            // A commit that failed may have come after one that covered the first of them.
            let result = if target <= durable { Ok(Lsn::new(lsn)) } else { committed.clone().map(|()| Lsn::new(lsn)) };
            // Somebody else's panic is no reason not to tell the others; the panic hook has reported it.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| done(result))) {
                // What it panicked with may panic when it is dropped.
                std::mem::forget(panic);
            }
        }
    }
}
