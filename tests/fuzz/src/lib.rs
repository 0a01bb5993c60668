//! What the fuzz targets share: logs to begin from, what is done to their files, and what must hold afterwards.
//!
//! An input of `recover` and of `c_iterator` is one byte that chooses a [`base`] and then steps of 12 bytes, each a
//! [`Step`] that changes one file of it. Steps of a fixed size let the fuzzer insert, remove and splice them, and the seeds
//! can be written down (`examples/seeds.rs`).

pub mod base;
pub mod decoding;
pub mod judge;
pub mod step;

use std::collections::BTreeMap;

use libwal::storage::SimStorage;
use libwal::{Options, Wal};

/// The files of a directory.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Small segments, one thread.
#[must_use]
pub fn options() -> Options {
    Options::new().segment_size(4096).buffer_size(4096).background(false)
}

/// Opens the log on a simulated disk.
///
/// # Errors
/// What the log answers.
pub fn open(options: &Options, disk: &SimStorage) -> libwal::Result<Wal> {
    options.clone().open_on(std::sync::Arc::new(disk.clone()))
}

/// Every file of a simulated disk.
#[must_use]
pub fn files_of(disk: &SimStorage) -> Files {
    disk.names().into_iter().filter_map(|name| disk.read_file(&name).map(|bytes| (name, bytes))).collect()
}

/// An empty simulated disk with room for 128 segments and more; it is memory. A log of forged, larger ones is told that it is full.
#[must_use]
pub fn small_disk() -> SimStorage {
    let disk = SimStorage::new();
    disk.set_capacity(Some(1 << 20));
    disk
}

/// A simulated disk that holds these files, all of them durable.
#[must_use]
pub fn disk_with(files: &Files) -> SimStorage {
    let disk = small_disk();
    for (name, bytes) in files {
        disk.write_file(name, bytes);
    }
    disk
}
