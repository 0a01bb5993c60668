//! A small key-value store: every change is logged first, a checkpoint holds the whole state, what lies before it is
//! truncated, and opening the store replays only what came after.
//!
//! Run with `cargo run --release --example checkpoint`.

use std::collections::BTreeMap;
use std::path::Path;

use libwal::format::Kind;
use libwal::{Options, Wal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Counters by name, in memory, with a log behind them.
struct Store {
    log: Wal,
    counters: BTreeMap<String, i64>,
    /// How many records the opening had to replay.
    replayed: usize,
}

impl Store {
    fn open(dir: &Path) -> Result<Store> {
        let log = Options::new().segment_size(256 << 10).open(dir)?;
        let mut counters = BTreeMap::new();
        let mut replayed = 0;
        let mut records = log.iter_from_checkpoint()?;
        while let Some(record) = records.next_ref()? {
            match record.kind {
                // The checkpoint holds all that came before it.
                Kind::Checkpoint => counters = decode_state(std::str::from_utf8(record.data)?)?,
                _ => {
                    apply(&mut counters, std::str::from_utf8(record.data)?)?;
                    replayed += 1;
                }
            }
        }
        Ok(Store { log, counters, replayed })
    }

    /// Logs the change, then makes it. It is durable after the next sync.
    fn add(&mut self, name: &str, amount: i64) -> Result<()> {
        let change = format!("{name} {amount}");
        self.log.append(change.as_bytes())?;
        apply(&mut self.counters, &change)
    }

    /// Writes the whole state, and drops the log before it.
    fn checkpoint(&self) -> Result<()> {
        let lsn = self.log.checkpoint(encode_state(&self.counters).as_bytes())?;
        let head = self.log.truncate_before(lsn)?;
        println!("checkpoint at LSN {lsn}; the log now begins at LSN {head}");
        Ok(())
    }
}

fn apply(counters: &mut BTreeMap<String, i64>, change: &str) -> Result<()> {
    let (name, amount) = change.split_once(' ').ok_or("a change is a name and an amount")?;
    *counters.entry(name.to_owned()).or_default() += amount.parse::<i64>()?;
    Ok(())
}

fn encode_state(counters: &BTreeMap<String, i64>) -> String {
    counters.iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

fn decode_state(text: &str) -> Result<BTreeMap<String, i64>> {
    let mut counters = BTreeMap::new();
    text.lines().try_for_each(|line| apply(&mut counters, line))?;
    Ok(counters)
}

fn main() -> Result<()> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("store");

    let mut store = Store::open(&dir)?;
    for n in 0..100_000_i64 {
        store.add(&format!("counter-{}", n % 50), n)?;
    }
    store.checkpoint()?;
    // Only whole segments are freed, so the head may lie before the checkpoint, but not by more than one.
    let (head, checkpoint) = (store.log.head()?, store.log.last_checkpoint().ok_or("there is a checkpoint")?);
    assert!(head <= checkpoint && checkpoint.get() - head.get() <= 256 << 10);
    for n in 0..1_000_i64 {
        store.add(&format!("counter-{}", n % 50), 1)?;
    }
    store.log.sync()?;
    let expected = store.counters.clone();
    store.log.close()?;

    let store = Store::open(&dir)?;
    println!("101000 changes were made; opening the store replayed {}", store.replayed);
    assert_eq!(store.replayed, 1_000, "the checkpoint spares the replay of what came before it");
    assert_eq!(store.counters, expected);
    store.log.close()?;
    Ok(())
}
