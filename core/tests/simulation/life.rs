//! One log on one simulated disk, and what is done to it.

use libwal::format::Kind;
use libwal::storage::SimStorage;
use libwal::{Error, Lsn, Options, Result, Retention, Wal};

use crate::common::oracle::{Found, Oracle, Survived};
use crate::common::random::Random;
use crate::common::{open, used};

/// The life is over: the power is off, or the log is poisoned.
struct Over;

pub(crate) struct Life {
    pub(crate) seed: u64,
    pub(crate) disk: SimStorage,
    /// Whether errors were ordered.
    pub(crate) faulty: bool,
    /// Whether it was ever opened.
    pub(crate) was_open: bool,
    oracle: Oracle,
    options: Options,
    retention: Retention,
    segment_size: u64,
    /// Whether all records have one length, so that stale ones fit in behind new ones.
    uniform: bool,
    wal: Option<Wal>,
    poisoned: bool,
    /// After how many of the disk's operations the power is cut.
    fuse: u64,
    /// Whether errors for want of space are to be expected.
    short: bool,
    counter: u64,
}

impl Life {
    pub(crate) fn new(seed: u64, random: &mut Random) -> Life {
        let segment_size = 4096 << random.below(3);
        let retention = match random.below(6) {
            0 => Retention::Bytes(random.below(20_000)),
            1 => Retention::Segments(1 + random.below(3)),
            _ => Retention::None,
        };
        let first = if random.one_in(3) { random.below(100_000) * 8 } else { 0 };
        let options = Options::new()
            .segment_size(segment_size)
            .buffer_size(4096 << random.below(3))
            .background(false)
            .recycle(random.below(3) as usize)
            .retention(retention)
            .retain_checkpoint(random.one_in(2))
            .first_lsn(Lsn::new(first));
        Life {
            seed,
            disk: SimStorage::with_seed(random.next()),
            faulty: false,
            was_open: false,
            fuse: u64::MAX,
            oracle: Oracle::new(seed),
            options,
            retention,
            segment_size,
            uniform: random.one_in(4),
            wal: None,
            poisoned: false,
            short: false,
            counter: 0,
        }
    }

    /// The same log as another disk has it, with a history of its own from here on.
    pub(crate) fn after(&self, disk: SimStorage) -> Life {
        Life {
            disk,
            faulty: false,
            fuse: u64::MAX,
            oracle: self.oracle.fork(),
            options: self.options.clone(),
            wal: None,
            poisoned: false,
            short: self.short,
            ..*self
        }
    }

    /// The same log goes on as another disk has it.
    pub(crate) fn replaced_by(mut self, disk: impl FnOnce(&SimStorage) -> SimStorage) -> Life {
        let after = self.after(disk(&self.disk));
        self.forget();
        after
    }

    /// Lets go of the handle without a clean close.
    pub(crate) fn forget(&mut self) {
        // The power goes first, so that closing cannot change the disk.
        self.disk.crash_after(0);
        self.wal = None;
    }

    /// Cuts the power after this many operations.
    pub(crate) fn cut_after(&mut self, operations: u64) {
        self.fuse = self.disk.operations() + operations;
        self.disk.crash_after(operations);
    }

    pub(crate) fn has_power(&self) -> bool {
        self.disk.operations() < self.fuse
    }

    /// No more faults, and space again.
    pub(crate) fn clear(&mut self) {
        self.disk.clear_faults();
        self.disk.set_capacity(None);
        (self.faulty, self.short) = (false, false);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.wal.is_some()
    }

    pub(crate) fn short_of_space(&mut self, random: &mut Random) {
        self.disk.set_capacity(Some(used(&self.disk) + random.below(6 * self.segment_size)));
        self.short = true;
    }

    pub(crate) fn open(&mut self) -> Result<()> {
        match open(&self.options, &self.disk) {
            Ok(wal) => {
                self.wal = Some(wal);
                self.poisoned = false;
                self.was_open = true;
                Ok(())
            }
            Err(error) => {
                // A log whose creation was cut off has nothing to lose; everything else must be told apart from damage.
                let told = matches!(error, Error::Io { .. } | Error::Poisoned { .. } | Error::NoSpace { .. });
                assert!(told, "seed {}: open: {error}", self.seed);
                Err(error)
            }
        }
    }

    fn wal(&self) -> &Wal {
        self.wal.as_ref().expect("the log is open")
    }

    pub(crate) fn judge(&self, survived: Survived) -> Found {
        let judged = self.oracle.check(self.wal(), survived);
        judged.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
    }

    pub(crate) fn adopt(&self, found: &Found) {
        let (durable, tail) = (self.wal().durable_lsn(), self.wal().tail().expect("the log is open"));
        assert_eq!(durable, tail, "seed {}: what recovery accepted is durable", self.seed);
        self.oracle.adopt(found, durable);
    }

    pub(crate) fn check_live(&self) {
        self.expect_retention();
        let checked = self.oracle.check_live(self.wal());
        checked.unwrap_or_else(|error| panic!("seed {}: live: {error}", self.seed));
    }

    /// A poisoned log refuses everything, acknowledges nothing, and can be read as far as it was flushed.
    pub(crate) fn check_poison(&mut self) {
        let Some(wal) = self.wal.as_ref().filter(|_| self.poisoned) else { return };
        let before = wal.durable_lsn();
        let refusals = [
            ("append", wal.append(b"x").err()),
            ("try_append", wal.try_append(b"x").err()),
            ("append_and_sync", wal.append_and_sync(b"x").err()),
            ("append_batch", wal.append_batch(&["x", "y"]).err()),
            ("sync", wal.sync().err()),
            ("flush", wal.flush().err()),
            ("checkpoint", wal.checkpoint(b"x").err()),
        ];
        for (what, refusal) in refusals {
            let poisoned = matches!(refusal, Some(Error::Poisoned { .. }));
            assert!(poisoned, "seed {}: {what} gave {refusal:?} on a poisoned log", self.seed);
        }
        assert_eq!(wal.durable_lsn(), before, "seed {}: a poisoned log acknowledges nothing", self.seed);
        let closed = self.wal.take().expect("still there").close();
        assert!(matches!(closed, Err(Error::Poisoned { .. })), "seed {}: close gave {closed:?}", self.seed);
    }

    /// Works until the end of the life, or for this many operations.
    pub(crate) fn work(&mut self, random: &mut Random, operations: u64) {
        for _ in 0..operations {
            let step = self.step(random);
            self.expect_retention();
            if step.is_err() {
                return;
            }
        }
    }

    fn step(&mut self, random: &mut Random) -> Result<(), Over> {
        match random.below(100) {
            0..=39 => self.append(random),
            40..=44 => self.try_append(random),
            45..=55 => self.append_batch(random),
            56..=61 => self.flush(),
            62..=75 => self.try_sync(),
            76..=79 => self.sync_to(random),
            80..=84 => self.append_and_sync(random),
            85..=88 => self.checkpoint(random),
            89..=92 => self.truncate(random),
            93..=95 => self.read(random),
            _ => self.reopen(random),
        }
    }

    fn next(&mut self, random: &mut Random) -> (u64, usize) {
        self.counter += 1;
        let len = match random.below(20) {
            // As long as an epoch record.
            _ if self.uniform => 24,
            0 => 0,
            1..=12 => random.below(200),
            13..=17 => random.below(3000),
            18 => self.segment_size - 8 * random.below(12),
            _ => random.below(3 * self.segment_size),
        };
        (self.counter, len as usize)
    }

    /// What an error means for what was tried. `false`: nothing was appended.
    fn failed(&mut self, what: &str, error: &Error) -> bool {
        match error {
            Error::Poisoned { .. } => self.poisoned = true,
            Error::Io { .. } => assert!(self.faulty || !self.has_power(), "seed {}: {what}: {error}", self.seed),
            Error::NoSpace { .. } => assert!(self.short || self.faulty, "seed {}: {what}: {error}", self.seed),
            // A write failed where nobody was told of it: the log is poisoned, and ends where it was flushed.
            Error::InvalidArgument(_) if matches!(what, "read" | "truncate_before") => {
                assert!(self.faulty || !self.has_power(), "seed {}: {what}: {error}", self.seed);
            }
            other => panic!("seed {}: {what}: {other}", self.seed),
        }
        self.poisoned
    }

    fn over(&self) -> Result<(), Over> {
        if self.poisoned { Err(Over) } else { Ok(()) }
    }

    fn append(&mut self, random: &mut Random) -> Result<(), Over> {
        let (counter, len) = self.next(random);
        match self.wal().append(&self.oracle.payload(counter, len)) {
            Ok(lsn) => self.oracle.appended(lsn, counter, len, Kind::Data),
            Err(error) => {
                if self.failed("append", &error) {
                    self.oracle.append_failed(&[(counter, len)], None);
                }
            }
        }
        self.over()
    }

    fn try_append(&mut self, random: &mut Random) -> Result<(), Over> {
        let (counter, len) = self.next(random);
        match self.wal().try_append(&self.oracle.payload(counter, len)) {
            Ok(lsn) => self.oracle.appended(lsn, counter, len, Kind::Data),
            Err(Error::Full | Error::TooLarge { .. }) => {}
            Err(error) => drop(self.failed("try_append", &error)),
        }
        self.over()
    }

    fn append_batch(&mut self, random: &mut Random) -> Result<(), Over> {
        let members: Vec<_> = (0..1 + random.below(6)).map(|_| self.next(random)).collect();
        let payloads: Vec<_> = members.iter().map(|&(counter, len)| self.oracle.payload(counter, len)).collect();
        match self.wal().append_batch(&payloads) {
            Ok(lsns) => self.oracle.appended_batch(&lsns, &members),
            Err(error) => {
                if self.failed("append_batch", &error) {
                    self.oracle.append_failed(&members, None);
                }
            }
        }
        self.over()
    }

    fn append_and_sync(&mut self, random: &mut Random) -> Result<(), Over> {
        let (counter, len) = self.next(random);
        match self.wal().append_and_sync(&self.oracle.payload(counter, len)) {
            Ok(lsn) => {
                self.oracle.appended(lsn, counter, len, Kind::Data);
                self.oracle.durable_to(lsn.get() + 1);
            }
            Err(error) => {
                if self.failed("append_and_sync", &error) {
                    self.oracle.append_failed(&[(counter, len)], None);
                }
            }
        }
        self.over()
    }

    fn checkpoint(&mut self, random: &mut Random) -> Result<(), Over> {
        let (counter, len) = self.next(random);
        match self.wal().checkpoint(&self.oracle.payload(counter, len)) {
            Ok(lsn) => {
                self.oracle.appended(lsn, counter, len, Kind::Checkpoint);
                self.oracle.durable_to(lsn.get() + 1);
                self.oracle.checkpointed(lsn);
            }
            Err(error) => {
                // Its record may stand although what comes after it failed.
                self.failed("checkpoint", &error);
                self.oracle.append_failed(&[(counter, len)], Some(Kind::Checkpoint));
            }
        }
        self.expect_retention();
        self.over()
    }

    fn flush(&mut self) -> Result<(), Over> {
        let tail = self.tail();
        match self.wal().flush() {
            Ok(()) => self.oracle.flushed_to(tail),
            Err(error) => drop(self.failed("flush", &error)),
        }
        self.over()
    }

    fn try_sync(&mut self) -> Result<(), Over> {
        let tail = self.tail();
        match self.wal().sync() {
            Ok(()) => {
                assert!(self.wal().durable_lsn().get() >= tail, "seed {}: sync moved too little", self.seed);
                self.oracle.durable_to(tail);
            }
            Err(error) => drop(self.failed("sync", &error)),
        }
        self.over()
    }

    /// A sync that must succeed.
    pub(crate) fn sync(&mut self) {
        assert!(self.try_sync().is_ok(), "seed {}: sync", self.seed);
    }

    fn sync_to(&mut self, random: &mut Random) -> Result<(), Over> {
        let Some(lsn) = self.some_lsn(random) else { return Ok(()) };
        match self.wal().sync_to(Lsn::new(lsn)) {
            Ok(()) => self.oracle.durable_to(lsn + 1),
            Err(error) => drop(self.failed("sync_to", &error)),
        }
        self.over()
    }

    fn truncate(&mut self, random: &mut Random) -> Result<(), Over> {
        let tail = self.tail();
        let lsn = if random.one_in(5) { Some(tail) } else { self.some_lsn(random) };
        self.truncate_to(lsn.unwrap_or(tail))
    }

    fn truncate_to(&mut self, lsn: u64) -> Result<(), Over> {
        self.oracle.truncating(lsn);
        match self.wal().truncate_before(Lsn::new(lsn)) {
            Ok(head) => self.oracle.truncated(head),
            Err(error) => drop(self.failed("truncate_before", &error)),
        }
        self.over()
    }

    pub(crate) fn truncate_to_the_end(&mut self) {
        let tail = self.tail();
        assert!(self.truncate_to(tail).is_ok(), "seed {}: truncate", self.seed);
    }

    fn read(&mut self, random: &mut Random) -> Result<(), Over> {
        if self.faulty {
            return Ok(());
        }
        match self.some_lsn(random).map(|lsn| self.wal().read(Lsn::new(lsn))) {
            None => self.check_unless_cut(),
            Some(Ok(record)) => {
                self.oracle.judge(&record).unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
            }
            Some(Err(error)) => drop(self.failed("read", &error)),
        }
        self.over()
    }

    fn check_unless_cut(&mut self) {
        let flushed = self.wal().flush();
        self.expect_retention();
        match flushed {
            Ok(()) if self.has_power() => self.check_live(),
            Ok(()) => {}
            Err(error) => drop(self.failed("flush", &error)),
        }
    }

    fn reopen(&mut self, random: &mut Random) -> Result<(), Over> {
        let tail = self.tail();
        self.expect_retention();
        let wal = self.wal.take().expect("the log is open");
        if random.one_in(3) {
            // As good as a close, but nobody is told of its failure.
            drop(wal);
        } else {
            match wal.close() {
                Ok(()) => self.oracle.durable_to(tail),
                Err(error) => drop(self.failed("close", &error)),
            }
        }
        match self.open() {
            Ok(()) if !self.faulty && self.has_power() => {
                let found = self.judge(Survived::Kill);
                self.adopt(&found);
                Ok(())
            }
            _ => Err(Over),
        }
    }

    pub(crate) fn close(&mut self) -> Result<()> {
        let tail = self.tail();
        self.wal.take().expect("the log is open").close()?;
        self.oracle.durable_to(tail);
        Ok(())
    }

    /// Appends until it is refused; returns with what.
    pub(crate) fn fill_up(&mut self, random: &mut Random) -> Error {
        self.short = true;
        loop {
            let (counter, len) = self.next(random);
            match self.wal().append(&self.oracle.payload(counter, len)) {
                Ok(lsn) => self.oracle.appended(lsn, counter, len, Kind::Data),
                // Shorter ones may still fit, down to the last byte.
                Err(Error::NoSpace { .. }) if !random.one_in(20) => {}
                Err(error) => return error,
            }
        }
    }

    /// Appends that must succeed, and a sync.
    pub(crate) fn append_some(&mut self, random: &mut Random) {
        for _ in 0..random.below(12) {
            let over = self.append(random);
            assert!(over.is_ok(), "seed {}: append", self.seed);
            self.expect_retention();
        }
        self.sync();
        self.expect_retention();
        for _ in 0..random.below(3) {
            let over = self.append_batch(random);
            assert!(over.is_ok(), "seed {}: append", self.seed);
            self.expect_retention();
        }
    }

    fn tail(&self) -> u64 {
        self.wal().tail().expect("the log is open").get()
    }

    fn some_lsn(&self, random: &mut Random) -> Option<u64> {
        let lsns = self.oracle.readable();
        (!lsns.is_empty()).then(|| random.pick(&lsns))
    }

    /// Retention may have dropped what lies below this.
    fn expect_retention(&self) {
        let Some(wal) = &self.wal else { return };
        let Ok(tail) = wal.tail().map(Lsn::get) else { return };
        let may = match self.retention {
            Retention::Bytes(bytes) => tail.saturating_sub(bytes),
            Retention::Segments(count) => {
                let index = (tail / self.segment_size).saturating_sub(count - 1);
                index * self.segment_size
            }
            _ => return,
        };
        self.oracle.truncating(may.min(wal.durable_lsn().get()));
    }
}
