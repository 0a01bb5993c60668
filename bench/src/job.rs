//! One measurement of one system, in a process of its own: what crashes or hangs takes nothing else with it, and what the
//! kernel counts for a process is this one's alone.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::common::limits::Ring;
use crate::common::{self, payload, record_size, timed};
use crate::latency::Latencies;
use crate::limits;
use crate::peers::{self, Log, Peer, Purpose, Result, Seen, Setup};
use crate::usage::{Usage, allocated, peak_memory_kib};

/// Appends of the workload `tails`, each second.
pub(crate) const TAILS_RATE: u64 = 200_000;
/// How long the other thread of `tails` sleeps between two syncs.
const TAILS_PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    Append,
    Commit,
    /// Commits of tasks that do not block a thread.
    CommitTasks,
    Tails,
    /// Writes a log of `bytes` and closes it.
    Fill,
    /// Writes `bytes`, syncs, writes a quarter of that again, and waits to be killed.
    FillAndHang,
    /// Opens the log and reads it all.
    Replay,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) system: String,
    pub(crate) task: Task,
    pub(crate) len: usize,
    pub(crate) threads: usize,
    /// Where the log is.
    pub(crate) dir: PathBuf,
    /// Where the file of the limits is, which stays.
    pub(crate) shared: PathBuf,
    pub(crate) millis: u64,
    /// The most that is appended.
    pub(crate) bytes: u64,
}

/// What was measured; zero or empty is not measured.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) records: u64,
    pub(crate) seconds: f64,
    /// Nanoseconds and how often.
    pub(crate) latencies: Vec<(u64, u64)>,
    pub(crate) syncs: u64,
    pub(crate) cpu_seconds: f64,
    /// Bytes sent to the disk, until the log is closed.
    pub(crate) written: u64,
    /// Bytes of disk that the log takes in the end.
    pub(crate) allocated: u64,
    pub(crate) peak_memory_kib: u64,
    pub(crate) open_seconds: f64,
    pub(crate) note: String,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.records as f64 / self.seconds
    }
}

impl Job {
    /// Does it and prints the outcome as one line.
    pub(crate) fn run(&self) -> Result<()> {
        let outcome = match peers::find(&self.system) {
            Some(peer) => self.run_peer(peer)?,
            None => self.run_limit()?,
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "outcome {}", serde_json::to_string(&outcome)?)?;
        // Threads that a log leaves behind shall not keep the process.
        out.flush()?;
        std::process::exit(0);
    }

    fn most(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    fn setup(&self, purpose: Purpose) -> Setup {
        Setup { dir: self.dir.clone(), len: self.len, purpose }
    }

    fn run_peer(&self, peer: &Peer) -> Result<Outcome> {
        let purpose = match self.task {
            Task::Append => Purpose::Append,
            Task::Commit | Task::CommitTasks => Purpose::Commit,
            Task::Tails => Purpose::Tails,
            Task::Fill | Task::FillAndHang | Task::Replay => Purpose::Replay,
        };
        let setup = self.setup(purpose);
        if self.task == Task::Replay {
            return replay(peer, &setup);
        }
        let log = (peer.open)(&setup)?;
        let batch = (peer.batch)(self.len);
        let payload = payload(self.len);
        // The first calls make what later ones find.
        match self.task {
            Task::Append => log.append(0, &payload, batch)?,
            Task::Commit | Task::CommitTasks => (0..20).try_for_each(|_| log.commit(0, &payload))?,
            _ => {}
        }
        let before = Usage::now();
        let mut outcome = match self.task {
            Task::Append => self.append(&*log, &payload, batch),
            Task::Commit => self.commit(&*log, &payload),
            Task::CommitTasks => self.commit_tasks(&*log, &payload)?,
            Task::Tails => self.tails(&*log, &payload, batch)?,
            Task::Fill | Task::FillAndHang => self.fill(&*log, &payload, batch)?,
            Task::Replay => unreachable!("done above"),
        };
        let after = Usage::now();
        outcome.syncs = after.syncs - before.syncs;
        outcome.cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        outcome.peak_memory_kib = peak_memory_kib();
        log.close()?;
        outcome.written = Usage::now().written - before.written;
        outcome.allocated = allocated(&self.dir);
        Ok(outcome)
    }

    /// Each thread appends its share of the bytes, and stops when the time is over.
    fn append(&self, log: &dyn Log, payload: &[u8], batch: usize) -> Outcome {
        let chunk = (64 << 10) / self.len.max(16);
        let chunk = if batch > 1 { batch } else { chunk.clamp(1, 1_000) };
        let share = (self.bytes / self.threads as u64 / record_size(self.len) as u64).max(1);
        let records = AtomicU64::new(0);
        let until = Instant::now() + self.most();
        let elapsed = timed(self.threads, |thread| {
            let mut done = 0;
            while done < share && Instant::now() < until {
                let count = (share - done).min(chunk as u64);
                log.append(thread, payload, count as usize).expect("an append");
                done += count;
            }
            records.fetch_add(done, Ordering::Relaxed);
        });
        Outcome { records: records.into_inner(), seconds: elapsed.as_secs_f64(), ..Outcome::default() }
    }

    fn commit(&self, log: &dyn Log, payload: &[u8]) -> Outcome {
        let all = Mutex::new(Latencies::new());
        let until = Instant::now() + self.most();
        let elapsed = timed(self.threads, |thread| {
            let mut latencies = Latencies::new();
            while Instant::now() < until {
                let begun = Instant::now();
                log.commit(thread, payload).expect("a commit");
                latencies.record(begun.elapsed());
            }
            all.lock().expect("no panic").add(&latencies);
        });
        let all = all.into_inner().expect("no panic");
        let (records, latencies) = (all.count(), all.counts());
        Outcome { records, latencies, seconds: elapsed.as_secs_f64(), ..Outcome::default() }
    }

    fn commit_tasks(&self, log: &dyn Log, payload: &[u8]) -> Result<Outcome> {
        let begun = Instant::now();
        match log.commit_tasks(self.threads, payload, begun + self.most()) {
            Some(done) => {
                let (latencies, last) = done?;
                let (records, seconds) = (latencies.count(), (last - begun).as_secs_f64());
                let note = "tasks".to_owned();
                Ok(Outcome { records, seconds, latencies: latencies.counts(), note, ..Outcome::default() })
            }
            None => {
                let note = "threads".to_owned();
                Ok(Outcome { note, ..self.commit(log, payload) })
            }
        }
    }

    /// Appends at a fixed rate. A latency counts from when the append was due, so that a pause is told by all that it
    /// delayed. Beside it another thread syncs and drops the old.
    fn tails(&self, log: &dyn Log, payload: &[u8], batch: usize) -> Result<Outcome> {
        let stop = AtomicBool::new(false);
        let every = Duration::from_secs(1).mul_f64(batch as f64 / TAILS_RATE as f64);
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(TAILS_PAUSE);
                    log.sync()?;
                    log.trim()?;
                }
                Result::Ok(())
            });
            let mut latencies = Latencies::new();
            let begun = Instant::now();
            let mut calls = 0;
            while begun.elapsed() < self.most() {
                let due = begun + every * calls;
                while Instant::now() < due {
                    std::hint::spin_loop();
                }
                log.append(0, payload, batch)?;
                latencies.record(due.elapsed());
                calls += 1;
            }
            let seconds = begun.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            beside.join().expect("no panic")?;
            let (records, counts) = (u64::from(calls) * batch as u64, latencies.counts());
            Ok(Outcome { records, seconds, latencies: counts, ..Outcome::default() })
        })
    }

    fn fill(&self, log: &dyn Log, payload: &[u8], batch: usize) -> Result<Outcome> {
        let append = |bytes: u64| {
            let calls = bytes / (record_size(self.len) * batch) as u64;
            (0..calls).try_for_each(|_| log.append(0, payload, batch))?;
            Result::Ok(calls * batch as u64)
        };
        let records = append(self.bytes)?;
        log.sync()?;
        if self.task == Task::FillAndHang {
            append(self.bytes / 4)?;
            log.flush()?;
            println!("ready {records}");
            std::thread::sleep(Duration::from_secs(3600));
        }
        Ok(Outcome { records, ..Outcome::default() })
    }

    fn run_limit(&self) -> Result<Outcome> {
        const FILE: u64 = 128 << 20;
        let payload = payload(self.len);
        match self.system.as_str() {
            limits::RING => {
                let file = limits::file(&self.shared, FILE);
                let records = self.bytes as usize / record_size(self.len) / self.threads * self.threads;
                let elapsed = Ring::append(&file, self.threads, records, &payload);
                Ok(Outcome { records: records as u64, seconds: elapsed.as_secs_f64(), ..Outcome::default() })
            }
            limits::PWRITE => {
                let file = limits::file(&self.shared, FILE);
                let (records, elapsed) = limits::pwrite(&file, self.bytes, self.threads, &payload, self.most());
                Ok(Outcome { records, seconds: elapsed.as_secs_f64(), ..Outcome::default() })
            }
            limits::FDATASYNC => {
                let file = limits::file(&self.shared, FILE);
                let (begun, mut offset) = (Instant::now(), 0);
                let mut latencies = Latencies::new();
                let mut elapsed = Duration::ZERO;
                while begun.elapsed() < self.most() {
                    let one = common::limits::commits(&file, &mut offset, 1, &payload);
                    latencies.record(one);
                    elapsed += one;
                }
                let (records, latencies) = (latencies.count(), latencies.counts());
                Ok(Outcome { records, latencies, seconds: elapsed.as_secs_f64(), ..Outcome::default() })
            }
            limits::DIRECT => {
                let (latencies, elapsed) = limits::direct(&self.shared, FILE, self.threads, self.most())?;
                let (records, latencies) = (latencies.count(), latencies.counts());
                Ok(Outcome { records, latencies, seconds: elapsed.as_secs_f64(), ..Outcome::default() })
            }
            limits::READ => {
                let files = common::limits::segment_files(&self.dir);
                let records = self.bytes as usize / record_size(self.len);
                let elapsed = common::limits::replay(&files, records);
                Ok(Outcome { records: records as u64, seconds: elapsed.as_secs_f64(), ..Outcome::default() })
            }
            unknown => Err(format!("no system is called {unknown}").into()),
        }
    }
}

fn replay(peer: &Peer, setup: &Setup) -> Result<Outcome> {
    let mut seen = Seen::default();
    let replayed = (peer.replay)(setup, &mut seen)?;
    if seen.bytes != seen.records * setup.len as u64 {
        return Err(format!("{} records have {} bytes", seen.records, seen.bytes).into());
    }
    let seconds = replayed.read.as_secs_f64();
    let open_seconds = replayed.open.as_secs_f64();
    Ok(Outcome { records: seen.records, seconds, open_seconds, ..Outcome::default() })
}
