//! Walcraft: pages in memory, written when they are full and every 250 ms.

use std::time::Instant;

use walcraft::{Size, Wal, WalBuilder};

use super::{Log, Peer, Purpose, Replayed, Result, Seen, Setup, one};

pub(super) const PEER: Peer = Peer {
    name: "walcraft",
    package: "walcraft",
    append: "in the process's memory; in the page cache within 250 ms",
    commit: Ok("append and flush, with enable_fsync"),
    checks: Some("CRC32 of each page; damaged pages are passed over"),
    tails: "files of about 4 MiB, 80 MiB kept; flush with fsync beside",
    batch: one,
    open,
    replay,
};

struct Craft(Wal);

fn build(setup: &Setup) -> Result<Wal> {
    // A record fits into a page; the pages shall be as small as they can.
    let page = (setup.len + 64).next_power_of_two().max(4 << 10) >> 10;
    let builder = WalBuilder::new().location(&setup.dir).page_size(Size::Kb(page));
    let builder = match setup.purpose {
        Purpose::Append => builder,
        Purpose::Commit | Purpose::Replay => builder.enable_fsync(),
        Purpose::Tails => builder.enable_fsync().storage_size(Size::Mb(80)),
    };
    Ok(builder.build().map_err(|error| error.to_string())?)
}

fn open(setup: &Setup) -> Result<Box<dyn Log>> {
    Ok(Box::new(Craft(build(setup)?)))
}

impl Log for Craft {
    fn append(&self, _thread: usize, payload: &[u8], count: usize) -> Result<()> {
        for _ in 0..count {
            self.0.append(payload).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        self.0.append(payload).map_err(|error| error.to_string())?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        Ok(self.0.flush().map_err(|error| error.to_string())?)
    }

    fn flush(&self) -> Result<()> {
        self.sync()
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

fn replay(setup: &Setup, seen: &mut Seen) -> Result<Replayed> {
    let begun = Instant::now();
    let log = build(setup)?;
    let open = begun.elapsed();
    let begun = Instant::now();
    for entry in log.iter().map_err(|error| error.to_string())? {
        seen.see(entry.data());
    }
    Ok(Replayed { open, read: begun.elapsed() })
}
