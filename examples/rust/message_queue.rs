//! A durable queue: producers append messages, consumers log how far they have come, and after a restart each is given
//! again what it had not acknowledged. The log is truncated behind the slowest consumer.
//!
//! Run with `cargo run --release --example message_queue`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use libwal::{Iter, Lsn, Options, Wal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MESSAGE: u8 = b'm';
const ACK: u8 = b'a';
const CONSUMERS: [u8; 2] = [0, 1];

struct Queue {
    log: Wal,
    /// For each consumer, the last message that it acknowledged.
    acked: Mutex<BTreeMap<u8, Lsn>>,
}

impl Queue {
    fn open(dir: &Path) -> Result<Queue> {
        let log = Options::new().segment_size(16 << 10).open(dir)?;
        let mut acked = BTreeMap::new();
        let mut records = log.iter()?;
        while let Some(record) = records.next_ref()? {
            if let Some((&ACK, [consumer, lsn @ ..])) = record.data.split_first() {
                acked.insert(*consumer, Lsn::new(u64::from_le_bytes(lsn.try_into()?)));
            }
        }
        Ok(Queue { log, acked: Mutex::new(acked) })
    }

    /// Puts a message into the queue; it is durable on return.
    fn put(&self, message: &[u8]) -> Result<Lsn> {
        Ok(self.log.append_and_sync(&[&[MESSAGE], message].concat())?)
    }

    /// The messages that `consumer` has not acknowledged yet, in order.
    fn consume(&self, consumer: u8) -> Result<Messages> {
        let acked = self.acked.lock().expect("no panic").get(&consumer).copied();
        let records = match acked {
            Some(lsn) => self.log.iter_from(lsn)?,
            None => self.log.iter()?,
        };
        Ok(Messages { records, after: acked })
    }

    /// Notes that `consumer` is done with every message up to the one at `lsn`. Not synced at once: if a crash loses it,
    /// some messages are delivered once more, and that is what at least once means.
    fn acknowledge(&self, consumer: u8, lsn: Lsn) -> Result<()> {
        let mut acked = self.acked.lock().expect("no panic");
        self.log.append(&[&[ACK, consumer], &lsn.get().to_le_bytes()[..]].concat())?;
        acked.insert(consumer, lsn);
        Ok(())
    }

    /// Drops what every consumer has acknowledged. An acknowledgement stands behind the message it names, so the last one
    /// of each consumer is never dropped.
    fn trim(&self) -> Result<Lsn> {
        self.log.sync()?;
        let acked = self.acked.lock().expect("no panic");
        match CONSUMERS.iter().map(|consumer| acked.get(consumer).copied()).min().flatten() {
            Some(slowest) => Ok(self.log.truncate_before(slowest)?),
            None => Ok(self.log.head()?),
        }
    }
}

/// What one consumer has yet to see.
struct Messages {
    records: Iter,
    after: Option<Lsn>,
}

impl Messages {
    fn next(&mut self) -> Result<Option<(Lsn, u64)>> {
        while let Some(record) = self.records.next_ref()? {
            if let Some((&MESSAGE, body)) = record.data.split_first() {
                if self.after.is_none_or(|after| record.lsn > after) {
                    return Ok(Some((record.lsn, u64::from_le_bytes(body.try_into()?))));
                }
            }
        }
        Ok(None)
    }
}

/// Consumes `count` messages and acknowledges all of them but the last `unacknowledged`. Returns what was seen.
fn work(queue: &Queue, consumer: u8, count: usize, unacknowledged: usize) -> Result<Vec<u64>> {
    let mut seen = Vec::new();
    let mut messages = queue.consume(consumer)?;
    while seen.len() < count {
        let Some((lsn, message)) = messages.next()? else { break };
        seen.push(message);
        if seen.len() + unacknowledged <= count {
            queue.acknowledge(consumer, lsn)?;
        }
    }
    Ok(seen)
}

fn main() -> Result<()> {
    const PRODUCERS: u64 = 4;
    const EACH: u64 = 500;
    const ALL: usize = (PRODUCERS * EACH) as usize;
    let home = tempfile::tempdir()?;
    let dir = home.path().join("queue");

    let queue = Queue::open(&dir)?;
    std::thread::scope(|scope| -> Result<()> {
        let produce =
            |producer: u64| (0..EACH).try_for_each(|n| queue.put(&(producer * EACH + n).to_le_bytes()).map(drop));
        let producers: Vec<_> = (0..PRODUCERS).map(|producer| scope.spawn(move || produce(producer))).collect();
        producers.into_iter().try_for_each(|producer| producer.join().expect("no panic"))
    })?;
    println!("{ALL} messages are durable, {:.1} to a sync", queue.log.stats()?.records_per_sync());

    // One consumer is quick, the other one slow; the quick one stops without acknowledging its last ten messages.
    let fast = work(&queue, 0, 1_500, 10)?;
    let slow = work(&queue, 1, 1_000, 0)?;
    assert_eq!(fast[..1_000], slow, "all consumers see the same order");
    let head = queue.trim()?;
    assert!(head > Lsn::ZERO && head <= queue.acked.lock().expect("no panic")[&1]);
    println!("the queue is trimmed up to LSN {head}, behind the slower consumer");
    queue.log.close()?;

    let queue = Queue::open(&dir)?;
    let again = work(&queue, 0, ALL, 0)?;
    assert_eq!(again[..10], fast[1_490..], "what was not acknowledged comes again");
    assert_eq!(fast.len() + again.len(), ALL + 10);
    let rest = work(&queue, 1, ALL, 0)?;
    assert_eq!(rest[..], [&fast[1_000..1_490], &again].concat()[..]);
    let mut all = [slow, rest].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..ALL as u64), "each message was delivered, to this consumer exactly once");
    println!("after the restart 10 messages were delivered once more, and none is missing");
    queue.log.close()?;
    Ok(())
}
