//! Histograms of latencies, from a nanosecond to a minute, with three significant digits.

use std::time::Duration;

use hdrhistogram::Histogram;

pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Latencies {
        Latencies(Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that hold"))
    }

    #[inline]
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_nanos() as u64);
    }

    pub(crate) fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("the same bounds");
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Nanoseconds and how often, for a process that cannot be handed the histogram itself.
    pub(crate) fn counts(&self) -> Vec<(u64, u64)> {
        self.0.iter_recorded().map(|at| (at.value_iterated_to(), at.count_since_last_iteration())).collect()
    }

    pub(crate) fn from_counts(counts: &[(u64, u64)]) -> Latencies {
        let mut latencies = Latencies::new();
        for &(value, count) in counts {
            latencies.0.saturating_record_n(value, count);
        }
        latencies
    }

    /// Nanoseconds within which this share of all calls returned.
    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    pub(crate) fn max(&self) -> u64 {
        self.0.max()
    }
}
