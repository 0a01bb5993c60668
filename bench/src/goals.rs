//! What libwal is held to, each with the ratio that this run found.

use crate::job::Outcome;
use crate::limits;
use crate::peers::ALL;
use crate::plan::{APPENDERS, COMMITTERS, REPLAYED, SIZES, Workload};
use crate::results::{Measured, Results, ratio};

const OURS: &str = "libwal";

pub(crate) struct Goal {
    pub(crate) name: String,
    /// What it is compared with.
    pub(crate) against: String,
    pub(crate) ratio: f64,
    pub(crate) least: f64,
}

impl Goal {
    pub(crate) fn reached(&self) -> bool {
        self.ratio >= self.least
    }
}

/// All goals of which both sides were measured.
pub(crate) fn goals(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (len, threads) in SIZES.iter().flat_map(|&len| APPENDERS.map(|threads| (len, threads))) {
        let cell = (Workload::Append, len, threads);
        let name = format!("append {}, {}", bytes(len), threaded(threads));
        if len == 100 {
            goals.extend(limit(results, cell, &name, limits::RING, 0.8));
        }
        goals.extend(best_peer(results, cell, &name, 1.0, |_| true));
    }
    for threads in COMMITTERS {
        let cell = (Workload::Commit, 100, threads);
        let name = format!("commit 100 B, {}", threaded(threads));
        if threads == 1 {
            goals.extend(limit(results, cell, &name, limits::FDATASYNC, 0.95));
        } else {
            goals.extend(best_peer(results, cell, &name, 1.2, |_| true));
        }
    }
    let cell = (Workload::Commit, 100, crate::plan::TASKS);
    goals.extend(best_peer(results, cell, "commit 100 B, 1,000 tasks", 1.2, |_| true));
    for len in REPLAYED {
        let cell = (Workload::Replay, len, 1);
        let name = format!("replay {}", bytes(len));
        goals.extend(limit(results, cell, &name, limits::READ, 0.8));
        goals.extend(best_peer(results, cell, &name, 1.0, checks));
    }
    for ours in results.of(Workload::OpenClean).filter(|found| found.system == OURS) {
        if let Some(seconds) = ours.median(|outcome| outcome.open_seconds) {
            let (name, against) = (format!("open a closed log of {}", bytes(ours.len)), "2 ms".to_owned());
            goals.push(Goal { name, against, ratio: 0.002 / seconds, least: 1.0 });
        }
    }
    goals
}

fn checks(system: &str) -> bool {
    crate::peers::find(system).is_some_and(|peer| peer.checks.is_some())
}

type Cell = (Workload, u64, usize);

fn compare(results: &Results, cell: Cell, with: &str) -> Option<(f64, String)> {
    let (workload, len, threads) = cell;
    let ours = results.find(workload, len, threads, OURS)?;
    let other = results.find(workload, len, threads, with)?;
    Some((ratio(ours, other, Outcome::rate)?, with.to_owned()))
}

fn limit(results: &Results, cell: Cell, name: &str, limit: &str, least: f64) -> Option<Goal> {
    let (ratio, against) = compare(results, cell, limit)?;
    Some(Goal { name: name.to_owned(), against, ratio, least })
}

/// Against the fastest of the peers, which is the one with the lowest ratio.
fn best_peer(results: &Results, cell: Cell, name: &str, least: f64, fits: fn(&str) -> bool) -> Option<Goal> {
    let peers = ALL.iter().map(|peer| peer.name).filter(|&peer| peer != OURS && fits(peer));
    let ratios = peers.filter_map(|peer| compare(results, cell, peer));
    let (ratio, against) = ratios.min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(Goal { name: name.to_owned(), against, ratio, least })
}

pub(crate) fn print(results: &Results) {
    println!("\n{:<34} {:>7} {:>9}  against", "", "ratio", "at least");
    for goal in goals(results) {
        let mark = if goal.reached() { "" } else { "  MISSED" };
        println!("{:<34} {:>7.2} {:>9.2}  {}{mark}", goal.name, goal.ratio, goal.least, goal.against);
    }
    for Measured { workload, len, threads, system, failure, .. } in &results.measured {
        if let Some(failure) = failure {
            println!("{workload:?} {} x {threads}: {system}: {failure}", bytes(*len));
        }
    }
}

pub(crate) fn threaded(threads: usize) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

pub(crate) fn bytes(len: u64) -> String {
    match len {
        len if len >= 1 << 30 => format!("{} GiB", len >> 30),
        len if len >= 1 << 20 => format!("{} MiB", len >> 20),
        len if len >= 1 << 10 => format!("{} KiB", len >> 10),
        len => format!("{len} B"),
    }
}
