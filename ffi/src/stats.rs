//! `wal_stats_t`: what a log has done, and where it stands.

use std::ffi::c_int;
use std::time::Duration;

use libwal::Stats;

use crate::arguments::write_sized;
use crate::error::{WAL_NO_LSN, WAL_OK};
use crate::log::{wal_t, with_log};

/// How many buckets `sync_latency` has.
pub const WAL_LATENCY_BUCKETS: usize = 40;

/// A snapshot of what a log has done since it was opened, and of where it stands. Each number is exact; they are not all
/// taken at the same instant. Later versions add fields at the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wal_stats_t {
    /// Everything below is on stable storage.
    pub durable: u64,
    /// Everything below is with the operating system.
    pub flushed: u64,
    /// Everything below is complete in the buffer, as far as a flush has looked.
    pub published: u64,
    /// The end of all claimed positions.
    pub reserved: u64,
    /// The first position that can be read.
    pub head: u64,
    /// The last durable checkpoint, or WAL_NO_LSN.
    pub checkpoint: u64,
    /// 1 if the log had been closed cleanly when it was opened, otherwise 0.
    pub closed_cleanly: u64,
    /// How many segments the log has, those prepared ahead included.
    pub segments: u64,
    /// Bytes of the stream in each segment.
    pub segment_size: u64,
    /// Bytes of the buffer.
    pub buffer_size: u64,
    /// Records flushed since the log was opened, the log's own markers included.
    pub records: u64,
    /// Bytes of the stream flushed since the log was opened.
    pub bytes: u64,
    /// Writes of a part of the buffer.
    pub flushes: u64,
    /// Writes of records larger than the buffer.
    pub direct_writes: u64,
    /// Group commits: syncs that made something durable.
    pub syncs: u64,
    /// Records that these syncs made durable.
    pub records_synced: u64,
    /// Times an append had to wait because the buffer was full.
    pub waits: u64,
    /// How long the syncs took: bucket n counts those below 2^n nanoseconds and not below half of it.
    pub sync_latency: [u64; WAL_LATENCY_BUCKETS],
    /// 1 if the buffer outlives the process, otherwise 0. Of a log that is open read-only: 1 if there is such a buffer, which
    /// a process writes through or has left behind.
    pub shared_buffer: u64,
}

impl From<Stats> for wal_stats_t {
    fn from(stats: Stats) -> wal_stats_t {
        let mut sync_latency = [0; WAL_LATENCY_BUCKETS];
        for (nth, counted) in sync_latency.iter_mut().enumerate() {
            let bound = Duration::from_nanos(1 << nth);
            *counted = stats.sync_latency.buckets.iter().find(|bucket| bucket.0 == bound).map_or(0, |bucket| bucket.1);
        }
        wal_stats_t {
            durable: stats.durable.get(),
            flushed: stats.flushed.get(),
            published: stats.published.get(),
            reserved: stats.reserved.get(),
            head: stats.head.get(),
            checkpoint: stats.checkpoint.map_or(WAL_NO_LSN, |lsn| lsn.get()),
            closed_cleanly: u64::from(stats.closed_cleanly),
            segments: stats.segments,
            segment_size: stats.segment_size,
            buffer_size: stats.buffer_size,
            records: stats.records,
            bytes: stats.bytes,
            flushes: stats.flushes,
            direct_writes: stats.direct_writes,
            syncs: stats.syncs,
            records_synced: stats.records_synced,
            waits: stats.waits,
            sync_latency,
            shared_buffer: u64::from(stats.shared_buffer),
        }
    }
}

/// Stores a snapshot. `size` is sizeof(wal_stats_t) as the caller knows it: that many bytes are written, those that this
/// library does not know as zeros. Any thread. WAL_ERR_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_stats(log: *mut wal_t, out: *mut wal_stats_t, size: usize) -> c_int {
    with_log(log, |log| {
        let stats = wal_stats_t::from(log.wal.stats()?);
        // SAFETY: the caller passes a place of `size` bytes, or NULL. All fields are u64, so there is no padding.
        unsafe { write_sized(out, &stats, size) }?;
        Ok(WAL_OK)
    })
}
