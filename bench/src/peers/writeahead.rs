//! WriteAhead: every write is durable when it is acknowledged, so many records are appended in batches, as its own
//! benchmark does it.

use std::time::Instant;

use futures::StreamExt;
use futures::executor::block_on;
use futures::stream::FuturesUnordered;
use writeahead::{RetentionOptions, SimpleFile, WriteAhead, WriteAheadOptions};

use super::{Log, Peer, Purpose, Replayed, Result, Seen, Setup};
use crate::latency::Latencies;

pub(super) const PEER: Peer = Peer {
    name: "writeahead",
    package: "writeahead",
    append: "on stable storage; in batches of 1,000 (at most 2 MiB)",
    commit: Ok("WriteHandle::write"),
    checks: Some("murmur3, 128 bits"),
    tails: "batches of 1,000, each durable on return; 4 MiB files, 16 MiB kept",
    batch,
    open,
    replay,
};

/// A batch may be 4 MiB long.
fn batch(len: usize) -> usize {
    ((2 << 20) / (len + 20)).clamp(1, 1_000)
}

fn start(setup: &Setup) -> Result<WriteAhead<SimpleFile>> {
    let mut options = WriteAheadOptions { log_dir: setup.dir.clone(), ..Default::default() };
    if setup.purpose == Purpose::Tails {
        options.max_file_size = 4 << 20;
        options.retention = RetentionOptions { max_total_size: 16 << 20, ..Default::default() };
    }
    let mut wal = WriteAhead::with_options(options);
    wal.start().map_err(|error| error.to_string())?;
    Ok(wal)
}

struct Started(WriteAhead<SimpleFile>);

fn open(setup: &Setup) -> Result<Box<dyn Log>> {
    Ok(Box::new(Started(start(setup)?)))
}

impl Log for Started {
    fn append(&self, _thread: usize, payload: &[u8], count: usize) -> Result<()> {
        block_on(self.0.write_batch(vec![payload.to_vec(); count])).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        let handle = self.0.writer().map_err(|error| error.to_string())?;
        block_on(handle.write(payload.to_vec())).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn commit_tasks(&self, tasks: usize, payload: &[u8], until: Instant) -> Option<Result<(Latencies, Instant)>> {
        let run = async {
            let handle = self.0.writer().map_err(|error| error.to_string())?;
            let handle = &handle;
            let write = || async move {
                let begun = Instant::now();
                handle.write(payload.to_vec()).await.map(|_| (begun, Instant::now()))
            };
            let mut running: FuturesUnordered<_> = (0..tasks).map(|_| write()).collect();
            let (mut latencies, mut last) = (Latencies::new(), Instant::now());
            while let Some(outcome) = running.next().await {
                let (begun, ended) = outcome.map_err(|error| error.to_string())?;
                latencies.record(ended - begun);
                last = ended;
                if ended < until {
                    running.push(write());
                }
            }
            Ok((latencies, last))
        };
        Some(block_on(run))
    }

    /// Everything is durable already.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn replay(setup: &Setup, seen: &mut Seen) -> Result<Replayed> {
    let begun = Instant::now();
    let wal = start(setup)?;
    let open = begun.elapsed();
    let begun = Instant::now();
    let mut stream = wal.create_stream().map_err(|error| error.to_string())?;
    block_on(async {
        while let Some(entry) = stream.next().await {
            seen.see(&entry.map_err(|error| error.to_string())?.1);
        }
        Ok::<_, String>(())
    })?;
    Ok(Replayed { open, read: begun.elapsed() })
}
