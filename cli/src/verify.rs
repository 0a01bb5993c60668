//! `wal verify`: every checksum of a log.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use indicatif::{ProgressBar, ProgressStyle};
use libwal::{Progress, Report};

use crate::failure::{DAMAGED, Failure, TORN, print};
use crate::reading;
use crate::report::{bytes, facts, findings, plural};

const AFTER: &str = "\
Examples:
  wal verify mylog
  wal verify mylog --quiet; echo $?
  wal verify mylog --threads 1                  gentle to a disk with a moving head

Changes nothing. A log that is being written is checked as far as it reaches.

Exit codes: 0 sound, 1 wrong usage or refused, 2 damage found, 3 sound but with a torn tail that the
next open cuts (bytes behind the last record that were never acknowledged as durable: a crash leaves
them, and a log in use may show them).";

/// Check every checksum of a log, in parallel
#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The log's directory
    dir: PathBuf,
    /// How many threads read and check [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print nothing but errors: the exit code is the answer
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command; its exit code if the log could be checked.
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let report = check(&args.dir, args.threads.map(usize::from), args.quiet)?;
    let (verdict, code) = verdict(&report);
    if !args.quiet {
        print(&format!("{}{}{verdict}\n", facts(&summary(&report)), findings(&report)))?;
    }
    Ok(code)
}

/// Verifies the log in `dir`, with a thread for each processor unless told otherwise, and with a progress bar if a person may be watching.
pub(crate) fn check(dir: &Path, threads: Option<usize>, quiet: bool) -> Result<Report, Failure> {
    reading::require(dir)?;
    let threads = threads.unwrap_or_else(|| available_parallelism().map_or(1, NonZeroUsize::get));
    if quiet || !io::stderr().is_terminal() {
        return Ok(libwal::verify(dir, threads, &|_| {})?);
    }
    let bar = ProgressBar::no_length();
    let template = "{bar:40} {percent:>3}% {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let report = libwal::verify(dir, threads, &|Progress { done, total }| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(report?)
}

fn summary(report: &Report) -> Vec<(&'static str, String)> {
    vec![
        ("head", report.head.to_string()),
        ("tail", report.tail.to_string()),
        ("checkpoint", report.checkpoint.map_or("none".into(), |lsn| lsn.to_string())),
        ("segments", report.segments.to_string()),
        ("records", report.records.to_string()),
        ("payload bytes", bytes(report.payload_bytes)),
        ("closed cleanly", if report.closed_cleanly { "yes" } else { "no" }.into()),
    ]
}

fn verdict(report: &Report) -> (String, u8) {
    if !report.is_sound() {
        let (files, ranges) = (plural(report.files.len(), "file"), plural(report.damage.len(), "range"));
        return (format!("damaged: {files}, {ranges} of the stream"), DAMAGED);
    }
    match report.torn_tail {
        Some(lsn) => (format!("sound, with a torn tail from LSN {lsn} on that the next open cuts"), TORN),
        None => ("sound".into(), 0),
    }
}
