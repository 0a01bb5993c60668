//! The log of one replica in a Raft-like protocol. Entries have a term and an index; a map leads from indexes to LSNs. A
//! log is never changed in place, so a conflict with the leader is settled by a record that says from which index on
//! everything before it is void. What is acknowledged to the leader is durable, and only that is ever applied.
//!
//! Run with `cargo run --release --example replicated_state_machine`.

use std::path::Path;

use libwal::format::Kind;
use libwal::{Lsn, Options, Wal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const ENTRY: u8 = 1;
const VOID_FROM: u8 = 2;

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    term: u64,
    command: i64,
}

/// What the log remembers of an entry in memory; the command is read from the log when it is needed.
struct Slot {
    term: u64,
    lsn: Lsn,
}

/// The state machine: a sum, and how many commands it contains.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Machine {
    applied: u64,
    sum: i64,
}

struct Replica {
    log: Wal,
    /// The snapshot below which there are no entries: the last index it contains, and that entry's term.
    base: (u64, u64),
    /// Entries with the indexes `base.0 + 1` and up.
    slots: Vec<Slot>,
    machine: Machine,
}

fn numbers<const N: usize>(bytes: &[u8]) -> Result<[u64; N]> {
    if bytes.len() != 8 * N {
        return Err(format!("{} bytes are not {N} numbers", bytes.len()).into());
    }
    Ok(std::array::from_fn(|n| u64::from_le_bytes(bytes[8 * n..8 * n + 8].try_into().expect("8 bytes"))))
}

fn encode<const N: usize>(tag: u8, numbers: [u64; N]) -> Vec<u8> {
    std::iter::once(tag).chain(numbers.into_iter().flat_map(u64::to_le_bytes)).collect()
}

impl Replica {
    /// Rebuilds the map and the machine: the snapshot, then the entries as later records left them.
    fn open(dir: &Path) -> Result<Replica> {
        let log = Options::new().segment_size(64 << 10).open(dir)?;
        let mut replica = Replica { base: (0, 0), slots: Vec::new(), machine: Machine::default(), log: log.clone() };
        let mut records = log.iter_from_checkpoint()?;
        while let Some(record) = records.next_ref()? {
            if record.kind == Kind::Checkpoint {
                let [index, term, sum] = numbers(record.data)?;
                replica.base = (index, term);
                replica.machine = Machine { applied: index, sum: sum as i64 };
                replica.slots.clear();
                continue;
            }
            match record.data.split_first().ok_or("an empty record")? {
                (&ENTRY, body) => {
                    let [term, index, _command] = numbers(body)?;
                    assert_eq!(index, replica.last_index() + 1, "entries follow one another");
                    replica.slots.push(Slot { term, lsn: record.lsn });
                }
                (&VOID_FROM, body) => {
                    let [index] = numbers(body)?;
                    replica.slots.truncate((index - replica.base.0 - 1) as usize);
                }
                (tag, _) => return Err(format!("unknown record {tag}").into()),
            }
        }
        Ok(replica)
    }

    fn last_index(&self) -> u64 {
        self.base.0 + self.slots.len() as u64
    }

    /// The term of the entry at `index`, if this replica has it.
    fn term(&self, index: u64) -> Option<u64> {
        match index.checked_sub(self.base.0)? {
            0 => Some(self.base.1),
            nth => self.slots.get(nth as usize - 1).map(|slot| slot.term),
        }
    }

    /// The leader's call: `entries` follow the entry `(prev_index, prev_term)`. Whether they were taken; if so, they are
    /// durable on return.
    fn append_entries(&mut self, prev_index: u64, prev_term: u64, entries: &[Entry]) -> Result<bool> {
        if self.term(prev_index) != Some(prev_term) {
            return Ok(false);
        }
        // What is here already, from the same term, stays.
        let matches = |nth: usize| self.term(prev_index + 1 + nth as u64) == Some(entries[nth].term);
        let known = (0..entries.len()).take_while(|&nth| matches(nth)).count();
        let (first, new) = (prev_index + 1 + known as u64, &entries[known..]);
        if new.is_empty() {
            return Ok(true);
        }
        let mut records = Vec::new();
        let conflict = first <= self.last_index();
        if conflict {
            assert!(first > self.machine.applied, "what was committed is never replaced");
            records.push(encode(VOID_FROM, [first]));
        }
        for (index, entry) in (first..).zip(new) {
            records.push(encode(ENTRY, [entry.term, index, entry.command as u64]));
        }
        // One batch: a crash leaves either the old entries or all of the new ones.
        let lsns = self.log.append_batch(&records)?;
        self.log.sync_to(*lsns.last().ok_or("the batch is not empty")?)?;
        self.slots.truncate((first - self.base.0 - 1) as usize);
        let lsns = lsns.into_iter().skip(usize::from(conflict));
        self.slots.extend(new.iter().zip(lsns).map(|(entry, lsn)| Slot { term: entry.term, lsn }));
        Ok(true)
    }

    /// Applies everything up to `commit`. The leader commits only what a majority acknowledged, so it is durable here.
    fn apply(&mut self, commit: u64) -> Result<()> {
        while self.machine.applied < commit.min(self.last_index()) {
            let slot = &self.slots[(self.machine.applied - self.base.0) as usize];
            assert!(slot.lsn < self.log.durable_lsn(), "only durable entries are applied");
            let record = self.log.read(slot.lsn)?;
            let [_, index, command] = numbers(&record.data[1..])?;
            assert_eq!(index, self.machine.applied + 1);
            self.machine = Machine { applied: index, sum: self.machine.sum + command as i64 };
        }
        Ok(())
    }

    /// Writes the machine's state as a checkpoint, logs again what it does not contain, and drops the log before it.
    fn snapshot(&mut self) -> Result<()> {
        let applied = self.machine.applied;
        let term = self.term(applied).ok_or("an applied entry has a term")?;
        let above = self.slots.split_off((applied - self.base.0) as usize);
        let above = above.iter().map(|slot| self.log.read(slot.lsn)).collect::<libwal::Result<Vec<_>>>()?;
        let state = &encode(0, [applied, term, self.machine.sum as u64])[1..];
        let lsn = self.log.checkpoint(state)?;
        self.base = (applied, term);
        self.slots.clear();
        // Entries that were acknowledged and not yet applied belong behind the checkpoint now. The log is truncated only
        // once they are durable there.
        for record in above {
            let [term, ..] = numbers::<3>(&record.data[1..])?;
            self.slots.push(Slot { term, lsn: self.log.append(&record.data)? });
        }
        self.log.sync()?;
        self.log.truncate_before(lsn)?;
        Ok(())
    }
}

fn entries(term: u64, commands: std::ops::Range<i64>) -> Vec<Entry> {
    commands.map(|command| Entry { term, command }).collect()
}

fn main() -> Result<()> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("replica");
    let mut replica = Replica::open(&dir)?;

    // The leader of term 1 sends 1000 entries and commits 600 of them.
    for from in (0..1_000).step_by(100) {
        assert!(replica.append_entries(from as u64, u64::from(from > 0), &entries(1, from..from + 100))?);
    }
    replica.apply(600)?;
    assert_eq!(replica.machine, Machine { applied: 600, sum: (0..600).sum() });
    // A gap, and an entry of a term that this replica does not have there, are refused.
    assert!(!replica.append_entries(1_001, 1, &entries(1, 0..1))?);
    assert!(!replica.append_entries(900, 2, &entries(2, 0..1))?);

    // The leader of term 2 never saw what follows entry 700.
    assert!(replica.append_entries(700, 1, &entries(2, 5_000..5_050))?);
    println!("after the conflict the last index is {}", replica.last_index());
    assert_eq!((replica.last_index(), replica.term(700), replica.term(701)), (750, Some(1), Some(2)));
    replica.log.close()?;

    // A restart knows the entries; which of them are committed, the leader says.
    let mut replica = Replica::open(&dir)?;
    assert_eq!((replica.last_index(), replica.term(750)), (750, Some(2)));
    replica.apply(740)?;
    let expected = Machine { applied: 740, sum: (0..700).sum::<i64>() + (5_000..5_040).sum::<i64>() };
    assert_eq!(replica.machine, expected);
    replica.snapshot()?;
    replica.log.close()?;

    let mut replica = Replica::open(&dir)?;
    println!("after the snapshot a restart reads {} entries and the sum {}", replica.slots.len(), replica.machine.sum);
    assert_eq!((replica.machine, replica.slots.len(), replica.last_index()), (expected, 10, 750));
    replica.apply(750)?;
    assert_eq!(replica.machine.sum, (0..700).sum::<i64>() + (5_000..5_050).sum::<i64>());
    replica.log.close()?;
    Ok(())
}
