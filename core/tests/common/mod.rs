//! What the integration tests share: the oracle, seeded random numbers, and small helpers.

#![allow(dead_code)] // Each test file uses a part of it.

pub(crate) mod child;
pub(crate) mod counting;
pub(crate) mod oracle;
pub(crate) mod random;
pub(crate) mod seeds;
pub(crate) mod stepping;
pub(crate) mod watched;

use std::collections::BTreeMap;
use std::sync::Arc;

use libwal::storage::SimStorage;
use libwal::{Options, Wal};

/// The options that make a simulation single-threaded and its segments small.
pub(crate) fn small() -> Options {
    Options::new().segment_size(4096).buffer_size(4096).background(false)
}

/// Opens the log on a simulated disk.
pub(crate) fn open(options: &Options, disk: &SimStorage) -> libwal::Result<Wal> {
    options.clone().open_on(Arc::new(disk.clone()))
}

/// Every file of a simulated disk, to compare with later.
pub(crate) fn contents(disk: &SimStorage) -> BTreeMap<String, Vec<u8>> {
    let read = |name: String| disk.read_file(&name).map(|bytes| (name, bytes));
    disk.names().into_iter().filter_map(read).collect()
}

/// How many bytes the files of a simulated disk take up.
pub(crate) fn used(disk: &SimStorage) -> u64 {
    contents(disk).values().map(|bytes| bytes.len() as u64).sum()
}

/// The name of the file of segment `index`.
pub(crate) fn segment_name(index: u64) -> String {
    format!("{index:020}.wal")
}

/// All records of the log as pairs of LSN and payload.
pub(crate) fn records(wal: &Wal) -> Vec<(u64, Vec<u8>)> {
    let record = |record: libwal::Result<libwal::Record>| record.map(|record| (record.lsn.get(), record.data));
    wal.iter().and_then(|iter| iter.map(record).collect()).expect("the log can be read")
}
