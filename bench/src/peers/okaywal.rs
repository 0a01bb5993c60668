//! OkayWAL: an entry is durable when it is committed, and holds any number of chunks.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use okaywal::{Configuration, Entry, EntryId, LogManager, ReadChunkResult, SegmentReader, WriteAheadLog};

use super::{Log, Peer, Purpose, Replayed, Result, Seen, Setup};

pub(super) const PEER: Peer = Peer {
    name: "okaywal",
    package: "okaywal",
    append: "on stable storage; in entries of 1,000 chunks (at most 2 MiB)",
    commit: Ok("EntryWriter::commit"),
    checks: Some("CRC32"),
    tails: "entries of 1,000, each durable on return; its default segments of 1 MiB, recycled",
    batch,
    open,
    replay,
};

fn batch(len: usize) -> usize {
    ((2 << 20) / (len + 9)).clamp(1, 1_000)
}

/// Counts what is recovered. Has nothing to do at a checkpoint, like the log's own `LogVoid`.
#[derive(Debug, Default)]
struct Counter {
    /// Records and their bytes.
    seen: Arc<Mutex<(u64, u64)>>,
}

impl LogManager for Counter {
    fn recover(&mut self, entry: &mut Entry<'_>) -> std::io::Result<()> {
        let mut seen = self.seen.lock().expect("no panic");
        while let ReadChunkResult::Chunk(mut chunk) = entry.read_chunk()? {
            let data = chunk.read_all()?;
            if !chunk.check_crc()? {
                return Err(std::io::Error::other("a chunk's checksum does not match"));
            }
            std::hint::black_box(&data);
            seen.0 += 1;
            seen.1 += data.len() as u64;
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> std::io::Result<()> {
        Ok(())
    }
}

fn configuration(setup: &Setup) -> Configuration {
    let configuration = Configuration::default_for(&setup.dir);
    match setup.purpose {
        // Its defaults.
        Purpose::Append | Purpose::Commit | Purpose::Tails => configuration,
        // What is checkpointed is gone: one segment that holds everything.
        Purpose::Replay => configuration.preallocate_bytes(512 << 20).checkpoint_after_bytes(500 << 20),
    }
}

struct Okay(WriteAheadLog);

fn open(setup: &Setup) -> Result<Box<dyn Log>> {
    Ok(Box::new(Okay(configuration(setup).open(Counter::default())?)))
}

impl Log for Okay {
    fn append(&self, _thread: usize, payload: &[u8], count: usize) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        for _ in 0..count {
            entry.write_chunk(payload)?;
        }
        entry.commit()?;
        Ok(())
    }

    fn commit(&self, thread: usize, payload: &[u8]) -> Result<()> {
        self.append(thread, payload, 1)
    }

    /// Everything is durable already.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.shutdown()?)
    }
}

/// The log is read while it is opened.
fn replay(setup: &Setup, seen: &mut Seen) -> Result<Replayed> {
    let counter = Counter::default();
    let counted = Arc::clone(&counter.seen);
    let begun = Instant::now();
    let log = configuration(setup).open(counter)?;
    let open = begun.elapsed();
    (seen.records, seen.bytes) = *counted.lock().expect("no panic");
    log.shutdown()?;
    Ok(Replayed { open, read: open })
}
