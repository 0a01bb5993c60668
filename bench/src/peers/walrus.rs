//! Walrus: one topic. It finds its directory in the variable `WALRUS_DATA_DIR`, which is set for the child process.

use std::time::Instant;

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use super::{Log, Peer, Purpose, Replayed, Result, Seen, Setup, one};

pub(super) const PEER: Peer = Peer {
    name: "walrus",
    package: "walrus-rust",
    append: "in the page cache; synced every 200 ms",
    commit: Ok("append_for_topic with FsyncSchedule::SyncEach"),
    checks: Some("FNV-1a, 64 bits"),
    tails: "blocks of 10 MiB; synced every 20 ms by its own thread; nothing is dropped (it frees only what was read)",
    batch: one,
    open,
    replay,
};

const TOPIC: &str = "log";

struct Topic(Walrus);

fn open_for(purpose: Purpose) -> Result<Walrus> {
    let schedule = match purpose {
        Purpose::Append | Purpose::Replay => FsyncSchedule::Milliseconds(200),
        Purpose::Commit => FsyncSchedule::SyncEach,
        Purpose::Tails => FsyncSchedule::Milliseconds(20),
    };
    // How far a reader came is never stored: every replay shall begin at the beginning.
    let reads = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    Ok(Walrus::with_consistency_and_schedule_for_key("bench", reads, schedule)?)
}

fn open(setup: &Setup) -> Result<Box<dyn Log>> {
    Ok(Box::new(Topic(open_for(setup.purpose)?)))
}

impl Log for Topic {
    fn append(&self, _thread: usize, payload: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            self.0.append_for_topic(TOPIC, payload)?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        Ok(self.0.append_for_topic(TOPIC, payload)?)
    }

    /// There is no call for it; its schedule syncs within 200 ms.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn replay(setup: &Setup, seen: &mut Seen) -> Result<Replayed> {
    let begun = Instant::now();
    let log = open_for(setup.purpose)?;
    let open = begun.elapsed();
    let begun = Instant::now();
    loop {
        let batch = log.batch_read_for_topic(TOPIC, 1 << 20, true)?;
        if batch.is_empty() {
            break;
        }
        batch.iter().for_each(|entry| seen.see(&entry.data));
    }
    Ok(Replayed { open, read: begun.elapsed() })
}
