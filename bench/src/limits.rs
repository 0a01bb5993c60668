//! What the machine allows. The bare ring, the write with a sync and the read with a checksum are those of libwal's own
//! benchmarks; here are the ones that only this comparison needs.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::limits::zeroed_file;
use crate::common::{record_size, timed};
use crate::latency::Latencies;

pub(crate) const RING: &str = "limit: a ring flushed by one thread";
pub(crate) const PWRITE: &str = "limit: one pwrite a record";
pub(crate) const FDATASYNC: &str = "limit: pwrite + fdatasync, written file";
pub(crate) const DIRECT: &str = "limit: O_DIRECT + O_DSYNC, each thread its own";
pub(crate) const READ: &str = "limit: read + CRC32C";

pub(crate) const ALL: [&str; 5] = [RING, PWRITE, FDATASYNC, DIRECT, READ];

/// The file that the limits write over: made by the first that needs it, then written already.
pub(crate) fn file(dir: &Path, len: u64) -> File {
    let path = dir.join("limit");
    match File::options().read(true).write(true).open(&path) {
        Ok(file) if file.metadata().is_ok_and(|meta| meta.len() >= len) => file,
        _ => {
            let _ = std::fs::remove_file(&path);
            zeroed_file(&path, len)
        }
    }
}

/// One write of a record with its checksum after the other, into a file that exists. Returns the records and the time.
pub(crate) fn pwrite(file: &File, len: u64, threads: usize, payload: &[u8], most: Duration) -> (u64, Duration) {
    let (offset, records) = (AtomicU64::new(0), AtomicU64::new(0));
    let size = record_size(payload.len()) as u64;
    let until = Instant::now() + most;
    let elapsed = timed(threads, |_| {
        let mut record = vec![0; size as usize];
        let mut done = 0;
        loop {
            let at = offset.fetch_add(size, Ordering::Relaxed);
            if at + size > len || (done % 64 == 0 && Instant::now() > until) {
                break;
            }
            record[8..8 + payload.len()].copy_from_slice(payload);
            record[..4].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
            file.write_all_at(&record, at).expect("a write");
            done += 1;
        }
        records.fetch_add(done, Ordering::Relaxed);
    });
    (records.into_inner(), elapsed)
}

/// A block of a page, aligned to one.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Each thread writes pages past the page cache, durable on return: as many writes outstanding as there are threads.
pub(crate) fn direct(dir: &Path, len: u64, threads: usize, most: Duration) -> Result<(Latencies, Duration), String> {
    drop(file(dir, len));
    let flags = libc::O_DIRECT | libc::O_DSYNC;
    let file = File::options().write(true).custom_flags(flags).open(dir.join("limit"));
    let file = file.map_err(|error| format!("the file system has no direct writes: {error}"))?;
    let (offset, all) = (AtomicU64::new(0), std::sync::Mutex::new(Latencies::new()));
    let until = Instant::now() + most;
    let elapsed = timed(threads, |thread| {
        let page = Page([thread as u8; 4096]);
        let mut latencies = Latencies::new();
        while Instant::now() < until {
            let at = offset.fetch_add(4096, Ordering::Relaxed) % len;
            let begun = Instant::now();
            file.write_all_at(&page.0, at).expect("a direct write");
            latencies.record(begun.elapsed());
        }
        all.lock().expect("no panic").add(&latencies);
    });
    Ok((all.into_inner().expect("no panic"), elapsed))
}
