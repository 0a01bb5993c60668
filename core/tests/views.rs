//! Handles that read what another one writes.

mod common;

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::{open, records, segment_name, small};
use libwal::storage::{Mode, SimStorage, Storage, StorageFile};
use libwal::{Error, Lsn};

/// Were it not looked at anew, the view would end for ever where the log no longer begins.
#[test]
fn a_view_that_fell_behind_a_truncation_goes_on() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    log.append_and_sync(b"first").expect("synced");
    let view = small().read_only(true).open_on(Arc::new(disk.clone())).expect("a view");
    let mut follower = view.iter().expect("readable");
    assert_eq!(follower.next_ref().expect("readable").expect("a record").data, b"first");
    assert!(follower.next_ref().expect("readable").is_none());

    let mut last = Lsn::ZERO;
    for n in 0..40 {
        last = log.append_and_sync(&[n; 1000]).expect("synced");
    }
    log.truncate_before(last).expect("truncated");
    log.append_and_sync(b"new").expect("synced");

    assert_eq!(view.head().expect("a head"), log.head().expect("a head"));
    assert_eq!(view.tail().expect("a tail"), log.tail().expect("a tail"));
    assert_eq!(records(&view), records(&log));
    // It may read on in a file that it has open; it must not wait for what will never come.
    let error = loop {
        match follower.follow(Duration::ZERO) {
            Ok(Some(_)) => {}
            other => break other.map(|record| record.is_some()),
        }
    };
    assert!(matches!(error, Err(Error::Truncated { .. })), "{error:?}");
}

/// A disk on which the writer makes another segment of the first one while its header page is read.
struct Recycling(SimStorage);

/// One of its files; that of the first segment does not have its name any more when it is read.
struct Recycled {
    disk: SimStorage,
    file: Arc<dyn StorageFile>,
    first: bool,
}

impl Storage for Recycling {
    fn path(&self) -> PathBuf {
        self.0.path()
    }
    fn create_dir(&self) -> io::Result<()> {
        self.0.create_dir()
    }
    fn exists(&self) -> io::Result<bool> {
        self.0.exists()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
    fn open(&self, name: &str, mode: Mode) -> io::Result<Arc<dyn StorageFile>> {
        let file = self.0.open(name, mode)?;
        Ok(Arc::new(Recycled { disk: self.0.clone(), file, first: name == segment_name(0) }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.0.sync_dir()
    }
}

impl StorageFile for Recycled {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buf, offset)?;
        if self.first && offset == 0 && self.disk.read_file(TRUNCATE).is_some() {
            self.disk.remove_file(TRUNCATE);
            let writer = open(&small(), &self.disk).map_err(io::Error::other)?;
            writer.truncate_before(writer.tail().map_err(io::Error::other)?).map_err(io::Error::other)?;
            // Half of the new identity.
            buf[32..40].fill(1);
        }
        Ok(read)
    }
    fn write_all_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
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

/// While there is a file of this name, the next reading of the first segment's header page meets the writer.
const TRUNCATE: &str = "truncate";

#[test]
fn a_segment_that_is_recycled_while_its_header_is_read_is_no_damage() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    for n in 0..20 {
        log.append_and_sync(&[n; 1000]).expect("synced");
    }
    log.close().expect("closed");
    let view = small().read_only(true).open_on(Arc::new(Recycling(disk.clone()))).expect("a view");
    disk.write_file(TRUNCATE, b"");
    let read = view.read(Lsn::ZERO);
    assert!(matches!(read, Err(Error::Truncated { .. })), "{read:?}");
}
