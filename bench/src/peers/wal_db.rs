//! wal-db: `Wal::open`, one file, as its quick start has it; striped across segments where they are to rotate.

use std::sync::Mutex;
use std::time::Instant;

use wal_db::{FileStore, Lsn, SegmentedStore, Wal, WalStore};

use super::{Log, Peer, Purpose, Replayed, Result, Seen, Setup, one};

pub(super) const PEER: Peer = Peer {
    name: "wal-db",
    package: "wal-db",
    append: "in the page cache",
    commit: Ok("append_and_sync"),
    checks: Some("CRC32C"),
    tails: "4 MiB segments; sync and truncate_before beside",
    batch: one,
    open,
    replay,
};

struct WalDb<S> {
    wal: Wal<S>,
    /// An LSN that was returned before the last sync.
    synced: Mutex<Option<Lsn>>,
    last: Mutex<Option<Lsn>>,
}

impl WalDb<FileStore> {
    fn open(setup: &Setup) -> Result<WalDb<FileStore>> {
        std::fs::create_dir_all(&setup.dir)?;
        Ok(WalDb::new(Wal::open(setup.dir.join("app.wal"))?))
    }
}

impl<S> WalDb<S> {
    fn new(wal: Wal<S>) -> WalDb<S> {
        WalDb { wal, synced: Mutex::default(), last: Mutex::default() }
    }
}

fn open(setup: &Setup) -> Result<Box<dyn Log>> {
    Ok(match setup.purpose {
        Purpose::Tails => Box::new(WalDb::<SegmentedStore>::new(Wal::open_segmented(&setup.dir, 4 << 20)?)),
        _ => Box::new(WalDb::open(setup)?),
    })
}

/// The part that differs: only a log of segments can drop its beginning.
trait Trim {
    fn trim_before(&self, lsn: Lsn) -> Result<()>;
}

impl Trim for Wal<FileStore> {
    fn trim_before(&self, _lsn: Lsn) -> Result<()> {
        Ok(())
    }
}

impl Trim for Wal<SegmentedStore> {
    fn trim_before(&self, lsn: Lsn) -> Result<()> {
        let _head = self.truncate_before(lsn)?;
        Ok(())
    }
}

impl<S: WalStore + 'static> Log for WalDb<S>
where
    Wal<S>: Trim,
{
    fn append(&self, _thread: usize, payload: &[u8], count: usize) -> Result<()> {
        let mut last = None;
        for _ in 0..count {
            last = Some(self.wal.append(payload)?);
        }
        *self.last.lock().expect("no panic") = last;
        Ok(())
    }

    fn commit(&self, _thread: usize, payload: &[u8]) -> Result<()> {
        let _lsn = self.wal.append_and_sync(payload)?;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let last = *self.last.lock().expect("no panic");
        self.wal.sync()?;
        *self.synced.lock().expect("no panic") = last;
        Ok(())
    }

    fn trim(&self) -> Result<()> {
        let synced = *self.synced.lock().expect("no panic");
        synced.map_or(Ok(()), |lsn| self.wal.trim_before(lsn))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.wal.sync()?)
    }
}

fn replay(setup: &Setup, seen: &mut Seen) -> Result<Replayed> {
    let begun = Instant::now();
    let log = WalDb::open(setup)?;
    let open = begun.elapsed();
    let begun = Instant::now();
    for record in log.wal.iter()? {
        seen.see(record?.data());
    }
    Ok(Replayed { open, read: begun.elapsed() })
}
