//! commitlog: appended under a lock, since an append needs the log for itself.

use std::sync::Mutex;
use std::time::Instant;

use commitlog::message::MessageSet;
use commitlog::{CommitLog, LogOptions, ReadLimit};

use super::{Log, Peer, Purpose, Replayed, Result, Seen, Setup, one};

pub(super) const PEER: Peer = Peer {
    name: "commitlog",
    package: "commitlog",
    append: "in the page cache; under a lock",
    commit: Err("its flush syncs the index and not the messages"),
    checks: None,
    tails: "4 MiB segments; nothing is synced (it cannot) or dropped (only from the end)",
    batch: one,
    open,
    replay,
};

struct Shared(Mutex<CommitLog>);

fn new(setup: &Setup) -> Result<CommitLog> {
    let mut options = LogOptions::new(&setup.dir);
    if setup.purpose == Purpose::Tails {
        options.segment_max_bytes(4 << 20);
    }
    Ok(CommitLog::new(options)?)
}

fn open(setup: &Setup) -> Result<Box<dyn Log>> {
    std::fs::create_dir_all(&setup.dir)?;
    Ok(Box::new(Shared(Mutex::new(new(setup)?))))
}

impl Log for Shared {
    fn append(&self, _thread: usize, payload: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            self.0.lock().expect("no panic").append_msg(payload).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, _payload: &[u8]) -> Result<()> {
        Err("its flush syncs the index and not the messages".into())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.0.lock().expect("no panic").flush()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

fn replay(setup: &Setup, seen: &mut Seen) -> Result<Replayed> {
    let begun = Instant::now();
    let log = new(setup)?;
    let open = begun.elapsed();
    let begun = Instant::now();
    let mut next = 0;
    loop {
        let messages = log.read(next, ReadLimit::max_bytes(1 << 20)).map_err(|error| error.to_string())?;
        let before = seen.records;
        for message in messages.iter() {
            seen.see(message.payload());
            next = message.offset() + 1;
        }
        if seen.records == before {
            break;
        }
    }
    Ok(Replayed { open, read: begun.elapsed() })
}
