//! What is measured, in which order, and what becomes of a child that crashes, hangs or loses records.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::job::{Job, Outcome, Task};
use crate::limits;
use crate::machine::Machine;
use crate::peers::{self, ALL, Result};
use crate::results::{Measured, Results};

const MIB: u64 = 1 << 20;
pub(crate) const SIZES: [u64; 5] = [16, 100, 1 << 10, 16 << 10, 128 << 10];
pub(crate) const APPENDERS: [usize; 4] = [1, 2, 8, 64];
pub(crate) const COMMITTERS: [usize; 5] = [1, 2, 8, 32, 128];
pub(crate) const TASKS: usize = 1_000;
pub(crate) const REPLAYED: [u64; 2] = [100, 4 << 10];

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ValueEnum)]
pub(crate) enum Workload {
    Append,
    Commit,
    Replay,
    OpenClean,
    OpenKilled,
    Tails,
}

impl Workload {
    pub(crate) const ALL: [Workload; 6] = [
        Workload::Append,
        Workload::Commit,
        Workload::Replay,
        Workload::OpenClean,
        Workload::OpenKilled,
        Workload::Tails,
    ];

    /// Its part of the time.
    fn share(self) -> f64 {
        match self {
            Workload::Append => 0.45,
            Workload::Commit => 0.25,
            Workload::Replay => 0.12,
            Workload::OpenClean | Workload::OpenKilled => 0.04,
            Workload::Tails => 0.1,
        }
    }
}

pub(crate) struct Plan {
    pub(crate) quick: bool,
    pub(crate) repetitions: usize,
    pub(crate) budget: Duration,
    pub(crate) big: bool,
    pub(crate) workloads: Vec<Workload>,
    /// Absolute. Everything is made in it.
    pub(crate) dir: PathBuf,
}

/// One system in one cell.
struct Entry {
    job: Job,
    measured: Measured,
    /// How many records a replay must find, if it is one.
    expected: Option<u64>,
}

impl Plan {
    pub(crate) fn run(&self) -> Result<Results> {
        let machine = Machine::here(&self.dir);
        let mut measured = Vec::new();
        let whole: f64 = self.workloads.iter().map(|workload| workload.share()).sum();
        for &workload in &self.workloads {
            let budget = self.budget.mul_f64(workload.share() / whole);
            let mut entries = self.entries(workload);
            self.repeat(workload, &mut entries, budget);
            measured.extend(entries.into_iter().map(|entry| entry.measured));
            std::fs::remove_dir_all(self.dir.join("kept")).or_else(missing_is_fine)?;
        }
        let versions = ALL.iter().map(|peer| (peer.name.to_owned(), peers::version(peer.package))).collect();
        Ok(Results { machine, quick: self.quick, versions, measured })
    }

    /// The systems take turns in every cell, in the opposite order each second time, repetition by repetition.
    fn repeat(&self, workload: Workload, entries: &mut [Entry], budget: Duration) {
        let begun = Instant::now();
        for repetition in 0..self.repetitions {
            let last = Instant::now();
            if repetition % 2 == 1 {
                entries.reverse();
            }
            for entry in entries.iter_mut().filter(|entry| entry.measured.failure.is_none()) {
                let result = self.measure(workload, entry);
                let Measured { system, len, threads, .. } = &entry.measured;
                let told = match &result {
                    Ok(outcome) if outcome.records > 0 && outcome.open_seconds > 0.0 => {
                        format!("{:.3} ms to open, {:.0}/s", outcome.open_seconds * 1e3, outcome.rate())
                    }
                    Ok(outcome) => format!("{:.0}/s", outcome.rate()),
                    Err(reason) => reason.clone(),
                };
                println!("{workload:?} {len} B x {threads}: {system}: {told}");
                match result {
                    Ok(outcome) => entry.measured.outcomes.push(Some(outcome)),
                    Err(reason) => {
                        entry.measured.outcomes.push(None);
                        entry.measured.failure = Some(reason);
                    }
                }
            }
            if repetition % 2 == 1 {
                entries.reverse();
            }
            if repetition + 1 < self.repetitions && begun.elapsed() + last.elapsed() > budget {
                println!("{workload:?}: {} of {} repetitions in the time", repetition + 1, self.repetitions);
                break;
            }
        }
    }

    fn entries(&self, workload: Workload) -> Vec<Entry> {
        let names = ALL.iter().map(|peer| peer.name);
        let with = |limits: &[&'static str]| names.clone().chain(limits.iter().copied()).collect::<Vec<_>>();
        let mut entries = Vec::new();
        let mut add = |task, len, threads, millis: u64, bytes, systems: Vec<&'static str>| {
            let millis = if self.quick { millis / 2 } else { millis };
            let entry = |system| self.entry(workload, task, len, threads, millis, bytes, system);
            entries.extend(systems.into_iter().map(entry));
        };
        match workload {
            Workload::Append => {
                for (len, threads) in SIZES.iter().flat_map(|&len| APPENDERS.map(|threads| (len, threads))) {
                    let bytes = if self.quick { 28 * MIB } else { 112 * MIB };
                    add(Task::Append, len, threads, 400, bytes, with(&[limits::RING, limits::PWRITE]));
                }
            }
            Workload::Commit => {
                for threads in COMMITTERS {
                    let mut systems = with(&[limits::DIRECT]);
                    if threads == 1 {
                        systems.push(limits::FDATASYNC);
                    }
                    add(Task::Commit, 100, threads, 700, 0, systems);
                }
                add(Task::CommitTasks, 100, TASKS, 700, 0, with(&[]));
            }
            Workload::Replay => {
                for len in REPLAYED {
                    let bytes = if self.quick { 32 * MIB } else { 160 * MIB };
                    add(Task::Replay, len, 1, 0, bytes, with(&[limits::READ]));
                }
            }
            Workload::OpenClean => {
                add(Task::Replay, 1 << 10, 1, 0, 64 * MIB, with(&[]));
                if self.big {
                    add(Task::Replay, 1 << 10, 1, 0, 4 << 30, vec!["libwal"]);
                }
            }
            Workload::OpenKilled => {
                let bytes = if self.quick { 8 * MIB } else { 32 * MIB };
                add(Task::Replay, 1 << 10, 1, 0, bytes, with(&[]));
            }
            Workload::Tails => add(Task::Tails, 100, 1, if self.quick { 2_000 } else { 3_000 }, 0, with(&[])),
        }
        entries
    }

    #[expect(clippy::too_many_arguments, reason = "the columns of a table")]
    fn entry(
        &self,
        workload: Workload,
        task: Task,
        len: u64,
        threads: usize,
        millis: u64,
        bytes: u64,
        system: &str,
    ) -> Entry {
        let opens = matches!(workload, Workload::OpenClean | Workload::OpenKilled);
        let commits = matches!(task, Task::Commit | Task::CommitTasks);
        let failure = peers::find(system).filter(|_| commits).and_then(|peer| peer.commit.err()).map(str::to_owned);
        let measured = Measured {
            workload,
            len: if opens { bytes } else { len },
            threads,
            system: system.to_owned(),
            outcomes: Vec::new(),
            failure,
        };
        // A log that is read many times; the limit of reading reads the files of libwal.
        let owner = if system == limits::READ { "libwal" } else { system };
        let dir = match workload {
            Workload::Replay | Workload::OpenClean => self.dir.join("kept").join(format!("{owner}-{len}-{bytes}")),
            _ => self.dir.join("log"),
        };
        let job = Job {
            system: system.to_owned(),
            task,
            len: len as usize,
            threads,
            dir,
            shared: self.dir.clone(),
            millis,
            bytes,
        };
        Entry { job, measured, expected: None }
    }

    fn measure(&self, workload: Workload, entry: &mut Entry) -> std::result::Result<Outcome, String> {
        let keeps = matches!(workload, Workload::Replay | Workload::OpenClean);
        if keeps && entry.expected.is_none() && entry.job.system != limits::READ {
            let filled = self.spawn(&Job { task: Task::Fill, ..entry.job.clone() })?;
            entry.expected = Some(filled.finish()?.records);
        }
        if workload == Workload::OpenKilled {
            let filling = self.spawn(&Job { task: Task::FillAndHang, ..entry.job.clone() })?;
            entry.expected = Some(filling.kill_when_ready()?);
        }
        let outcome = self.spawn(&entry.job).and_then(Running::finish);
        if !keeps {
            std::fs::remove_dir_all(&entry.job.dir).or_else(missing_is_fine).map_err(|error| error.to_string())?;
        }
        let outcome = outcome?;
        match entry.expected {
            Some(expected) if outcome.records < expected => {
                Err(format!("lost records: found {} of {expected}", outcome.records))
            }
            Some(expected) if keeps && outcome.records > expected => {
                Err(format!("found {} records where {expected} were appended", outcome.records))
            }
            _ => Ok(outcome),
        }
    }

    fn spawn(&self, job: &Job) -> std::result::Result<Running, String> {
        let paths = [self.dir.join("stdout"), self.dir.join("stderr")];
        let start = || {
            let [out, err] = [File::create(&paths[0])?, File::create(&paths[1])?];
            Command::new(std::env::current_exe()?)
                .arg("--job")
                .arg(serde_json::to_string(job)?)
                .env("WALRUS_DATA_DIR", &job.dir)
                .env("WALRUS_QUIET", "1")
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err)
                .spawn()
        };
        let child = start().map_err(|error| error.to_string())?;
        let limit = Duration::from_secs(if job.bytes > 1 << 30 { 120 } else { 30 });
        Ok(Running { child, until: Instant::now() + limit, limit, paths, dir: self.dir.clone() })
    }
}

fn missing_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// A child process. It is killed when it takes too long.
struct Running {
    child: Child,
    until: Instant,
    limit: Duration,
    /// What it printed, and what it complained of.
    paths: [PathBuf; 2],
    dir: PathBuf,
}

impl Running {
    fn finish(mut self) -> std::result::Result<Outcome, String> {
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if Instant::now() > self.until {
                return Err(format!("not done after {} s", self.limit.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        if let Some(outcome) = self.line("outcome ") {
            return serde_json::from_str(&outcome).map_err(|error| error.to_string());
        }
        Err(format!("{status}: {}", self.complaint()))
    }

    /// Waits until it says how many records are durable, and kills it without a warning. Returns that number.
    fn kill_when_ready(mut self) -> std::result::Result<u64, String> {
        loop {
            if let Some(records) = self.line("ready ") {
                return records.trim().parse().map_err(|_| "it said nonsense".to_owned());
            }
            if self.child.try_wait().map_err(|error| error.to_string())?.is_some() || Instant::now() > self.until {
                return Err(format!("it ended early: {}", self.complaint()));
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// The rest of the first whole line of its output that begins so.
    fn line(&self, begins: &str) -> Option<String> {
        let text = std::fs::read(&self.paths[0]).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.filter_map(|line| line.strip_prefix(begins)).map(str::to_owned).next()
    }

    /// The last thing it complained of, without the place where this machine keeps its files.
    fn complaint(&self) -> String {
        let text = std::fs::read(&self.paths[1]).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut said = text.lines().filter(|line| !line.is_empty() && !line.starts_with("note:"));
        let said = said.next_back().unwrap_or("it said nothing").replace(&*self.dir.to_string_lossy(), "...");
        said.chars().take(200).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is gone already, except where it was too slow or waits to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
