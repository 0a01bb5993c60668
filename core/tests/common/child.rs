//! A workload in a process of its own, which reports what it appended and what was acknowledged through a pipe.
//!
//! The process is the test binary once more, told by its environment to run the test `child` only. Each report is one
//! write to standard error of less than a page, so the pipe keeps it whole whatever kills the process.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use libwal::format::Kind;
use libwal::storage::{FileStorage, Storage};
use libwal::{Error, Lsn, Options, Result, Wal};

use super::oracle::{Oracle, WRITER_SHIFT, kind_in_batch, payload};
use super::random::Random;

const DIR: &str = "LIBWAL_TEST_CHILD";
/// The name of the buffer, where it is a file of the directory.
pub(crate) const BUFFER: &str = "BUFFER";
const ROUND_SHIFT: u32 = 24;
const WRITERS: u64 = 6;

/// The log that parent and child open.
pub(crate) fn options() -> Options {
    Options::new().segment_size(1 << 16).buffer_size(1 << 14)
}

/// What is run.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) seed: u64,
    pub(crate) round: u64,
    /// How many operations each writer does.
    pub(crate) operations: u64,
}

impl Job<'_> {
    /// Runs it, behind the words of `wrapper` if there are any.
    pub(crate) fn spawn(&self, wrapper: &[&str]) -> Child {
        let exe = std::env::current_exe().expect("the path of this test");
        let mut command = match wrapper {
            [] => Command::new(exe),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(exe);
                command
            }
        };
        let numbers = format!("{} {} {}", self.seed, self.round, self.operations);
        command
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(DIR, self.dir)
            .env("LIBWAL_TEST_JOB", numbers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the child starts")
    }
}

/// What a child reported.
#[derive(Default)]
pub(crate) struct Heard {
    lines: Vec<String>,
}

impl Heard {
    /// Listens to the end, and kills the child after `patience` reports.
    pub(crate) fn from(child: &mut Child, patience: usize) -> Heard {
        let heard = Heard::listen(child, patience, |child| child.kill().expect("killed"));
        child.wait().expect("ended");
        heard
    }

    /// Listens until the pipe ends, and does `act` after `patience` reports.
    pub(crate) fn listen(child: &mut Child, patience: usize, act: impl Fn(&mut Child)) -> Heard {
        let mut heard = Heard::default();
        let pipe = BufReader::new(child.stderr.take().expect("piped"));
        for line in pipe.lines() {
            let line = line.expect("text");
            assert!(!line.contains("panicked"), "the child: {line}");
            if let Some(report) = line.strip_prefix("@ ") {
                heard.lines.push(report.to_owned());
                if heard.lines.len() == patience {
                    act(child);
                }
            }
        }
        heard
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        self.lines.iter().filter(|line| line.split(' ').next() == Some(what)).count()
    }

    /// Tells the oracle: first what was appended, then what was promised of it.
    pub(crate) fn tell(&self, oracle: &Oracle) {
        let reports: Vec<(&str, Vec<u64>)> = self.lines.iter().map(|line| parse(line)).collect();
        for (what, numbers) in &reports {
            if *what == "append" {
                for (nth, one) in numbers[1..].chunks(3).enumerate() {
                    let kind = match numbers[0] {
                        0 => kind_in_batch(nth, numbers.len() / 3),
                        _ => Kind::Checkpoint,
                    };
                    oracle.appended(Lsn::new(one[0]), one[1], one[2] as usize, kind);
                }
            }
        }
        for (what, numbers) in &reports {
            match *what {
                "flushed" => oracle.flushed_to(numbers[0]),
                "durable" => oracle.durable_to(numbers[0]),
                "checkpoint" => oracle.checkpointed(Lsn::new(numbers[0])),
                "truncating" => oracle.truncating(numbers[0]),
                _ => {}
            }
        }
    }
}

fn parse(line: &str) -> (&str, Vec<u64>) {
    let mut words = line.split(' ');
    let what = words.next().unwrap_or_default();
    (what, words.map_while(|word| word.parse().ok()).collect())
}

fn report(line: &str) {
    // A parent that is gone wants no reports.
    let _ = std::io::stderr().write_all(format!("@ {line}\n").as_bytes());
}

/// The child's side: does nothing unless this process is a child.
pub(crate) fn main() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let job = std::env::var("LIBWAL_TEST_JOB").expect("set with the directory");
    let job: Vec<u64> = job.split(' ').map(|number| number.parse().expect("a number")).collect();
    let wal = match options().open(&dir) {
        Ok(wal) => wal,
        Err(error) => return report(&format!("unopened {} {error}", error.errno().unwrap_or(0))),
    };
    report("opened");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (wal, job) = (wal.clone(), &job);
            let (seed, round, operations) = (job[0], job[1], job[2]);
            scope.spawn(move || {
                let random = Random::new(seed ^ round << 8 ^ writer);
                let next = writer << WRITER_SHIFT | round << ROUND_SHIFT;
                Writer { wal, random, seed, next, number: writer }.run(operations);
            });
        }
    });
    match wal.close() {
        Ok(()) => report("closed"),
        Err(error) => report(&format!("unclosed {error}")),
    }
}

struct Writer {
    wal: Wal,
    random: Random,
    seed: u64,
    next: u64,
    number: u64,
}

impl Writer {
    fn run(&mut self, operations: u64) {
        for _ in 0..operations {
            match self.step() {
                Ok(()) => {}
                Err(Error::NoSpace { .. }) => report("nospace"),
                Err(Error::Poisoned { .. }) => return self.insist(),
                Err(Error::Io { .. }) => report("io"),
                Err(error) => report(&format!("unexpected {error}")),
            }
        }
    }

    /// Once poisoned, nothing is accepted or acknowledged any more.
    fn insist(&self) {
        report("poisoned");
        let tries = [
            self.wal.sync().is_ok(),
            self.wal.flush().is_ok(),
            self.wal.append(b"never").is_ok(),
            self.wal.append_and_sync(b"never").is_ok(),
            self.wal.checkpoint(b"never").is_ok(),
        ];
        if tries.contains(&true) {
            report(&format!("unpoisoned {tries:?}"));
        }
    }

    fn record(&mut self) -> (u64, Vec<u8>) {
        self.next += 1;
        let len = match self.random.below(40) {
            0 => 30_000,
            1..=8 => 16 + self.random.below(3000),
            _ => 16 + self.random.below(300),
        };
        (self.next, payload(self.seed, self.next, len as usize))
    }

    fn step(&mut self) -> Result<()> {
        match self.random.below(20) {
            0..=9 => {
                let (counter, data) = self.record();
                let lsn = self.wal.append(&data)?;
                report(&format!("append 0 {lsn} {counter} {}", data.len()));
            }
            10..=11 => {
                let records: Vec<_> = (0..1 + self.random.below(5)).map(|_| self.record()).collect();
                let payloads: Vec<_> = records.iter().map(|(_, data)| data).collect();
                let lsns = self.wal.append_batch(&payloads)?;
                let mut line = "append 0".to_owned();
                for (lsn, (counter, data)) in lsns.iter().zip(&records) {
                    write!(line, " {lsn} {counter} {}", data.len()).expect("into memory");
                }
                report(&line);
            }
            12..=13 => {
                let tail = self.wal.tail()?;
                self.wal.flush()?;
                report(&format!("flushed {tail}"));
            }
            14..=15 => {
                let tail = self.wal.tail()?;
                self.wal.sync()?;
                report(&format!("durable {tail}"));
            }
            16..=18 => {
                let (counter, data) = self.record();
                let lsn = self.wal.append_and_sync(&data)?;
                report(&format!("append 0 {lsn} {counter} {}", data.len()));
                report(&format!("durable {}", lsn.get() + 1));
            }
            _ if self.number == 0 => self.checkpoint()?,
            _ => {}
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        let (counter, data) = self.record();
        let lsn = self.wal.checkpoint(&data)?;
        report(&format!("append 1 {lsn} {counter} {}", data.len()));
        report(&format!("durable {}", lsn.get() + 1));
        report(&format!("checkpoint {lsn}"));
        if self.random.one_in(3) {
            report(&format!("truncating {lsn}"));
            self.wal.truncate_before(lsn)?;
        }
        Ok(())
    }
}

/// Copies the files of a log, and the buffer that its process has left, so that a look at it leaves the log as it is.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("created");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
    let left = FileStorage::new(from).left_memory(BUFFER).expect("readable");
    #[cfg(unix)]
    if let Some(left) = left {
        let mut bytes = vec![0; left.len().expect("readable") as usize];
        left.read_at(&mut bytes, 0).expect("read");
        let mut file = std::fs::OpenOptions::new();
        // In the log's own directory, and nobody else's to write: else it would not be believed.
        let mut file = file.mode(0o600).write(true).create(true).open(to.join(BUFFER)).expect("created");
        file.write_all(&bytes).expect("written");
    }
    #[cfg(not(unix))]
    assert!(left.is_none(), "no buffer outlives its process here");
}

/// Judges a copy of the log, and takes what it holds for the truth.
pub(crate) fn judge_copy(oracle: &Oracle, dir: &Path, scratch: &Path) -> std::result::Result<usize, String> {
    copy(dir, scratch);
    let wal = options().open(scratch).map_err(|error| format!("open: {error}"))?;
    let found = oracle.check(&wal, super::oracle::Survived::Kill)?;
    oracle.adopt(&found, wal.durable_lsn());
    drop(wal);
    std::fs::remove_dir_all(scratch).expect("removed");
    Ok(found.len())
}
