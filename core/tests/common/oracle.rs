//! The oracle: knows what was appended and what was promised, and judges what a recovery found.
//!
//! Payloads are not kept: they are derived from the oracle's seed and a counter, and say so in their first 16 bytes.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use libwal::format::{Kind, MARKER_RECORD_SIZE};
use libwal::{Lsn, Record, Wal};

use super::random::{Random, mix};

/// Counters are made of a writer's number and a count of its own, so that writers need not agree on them.
pub(crate) const WRITER_SHIFT: u32 = 40;

/// Whether the death of a process leaves its buffer behind, here and of the logs of these tests.
const BUFFER_OUTLIVES: bool = cfg!(all(target_os = "linux", not(any(loom, miri))));

/// A record that was appended, or that an append which failed may have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) counter: u64,
    pub(crate) len: usize,
    pub(crate) kind: Kind,
}

/// What took place between the promises and the recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survived {
    /// The power went: what was acknowledged as durable is left for certain.
    Crash,
    /// The process died: what was flushed is left for certain, and what was appended unless there is a hole in front of it.
    Kill,
}

#[derive(Clone, Default)]
struct State {
    records: BTreeMap<u64, Appended>,
    /// What appends that failed half-way may have left, somewhere.
    maybe: Vec<Appended>,
    /// Every record below was acknowledged as durable.
    durable: u64,
    /// Every record below was flushed.
    flushed: u64,
    /// Truncation certainly reached here, and may have reached there.
    head: u64,
    may_head: u64,
    checkpoint: Option<u64>,
    /// Whether appends may have succeeded of which nobody heard: their process died.
    unheard: bool,
    /// How far each writer is known to have counted.
    counted: BTreeMap<u64, u64>,
}

/// See the module. Shared by all threads of a test.
pub(crate) struct Oracle {
    seed: u64,
    state: Mutex<State>,
}

/// What a recovered log holds, once it was judged: it becomes the truth with [`Oracle::adopt`].
pub(crate) struct Found {
    records: BTreeMap<u64, Appended>,
    head: u64,
    checkpoint: Option<u64>,
}

impl Found {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }
}

impl Oracle {
    pub(crate) fn new(seed: u64) -> Oracle {
        Oracle { seed, state: Mutex::default() }
    }

    /// A copy with a history of its own, for one of several crashes of the same log.
    pub(crate) fn fork(&self) -> Oracle {
        Oracle { seed: self.seed, state: Mutex::new(self.state().clone()) }
    }

    /// Lets records be there that nobody reported, if they describe themselves: 16 bytes or more, in order.
    pub(crate) fn expect_unheard(&self) {
        self.state().unheard = true;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn payload(&self, counter: u64, len: usize) -> Vec<u8> {
        payload(self.seed, counter, len)
    }

    pub(crate) fn appended(&self, lsn: Lsn, counter: u64, len: usize, kind: Kind) {
        let mut state = self.state();
        count(&mut state.counted, counter);
        let before = state.records.insert(lsn.get(), Appended { counter, len, kind });
        assert_eq!(before, None, "LSN {lsn} was given twice");
    }

    /// A batch: its members' LSNs, and their counters and lengths.
    pub(crate) fn appended_batch(&self, lsns: &[Lsn], members: &[(u64, usize)]) {
        assert_eq!(lsns.len(), members.len(), "one LSN for each record");
        for (nth, (&lsn, &(counter, len))) in lsns.iter().zip(members).enumerate() {
            self.appended(lsn, counter, len, kind_in_batch(nth, members.len()));
        }
    }

    /// An append failed in a way that leaves open whether its record is in the log.
    pub(crate) fn append_failed(&self, members: &[(u64, usize)], kind: Option<Kind>) {
        let member = |(nth, &(counter, len)): (usize, &(u64, usize))| Appended {
            counter,
            len,
            kind: kind.unwrap_or(kind_in_batch(nth, members.len())),
        };
        self.state().maybe.extend(members.iter().enumerate().map(member));
    }

    /// Every record that begins below `position` was acknowledged as durable.
    pub(crate) fn durable_to(&self, position: u64) {
        let mut state = self.state();
        state.durable = state.durable.max(position);
        state.flushed = state.flushed.max(position);
    }

    /// Every record that begins below `position` was flushed.
    pub(crate) fn flushed_to(&self, position: u64) {
        let mut state = self.state();
        state.flushed = state.flushed.max(position);
    }

    pub(crate) fn checkpointed(&self, lsn: Lsn) {
        let mut state = self.state();
        state.checkpoint = state.checkpoint.max(Some(lsn.get()));
    }

    /// Records below `position` may go from now on.
    pub(crate) fn truncating(&self, position: u64) {
        let mut state = self.state();
        state.may_head = state.may_head.max(position);
    }

    /// Truncation returned this new head.
    pub(crate) fn truncated(&self, head: Lsn) {
        let mut state = self.state();
        assert!(head.get() <= state.may_head.max(state.head), "head {head} is beyond what was to be truncated");
        state.head = state.head.max(head.get());
    }

    pub(crate) fn durable(&self) -> u64 {
        self.state().durable
    }

    /// LSNs that can be read, for certain.
    pub(crate) fn readable(&self) -> Vec<u64> {
        let state = self.state();
        state.records.range(state.may_head..).map(|(&lsn, _)| lsn).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.state().records.len()
    }

    /// Judges one record that was read on its own.
    pub(crate) fn judge(&self, record: &Record) -> Result<(), String> {
        let expected = self.state().records.get(&record.lsn.get()).copied();
        self.same(record, expected.ok_or_else(|| format!("LSN {} was never given", record.lsn))?)
    }

    /// Judges a log that is being written: what was appended before must all be there. `wal` may hold more only
    /// if other threads append.
    pub(crate) fn check_live(&self, wal: &Wal) -> Result<(), String> {
        let live = self.fork();
        let all = live.state().records.last_key_value().map_or(0, |(&lsn, _)| lsn + 1);
        live.flushed_to(all);
        live.check(wal, Survived::Kill).map(drop)
    }

    /// Judges a recovered log: every promised record is there byte for byte, nothing stands behind a hole, nothing was
    /// made up, and batches are whole.
    pub(crate) fn check(&self, wal: &Wal, survived: Survived) -> Result<Found, String> {
        let found = read_all(wal)?;
        let head = wal.head().map_err(|error| format!("head: {error}"))?.get();
        let state = self.state();
        if head < state.head {
            return Err(format!("the head went back from {} to {head}", state.head));
        }
        let promised = if survived == Survived::Kill { state.flushed } else { state.durable };
        let mut expected = state.records.range(head..).peekable();
        if let Some((lsn, lost)) =
            state.records.range(state.may_head.min(head)..head).find(|(lsn, _)| **lsn >= state.may_head)
        {
            return Err(format!("the record at {lsn} was truncated and should not have been: {lost:?}, head {head}"));
        }
        let mut maybe = state.maybe.clone();
        let mut counted = state.counted.clone();
        let mut records = BTreeMap::new();
        for record in &found {
            let lsn = record.lsn.get();
            let known = match expected.next_if(|(expected, _)| **expected == lsn) {
                Some((_, &known)) => known,
                None => self.unknown(record, &mut maybe, &mut counted, state.unheard).ok_or_else(|| {
                    format!("a record at {lsn} that does not belong there; expected {:?}", expected.peek())
                })?,
            };
            self.same(record, known)?;
            records.insert(lsn, known);
        }
        if let Some((&lsn, lost)) = expected.next() {
            if lsn < promised {
                return Err(format!("the record at {lsn} is missing, promised up to {promised}: {lost:?}"));
            }
            if survived == Survived::Kill && BUFFER_OUTLIVES && Some(lsn) == cut_at(wal)? {
                return Err(format!("the log was cut at {lsn}, where a record had been appended: {lost:?}"));
            }
        }
        let checkpoint = check_checkpoint(wal, head, state.checkpoint, &records)?;
        Ok(Found { records, head, checkpoint })
    }

    /// What was found is durable from now on, and nothing else ever was.
    pub(crate) fn adopt(&self, found: &Found, durable: Lsn) {
        let mut state = self.state();
        let counted = state.counted.clone();
        *state = State {
            records: found.records.clone(),
            maybe: Vec::new(),
            durable: durable.get(),
            flushed: durable.get(),
            head: found.head,
            may_head: found.head.max(state.head),
            checkpoint: found.checkpoint,
            unheard: state.unheard,
            counted,
        };
        for known in found.records.values() {
            count(&mut state.counted, known.counter);
        }
    }

    fn same(&self, record: &Record, known: Appended) -> Result<(), String> {
        let lsn = record.lsn;
        if record.kind != known.kind || record.data.len() != known.len {
            return Err(format!("{lsn} holds {:?}, {} bytes, not {known:?}", record.kind, record.data.len()));
        }
        if record.data != self.payload(known.counter, known.len) {
            return Err(format!("{lsn} holds other bytes than {known:?}"));
        }
        Ok(())
    }

    /// A record that no append reported: one whose append failed, or was not heard of.
    fn unknown(
        &self,
        record: &Record,
        maybe: &mut Vec<Appended>,
        counted: &mut BTreeMap<u64, u64>,
        unheard: bool,
    ) -> Option<Appended> {
        if let Some(nth) = maybe.iter().position(|&maybe| self.same(record, maybe).is_ok()) {
            return Some(maybe.remove(nth));
        }
        let counter = u64::from_le_bytes(record.data.get(..8)?.try_into().ok()?);
        let next = counted.get(&(counter >> WRITER_SHIFT)).is_none_or(|&last| counter > last);
        (unheard && record.data.len() >= 16 && next).then(|| {
            count(counted, counter);
            Appended { counter, len: record.data.len(), kind: record.kind }
        })
    }
}

fn count(counted: &mut BTreeMap<u64, u64>, counter: u64) {
    let last = counted.entry(counter >> WRITER_SHIFT).or_insert(counter);
    *last = counter.max(*last);
}

pub(crate) fn kind_in_batch(nth: usize, len: usize) -> Kind {
    match (len, nth + 1 == len) {
        (1, _) => Kind::Data,
        (_, true) => Kind::BatchEnd,
        (_, false) => Kind::Batch,
    }
}

/// Where the recovery that opened `wal` has cut it, if nothing was appended since.
fn cut_at(wal: &Wal) -> Result<Option<u64>, String> {
    let stats = wal.stats().map_err(|error| format!("stats: {error}"))?;
    Ok(stats.reserved.get().checked_sub(MARKER_RECORD_SIZE).filter(|_| stats.durable == stats.reserved))
}

/// All records, read twice in two ways, with the order of LSNs and the wholeness of batches checked.
fn read_all(wal: &Wal) -> Result<Vec<Record>, String> {
    let iter = wal.iter().map_err(|error| format!("iter: {error}"))?;
    let found = iter.collect::<libwal::Result<Vec<Record>>>().map_err(|error| format!("iter: {error}"))?;
    if let Some(pair) = found.windows(2).find(|pair| pair[0].lsn >= pair[1].lsn) {
        return Err(format!("LSNs {} and {} in this order", pair[0].lsn, pair[1].lsn));
    }
    let inside = |record: &Record| record.kind == Kind::Batch;
    for pair in found.windows(2).filter(|pair| inside(&pair[0])) {
        if !matches!(pair[1].kind, Kind::Batch | Kind::BatchEnd) {
            return Err(format!("the batch at {} is followed by {:?}", pair[0].lsn, pair[1].kind));
        }
    }
    if found.last().is_some_and(inside) {
        return Err("half a batch at the end".to_owned());
    }
    // Seeking takes another way than walking on; a few records suffice.
    for record in found.iter().step_by(1 + found.len() / 8).chain(found.last()) {
        match wal.read(record.lsn) {
            Ok(read) if read == *record => {}
            other => return Err(format!("reading {} gave {other:?}", record.lsn)),
        }
    }
    Ok(found)
}

fn check_checkpoint(
    wal: &Wal,
    head: u64,
    promised: Option<u64>,
    records: &BTreeMap<u64, Appended>,
) -> Result<Option<u64>, String> {
    let last = wal.last_checkpoint().map(Lsn::get);
    let promised = promised.filter(|&lsn| lsn >= head);
    if last < promised {
        return Err(format!("the checkpoint is {last:?}, promised {promised:?}"));
    }
    let Some(lsn) = last else { return Ok(None) };
    if records.get(&lsn).is_none_or(|record| record.kind != Kind::Checkpoint) {
        return Err(format!("the checkpoint {lsn} is no checkpoint record"));
    }
    let first = wal.iter_from_checkpoint().map_err(|error| format!("from checkpoint: {error}"))?.next();
    match first {
        Some(Ok(record)) if record.lsn.get() == lsn => Ok(last),
        other => Err(format!("from the checkpoint at {lsn}: {other:?}")),
    }
}

/// Bytes to fill payloads with, from a place that each draws. Drawing each byte took a quarter of the simulations.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(1);
    (0..1 << if cfg!(miri) { 7 } else { 13 }).flat_map(|_| random.next().to_le_bytes()).collect()
});

/// The payload with this counter: it describes itself if it has the room, and is sometimes one that looks like nothing.
pub(crate) fn payload(seed: u64, counter: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(mix(seed ^ counter.rotate_left(17)) ^ len as u64);
    let mut bytes = Vec::with_capacity(len + 16);
    bytes.extend_from_slice(&counter.to_le_bytes());
    bytes.extend_from_slice(&random.next().to_le_bytes());
    let fill = random.below(8);
    let mut from = random.below(NOISE.len() as u64) as usize;
    while bytes.len() < len {
        match fill {
            0 => bytes.resize(len, 0),
            1 => bytes.resize(len, 0xFF),
            _ => bytes.extend_from_slice(&NOISE[from..NOISE.len().min(from + len - bytes.len())]),
        }
        from = 0;
    }
    bytes.truncate(len);
    bytes
}
