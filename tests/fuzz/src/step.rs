//! What is done to the files of a log: damage, and forgery. Forged bytes carry a checksum that fits, so they get behind the
//! checks that stop everything else.

use arbitrary::{Arbitrary, Result, Unstructured};
use libwal::format::{CONTROL_SLOT_OFFSETS, Control, Durability, Entry, Identity, Kind, SECTOR, Seal, encode_word};

use crate::Files;
use crate::base::{ID, segment_name};

/// One change of one file.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Step {
    pub op: u8,
    /// Which file, by its place in the directory.
    pub file: u8,
    pub at: u16,
    pub len: u16,
    pub value: u32,
    pub other: u16,
}

/// How many bytes of input a step takes.
pub const STEP: usize = 12;

/// How many operations there are.
pub const OPS: u8 = 17;

/// The first of those that forge.
pub const FORGING: u8 = 12;

const MOST_STEPS: usize = 12;

/// A directory that has been tampered with.
pub struct Case {
    pub base: u8,
    pub files: Files,
    /// Whether some bytes were given a checksum that fits. Then the log may hold what was never appended.
    pub forged: bool,
    /// Whether the directory holds files that the log did not write.
    pub foreign: bool,
    /// The steps, for those who look at an input.
    pub steps: Vec<Step>,
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Case> {
        let base = input.arbitrary::<u8>()? % crate::base::COUNT;
        let files = crate::base::base(base).files.clone();
        let mut case = Case { base, files, forged: false, foreign: false, steps: Vec::new() };
        while case.steps.len() < MOST_STEPS && input.len() >= STEP {
            let step: Step = input.arbitrary()?;
            case.apply(step, input)?;
            case.steps.push(step);
        }
        Ok(case)
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lengths: Vec<_> = self.files.iter().map(|(name, bytes)| (name, bytes.len())).collect();
        write!(out, "base {}, forged {}, steps {:#?}\nfiles {lengths:?}", self.base, self.forged, self.steps)
    }
}

impl Case {
    fn apply(&mut self, step: Step, input: &mut Unstructured<'_>) -> Result<()> {
        let op = step.op % OPS;
        let raw = if op == 10 || op == 11 { input.bytes(input.len().min(usize::from(step.len) % 600))? } else { &[] };
        let Some(name) = self.name(step.file) else {
            if op == 11 {
                self.new_file(step, raw);
            }
            return Ok(());
        };
        let bytes = self.files.get_mut(&name).expect("a file");
        let from = usize::from(step.at).min(bytes.len());
        let to = (from + 1 + usize::from(step.len) % 5000).min(bytes.len());
        match op {
            0 if from < bytes.len() => bytes[from] ^= 1 << (step.value % 8),
            1 => bytes[from..to].fill(step.value as u8),
            2 => bytes[from..to].fill(0),
            3 => noise(&mut bytes[from..to], step.value),
            4 => bytes.truncate(from),
            5 => bytes.resize(bytes.len() + usize::from(step.len) % 5000, step.value as u8),
            6 => drop(self.files.remove(&name)),
            7 => self.copy(&name, step, 0..usize::MAX),
            8 => self.copy(&name, step, from / SECTOR * SECTOR..to.next_multiple_of(SECTOR)),
            9 => self.rename(&name, step),
            10 => {
                let to = (from + raw.len()).min(bytes.len());
                bytes[from..to].copy_from_slice(&raw[..to - from]);
            }
            11 => self.new_file(step, raw),
            FORGING.. => {
                self.forged = true;
                forge(op, &name, bytes, step);
            }
            _ => {}
        }
        Ok(())
    }

    fn name(&self, nth: u8) -> Option<String> {
        self.files.keys().nth(usize::from(nth) % self.files.len().max(1)).cloned()
    }

    /// Bytes of another file of the log, at the same place.
    fn copy(&mut self, name: &str, step: Step, range: std::ops::Range<usize>) {
        let source = self.name(step.other as u8).map(|name| self.files[&name].clone()).unwrap_or_default();
        let bytes = self.files.get_mut(name).expect("a file");
        if range.end == usize::MAX {
            *bytes = source;
            return;
        }
        let to = range.end.min(bytes.len()).min(source.len());
        let from = range.start.min(to);
        bytes[from..to].copy_from_slice(&source[from..to]);
    }

    fn rename(&mut self, name: &str, step: Step) {
        let bytes = self.files.remove(name).expect("a file");
        self.files.insert(file_name(step), bytes);
        self.foreign = true;
    }

    fn new_file(&mut self, step: Step, raw: &[u8]) {
        let mut bytes = raw.to_vec();
        bytes.resize(raw.len() + usize::from(step.at) % 9000, 0);
        self.files.insert(file_name(step), bytes);
        self.foreign = true;
    }
}

fn file_name(step: Step) -> String {
    let number = index(step.value);
    match step.other % 6 {
        0 | 1 => segment_name(number),
        2 => format!("{number:020}.spare"),
        3 => format!("{number:020}.new"),
        4 => "LOCK".to_owned(),
        _ => format!("file-{number}"),
    }
}

/// Numbers at which things break: small ones, powers of two, and those close to the largest.
fn number(value: u32) -> u64 {
    let rest = u64::from(value >> 3);
    match value % 8 {
        0 | 1 => rest,
        2 => rest * 8,
        3 => rest << 12,
        4 => 1 << (rest % 64),
        5 => (1 << (rest % 64)) - 1,
        6 => u64::MAX - rest % 64,
        _ => (1 << 58) - 64 + (rest % 128),
    }
}

/// The index of a segment: close, or further away than is believed. Between the two a repair makes each segment that is
/// missing, which takes too long here.
fn index(value: u32) -> u64 {
    let number = number(value);
    if (64..1 << 18).contains(&number) { number % 64 } else { number }
}

fn noise(bytes: &mut [u8], seed: u32) {
    let mut state = seed | 1;
    for byte in bytes {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *byte = state as u8;
    }
}

fn forge(op: u8, name: &str, bytes: &mut [u8], step: Step) {
    let number = number(step.value);
    let index = name.strip_suffix(".wal").and_then(|digits| digits.parse::<u64>().ok());
    match (op, index) {
        (12, None) => forge_control(bytes, step, number),
        (12 | 13, Some(index)) => forge_entry(bytes, index, step, number),
        (14, _) => forge_identity(bytes, step, number),
        (15, Some(index)) => forge_record(bytes, index, step),
        (16, Some(index)) => forge_marker(bytes, index, step, number),
        _ => {}
    }
}

fn forge_control(bytes: &mut [u8], step: Step, number: u64) {
    let at = CONTROL_SLOT_OFFSETS[usize::from(step.other % 2)] as usize;
    let Some(sector) = bytes.get_mut(at..at + SECTOR) else { return };
    let Ok(mut control) = Control::parse(sector) else { return };
    let optional = Some(number).filter(|_| step.len % 3 != 0);
    match step.at % 10 {
        0 => control.sequence = number,
        1 => control.shift = number as u32,
        2 => control.first_lsn = number,
        3 => control.head = index(step.value),
        4 => control.end = index(step.value),
        5 => control.durable = number,
        6 if step.len % 16 == 15 => control.repairing = !control.repairing,
        6 => control.checkpoint = optional,
        7 => control.clean_end = optional,
        8 => control.epoch = number as u32,
        _ => (control.head, control.end) = (index(step.value).saturating_sub(1), index(step.value)),
    }
    sector.copy_from_slice(&control.to_bytes());
}

fn forge_entry(bytes: &mut [u8], index: u64, step: Step, number: u64) {
    let Some(sector) = bytes.get_mut(SECTOR..2 * SECTOR) else { return };
    let empty = Entry { first_record: index << 12, durable: 0, checkpoint: None, epoch: 0 };
    let mut entry = Entry::parse(sector, ID, index).ok().flatten().unwrap_or(empty);
    match step.at % 4 {
        0 => entry.first_record = number,
        1 => entry.durable = number,
        2 => entry.checkpoint = Some(number),
        _ => entry.epoch = number as u32,
    }
    sector.copy_from_slice(&entry.to_bytes(ID, index));
}

fn forge_identity(bytes: &mut [u8], step: Step, number: u64) {
    let Some(sector) = bytes.get_mut(..SECTOR) else { return };
    let mut identity = Identity::parse(sector).unwrap_or(Identity { id: ID, index: 0, shift: 12 });
    match step.at % 3 {
        0 => identity.index = number,
        1 => identity.shift = number as u32,
        _ => identity.id = libwal::format::LogId::from_bytes([step.value as u8; 16]),
    }
    sector.copy_from_slice(&identity.to_bytes());
}

/// A record of any kind and length over what is there, as far as the file reaches.
fn forge_record(bytes: &mut [u8], index: u64, step: Step) {
    let at = 4096 + usize::from(step.at) % 4096 / 8 * 8;
    let kind = Kind::from_u8((step.value % 7) as u8 + 1).expect("a kind");
    let len = usize::from(step.len) % 5000;
    let lsn = index.wrapping_shl(12).wrapping_add(at as u64 - 4096);
    let padded = (len + 8).next_multiple_of(8);
    if let Some(record) = bytes.get_mut(at..at + padded) {
        record[8 + len..].fill(0);
        let word = encode_word(Seal::new(ID, u32::from(step.other % 4)), lsn, kind, &record[8..8 + len]);
        record[..8].copy_from_slice(&word);
    }
}

fn forge_marker(bytes: &mut [u8], index: u64, step: Step, number: u64) {
    let at = 4096 + usize::from(step.at) % 4096 / 8 * 8;
    let lsn = index.wrapping_shl(12).wrapping_add(at as u64 - 4096);
    let kind = if step.len % 2 == 0 { Kind::Commit } else { Kind::Epoch };
    let marker = Durability {
        durable: number,
        checkpoint: Some(number).filter(|_| step.len & 2 == 0),
        epoch: u32::from(step.other % 8).wrapping_sub(u32::from(step.len & 8 != 0)),
        clean_close: step.len & 4 != 0,
    };
    let record = marker.to_record(ID, lsn, kind);
    if let Some(place) = bytes.get_mut(at..at + record.len()) {
        place.copy_from_slice(&record);
    }
}
