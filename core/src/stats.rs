//! What a log counts, and what [`Wal::stats`](crate::Wal::stats) reports.

use std::time::Duration;

use crate::lsn::Lsn;
use crate::primitive::{Counter, Ordering};

const BUCKETS: usize = 40;

/// Counters. Written by the flusher, the sync leader and waiting threads, never by an append on its fast path. Relaxed:
/// each is a number on its own; but for `records` and `bytes`, see [`Flush::flushed_records`](crate::flush::Flush::flushed_records).
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) records: Counter,
    pub(crate) bytes: Counter,
    pub(crate) flushes: Counter,
    pub(crate) direct_writes: Counter,
    pub(crate) syncs: Counter,
    pub(crate) records_synced: Counter,
    pub(crate) waits: Counter,
    pub(crate) latency: Histogram,
}

pub(crate) fn count(counter: &Counter, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

pub(crate) fn read(counter: &Counter) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A histogram of durations with buckets that double: bucket `n` counts those below `2^n` nanoseconds.
pub(crate) struct Histogram([Counter; BUCKETS]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram(std::array::from_fn(|_| Counter::new(0)))
    }
}

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - nanos.leading_zeros()) as usize;
        count(&self.0[bucket.min(BUCKETS - 1)], 1);
    }

    pub(crate) fn snapshot(&self) -> Latency {
        let mut buckets = Vec::new();
        for (bucket, counter) in self.0.iter().enumerate() {
            let counted = read(counter);
            if counted > 0 {
                buckets.push((Duration::from_nanos(1 << bucket), counted));
            }
        }
        Latency { buckets }
    }
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Pairs of an upper bound (a power of two of nanoseconds, exclusive) and how many durations lay below it and not
    /// below half of it; ascending, empty buckets left out. Durations above nine minutes count in the last bucket.
    pub buckets: Vec<(Duration, u64)>,
}

impl Latency {
    /// The upper bound of the bucket that holds the given quantile (0.0 to 1.0), or zero if nothing was counted.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Duration {
        let total: u64 = self.buckets.iter().map(|(_, counted)| counted).sum();
        let rank = (quantile.clamp(0.0, 1.0) * total as f64).ceil() as u64;
        let mut below = 0;
        for &(bound, counted) in &self.buckets {
            below += counted;
            if below >= rank {
                return bound;
            }
        }
        Duration::ZERO
    }
}

/// A snapshot of what a log has done since it was opened, and of where it stands. Each number is exact; they are not all
/// taken at the same instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Everything below is on stable storage.
    pub durable: Lsn,
    /// Everything below is with the operating system.
    pub flushed: Lsn,
    /// Everything below is complete in the buffer, as far as a flush has looked.
    pub published: Lsn,
    /// The end of all claimed positions.
    pub reserved: Lsn,
    /// The first position that can be read.
    pub head: Lsn,
    /// The last durable checkpoint.
    pub checkpoint: Option<Lsn>,
    /// Whether the log had been closed cleanly when it was opened; `false` for a new one.
    pub closed_cleanly: bool,
    /// How many segments the log has, those prepared ahead included.
    pub segments: u64,
    /// How many bytes of the stream each segment holds.
    pub segment_size: u64,
    /// The size of the buffer in bytes.
    pub buffer_size: u64,
    /// Whether the buffer outlives the process ([`Options::shared_buffer`](crate::Options::shared_buffer)). For a log that is
    /// open read-only: whether there is such a buffer, which a process writes through or has left behind.
    pub shared_buffer: bool,
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
    /// How long the syncs took.
    pub sync_latency: Latency,
}

impl Stats {
    /// How many records a sync made durable on average.
    #[must_use]
    pub fn records_per_sync(&self) -> f64 {
        if self.syncs == 0 { 0.0 } else { self.records_synced as f64 / self.syncs as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_bucket_above_them() {
        let histogram = Histogram::default();
        for nanos in [0, 1, 2, 3, 1000, 1 << 50] {
            histogram.record(Duration::from_nanos(nanos));
        }
        let latency = histogram.snapshot();
        let expected = [(1, 1), (2, 1), (4, 2), (1024, 1), (1 << 39, 1)];
        assert_eq!(latency.buckets, expected.map(|(bound, counted)| (Duration::from_nanos(bound), counted)));
        assert_eq!(latency.quantile(0.5), Duration::from_nanos(4));
        assert_eq!(latency.quantile(1.0), Duration::from_nanos(1 << 39));
        assert_eq!(Latency::default().quantile(0.5), Duration::ZERO);
    }
}
