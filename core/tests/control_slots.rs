//! The two control slots: whatever is on its way to one of them when the power fails, torn in the middle of the sector or
//! not, the other one is on the disk, and good enough to open the log with. And where somebody removed the file they stand
//! in, the segments describe themselves.

mod common;

use std::io::{self, ErrorKind, IoSlice};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use common::{records, small};
use libwal::storage::{Fault, Mode, SimOp, SimStorage, Storage, StorageFile};
use libwal::{Error, Lsn, Wal};

const SECTOR: usize = 512;

/// A simulated disk that keeps what the power could leave of it in the middle of each write to a control slot.
#[derive(Clone)]
struct Torn {
    disk: SimStorage,
    images: Arc<Mutex<Vec<SimStorage>>>,
}

struct TornFile {
    file: Arc<dyn StorageFile>,
    name: String,
    torn: Torn,
}

impl Storage for Torn {
    fn path(&self) -> PathBuf {
        self.disk.path()
    }
    fn create_dir(&self) -> io::Result<()> {
        self.disk.create_dir()
    }
    fn exists(&self) -> io::Result<bool> {
        self.disk.exists()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.disk.open(name, mode)?;
        Ok(Arc::new(TornFile { file, name: name.to_owned(), torn: self.clone() }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

impl StorageFile for TornFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    /// Keeps crash images with a sector of which the first half is new and the second is not, and the other way round.
    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        if self.name == "LOCK" {
            let new = bufs.iter().flat_map(|buf| buf.iter().copied()).collect::<Vec<u8>>();
            assert_eq!(new.len(), SECTOR, "one slot at a time");
            let at = usize::try_from(offset).expect("small");
            for seed in 0..8 {
                let image = self.torn.disk.crash(seed);
                let Some(mut bytes) = image.read_file("LOCK").filter(|bytes| bytes.len() >= at + SECTOR) else {
                    continue;
                };
                // The checksum ends at byte 100: cut inside of what it covers, where the two differ.
                let cut = if seed % 2 == 0 { ..56 } else { ..92 };
                bytes[at..at + SECTOR][cut].copy_from_slice(&new[cut]);
                image.write_file("LOCK", &bytes);
                self.torn.images.lock().expect("no panic").push(image);
            }
        }
        self.file.write_all_at(bufs, offset)
    }
    fn allocate(&self, len: u64) -> io::Result<bool> {
        self.file.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}

/// What a log is asked to do, as far as it goes: rotations, checkpoints and truncations. Returns what was acknowledged.
fn live(wal: &Wal, begin: u8) -> (Vec<(u64, Vec<u8>)>, u64) {
    let (mut acknowledged, mut head) = (Vec::new(), 0);
    let mut step = |nth: u8| -> Result<(), Error> {
        let data = vec![begin + nth; 1500];
        let lsn = if nth % 4 == 3 { wal.checkpoint(&data)? } else { wal.append_and_sync(&data)? };
        acknowledged.push((lsn.get(), data));
        if nth % 4 == 3 {
            head = lsn.get();
            wal.truncate_before(lsn)?;
        }
        Ok(())
    };
    for nth in 0..12 {
        if step(nth).is_err() {
            break;
        }
    }
    (acknowledged, head)
}

/// The log opens and holds what was acknowledged, as far as it was not allowed to be truncated.
fn judge(disk: &SimStorage, acknowledged: &[(u64, Vec<u8>)], may_begin_at: u64) {
    let wal = common::open(&small(), disk).expect("the log opens");
    let found = records(&wal);
    let head = wal.head().expect("open");
    for record in acknowledged.iter().filter(|record| record.0 >= may_begin_at) {
        assert!(found.contains(record), "LSN {} is missing; the log begins at {head}", record.0);
    }
    let lsn = wal.append_and_sync(b"next").expect("the log goes on");
    assert_eq!(wal.read(lsn).expect("there").data, b"next");
}

#[test]
fn a_torn_control_slot_leaves_the_other_one() {
    let mut torn = 0;
    for nth in 0..60 {
        // A life that ends with a sync that failed, perhaps one of a control slot: memory and disk then differ.
        let disk = SimStorage::with_seed(nth);
        let wal = common::open(&small(), &disk).expect("a log");
        disk.inject(Fault::new(SimOp::Sync, nth, ErrorKind::Other));
        let (mut acknowledged, mut head) = live(&wal, 0);
        drop(wal);
        // The process dies, the machine does not; the next one is watched.
        let next = Torn { disk: disk.kill(), images: Arc::default() };
        let wal = small().open_on(Arc::new(next.clone())).expect("the log opens");
        let recovered = std::mem::take(&mut *next.images.lock().expect("no panic"));
        torn += recovered.len();
        for image in &recovered {
            judge(image, &acknowledged, head);
        }
        let (more, later) = live(&wal, 100);
        acknowledged.extend(more);
        head = head.max(later);
        for image in &*next.images.lock().expect("no panic") {
            // What the second life acknowledged after this image was taken is not in it.
            let known: Vec<_> = acknowledged.iter().filter(|record| record.1[0] < 100).cloned().collect();
            judge(image, &known, head);
        }
        assert!(wal.tail().expect("open") > Lsn::ZERO);
    }
    assert!(torn > 500, "only {torn} writes to slots were torn");
}

#[test]
fn a_log_whose_lock_file_was_removed_is_as_it_was() {
    for (epochs, clean) in [(0, true), (0, false), (3, true), (3, false)] {
        let mut disk = SimStorage::new();
        let mut wal = common::open(&small(), &disk).expect("a log");
        for epoch in 0..=epochs {
            live(&wal, 20 * epoch);
            if epoch < epochs {
                disk = disk.kill();
                drop(wal);
                wal = common::open(&small(), &disk).expect("the log opens");
            }
        }
        let before = records(&wal);
        let (head, tail) = (wal.head().expect("open"), wal.tail().expect("open"));
        assert_ne!(head.get() % 4096, 0, "the first record is to begin inside a segment");
        if clean {
            wal.close().expect("closed");
        } else {
            drop(wal);
            disk = disk.kill();
        }
        for life in 0..3 {
            assert!(disk.remove_file("LOCK"));
            let wal = common::open(&small(), &disk).expect("the log opens");
            assert_eq!(wal.head().expect("open"), head);
            assert_eq!(records(&wal)[..before.len()], before[..], "{epochs} epochs, closed {clean}, life {life}");
            let lsn = wal.append_and_sync(b"next").expect("the log goes on");
            assert!(lsn >= tail);
            assert_eq!(wal.read(lsn).expect("there").data, b"next");
            drop(wal);
            disk = disk.kill();
        }
    }
}
