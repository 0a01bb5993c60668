//! [`Options`]: how a log is opened.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::format::MAX_PAYLOAD;
use crate::lsn::Lsn;

/// What to do with damage that is found when a log is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// A torn tail is cut; damage below a position that was once acknowledged is [`Error::Corrupt`].
    #[default]
    Strict,
    /// Opens for reading only and reads around damage. What could not be read is listed by
    /// [`Wal::damage`](crate::Wal::damage). Nothing on disk is changed; [`repair`](crate::repair) does that.
    Salvage,
}

/// Which old segments a log drops by itself. Applied when the log enters a new segment and after each checkpoint; the
/// segment being written is always kept, and so is all that is not yet durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// Nothing is dropped; the owner calls [`Wal::truncate_before`](crate::Wal::truncate_before).
    #[default]
    None,
    /// Drops the oldest segments while the others hold at least this many bytes of the stream.
    Bytes(u64),
    /// Keeps this many segments that the stream has entered, at least one.
    Segments(u64),
}

/// A model checker counts every word of the buffer.
const SMALLEST_BUFFER: u64 = if cfg!(loom) { 64 } else { 4 << 10 };

/// How a log is opened. Each setter returns the options, so that they can be chained.
///
/// | option | default | domain |
/// |---|---|---|
/// | `segment_size` | 64 MiB | a power of two, 4 KiB to 4 GiB; fixed when the log is created |
/// | `buffer_size` | 4 MiB | a power of two, 4 KiB to 1 GiB; lowered to the segment size if above |
/// | `shared_buffer` | yes | |
/// | `max_record_size` | 64 MiB | up to 256 MiB - 1 |
/// | `recycle` | 2 segments | |
/// | `retention` | none | |
/// | `retain_checkpoint` | yes | |
/// | `sync_interval` | none | at least 1 ms |
/// | `background` | yes | |
/// | `read_only` | no | |
/// | `create` | yes | |
/// | `recovery` | strict | |
/// | `first_lsn` | 0 | a multiple of 8 below 2^57, for a new log only |
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) segment_size: u64,
    pub(crate) buffer_size: u64,
    pub(crate) shared_buffer: bool,
    pub(crate) max_record_size: u64,
    pub(crate) recycle: usize,
    pub(crate) retention: Retention,
    pub(crate) retain_checkpoint: bool,
    pub(crate) sync_interval: Option<Duration>,
    pub(crate) background: bool,
    pub(crate) read_only: bool,
    pub(crate) create: bool,
    pub(crate) recovery: Recovery,
    pub(crate) first_lsn: Lsn,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_size: 64 << 20,
            buffer_size: 4 << 20,
            shared_buffer: true,
            max_record_size: 64 << 20,
            recycle: 2,
            retention: Retention::None,
            retain_checkpoint: true,
            sync_interval: None,
            background: true,
            read_only: false,
            create: true,
            recovery: Recovery::Strict,
            first_lsn: Lsn::ZERO,
        }
    }
}

impl Options {
    /// The default options.
    #[must_use]
    pub fn new() -> Options {
        Options::default()
    }

    /// How many bytes of the stream each segment file holds. It counts when a log is created; a log that exists keeps
    /// the size it has.
    #[must_use]
    pub fn segment_size(mut self, bytes: u64) -> Options {
        self.segment_size = bytes;
        self
    }

    /// The size of the buffer between appending threads and the operating system, in bytes of memory (and half as much
    /// again beside it). Never above the segment size: it is lowered silently.
    #[must_use]
    pub fn buffer_size(mut self, bytes: u64) -> Options {
        self.buffer_size = bytes;
        self
    }

    /// Whether the buffer is memory that the death of the process leaves behind, where the system has such: the next open
    /// finds there what was appended and not flushed. It takes up its whole size from the beginning, on Linux on
    /// `/dev/shm`, in a file that only its user can read, and which goes when the log is closed. Where there is no room, or
    /// without this, it is memory of the process; [`Stats::shared_buffer`](crate::Stats::shared_buffer) tells.
    #[must_use]
    pub fn shared_buffer(mut self, shared: bool) -> Options {
        self.shared_buffer = shared;
        self
    }

    /// The longest record that is accepted, in bytes. It bounds what is appended, not what is read.
    #[must_use]
    pub fn max_record_size(mut self, bytes: u64) -> Options {
        self.max_record_size = bytes;
        self
    }

    /// How many segments that truncation freed are kept for reuse. Reusing one costs a rename; making one costs writing it
    /// full of zeros.
    #[must_use]
    pub fn recycle(mut self, segments: usize) -> Options {
        self.recycle = segments;
        self
    }

    /// Which old segments the log drops by itself.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Options {
        self.retention = retention;
        self
    }

    /// Whether retention keeps everything from the last checkpoint on, however much that is, and drops nothing from a log
    /// without a checkpoint.
    #[must_use]
    pub fn retain_checkpoint(mut self, retain: bool) -> Options {
        self.retain_checkpoint = retain;
        self
    }

    /// Syncs in the background whenever this much time has passed and something is not durable. Needs `background`. A sync
    /// may come later than that while the same thread prepares a segment.
    #[must_use]
    pub fn sync_interval(mut self, interval: Option<Duration>) -> Options {
        self.sync_interval = interval;
        self
    }

    /// Whether the log keeps one background thread, which prepares the next segment, flushes the buffer while it fills and
    /// serves `sync_interval`. Without it the appending threads do the first two themselves when they must.
    #[must_use]
    pub fn background(mut self, background: bool) -> Options {
        self.background = background;
        self
    }

    /// Opens for reading only: takes no lock, changes nothing on disk, and may follow a log that another process writes.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Options {
        self.read_only = read_only;
        self
    }

    /// Whether a log is created where there is none; otherwise that is an [`Error::Io`] of kind `NotFound`.
    #[must_use]
    pub fn create(mut self, create: bool) -> Options {
        self.create = create;
        self
    }

    /// What to do with damage.
    #[must_use]
    pub fn recovery(mut self, recovery: Recovery) -> Options {
        self.recovery = recovery;
        self
    }

    /// The LSN of the first record of a new log, for a log that continues another one. An existing log keeps its own.
    #[must_use]
    pub fn first_lsn(mut self, lsn: Lsn) -> Options {
        self.first_lsn = lsn;
        self
    }

    /// Whether every option lies in its domain.
    pub(crate) fn check(&self) -> Result<()> {
        let power = |name: &str, value: u64, least: u64, most: u64| {
            if value.is_power_of_two() && (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(format!("{name} is {value}: it must be a power of two from {least} to {most}")))
        };
        power("segment_size", self.segment_size, 4 << 10, 4 << 30)?;
        power("buffer_size", self.buffer_size, SMALLEST_BUFFER, 1 << 30)?;
        if self.max_record_size > MAX_PAYLOAD as u64 {
            return Err(Error::invalid(format!("max_record_size is above {MAX_PAYLOAD}")));
        }
        if self.sync_interval.is_some_and(|interval| interval < Duration::from_millis(1)) {
            return Err(Error::invalid("sync_interval is below a millisecond"));
        }
        if self.sync_interval.is_some() && !self.background {
            return Err(Error::invalid("sync_interval needs the background thread"));
        }
        if self.first_lsn.get() % 8 != 0 || self.first_lsn >= Lsn::new(Lsn::MAX.get() / 2) {
            return Err(Error::invalid(format!("first_lsn {} is no multiple of 8 below 2^57", self.first_lsn)));
        }
        Ok(())
    }
}
