//! What a run measured, and how it is looked up.

use serde::{Deserialize, Serialize};

use crate::job::Outcome;
use crate::latency::Latencies;
use crate::machine::Machine;
use crate::plan::Workload;

#[derive(Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) quick: bool,
    /// The versions of what was compared.
    pub(crate) versions: Vec<(String, String)>,
    pub(crate) measured: Vec<Measured>,
}

/// All repetitions of one system in one cell.
#[derive(Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) workload: Workload,
    /// Bytes in a record; for `open`, the bytes of the log.
    pub(crate) len: u64,
    pub(crate) threads: usize,
    pub(crate) system: String,
    /// By repetition; none where it failed.
    pub(crate) outcomes: Vec<Option<Outcome>>,
    /// Why it failed, or why it was not tried.
    pub(crate) failure: Option<String>,
}

impl Measured {
    /// The median, the least and the greatest of what `of` takes from each repetition.
    pub(crate) fn spread(&self, of: impl Fn(&Outcome) -> f64) -> Option<[f64; 3]> {
        let mut values: Vec<f64> = self.outcomes.iter().flatten().map(of).collect();
        values.sort_by(f64::total_cmp);
        Some([median(values.clone())?, *values.first()?, *values.last()?])
    }

    pub(crate) fn median(&self, of: impl Fn(&Outcome) -> f64) -> Option<f64> {
        self.spread(of).map(|[median, ..]| median)
    }

    /// The latencies of all repetitions together.
    pub(crate) fn latencies(&self) -> Latencies {
        let mut all = Latencies::new();
        self.outcomes.iter().flatten().for_each(|outcome| all.add(&Latencies::from_counts(&outcome.latencies)));
        all
    }
}

impl Results {
    pub(crate) fn find(&self, workload: Workload, len: u64, threads: usize, system: &str) -> Option<&Measured> {
        let fits = |found: &&Measured| {
            (found.workload, found.len, found.threads) == (workload, len, threads) && found.system == system
        };
        self.measured.iter().find(fits)
    }

    pub(crate) fn of(&self, workload: Workload) -> impl Iterator<Item = &Measured> {
        self.measured.iter().filter(move |found| found.workload == workload)
    }
}

/// The median; the mean of the middle two of an even number.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

/// The median of the ratios of repetitions in which both were measured.
pub(crate) fn ratio(ours: &Measured, other: &Measured, of: impl Fn(&Outcome) -> f64) -> Option<f64> {
    let pairs = ours.outcomes.iter().zip(&other.outcomes);
    median(pairs.filter_map(|(ours, other)| Some(of(ours.as_ref()?) / of(other.as_ref()?))).collect())
}
