//! [`Wal`]: the handle. Control flow only; each stage has a file of its own.

mod background;
mod completion;
mod source;
mod writer;

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::{Kind, MARKER_RECORD_SIZE};
use crate::lsn::Lsn;
use crate::options::{Options, Recovery};
use crate::primitive::{Arc, Mutex};
use crate::reader::{Iter, Record, Source, head_lsn, last_checkpoint, read_record, seek};
use crate::recovery::View;
use crate::stats::{Stats, read};
use crate::storage::{FileStorage, Storage, fork_count, watch_forks};
use background::Background;
use writer::Writer;

/// A write-ahead log. Cheap to clone; all clones are the same log, and may be used by any number of threads at once.
///
/// What is durable when, and what survives which crash, is a property of the call:
///
/// | call | on return | survives the process dying | survives power loss |
/// |---|---|---|---|
/// | [`append`](Wal::append) | ordered, has its LSN, its disk space exists | yes, as soon as the appends before it have returned too; see below | no |
/// | [`flush`](Wal::flush) | every record appended before is with the operating system | yes | no |
/// | [`sync`](Wal::sync), [`sync_to`](Wal::sync_to), [`append_and_sync`](Wal::append_and_sync) | those records are on stable storage | yes | yes |
///
/// What is appended survives the process dying without a [`flush`](Wal::flush) where the buffer outlives it
/// ([`Options::shared_buffer`], [`Stats::shared_buffer`]): the next open for writing finds it there. Records follow one another
/// without a hole, so one that an append in another thread did not complete takes those behind it with it; a flush waits
/// for it instead. Where the buffer does not outlive the process, appends survive after a flush.
///
/// When the last clone is dropped the log is closed as by [`close`](Wal::close), without anybody to tell of a failure.
/// A handle that was opened before a `fork` works in the parent only: in the child every call is [`Error::Forked`].
#[derive(Clone)]
pub struct Wal {
    handle: Arc<Handle>,
}

impl Options {
    /// Opens the log in the directory `dir`, or creates it.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Wal> {
        self.open_on(Arc::new(FileStorage::new(dir.as_ref())))
    }

    /// Opens the log on any storage.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn open_on(self, storage: Arc<dyn Storage>) -> Result<Wal> {
        Wal::open_on(self, storage)
    }
}

/// What all clones share. Dropping it closes the log.
struct Handle {
    log: Log,
    storage: Arc<dyn Storage>,
    background: Mutex<Option<Background>>,
    forks: u32,
}

enum Log {
    Writer(Arc<Writer>),
    View(Arc<View>),
}

impl Wal {
    /// Opens the log in the directory `dir` with the default options; creates it if it does not exist.
    ///
    /// # Errors
    /// - [`Error::Locked`]: it is open for writing elsewhere.
    /// - [`Error::Corrupt`]: acknowledged data is damaged or missing, or the files are not what they should be.
    /// - [`Error::UnsupportedVersion`]: it was written by a newer version.
    /// - [`Error::InvalidArgument`]: the directory holds something else than a log, or an option is out of its domain.
    /// - [`Error::NoSpace`]: there is no disk space to create it. An existing log can be opened on a full disk.
    /// - [`Error::Io`]: the operating system refused something.
    ///
    /// An open that fails before recovery has judged the log changes nothing on disk; one that fails later leaves a log
    /// that the next open recovers to the same records.
    pub fn open(dir: impl AsRef<Path>) -> Result<Wal> {
        Options::new().open(dir)
    }

    fn open_on(options: Options, storage: Arc<dyn Storage>) -> Result<Wal> {
        options.check()?;
        let forks = watch_forks();
        let handle =
            |log, background| Handle { log, storage: Arc::clone(&storage), background: Mutex::new(background), forks };
        if options.recovery == Recovery::Salvage {
            let view = crate::salvage::view(&storage)?;
            return Ok(Wal { handle: Arc::new(handle(Log::View(Arc::new(view)), None)) });
        }
        if options.read_only {
            let view = View::open(&storage)?;
            return Ok(Wal { handle: Arc::new(handle(Log::View(Arc::new(view)), None)) });
        }
        let (background, interval) = (options.background, options.sync_interval);
        let writer = Arc::new(Writer::open(options, &storage)?);
        let background = match background.then(|| Background::start(&writer, interval)).transpose() {
            Ok(background) => background,
            Err(error) => {
                let _ = writer.close();
                return Err(Error::io("start the background thread of", storage.path(), error));
            }
        };
        Ok(Wal { handle: Arc::new(handle(Log::Writer(writer), background)) })
    }

    /// Appends a record of 0 to `max_record_size` bytes and returns its LSN. Waits only if the buffer is full, and then
    /// helps to flush it. A record longer than the buffer is flushed on return.
    ///
    /// If this call returned in one thread before it was called in another, the first one's LSN is lower.
    ///
    /// # Errors
    /// - [`Error::TooLarge`], [`Error::NoSpace`], [`Error::Io`] (the next segment could not be made): nothing was appended,
    ///   and nothing else is affected.
    /// - [`Error::Poisoned`], [`Error::Closed`], [`Error::Forked`]; [`Error::InvalidArgument`] if opened read-only.
    #[inline]
    pub fn append(&self, data: &[u8]) -> Result<Lsn> {
        self.writer()?.append(Kind::Data, data).map(|(position, _)| Lsn::new(position))
    }

    /// Appends a record if that needs no waiting: neither for room in the buffer nor for disk space. The background thread
    /// makes both; without it, [`flush`](Wal::flush) and [`sync`](Wal::sync) do.
    ///
    /// # Errors
    /// [`Error::Full`] if it would have to wait, also on a full disk; [`Error::TooLarge`] also if the record is longer than the buffer;
    /// otherwise as [`append`](Wal::append).
    #[inline]
    pub fn try_append(&self, data: &[u8]) -> Result<Lsn> {
        self.writer()?.try_append(data).map(Lsn::new)
    }

    /// Appends all of `records`, one directly after the other, and returns their LSNs in order. Across a crash either all
    /// of them are in the log or none. A batch is less than 4 GiB long.
    ///
    /// # Errors
    /// As [`append`](Wal::append).
    pub fn append_batch<T: AsRef<[u8]>>(&self, records: &[T]) -> Result<Vec<Lsn>> {
        if records.is_empty() {
            return self.open_writer()?.flush.poison.check().map(|()| Vec::new());
        }
        let writer = self.writer()?;
        let records: Vec<&[u8]> = records.iter().map(AsRef::as_ref).collect();
        let (lsns, _) = writer.append_batch(&records)?;
        Ok(lsns.into_iter().map(Lsn::new).collect())
    }

    /// Appends a record and makes it durable, together with everything appended before it.
    ///
    /// # Errors
    /// As [`append`](Wal::append) and [`sync`](Wal::sync). If the sync fails, the record may or may not be in the log when
    /// it is opened again.
    pub fn append_and_sync(&self, data: &[u8]) -> Result<Lsn> {
        let writer = self.writer()?;
        let (position, end) = writer.append(Kind::Data, data)?;
        writer.commit(end)?;
        Ok(Lsn::new(position))
    }

    /// Hands every record that was appended before to the operating system: they survive this process.
    ///
    /// # Errors
    /// [`Error::Poisoned`] with the cause if writing failed, now or earlier; [`Error::Closed`], [`Error::Forked`].
    pub fn flush(&self) -> Result<()> {
        self.open_writer()?.flush()
    }

    /// Makes every record that was appended before durable. One sync serves all threads that wait for one.
    ///
    /// # Errors
    /// [`Error::Poisoned`] with the cause if a write or a sync failed, now or earlier. A failed sync is never tried again:
    /// what was appended since the last successful one may or may not survive. [`Error::Closed`], [`Error::Forked`].
    pub fn sync(&self) -> Result<()> {
        self.open_writer()?.sync()
    }

    /// Makes every record up to and including the one that begins at `lsn` durable; with it, what was appended since.
    /// Whether a record begins there is looked at last, when it can be read.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if no record begins at `lsn`, [`Error::Truncated`] if it lies below the head,
    /// [`Error::Corrupt`] and [`Error::Io`] from looking; otherwise as [`sync`](Wal::sync).
    pub fn sync_to(&self, lsn: Lsn) -> Result<()> {
        let writer = self.open_writer()?;
        writer.flush.poison.check()?;
        let end = writer.reserve.reserved();
        if lsn.get() >= end {
            return Err(Error::invalid(format!("LSN {lsn} lies beyond the end of the log, {end}")));
        }
        if lsn >= self.durable_lsn() {
            writer.commit(end)?;
        }
        seek(&**writer, lsn.get()).map(drop)
    }

    /// Waits until the record that begins at `lsn` is durable by the syncs of others (threads, or the background thread
    /// with [`Options::sync_interval`]), and no longer than `timeout`. Returns whether it is. Does not sync by itself.
    ///
    /// # Errors
    /// As [`sync`](Wal::sync); [`Error::InvalidArgument`] beyond the end.
    pub fn wait_durable(&self, lsn: Lsn, timeout: Option<Duration>) -> Result<bool> {
        let writer = self.open_writer()?;
        writer.sync.wait_durable(durable_target(writer, lsn)?, timeout)
    }

    /// Appends a checkpoint record that holds `state`, makes it durable, and makes it the record that
    /// [`iter_from_checkpoint`](Wal::iter_from_checkpoint) begins with. Everything that the state does not contain must be
    /// appended after this call. Returns the record's LSN, up to which the log may be
    /// [truncated](Wal::truncate_before).
    ///
    /// # Errors
    /// As [`append_and_sync`](Wal::append_and_sync).
    pub fn checkpoint(&self, state: &[u8]) -> Result<Lsn> {
        self.writer()?.checkpoint(state).map(Lsn::new)
    }

    /// The LSN of the last durable checkpoint record, if there is one that was not truncated away; for a log that is open for
    /// reading only, of the last that was found, which may be newer.
    pub fn last_checkpoint(&self) -> Option<Lsn> {
        let source = self.source().ok()?;
        let looked_up = last_checkpoint(&*source);
        match &self.handle.log {
            // A reader that cannot look now knows what it has seen.
            Log::View(view) => looked_up.unwrap_or_else(|_| view.last_seen_checkpoint()),
            Log::Writer(_) => looked_up.ok()?,
        }
        .map(Lsn::new)
    }

    /// All records, from the head on. Flushes what was appended before, so that nothing of it is missing.
    ///
    /// # Errors
    /// As [`flush`](Wal::flush), but a poisoned or closed log can be read as far as it was flushed; [`Error::Io`].
    pub fn iter(&self) -> Result<Iter> {
        let source = self.source()?;
        // Another thread or process may truncate between the two steps.
        loop {
            let head = head_lsn(&*source)?;
            match self.iter_from(Lsn::new(head)) {
                Err(Error::Truncated { .. }) => {}
                result => return result,
            }
        }
    }

    /// The records from the one that begins at `lsn` on; `lsn` may also be the end of the log.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] inside a record or beyond the end, [`Error::Truncated`] below the head; otherwise as
    /// [`iter`](Wal::iter).
    pub fn iter_from(&self, lsn: Lsn) -> Result<Iter> {
        let source = self.source()?;
        let cursor = seek(&*source, lsn.get())?;
        Iter::new(source, cursor)
    }

    /// The records from the last durable checkpoint on, beginning with the checkpoint record itself; all records if there
    /// is none. Another checkpoint record may follow, if a crash came before it was known as the last: its state takes the
    /// place of what was read before.
    ///
    /// # Errors
    /// As [`iter`](Wal::iter).
    pub fn iter_from_checkpoint(&self) -> Result<Iter> {
        let source = self.source()?;
        // As in `iter`; and the checkpoint may move meanwhile.
        loop {
            let head = head_lsn(&*source)?;
            let from = last_checkpoint(&*source)?.map_or(head, |lsn| lsn.max(head));
            match self.iter_from(Lsn::new(from)) {
                Err(Error::Truncated { .. }) => {}
                result => return result,
            }
        }
    }

    /// Reads the record that begins at `lsn`.
    ///
    /// # Errors
    /// As [`iter_from`](Wal::iter_from); [`Error::InvalidArgument`] also at the end of the log; [`Error::Corrupt`].
    pub fn read(&self, lsn: Lsn) -> Result<Record> {
        read_record(&*self.source()?, lsn.get())
    }

    /// Drops the records below `lsn`, where a record must begin (or the log end), as far as they fill whole segments and
    /// are durable. Records from `lsn` on are kept, and so is the segment with the last durable byte. Returns the new
    /// [`head`](Wal::head). A position at or below the head changes nothing.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] inside a record or beyond the end; [`Error::Corrupt`], [`Error::Io`],
    /// [`Error::Poisoned`], [`Error::Closed`], [`Error::Forked`].
    pub fn truncate_before(&self, lsn: Lsn) -> Result<Lsn> {
        self.open_writer()?.truncate_before(lsn.get()).map(Lsn::new)
    }

    /// Everything below this position is on stable storage. For a log that is open read-only: is known to be.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        Lsn::new(match &self.handle.log {
            Log::Writer(writer) => writer.flush.watermarks.durable.load(),
            Log::View(view) => view.durable(),
        })
    }

    /// The position of the first record that can be read, or of one of the log's own in front of it; the end, if there is none.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Forked`].
    pub fn head(&self) -> Result<Lsn> {
        head_lsn(&*self.source()?).map(Lsn::new)
    }

    /// The end of the log: the next record will begin here or later. For a log that is open read-only, the end as far as
    /// it was flushed.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Forked`]; read-only, [`Error::Corrupt`] where acknowledged records should follow and damage does.
    pub fn tail(&self) -> Result<Lsn> {
        self.check_fork()?;
        match &self.handle.log {
            Log::Writer(writer) => Ok(Lsn::new(writer.reserve.reserved())),
            Log::View(view) => {
                let (end, _) = view.end()?;
                view.check_end(end).map(|()| Lsn::new(end))
            }
        }
    }

    /// What the log has done since it was opened, and where it stands.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Forked`].
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats {
            head: self.head()?,
            durable: self.durable_lsn(),
            checkpoint: self.last_checkpoint(),
            ..Stats::default()
        };
        match &self.handle.log {
            Log::View(view) => {
                let (head, end) = view.segments()?;
                stats.flushed = self.tail()?;
                stats.published = stats.flushed;
                stats.reserved = stats.flushed;
                stats.closed_cleanly = view.clean;
                stats.segments = end - head;
                stats.segment_size = view.segment_size();
                stats.shared_buffer = view.has_buffer()?;
            }
            Log::Writer(writer) => {
                let (watermarks, counters) = (&writer.flush.watermarks, &writer.flush.counters);
                stats.flushed = Lsn::new(watermarks.flushed.load());
                stats.published = Lsn::new(watermarks.published.load());
                stats.reserved = Lsn::new(writer.reserve.reserved());
                stats.closed_cleanly = writer.found_clean;
                stats.segments = writer.segments.end() - writer.segments.head();
                stats.segment_size = writer.segments.size();
                stats.buffer_size = writer.flush.ring.capacity();
                stats.shared_buffer = writer.flush.ring.memory().outlives_process();
                stats.records = read(&counters.records);
                stats.bytes = read(&counters.bytes);
                stats.flushes = read(&counters.flushes);
                stats.direct_writes = read(&counters.direct_writes);
                stats.syncs = read(&counters.syncs);
                stats.records_synced = read(&counters.records_synced);
                stats.waits = read(&counters.waits);
                stats.sync_latency = counters.latency.snapshot();
            }
        }
        Ok(stats)
    }

    /// The log's directory, or what its storage calls itself.
    #[must_use]
    pub fn path(&self) -> std::path::PathBuf {
        self.handle.storage.path()
    }

    /// The damaged ranges that a log opened with [`Recovery::Salvage`] passes over; empty otherwise. Damage that cost no
    /// record, such as a segment's header that could be done without, is listed by [`verify`](crate::verify) only.
    #[must_use]
    pub fn damage(&self) -> Vec<crate::Damage> {
        match &self.handle.log {
            Log::Writer(_) => Vec::new(),
            Log::View(view) => view.damage().to_vec(),
        }
    }

    /// Closes the log for all clones: waits for appends that are under way, makes everything durable, and records that the
    /// log was closed cleanly, so that the next open needs to look at nothing. Later appends and syncs are
    /// [`Error::Closed`]; iterators read on. The lock is released whatever the result is. Whoever is to be told of durability
    /// ([`append_async`](Wal::append_async)) has been when this returns, but where one that is told closes the log.
    ///
    /// # Errors
    /// The first failure of the log's life if it is poisoned, or that of closing; [`Error::Closed`] if a clone did it.
    pub fn close(self) -> Result<()> {
        self.handle.close()
    }

    /// The writer, for an append. Its fast path: whether the log is closed or poisoned is found out by the reservation.
    #[inline]
    fn writer(&self) -> Result<&Arc<Writer>> {
        self.check_fork()?;
        match &self.handle.log {
            Log::Writer(writer) => Ok(writer),
            Log::View(_) => Err(read_only()),
        }
    }

    fn open_writer(&self) -> Result<&Arc<Writer>> {
        let writer = self.writer()?;
        if writer.is_closed() { Err(Error::Closed) } else { Ok(writer) }
    }

    fn source(&self) -> Result<Arc<dyn Source>> {
        self.check_fork()?;
        Ok(match &self.handle.log {
            Log::Writer(writer) => Arc::clone(writer) as Arc<dyn Source>,
            Log::View(view) => Arc::clone(view) as Arc<dyn Source>,
        })
    }

    /// Whether this process may use the handle. Every call that can fail looks by itself.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child that was forked after the log was opened.
    #[inline]
    pub fn check_fork(&self) -> Result<()> {
        if fork_count() == self.handle.forks { Ok(()) } else { Err(Error::Forked) }
    }
}

#[cold]
fn read_only() -> Error {
    Error::invalid("the log is open for reading only")
}

/// The position below which everything is durable once the record at `lsn` is: watermarks stand at record boundaries, so
/// one byte beyond the beginning means the whole record.
fn durable_target(writer: &Writer, lsn: Lsn) -> Result<u64> {
    if lsn.get() >= writer.reserve.reserved() {
        return Err(Error::invalid(format!("LSN {lsn} lies beyond the end of the log")));
    }
    Ok(lsn.get() + 1)
}

// The room that every log keeps for its last marker is smaller than any segment.
const _: () = assert!(MARKER_RECORD_SIZE < 4096);

impl Handle {
    fn close(&self) -> Result<()> {
        if fork_count() != self.forks {
            return Err(Error::Forked);
        }
        if let Log::Writer(writer) = &self.log {
            writer.segments.prepare_no_more();
        }
        if let Some(mut background) = self.background.lock().take() {
            background.stop();
        }
        match &self.log {
            Log::Writer(writer) => writer.close(),
            Log::View(_) => Ok(()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if fork_count() != self.forks {
            // The child of a fork: the log, its lock and its thread are the parent's.
            if let Some(mut background) = self.background.lock().take() {
                background.forget();
            }
            return;
        }
        // Closed already, or closed now with nobody to tell of a failure; `close` tells.
        let _ = self.close();
    }
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal").field("path", &self.path()).field("durable", &self.durable_lsn()).finish_non_exhaustive()
    }
}
