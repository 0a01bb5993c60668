//! The logs that are compared, each used as its author recommends, behind one small trait.

mod commitlog;
mod libwal;
mod nano_wal;
mod okaywal;
mod raft_engine;
mod wal_db;
mod walcraft;
mod walrus;
mod writeahead;

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::latency::Latencies;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a log is opened for. Each peer picks the options that its documentation recommends for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Appends as fast as they go.
    Append,
    /// Every record durable on return.
    Commit,
    /// Small segments that rotate and are dropped while appends go on.
    Tails,
    /// A log that is filled, closed and opened again.
    Replay,
}

pub(crate) struct Setup {
    pub(crate) dir: PathBuf,
    /// Bytes in each record.
    pub(crate) len: usize,
    pub(crate) purpose: Purpose,
}

/// One log, open for writing.
pub(crate) trait Log: Send + Sync {
    /// Appends `count` records of `payload`, without waiting for the disk where the log has such a call. `thread` tells the
    /// appending threads apart.
    fn append(&self, thread: usize, payload: &[u8], count: usize) -> Result<()>;

    /// Appends one record, which is durable on return.
    fn commit(&self, thread: usize, payload: &[u8]) -> Result<()>;

    /// Keeps `tasks` commits under way from one thread until `until`, if the log has a call that does not block. Returns
    /// the latencies and when the last one was durable.
    fn commit_tasks(&self, _tasks: usize, _payload: &[u8], _until: Instant) -> Option<Result<(Latencies, Instant)>> {
        None
    }

    /// Makes durable what was appended.
    fn sync(&self) -> Result<()>;

    /// Gives the operating system what was appended.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Drops the older part of what was synced, if the log can.
    fn trim(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()>;
}

/// What a replay found.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Seen {
    #[inline]
    pub(crate) fn see(&mut self, record: &[u8]) {
        std::hint::black_box(record);
        self.records += 1;
        self.bytes += record.len() as u64;
    }
}

/// How long it took to open a log, and to read all of it.
pub(crate) struct Replayed {
    pub(crate) open: Duration,
    /// If the log reads all while it opens, the same as `open`.
    pub(crate) read: Duration,
}

/// A log and what must be said beside its figures.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// Its package on crates.io.
    pub(crate) package: &'static str,
    /// Where a record is when `append` returns, and how it is called.
    pub(crate) append: &'static str,
    /// How a record is made durable, or why it cannot be.
    pub(crate) commit: std::result::Result<&'static str, &'static str>,
    /// What a replay checks.
    pub(crate) checks: Option<&'static str>,
    /// What happens beside the appends of the workload `tails`.
    pub(crate) tails: &'static str,
    /// Records in one call of `append`, for payloads of this length.
    pub(crate) batch: fn(usize) -> usize,
    pub(crate) open: fn(&Setup) -> Result<Box<dyn Log>>,
    pub(crate) replay: fn(&Setup, &mut Seen) -> Result<Replayed>,
}

pub(crate) const ALL: [&Peer; 9] = [
    &libwal::PEER,
    &wal_db::PEER,
    &writeahead::PEER,
    &okaywal::PEER,
    &raft_engine::PEER,
    &walrus::PEER,
    &nano_wal::PEER,
    &walcraft::PEER,
    &commitlog::PEER,
];

pub(crate) fn find(name: &str) -> Option<&'static Peer> {
    ALL.into_iter().find(|peer| peer.name == name)
}

/// One record a call.
fn one(_len: usize) -> usize {
    1
}

/// The version of a package that this program was built with.
pub(crate) fn version(package: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    let found = lock.split("[[package]]").find(|text| text.contains(&format!("name = \"{package}\"\n")));
    let line = found.and_then(|text| text.lines().find_map(|line| line.strip_prefix("version = ")));
    line.unwrap_or("?").trim_matches('"').to_owned()
}
