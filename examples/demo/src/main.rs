//! The main job, on real input: the lines of this repository's sources and documents go through many writer threads with
//! group commit into one log. The writing process is killed with SIGKILL in the middle, twice. Each time the log is
//! recovered, and what was acknowledged is compared with what came back, byte for byte. Then the rest is written.
//!
//! `demo [ROOT]` runs it; `demo --write DIR ROOT` is the process that it starts and kills.

mod input;
mod judge;
mod writer;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use judge::{Acknowledged, Verdict};

/// After which parts of the input the writing process is killed; the last run is left alone.
const KILLS: [f64; 2] = [0.3, 0.7];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let done = match args.first() {
        Some(first) if first == "--write" && args.len() == 3 => writer::write(Path::new(&args[1]), Path::new(&args[2])),
        root => run(&root.map_or_else(|| PathBuf::from("."), PathBuf::from)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One run of the writing process, and what the log held afterwards.
struct Run {
    killed: bool,
    time: Duration,
    acknowledged: usize,
    records_per_sync: f64,
    verdict: Verdict,
}

fn run(root: &Path) -> Outcome<()> {
    let lines = input::lines(root)?;
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path().join("log");
    println!("input: {} lines of the sources and documents in {}", lines.len(), root.display());
    println!("{} writer threads, group commit, killed with SIGKILL {} times\n", writer::THREADS, KILLS.len());
    let mut acknowledged = Acknowledged::default();
    let mut runs = Vec::new();
    for limit in KILLS.map(|part| Some((lines.len() as f64 * part) as usize)).into_iter().chain([None]) {
        let begun = Instant::now();
        let before = acknowledged.len();
        let (killed, records_per_sync) = write_until(&dir, root, limit, &mut acknowledged)?;
        let verdict = judge::judge(&dir, &lines, &acknowledged)?;
        let acknowledged = acknowledged.len() - before;
        runs.push(Run { killed, time: begun.elapsed(), acknowledged, records_per_sync, verdict });
    }
    print_table(&runs);
    let last = runs.last().ok_or("no run")?;
    if runs.iter().any(|run| run.verdict.missing + run.verdict.different + run.verdict.unknown > 0) {
        return Err("the log does not hold what was acknowledged".into());
    }
    if last.killed || last.verdict.recovered != lines.len() {
        return Err("the input was not finished".into());
    }
    println!("\nevery acknowledged record came back, byte for byte; the input was finished");
    Ok(())
}

/// Starts the writing process and reads its acknowledgements, until it ends or, at `limit` acknowledgements in all, is
/// killed. What it acknowledged just before it died still lies in the pipe, and counts.
fn write_until(dir: &Path, root: &Path, limit: Option<usize>, acknowledged: &mut Acknowledged) -> Outcome<(bool, f64)> {
    let mut child =
        Command::new(std::env::current_exe()?).arg("--write").args([dir, root]).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
    let mut killed = false;
    let mut records_per_sync = 0.0;
    let mut line = String::new();
    // A last line without its end was cut off by the kill, and is no acknowledgement.
    while output.read_line(&mut line)? > 0 && line.ends_with('\n') {
        match line.trim_end().split_once(' ') {
            Some(("records_per_sync", number)) => records_per_sync = number.parse()?,
            Some((index, lsn)) => acknowledged.add(index.parse()?, lsn.parse()?),
            None => return Err(format!("the writer said {line:?}").into()),
        }
        line.clear();
        if !killed && limit.is_some_and(|limit| acknowledged.len() >= limit) {
            child.kill()?;
            killed = true;
        }
    }
    let status = child.wait()?;
    if !killed && !status.success() {
        return Err(format!("the writer failed: {status}").into());
    }
    Ok((killed, records_per_sync))
}

fn print_table(runs: &[Run]) {
    println!("run  ended       acknowledged  in the log  missing  different  unknown  records/sync  time");
    for (nth, run) in runs.iter().enumerate() {
        let Verdict { recovered, missing, different, unknown } = run.verdict;
        println!(
            "{:>3}  {:<10}  {:>12}  {:>10}  {:>7}  {:>9}  {:>7}  {:>12}  {:.2} s",
            nth + 1,
            if run.killed { "by SIGKILL" } else { "by itself" },
            run.acknowledged,
            recovered,
            missing,
            different,
            unknown,
            if run.killed { "-".to_owned() } else { format!("{:.1}", run.records_per_sync) },
            run.time.as_secs_f64(),
        );
    }
}
