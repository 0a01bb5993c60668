//! One log, the threads that use it, and the crashes it is judged by.

use std::sync::{Arc, Mutex};

use libwal::format::Kind;
use libwal::storage::{Fault, SimOp, SimStorage};
use libwal::{Error, Lsn, Options, Result, Wal};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

use crate::common::open;
use crate::common::oracle::{Oracle, Survived, WRITER_SHIFT};
use crate::common::random::{Random, mix};
use crate::common::stepping::Stepping;

/// At most so many crashes are kept from one life.
const MOST_CRASHES: usize = 6;

/// What a crash left, and what had been promised by then.
struct Crash {
    disk: SimStorage,
    oracle: Oracle,
    survived: Survived,
}

/// What the threads of a life share, and the disk's steps see.
struct Shared {
    seed: u64,
    disk: SimStorage,
    oracle: Oracle,
    /// Whether operations of the disk may fail: errors were ordered, or the power is cut.
    troubled: bool,
    random: Mutex<Random>,
    /// One step in so many is crashed at.
    one_in: u64,
    crashes: Mutex<Vec<Crash>>,
    notes: Mutex<Vec<String>>,
}

impl Shared {
    fn note(&self, note: String) {
        self.notes.lock().expect("no panic").push(note);
    }

    /// Crashes here, now and then: what is left is judged later.
    fn crash_sometimes(&self) {
        let mut random = self.random.lock().expect("no panic");
        let mut crashes = self.crashes.lock().expect("no panic");
        if crashes.len() == MOST_CRASHES || !random.one_in(self.one_in) {
            return;
        }
        let (disk, survived) = match random.one_in(4) {
            true => (self.disk.kill(), Survived::Kill),
            false => (self.disk.crash(random.next()), Survived::Crash),
        };
        let oracle = self.oracle.fork();
        // Of those that are under way nobody has heard.
        oracle.expect_unheard();
        crashes.push(Crash { disk, oracle, survived });
        drop(crashes);
        self.note(format!("{survived:?}"));
    }

    /// What an error means for what was tried. `true`: it may have been appended all the same.
    fn failed(&self, what: &str, error: &Error) -> bool {
        self.note(format!("{what}: {error}"));
        match error {
            Error::Poisoned { .. } | Error::Io { .. } => {
                assert!(self.troubled, "seed {}: {what}: {error}", self.seed);
                true
            }
            Error::Closed | Error::Full => false,
            // Another thread truncated, or the log is poisoned and ends where it was flushed.
            Error::Truncated { .. } if matches!(what, "read" | "sync_to" | "truncate") => false,
            Error::InvalidArgument(_) if self.troubled && matches!(what, "read" | "sync_to" | "truncate") => false,
            other => panic!("seed {}: {what}: {other}", self.seed),
        }
    }
}

/// See the module.
pub(crate) struct Life {
    seed: u64,
    random: Random,
    options: Options,
}

/// One of the threads.
struct Worker {
    shared: Arc<Shared>,
    wal: Wal,
    random: Random,
    number: u64,
    counter: u64,
}

impl Life {
    pub(crate) fn new(seed: u64) -> Life {
        let mut random = Random::new(mix(seed));
        let mut options = Options::new()
            .segment_size(4096)
            .buffer_size(4096)
            .recycle(random.below(3) as usize)
            .background(random.one_in(2))
            .first_lsn(Lsn::new(random.pick(&[0, 0, 3000, 4000])));
        if random.one_in(4) {
            options = options.background(true).sync_interval(Some(std::time::Duration::from_millis(1)));
        }
        Life { seed, random, options }
    }

    /// Lives it, and judges all its crashes. Returns what took place.
    pub(crate) fn live(mut self) -> Vec<String> {
        let shared = Arc::new(self.shared());
        // A step is one that the checker sees, and does nothing else.
        let (watched, steps) = (Arc::clone(&shared), AtomicU64::new(0));
        let step = move || {
            steps.fetch_add(1, Ordering::Relaxed);
            watched.crash_sometimes();
        };
        let opened = self.options.clone().open_on(Stepping::over(&shared.disk, Arc::new(step)));
        let wal = opened.unwrap_or_else(|error| panic!("seed {}: the disk is empty: {error}", self.seed));
        if shared.troubled {
            self.trouble(&shared.disk);
        }
        self.work(&shared, wal);
        self.judge(&shared);
        std::mem::take(&mut shared.notes.lock().expect("no panic"))
    }

    /// The power goes after some operations, or some of them fail.
    fn trouble(&mut self, disk: &SimStorage) {
        let random = &mut self.random;
        if random.one_in(2) {
            return disk.crash_after(random.below(80));
        }
        let op = random.pick(&[SimOp::Sync, SimOp::Sync, SimOp::Write, SimOp::SyncDir, SimOp::Rename]);
        let fault = Fault::errno(op, random.below(20), 5);
        disk.inject(if random.one_in(4) { fault.sticky() } else { fault });
    }

    fn shared(&mut self) -> Shared {
        let random = &mut self.random;
        Shared {
            seed: self.seed,
            disk: SimStorage::with_seed(random.next()),
            oracle: Oracle::new(self.seed),
            troubled: random.one_in(2),
            random: Mutex::new(Random::new(random.next())),
            one_in: random.pick(&[20, 60, 200]),
            crashes: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// Two to four threads, and then the end of the process, or a close.
    fn work(&mut self, shared: &Arc<Shared>, wal: Wal) {
        let threads: Vec<_> = (1..=2 + self.random.below(3))
            .map(|number| {
                let random = Random::new(self.random.next());
                let mut worker = Worker { shared: Arc::clone(shared), wal: wal.clone(), random, number, counter: 0 };
                thread::spawn(move || {
                    for _ in 0..2 + worker.random.below(7) {
                        worker.step();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("no panic");
        }
        if self.random.one_in(2) {
            close(shared, wal);
        } else {
            // The power goes first, so that the log does not close itself cleanly.
            let crash = |disk, survived| Crash { disk, oracle: shared.oracle.fork(), survived };
            let left =
                [crash(shared.disk.kill(), Survived::Kill), crash(shared.disk.crash(self.seed), Survived::Crash)];
            shared.crashes.lock().expect("no panic").extend(left);
            shared.disk.crash_after(0);
            drop(wal);
        }
    }

    /// Recovers each crash, and judges it.
    fn judge(&mut self, shared: &Shared) {
        let left = [(shared.disk.kill(), Survived::Kill), (shared.disk.crash(self.seed), Survived::Crash)];
        let last = left.map(|(disk, survived)| Crash { disk, oracle: shared.oracle.fork(), survived });
        let crashes = std::mem::take(&mut *shared.crashes.lock().expect("no panic"));
        for crash in crashes.into_iter().chain(last) {
            let found = self.recovered(crash);
            shared.note(format!("judged: {found} records"));
        }
    }

    /// Recovers what a crash left: once, again after a crash of the recovered log, and again after it was appended to.
    fn recovered(&mut self, crash: Crash) -> usize {
        let Crash { mut disk, oracle, survived } = crash;
        let options = Options::new().segment_size(4096).buffer_size(4096).background(false);
        let mut count = None;
        for (round, survived) in [survived, Survived::Crash, Survived::Crash].into_iter().enumerate() {
            let wal = open(&options, &disk).unwrap_or_else(|error| panic!("seed {}: open: {error}", self.seed));
            let found = oracle.check(&wal, survived);
            let found = found.unwrap_or_else(|error| panic!("seed {}: {survived:?}, {round}: {error}", self.seed));
            assert!(
                round != 1 || count == Some(found.len()),
                "seed {}: {count:?} records, then {}",
                self.seed,
                found.len()
            );
            count.get_or_insert(found.len());
            oracle.adopt(&found, wal.durable_lsn());
            if round == 1 {
                let (counter, len) = (1, 40);
                let lsn = wal.append_and_sync(&oracle.payload(counter, len));
                let lsn = lsn.unwrap_or_else(|error| panic!("seed {}: append: {error}", self.seed));
                oracle.appended(lsn, counter, len, Kind::Data);
                oracle.durable_to(lsn.get() + 1);
            }
            let next = disk.crash(self.random.next());
            disk.crash_after(0);
            drop(wal);
            disk = next;
        }
        count.expect("it was recovered")
    }
}

fn close(shared: &Shared, wal: Wal) {
    match wal.close() {
        // Everything that was accepted.
        Ok(()) => shared.oracle.durable_to(Lsn::MAX.get()),
        Err(error) => drop(shared.failed("close", &error)),
    }
}

impl Worker {
    fn step(&mut self) {
        match self.random.below(100) {
            0..=29 => self.append(),
            30..=36 => self.append_batch(),
            37..=54 => self.append_and_sync(),
            55..=59 => self.append_async(),
            60..=69 => self.sync(),
            70..=76 => self.flush(),
            77..=80 => self.sync_to(),
            81..=87 => self.checkpoint(),
            88..=94 => self.truncate(),
            95..=98 => self.read(),
            _ => close(&self.shared, self.wal.clone()),
        }
    }

    /// A counter of its own, and a length: long enough to say which record it is.
    fn next(&mut self) -> (u64, usize) {
        self.counter += 1;
        let len = match self.random.below(10) {
            0..=5 => 16 + self.random.below(100),
            6..=8 => 16 + self.random.below(2000),
            _ => 3000 + self.random.below(3000),
        };
        (self.number << WRITER_SHIFT | self.counter, len as usize)
    }

    /// Between the return of a call and these lines no other thread goes on, so no crash comes between.
    fn heard(&self, what: &str, (counter, len): (u64, usize), kind: Kind, appended: Result<Lsn>) -> Option<Lsn> {
        match appended {
            Ok(lsn) => {
                self.shared.oracle.appended(lsn, counter, len, kind);
                self.shared.note(format!("{what} {counter:x}: {lsn}"));
                Some(lsn)
            }
            Err(error) => {
                if self.shared.failed(what, &error) || kind == Kind::Checkpoint || what == "append_and_sync" {
                    self.shared.oracle.append_failed(&[(counter, len)], Some(kind));
                }
                None
            }
        }
    }

    fn payload(&self, (counter, len): (u64, usize)) -> Vec<u8> {
        self.shared.oracle.payload(counter, len)
    }

    fn append(&mut self) {
        let next = self.next();
        let appended = match self.random.one_in(4) {
            true if next.1 < 4000 => self.wal.try_append(&self.payload(next)),
            _ => self.wal.append(&self.payload(next)),
        };
        self.heard("append", next, Kind::Data, appended);
    }

    fn append_batch(&mut self) {
        let members: Vec<_> = (0..2 + self.random.below(3)).map(|_| self.next()).collect();
        let payloads: Vec<_> = members.iter().map(|&member| self.payload(member)).collect();
        match self.wal.append_batch(&payloads) {
            Ok(lsns) => self.shared.oracle.appended_batch(&lsns, &members),
            Err(error) => {
                if self.shared.failed("append_batch", &error) {
                    self.shared.oracle.append_failed(&members, None);
                }
            }
        }
    }

    fn append_and_sync(&mut self) {
        let next = self.next();
        let appended = self.wal.append_and_sync(&self.payload(next));
        if let Some(lsn) = self.heard("append_and_sync", next, Kind::Data, appended) {
            self.shared.oracle.durable_to(lsn.get() + 1);
        }
    }

    fn append_async(&mut self) {
        let next = self.next();
        let shared = Arc::clone(&self.shared);
        let appended = self.wal.append_async(&self.payload(next), move |told| match told {
            Ok(lsn) => shared.oracle.durable_to(lsn.get() + 1),
            Err(error) => shared.note(format!("told: {error}")),
        });
        self.heard("append_async", next, Kind::Data, appended);
    }

    fn sync(&mut self) {
        let tail = self.wal.tail().expect("this is the process that opened it").get();
        match self.wal.sync() {
            Ok(()) => self.shared.oracle.durable_to(tail),
            Err(error) => drop(self.shared.failed("sync", &error)),
        }
    }

    fn flush(&mut self) {
        let tail = self.wal.tail().expect("this is the process that opened it").get();
        match self.wal.flush() {
            Ok(()) => self.shared.oracle.flushed_to(tail),
            Err(error) => drop(self.shared.failed("flush", &error)),
        }
    }

    fn some_lsn(&mut self) -> Option<Lsn> {
        let lsns = self.shared.oracle.readable();
        (!lsns.is_empty()).then(|| Lsn::new(self.random.pick(&lsns)))
    }

    fn sync_to(&mut self) {
        let Some(lsn) = self.some_lsn() else { return };
        match self.wal.sync_to(lsn) {
            Ok(()) => self.shared.oracle.durable_to(lsn.get() + 1),
            Err(error) => drop(self.shared.failed("sync_to", &error)),
        }
    }

    fn checkpoint(&mut self) {
        let next = self.next();
        let appended = self.wal.checkpoint(&self.payload(next));
        if let Some(lsn) = self.heard("checkpoint", next, Kind::Checkpoint, appended) {
            self.shared.oracle.durable_to(lsn.get() + 1);
            self.shared.oracle.checkpointed(lsn);
        }
    }

    fn truncate(&mut self) {
        let Some(lsn) = self.some_lsn() else { return };
        self.shared.oracle.truncating(lsn.get());
        match self.wal.truncate_before(lsn) {
            Ok(head) => {
                self.shared.oracle.truncated(head);
                self.shared.note(format!("truncate {lsn}: {head}"));
            }
            Err(error) => drop(self.shared.failed("truncate", &error)),
        }
    }

    fn read(&mut self) {
        let Some(lsn) = self.some_lsn() else { return };
        match self.wal.read(lsn) {
            Ok(record) => self.shared.oracle.judge(&record).unwrap_or_else(|error| panic!("{error}")),
            Err(error) => drop(self.shared.failed("read", &error)),
        }
    }
}
