//! The side by side benchmark: libwal, other write-ahead logs, and what the machine allows, in one run. Every measurement
//! is a process of its own; the systems take turns, repetition by repetition. It ends with `docs/benchmarks.md`.

#[path = "../../core/benches/common/mod.rs"]
mod common;
mod goals;
mod instructions;
mod job;
mod latency;
mod limits;
mod machine;
mod peers;
mod plan;
mod plot;
mod report;
mod results;
mod syncs;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use plan::{Plan, Workload};

/// Runs the same workloads on libwal, on other logs, and on the physical limits, and writes the comparison.
#[derive(Parser)]
#[command(name = "libwal-bench")]
struct Arguments {
    /// One repetition of shorter measurements: about 90 seconds.
    #[arg(long)]
    quick: bool,
    /// Only these workloads.
    #[arg(long, value_name = "WORKLOAD")]
    only: Vec<Workload>,
    /// Further repetitions are left out when this is used up.
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Also opens a log of 4 GiB.
    #[arg(long)]
    big: bool,
    /// Counts instructions of one append under valgrind instead of measuring times.
    #[arg(long)]
    instructions: bool,
    /// A directory on the disk that is measured; what is made in it is removed.
    #[arg(long, default_value = "target/bench-peers")]
    dir: PathBuf,
    /// Where the results go, as JSON.
    #[arg(long, default_value = "target/bench-peers.json")]
    json: PathBuf,
    /// Where the page and its plots go: a page `benchmarks.md` and a directory `benchmarks`.
    #[arg(long, default_value = "docs")]
    docs: PathBuf,
    /// Measures nothing: writes the page anew from the JSON of an earlier run.
    #[arg(long)]
    report: bool,
    /// One measurement, as JSON; this program calls itself with it.
    #[arg(long, hide = true)]
    job: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.job {
        Some(job) => serde_json::from_str::<job::Job>(job).map_err(Into::into).and_then(|job| job.run()),
        None if arguments.instructions => instructions::run(&arguments.dir),
        None => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> peers::Result<()> {
    let results = if arguments.report {
        serde_json::from_str(&std::fs::read_to_string(&arguments.json)?)?
    } else {
        std::fs::create_dir_all(&arguments.dir)?;
        let base = tempfile::tempdir_in(&arguments.dir)?;
        let dir = base.path().canonicalize()?;
        let plan = Plan {
            quick: arguments.quick,
            repetitions: if arguments.quick { 1 } else { arguments.repetitions.max(1) },
            budget: Duration::from_secs_f64(arguments.minutes * 60.0),
            big: arguments.big,
            workloads: if arguments.only.is_empty() { Workload::ALL.to_vec() } else { arguments.only.clone() },
            dir,
        };
        let results = plan.run()?;
        std::fs::write(&arguments.json, serde_json::to_string(&results)?)?;
        results
    };
    report::write(&results, &arguments.docs)?;
    goals::print(&results);
    Ok(())
}
