//! raft-engine: each thread writes the log of a raft group of its own, as the engine is made for. An entry is a protobuf
//! message with an index and data; one that comes with protobuf has the two fields.

use std::time::Instant;

use std::sync::atomic::{AtomicU64, Ordering};

use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{Log, Peer, Purpose, Replayed, Result, Seen, Setup, one};

pub(super) const PEER: Peer = Peer {
    name: "raft-engine",
    package: "raft-engine",
    append: "in the page cache, and in an index in memory; each thread its own raft group",
    commit: Ok("write(batch, sync = true)"),
    checks: Some("CRC32"),
    tails: "4 MiB files, recycled; sync, compact_to and purge_expired_files beside",
    batch: one,
    open,
    replay,
};

const GROUPS: usize = 1_024;

struct Indexed;

impl MessageExt for Indexed {
    type Entry = UninterpretedOption;

    fn index(entry: &UninterpretedOption) -> u64 {
        entry.get_positive_int_value()
    }
}

struct Raft {
    engine: Engine,
    /// The last index of each group. Only one thread writes a group.
    last: Vec<AtomicU64>,
}

fn config(setup: &Setup) -> Config {
    let mut config = Config { dir: setup.dir.display().to_string(), ..Config::default() };
    // What is compressed cannot be compared.
    config.batch_compression_threshold = ReadableSize::kb(0);
    if setup.purpose == Purpose::Tails {
        config.target_file_size = ReadableSize::mb(4);
        config.purge_threshold = ReadableSize::mb(8);
    }
    config
}

fn open(setup: &Setup) -> Result<Box<dyn Log>> {
    let last = (0..GROUPS).map(|_| AtomicU64::new(0)).collect();
    Ok(Box::new(Raft { engine: Engine::open(config(setup))?, last }))
}

impl Raft {
    fn write(&self, thread: usize, payload: &[u8], sync: bool) -> Result<()> {
        let mut entry = UninterpretedOption::new();
        entry.set_positive_int_value(self.last[thread].load(Ordering::Relaxed) + 1);
        entry.set_string_value(payload.to_vec());
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Indexed>(thread as u64 + 1, std::slice::from_ref(&entry))?;
        self.engine.write(&mut batch, sync)?;
        self.last[thread].fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Log for Raft {
    fn append(&self, thread: usize, payload: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            self.write(thread, payload, false)?;
        }
        Ok(())
    }

    fn commit(&self, thread: usize, payload: &[u8]) -> Result<()> {
        self.write(thread, payload, true)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.engine.sync()?)
    }

    fn trim(&self) -> Result<()> {
        let last = self.last[0].load(Ordering::Relaxed);
        self.engine.compact_to(1, last.saturating_sub(1_000));
        self.engine.purge_expired_files()?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.engine.sync()?)
    }
}

fn replay(setup: &Setup, seen: &mut Seen) -> Result<Replayed> {
    let begun = Instant::now();
    let engine = Engine::open(config(setup))?;
    let open = begun.elapsed();
    let begun = Instant::now();
    if let (Some(mut next), Some(last)) = (engine.first_index(1), engine.last_index(1)) {
        let mut entries = Vec::new();
        while next <= last {
            let end = (next + 1_000).min(last + 1);
            engine.fetch_entries_to::<Indexed>(1, next, end, None, &mut entries)?;
            for entry in entries.drain(..) {
                seen.see(entry.get_string_value());
            }
            next = end;
        }
    }
    Ok(Replayed { open, read: begun.elapsed() })
}
