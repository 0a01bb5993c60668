//! Many threads on one log in a real directory: every kind of call at once, judged by the oracle at the end.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::oracle::{Oracle, Survived, WRITER_SHIFT, payload};
use common::random::Random;
use libwal::format::Kind;
use libwal::{Error, Lsn, Options, Wal};

const SEED: u64 = 64;

fn options(background: bool) -> Options {
    Options::new().segment_size(1 << 16).buffer_size(1 << 14).background(background)
}

/// One of the threads.
struct Worker<'a> {
    wal: Wal,
    oracle: &'a Oracle,
    random: Random,
    next: u64,
    /// Whether this one makes checkpoints and truncates.
    keeper: bool,
}

impl<'a> Worker<'a> {
    fn new(wal: &Wal, oracle: &'a Oracle, number: u64) -> Worker<'a> {
        let random = Random::new(SEED ^ number << 32);
        Worker { wal: wal.clone(), oracle, random, next: number << WRITER_SHIFT, keeper: number == 0 }
    }

    fn record(&mut self) -> (u64, Vec<u8>) {
        self.next += 1;
        let len = match self.random.below(60) {
            0 => 40_000,
            1..=5 => self.random.below(5000),
            _ => self.random.below(200),
        };
        (self.next, payload(SEED, self.next, len as usize))
    }

    fn step(&mut self) -> libwal::Result<()> {
        match self.random.below(20) {
            0..=6 => {
                let (counter, data) = self.record();
                let lsn = self.wal.append(&data)?;
                self.oracle.appended(lsn, counter, data.len(), Kind::Data);
            }
            7..=8 => {
                let (counter, data) = self.record();
                match self.wal.try_append(&data) {
                    Ok(lsn) => self.oracle.appended(lsn, counter, data.len(), Kind::Data),
                    Err(Error::Full | Error::TooLarge { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            9..=11 => {
                let records: Vec<_> = (0..1 + self.random.below(6)).map(|_| self.record()).collect();
                let payloads: Vec<_> = records.iter().map(|(_, data)| data).collect();
                let lsns = self.wal.append_batch(&payloads)?;
                let members: Vec<_> = records.iter().map(|(counter, data)| (*counter, data.len())).collect();
                self.oracle.appended_batch(&lsns, &members);
            }
            12 => {
                let tail = self.wal.tail()?;
                self.wal.sync()?;
                assert!(self.wal.durable_lsn() >= tail);
                self.oracle.durable_to(tail.get());
            }
            13..=15 => {
                let (counter, data) = self.record();
                let lsn = self.wal.append_and_sync(&data)?;
                assert!(self.wal.durable_lsn() > lsn);
                self.oracle.appended(lsn, counter, data.len(), Kind::Data);
                self.oracle.durable_to(lsn.get() + 1);
            }
            16 => self.sync_to()?,
            17 => self.read()?,
            18 => drop(self.wal.wait_durable(self.wal.head()?, Some(Duration::from_millis(1)))),
            _ if self.keeper => self.checkpoint()?,
            _ => {}
        }
        Ok(())
    }

    fn sync_to(&mut self) -> libwal::Result<()> {
        let (counter, data) = self.record();
        let lsn = self.wal.append(&data)?;
        self.oracle.appended(lsn, counter, data.len(), Kind::Data);
        match self.wal.sync_to(lsn) {
            // Durable, and truncated away by then.
            Ok(()) | Err(Error::Truncated { .. }) => self.oracle.durable_to(lsn.get() + 1),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn read(&mut self) -> libwal::Result<()> {
        let lsns = self.oracle.readable();
        let Some(&lsn) = lsns.get(self.random.below(lsns.len().max(1) as u64) as usize) else { return Ok(()) };
        match self.wal.read(Lsn::new(lsn)) {
            Ok(record) => self.oracle.judge(&record).expect("what was appended"),
            Err(Error::Truncated { head }) => assert!(head.get() > lsn),
            Err(error) => return Err(error),
        }
        let mut last = None;
        for record in self.wal.iter()?.take(200) {
            match record {
                Ok(record) => assert!(last.replace(record.lsn) < Some(record.lsn)),
                Err(Error::Truncated { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> libwal::Result<()> {
        let (counter, data) = self.record();
        let lsn = self.wal.checkpoint(&data)?;
        self.oracle.appended(lsn, counter, data.len(), Kind::Checkpoint);
        self.oracle.durable_to(lsn.get() + 1);
        self.oracle.checkpointed(lsn);
        if self.random.one_in(2) {
            self.oracle.truncating(lsn.get());
            self.wal.truncate_before(lsn)?;
        }
        Ok(())
    }
}

fn all_at_once(background: bool, operations: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let oracle = Oracle::new(SEED);
    let wal = options(background).open(dir.path().join("log")).expect("the log opens");
    std::thread::scope(|scope| {
        for number in 0..64 {
            let mut worker = Worker::new(&wal, &oracle, number);
            scope.spawn(move || {
                for _ in 0..operations {
                    worker.step().unwrap_or_else(|error| panic!("thread {number}: {error}"));
                }
            });
        }
    });
    oracle.check_live(&wal).expect("everything that was appended");
    let tail = wal.tail().expect("open").get();
    wal.close().expect("closed");
    oracle.durable_to(tail);
    let wal = options(background).open(dir.path().join("log")).expect("the log opens again");
    oracle.check(&wal, Survived::Crash).expect("everything that was appended");
}

#[test]
fn sixty_four_threads_do_everything_at_once() {
    all_at_once(true, 150);
}

#[test]
fn sixty_four_threads_do_without_the_background_thread() {
    all_at_once(false, 150);
}

#[test]
fn an_append_that_races_with_close_is_in_the_log_or_refused() {
    for round in 0..20 {
        let dir = tempfile::tempdir().expect("a directory");
        let oracle = Oracle::new(SEED);
        let wal = options(round % 2 == 0).open(dir.path()).expect("the log opens");
        let closing = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for number in 1..9 {
                let (mut worker, closing) = (Worker::new(&wal, &oracle, number), &closing);
                scope.spawn(move || {
                    loop {
                        match worker.step() {
                            Ok(()) => drop(closing.fetch_add(1, Ordering::Relaxed)),
                            Err(Error::Closed) => return,
                            // A call that read the end before the close, and read after it.
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            // Not before they have begun, and while they are at it.
            while closing.load(Ordering::Relaxed) < 50 * (round + 1) {
                std::thread::yield_now();
            }
            wal.clone().close().expect("closed");
            assert!(matches!(wal.append(b"late"), Err(Error::Closed)));
            assert!(matches!(wal.sync(), Err(Error::Closed)));
        });
        // Whatever append returned Ok is durable now: close waited for it.
        oracle.durable_to(u64::MAX);
        let wal = options(true).open(dir.path()).expect("the log opens again");
        oracle.check(&wal, Survived::Crash).unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}

#[test]
fn waiting_for_a_record_to_become_durable() {
    let dir = tempfile::tempdir().expect("a directory");
    let wal = options(false).open(dir.path()).expect("the log opens");
    let lsn = wal.append(b"waited for").expect("appended");
    assert!(!wal.wait_durable(lsn, Some(Duration::ZERO)).expect("open"));
    assert!(!wal.wait_durable(lsn, Some(Duration::from_millis(5))).expect("open"));
    assert!(matches!(wal.wait_durable(wal.tail().expect("open"), None), Err(Error::InvalidArgument(_))));
    let synced = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert!(wal.wait_durable(lsn, None).expect("open"));
                assert!(synced.load(Ordering::SeqCst), "told before the sync began");
            });
        }
        synced.store(true, Ordering::SeqCst);
        wal.sync().expect("synced");
    });
    assert!(wal.wait_durable(lsn, Some(Duration::ZERO)).expect("open"));
}
