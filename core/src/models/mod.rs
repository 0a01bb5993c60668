//! The real modules under loom, one subject a file: every schedule within a bound on preemptions, and for each load every
//! value that its ordering allows, in logs so small that they can be tried. `tests/loom/check` runs them.
//!
//! Each model is a log on a simulated disk and a few threads that use it. What it holds in the end, and what a crash would
//! leave of it, is judged by the oracle of the integration tests; two accesses to the same word of the ring that nothing
//! orders are loom's to find. What the disk does orders nothing: its steps are seen by loom as relaxed additions.

mod append;
mod claims;
mod close;
mod commit;
mod handles;
mod rotate;
mod told;
mod wake;

#[allow(unreachable_pub)]
#[path = "../../tests/common/mod.rs"]
mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::Kind;
use crate::primitive::{Arc, AtomicU64 as Seen, thread};
use crate::storage::SimStorage;
use crate::{Error, Lsn, Options, Result, Wal};
use common::oracle::{Oracle, Survived, WRITER_SHIFT};
use common::stepping::{Step, Stepping};

/// The ring, in bytes. A record of [`LEN`] takes up a quarter of it.
const RING: u64 = 128;
const LEN: usize = 24;
/// How many losses of power each acknowledged record must survive.
const LOSSES: u64 = 4;
/// How many crashes each execution is judged by, besides the death of the process.
const CRASHES: u64 = 2;

/// Checks `model` under every schedule with at most `preemptions` switches that no thread asked for.
fn check(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&executions);
    let model = Arc::new(model);
    let mut checker = loom::model::Builder::new();
    checker.preemption_bound = Some(more().map_or(preemptions, |more| preemptions + more));
    checker.max_branches = 100_000;
    let bound = checker.preemption_bound.expect("just set");
    checker.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let model = Arc::clone(&model);
        thread::spawn(move || model()).join().expect("the model ends");
    });
    let executions = executions.load(Ordering::Relaxed);
    assert!(executions > 1, "{name} has but one schedule");
    println!("loom: {name}: {executions} executions, at most {bound} preemptions");
}

/// `LIBWAL_PREEMPTIONS=1` allows one preemption more in each model, for a soak.
fn more() -> Option<usize> {
    let more = std::env::var("LIBWAL_PREEMPTIONS").ok()?;
    Some(more.parse().expect("LIBWAL_PREEMPTIONS is a number"))
}

/// A log, its disk, and what is known of it.
#[derive(Clone)]
struct Log {
    wal: Wal,
    disk: SimStorage,
    step: Step,
    oracle: Arc<Oracle>,
}

impl Log {
    /// A new log whose first record is at `first`.
    fn new(first: u64, options: Options) -> Log {
        let disk = SimStorage::new();
        let options = options.segment_size(4096).buffer_size(RING).first_lsn(Lsn::new(first)).recycle(0);
        // One thing that all steps have in common, so that loom tries them in every order.
        let steps = Seen::new(0);
        let step: Step = Arc::new(move || _ = steps.fetch_add(1, crate::primitive::Ordering::Relaxed));
        let wal = options.open_on(Stepping::over(&disk, Arc::clone(&step))).expect("the disk is empty");
        Log { wal, disk, step, oracle: Arc::new(Oracle::new(1)) }
    }

    /// Without the thread in the background.
    fn quiet(first: u64) -> Log {
        Log::new(first, Options::new().background(false))
    }

    fn payload(&self, counter: u64) -> Vec<u8> {
        self.oracle.payload(counter, LEN)
    }

    /// Appends the record of this writer and number. A failure may have left it.
    fn append(&self, writer: u64, nth: u64) -> Result<Lsn> {
        let counter = counter(writer, nth);
        let appended = self.wal.append(&self.payload(counter));
        self.heard(counter, appended)
    }

    fn try_append(&self, writer: u64, nth: u64) -> Result<Lsn> {
        let counter = counter(writer, nth);
        let appended = self.wal.try_append(&self.payload(counter));
        self.heard(counter, appended)
    }

    /// Appends the writer's first records as a batch.
    fn append_batch(&self, writer: u64, count: u64) -> Result<()> {
        let members: Vec<_> = (0..count).map(|nth| (counter(writer, nth), LEN)).collect();
        let payloads: Vec<_> = members.iter().map(|&(counter, _)| self.payload(counter)).collect();
        let lsns = self.wal.append_batch(&payloads)?;
        self.oracle.appended_batch(&lsns, &members);
        Ok(())
    }

    fn append_and_sync(&self, writer: u64, nth: u64) -> Result<Lsn> {
        let counter = counter(writer, nth);
        let appended = self.wal.append_and_sync(&self.payload(counter));
        let lsn = self.heard(counter, appended)?;
        assert!(self.survives(counter), "the record at {lsn} was acknowledged and is not on the disk");
        self.oracle.durable_to(lsn.get() + 1);
        Ok(lsn)
    }

    fn heard(&self, counter: u64, appended: Result<Lsn>) -> Result<Lsn> {
        match &appended {
            Ok(lsn) => self.oracle.appended(*lsn, counter, LEN, Kind::Data),
            // Refused: certainly not there.
            Err(Error::Closed) => {}
            Err(_) => self.oracle.append_failed(&[(counter, LEN)], None),
        }
        appended
    }

    /// Whether the record would be there if the power went now.
    fn survives(&self, counter: u64) -> bool {
        survives(&self.disk, &self.step, &self.payload(counter))
    }

    /// Everything that was appended is there to be read.
    fn check_live(&self) {
        self.oracle.check_live(&self.wal).unwrap_or_else(|error| panic!("live: {error}"));
    }

    /// What the death of the process leaves, and what a loss of power leaves, is what was promised.
    fn check_crashes(&self) {
        self.check_after(&self.disk.kill(), Survived::Kill);
        for seed in 0..CRASHES {
            self.check_after(&self.disk.crash(seed), Survived::Crash);
        }
    }

    fn check_after(&self, disk: &SimStorage, survived: Survived) {
        let options = Options::new().background(false).segment_size(4096).buffer_size(RING);
        let wal = common::open(&options, disk).unwrap_or_else(|error| panic!("{survived:?}: {error}"));
        let judged = self.oracle.fork().check(&wal, survived);
        judged.unwrap_or_else(|error| panic!("{survived:?}: {error}"));
        // Closing it would only cost steps.
        disk.crash_after(0);
    }
}

/// The number of a writer's record, as the oracle counts.
fn counter(writer: u64, nth: u64) -> u64 {
    writer << WRITER_SHIFT | nth
}

/// Whether some file holds `payload`, whatever a loss of power takes. A step of the disk: loom tries it in every order
/// with the others.
fn survives(disk: &SimStorage, step: &Step, payload: &[u8]) -> bool {
    step();
    let holds = |disk: SimStorage| {
        common::contents(&disk).values().any(|bytes| bytes.windows(payload.len()).any(|part| part == payload))
    };
    (0..LOSSES).all(|seed| holds(disk.crash(seed)))
}

/// A model that failed ends where it stands: closing the log, with the checker's state as it is, would only panic again.
impl Drop for Log {
    fn drop(&mut self) {
        if thread::panicking() {
            std::mem::forget(self.wal.clone());
        }
    }
}

/// Runs `one` in a thread of its own, for the log.
fn start<T: Send + 'static>(log: &Log, one: impl FnOnce(&Log) -> T + Send + 'static) -> thread::JoinHandle<T> {
    let log = log.clone();
    thread::spawn(move || one(&log))
}
