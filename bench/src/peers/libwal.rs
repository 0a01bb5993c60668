//! libwal, with its default options. Segments are made before they are needed, as in an engine that has been running.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use libwal::{Options, Wal};

use super::{Log, Peer, Purpose, Replayed, Result, Seen, Setup, one};
use crate::common::prepared_log;
use crate::latency::Latencies;

pub(super) const PEER: Peer = Peer {
    name: "libwal",
    package: "libwal",
    append: "in shared memory, where it survives the process, its disk space allocated; in the page cache when the next quarter of the buffer is filled",
    commit: Ok("append_and_sync"),
    checks: Some("CRC32C, bound to log and position"),
    tails: "4 MiB segments, recycled; sync and truncate_before beside",
    batch: one,
    open,
    replay,
};

struct Libwal(Wal);

fn open(setup: &Setup) -> Result<Box<dyn Log>> {
    let segment = match setup.purpose {
        Purpose::Append => 128 << 20,
        Purpose::Commit | Purpose::Replay => 64 << 20,
        Purpose::Tails => 4 << 20,
    };
    Ok(Box::new(Libwal(prepared_log(&setup.dir, segment, Options::new()))))
}

impl Log for Libwal {
    fn append(&self, _thread: usize, payload: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            self.0.append(payload)?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        self.0.append_and_sync(payload)?;
        Ok(())
    }

    /// Each task has one record under way; its completion starts the next one.
    fn commit_tasks(&self, tasks: usize, payload: &[u8], until: Instant) -> Option<Result<(Latencies, Instant)>> {
        Some(run_tasks(&self.0, tasks, payload, until))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.0.sync()?)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.0.flush()?)
    }

    fn trim(&self) -> Result<()> {
        self.0.truncate_before(self.0.durable_lsn())?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.close()?)
    }
}

struct Tasks {
    log: Wal,
    payload: Vec<u8>,
    until: Instant,
    /// When a task's record was appended and when it was durable, or the failure.
    told: mpsc::Sender<libwal::Result<(Instant, Instant)>>,
}

fn run_tasks(log: &Wal, tasks: usize, payload: &[u8], until: Instant) -> Result<(Latencies, Instant)> {
    let (told, hear) = mpsc::channel();
    let shared = Arc::new(Tasks { log: log.clone(), payload: payload.to_vec(), until, told });
    for _ in 0..tasks {
        step(&shared);
    }
    drop(shared);
    let mut latencies = Latencies::new();
    let mut last = Instant::now();
    for outcome in hear {
        let (begun, ended) = outcome?;
        latencies.record(ended - begun);
        last = ended;
    }
    Ok((latencies, last))
}

fn step(tasks: &Arc<Tasks>) {
    let begun = Instant::now();
    let shared = Arc::clone(tasks);
    let appended = tasks.log.append_async(&tasks.payload, move |result| {
        let ended = Instant::now();
        let goes_on = result.is_ok() && ended < shared.until;
        // The receiver lives until every task has ended, unless one of them failed.
        let _ = shared.told.send(result.map(|_| (begun, ended)));
        if goes_on {
            step(&shared);
        }
    });
    if let Err(error) = appended {
        let _ = tasks.told.send(Err(error));
    }
}

fn replay(setup: &Setup, seen: &mut Seen) -> Result<Replayed> {
    let begun = Instant::now();
    let log = Options::new().open(&setup.dir)?;
    let open = begun.elapsed();
    let begun = Instant::now();
    let mut iter = log.iter()?;
    while let Some(record) = iter.next_ref()? {
        seen.see(record.data);
    }
    let read = begun.elapsed();
    log.close()?;
    Ok(Replayed { open, read })
}
