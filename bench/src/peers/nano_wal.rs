//! nano-wal: records in segments of a time window. It has no call that finds the records of a log; whoever wrote them must
//! have kept their places. Here they can be computed, since all are of one length.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nano_wal::{ReadDescriptor, Wal, WalOptions, read_batch};

use super::{Log, Peer, Purpose, Replayed, Result, Seen, Setup, one};

pub(super) const PEER: Peer = Peer {
    name: "nano-wal",
    package: "nano-wal",
    append: "in the page cache; no checksum",
    commit: Ok("append(durable = true)"),
    checks: None,
    tails: "segments of one second; sync and cleanup beside",
    batch: one,
    open,
    replay,
};

const DAY: Duration = Duration::from_secs(86_400);

struct Nano {
    wal: Wal,
    tails: bool,
    opened: i64,
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn new(setup: &Setup) -> Result<Nano> {
    let tails = setup.purpose == Purpose::Tails;
    let window = if tails { Duration::from_secs(1) } else { DAY };
    let options = WalOptions { retention: window, segment_duration: window };
    Ok(Nano { wal: Wal::new(&setup.dir, "log", options)?, tails, opened: now() })
}

fn open(setup: &Setup) -> Result<Box<dyn Log>> {
    Ok(Box::new(new(setup)?))
}

impl Nano {
    /// Its examples take the time once for many records.
    fn time(&self) -> i64 {
        if self.tails { now() } else { self.opened }
    }
}

impl Log for Nano {
    fn append(&self, _thread: usize, payload: &[u8], count: usize) -> Result<()> {
        let time = self.time();
        for _ in 0..count {
            self.wal.append(None, payload, time, false)?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        self.wal.append(None, payload, self.time(), true)?;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.wal.sync()?)
    }

    fn trim(&self) -> Result<()> {
        self.wal.cleanup()?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.wal.shutdown()?)
    }
}

fn replay(setup: &Setup, seen: &mut Seen) -> Result<Replayed> {
    const HEADER: u64 = 16;
    let size = 6 + 2 + 8 + setup.len;
    let begun = Instant::now();
    let log = new(setup)?;
    let open = begun.elapsed();
    let begun = Instant::now();
    let segment = log.wal.ensure_segment(log.opened)?;
    let records = (segment.file_size() - HEADER) / size as u64;
    let mut places = Vec::new();
    for first in (0..records).step_by(512) {
        let place = |record| ReadDescriptor {
            read_fd: Arc::clone(segment.read_fd()),
            file_offset: HEADER + record * size as u64,
            byte_size: size,
        };
        places.clear();
        places.extend((first..records.min(first + 512)).map(place));
        read_batch(&places)?.iter().for_each(|record| seen.see(&record.content));
    }
    Ok(Replayed { open, read: begun.elapsed() })
}
