//! A reader beside a writer that does something at every step of the reader: what the reader is told is true, acknowledged
//! records are never missing, and none of it passes for damage.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use common::random::Random;
use common::seeds::for_each_seed;
use common::watched::watched;
use common::{open, small};
use libwal::storage::{SimStorage, Storage};
use libwal::{Error, Iter, Lsn, Wal};

/// The writer, and what it has done.
struct Writer {
    log: Wal,
    random: Random,
    /// All that was ever appended.
    all: BTreeMap<u64, Vec<u8>>,
    head: u64,
    /// How many more steps it takes before the reader is done with what it is at.
    steps: u32,
}

impl Writer {
    fn append(&mut self) {
        let lens: Vec<usize> = (0..1 + self.random.below(3)).map(|_| self.random.pick(&[0, 30, 700, 6000])).collect();
        let records: Vec<Vec<u8>> = lens.into_iter().map(|len| vec![self.random.next() as u8; len]).collect();
        let lsns = self.log.append_batch(&records).expect("appended");
        self.all.extend(lsns.iter().map(|lsn| lsn.get()).zip(records));
    }

    fn step(&mut self) {
        match self.random.below(8) {
            0..=3 => {
                self.append();
                self.log.sync().expect("synced");
            }
            4 => {
                self.append();
                self.log.flush().expect("flushed");
            }
            5 => {
                let state = vec![7; self.random.pick(&[0, 2000])];
                self.all.insert(self.log.checkpoint(&state).expect("taken").get(), state);
            }
            _ => {
                let last = self.all.range(self.head..).map(|(&lsn, _)| lsn).rev().take(8);
                let lsn = self.random.pick(&last.collect::<Vec<_>>());
                self.head = self.log.truncate_before(Lsn::new(lsn)).expect("truncated").get();
            }
        }
    }

    /// The position of the last record that is durable.
    fn acknowledged(&self) -> u64 {
        self.all.range(..self.log.durable_lsn().get()).next_back().map_or(0, |(&lsn, _)| lsn)
    }
}

struct Reader {
    writer: Arc<Mutex<Writer>>,
    /// The disk, on which the writer takes a step now and then.
    storage: Arc<dyn Storage>,
    view: Wal,
    follower: Iter,
    /// The last record that the follower gave.
    followed: Option<u64>,
}

impl Reader {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("no panic")
    }

    /// What is read from `from` on is what was appended there, without a hole, and reaches `acknowledged`; unless it was
    /// truncated meanwhile.
    fn judge(&self, mut iter: Iter, from: Option<u64>, acknowledged: u64) {
        let mut before = from;
        loop {
            let record = match iter.next() {
                Some(Ok(record)) => record,
                Some(Err(Error::Truncated { head })) => {
                    let lost = before.map_or(0, |before| before + 1);
                    return assert!(lost < head.get() && head.get() <= self.writer().head, "{lost}, {head}");
                }
                Some(Err(error)) => panic!("behind {before:?}: {error}"),
                None => break,
            };
            let writer = self.writer();
            let next = before.map_or(record.lsn.get(), |before| {
                *writer.all.range(before + 1..).next().expect("something was read").0
            });
            assert_eq!((next, &writer.all[&next]), (record.lsn.get(), &record.data), "behind {before:?}");
            before = Some(next);
        }
        self.is_there(before, acknowledged);
    }

    /// Reading came to `last`, and so to all that was acknowledged and is not truncated.
    fn is_there(&self, last: Option<u64>, acknowledged: u64) {
        let head = self.writer().head;
        assert!(last >= Some(acknowledged) || acknowledged < head, "{last:?}, {acknowledged} was acknowledged");
    }

    fn step(&mut self, random: &mut Random) {
        let acknowledged = {
            let mut writer = self.writer();
            writer.steps = random.pick(&[0, 1, 1, 2, 4]);
            writer.acknowledged()
        };
        match random.below(6) {
            0 => assert!(self.view.tail().expect("a tail").get() > acknowledged),
            1 => {
                let known = self.writer().all.range(..=acknowledged).map(|(&lsn, _)| lsn).collect::<Vec<_>>();
                let lsn = random.pick(&known[known.len() / 2..]);
                match self.view.read(Lsn::new(lsn)) {
                    Ok(record) => assert_eq!(record.data, self.writer().all[&lsn]),
                    Err(Error::Truncated { head }) => assert!(lsn < head.get() && head.get() <= self.writer().head),
                    Err(error) => panic!("{lsn}: {error}"),
                }
            }
            2 => self.judge(self.view.iter().expect("readable"), None, acknowledged),
            3 => self.judge(self.view.iter_from_checkpoint().expect("readable"), None, acknowledged),
            4 => match self.follower.follow(Duration::ZERO) {
                Ok(Some(record)) => {
                    let lsn = record.lsn.get();
                    let writer = self.writer.lock().expect("no panic");
                    let from = self.followed.map_or(0, |followed| followed + 1);
                    let next = writer.all.range(from..).next().expect("it was appended");
                    let first = self.followed.is_none();
                    assert!((first || *next.0 == lsn) && record.data == writer.all[&lsn], "{lsn} behind {from}");
                    drop(writer);
                    self.followed = Some(lsn);
                }
                Ok(None) => self.is_there(self.followed, acknowledged),
                Err(Error::Truncated { .. }) => {
                    (self.follower, self.followed) = (self.view.iter().expect("readable"), None);
                }
                Err(error) => panic!("behind {:?}: {error}", self.followed),
            },
            _ => {
                let report = libwal::verify_on(Arc::clone(&self.storage), 1, &|_| {}).expect("verified");
                assert!(report.is_sound() && report.tail.get() > acknowledged, "{report:?}");
            }
        }
    }
}

fn check(seed: u64) {
    let mut random = Random::new(seed);
    let disk = SimStorage::with_seed(seed);
    let log = open(&small(), &disk).expect("a new log");
    let mut writer = Writer { log, random: Random::new(random.next()), all: BTreeMap::new(), head: 0, steps: 0 };
    writer.append();
    writer.log.sync().expect("synced");
    let writer = Arc::new(Mutex::new(writer));
    let beside = Arc::clone(&writer);
    let storage = watched(&disk, move |_| {
        // It is locked while something is compared.
        let Ok(mut writer) = beside.try_lock() else { return };
        if writer.steps > 0 && writer.random.one_in(6) {
            writer.steps -= 1;
            writer.step();
        }
    });
    let view = small().read_only(true).open_on(Arc::clone(&storage)).expect("a view");
    let follower = view.iter().expect("readable");
    let mut reader = Reader { writer: Arc::clone(&writer), storage, view, follower, followed: None };
    for _ in 0..30 {
        if random.one_in(2) {
            writer.lock().expect("no panic").step();
        }
        reader.step(&mut random);
    }
}

#[test]
fn what_a_reader_is_told_beside_a_writer_is_true() {
    for_each_seed(1000, check);
}
