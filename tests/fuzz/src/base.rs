//! Logs to begin from: each written by the library itself, with a fixed id, so that an input means the same in every run.

use std::sync::LazyLock;

use libwal::format::{
    CONTROL_SIZE, CONTROL_SLOT_OFFSETS, Control, Durability, Entry, HEADER_SIZE, LogId, MARKER_RECORD_SIZE, SECTOR,
};
use libwal::storage::SimStorage;
use libwal::{Lsn, Options, Record, Wal};

use crate::{Files, files_of, open, options};

/// The id of every base.
pub const ID: LogId = LogId::from_bytes(*b"a fixed identity");

/// A log before anything happened to it.
pub struct Base {
    pub files: Files,
    /// What it holds, in order, and in front of it what was truncated: a spare that is renamed back brings that to light.
    pub held: Vec<Record>,
    /// What its files say of how far it is durable.
    pub claims: Vec<Claim>,
    pub head: u64,
    pub shift: u32,
}

/// Bytes of a file from which follows that everything below `durable` was acknowledged. While they stand where they were
/// written, a log that opens without an error must hold all of it.
pub struct Claim {
    pub file: String,
    pub at: usize,
    pub len: usize,
    pub durable: u64,
    /// The segment whose identity must be whole for the claim to be looked at; `None` for a control slot.
    pub segment: Option<u64>,
}

/// The base that the first byte of an input chooses.
#[must_use]
pub fn base(choice: u8) -> &'static Base {
    static BASES: LazyLock<Vec<Base>> =
        LazyLock::new(|| vec![nothing(), closed(), killed(), recovered(), truncated(), power_cut(), spanning()]);
    &BASES[usize::from(choice) % BASES.len()]
}

/// How many bases there are.
pub const COUNT: u8 = 7;

/// The name of the file of segment `index`.
#[must_use]
pub fn segment_name(index: u64) -> String {
    format!("{index:020}.wal")
}

/// A new log with the id [`ID`]: it begins as a creation that was cut off behind its first control slot.
fn create(options: &Options, first_lsn: u64, shift: u32) -> (SimStorage, Wal) {
    let head = first_lsn >> shift;
    let control = Control {
        sequence: 1,
        id: ID,
        shift,
        first_lsn,
        head,
        end: head,
        durable: first_lsn,
        checkpoint: None,
        clean_end: None,
        epoch: 0,
        repairing: false,
    };
    let mut lock = vec![0; CONTROL_SIZE as usize];
    lock[CONTROL_SLOT_OFFSETS[1] as usize..][..SECTOR].copy_from_slice(&control.to_bytes());
    let disk = SimStorage::new();
    disk.write_file("LOCK", &lock);
    let wal = open(options, &disk).expect("a creation that was cut off goes on");
    (disk, wal)
}

/// Bytes that differ from record to record and look like no header word.
fn payload(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (n * 31 + at * 7) as u8 | 0x80).collect()
}

/// Records of mixed length, batches, checkpoints, and a sync now and then.
fn fill(wal: &Wal, from: usize, count: usize) -> Vec<Lsn> {
    let mut lsns = Vec::new();
    for n in from..from + count {
        let len = [0, 5, 64, 200, 700][n % 5];
        match n % 9 {
            4 => lsns.extend(wal.append_batch(&[payload(n, 30), payload(n, 0), payload(n, len)]).expect("appended")),
            7 => lsns.push(wal.checkpoint(&payload(n, 40)).expect("appended")),
            _ => lsns.push(wal.append(&payload(n, len)).expect("appended")),
        }
        if n % 6 == 5 {
            wal.sync().expect("synced");
        }
    }
    lsns
}

fn nothing() -> Base {
    Base { files: Files::new(), held: Vec::new(), claims: Vec::new(), head: 0, shift: 12 }
}

fn closed() -> Base {
    let (disk, wal) = create(&options(), 0, 12);
    fill(&wal, 0, 40);
    wal.close().expect("closed");
    finish(&disk)
}

/// Killed with a tail that was flushed and not synced.
fn killed() -> Base {
    let (disk, wal) = create(&options(), 3 * 4096 + 808, 12);
    fill(&wal, 0, 30);
    wal.sync().expect("synced");
    fill(&wal, 30, 3);
    wal.flush().expect("flushed");
    finish(&disk.kill())
}

/// Three epochs, the last one with records.
fn recovered() -> Base {
    let (mut disk, mut wal) = create(&options(), 0, 12);
    for round in 0..2 {
        fill(&wal, round * 10, 12);
        wal.flush().expect("flushed");
        let next = disk.kill();
        drop(wal);
        (disk, wal) = (next.clone(), open(&options(), &next).expect("recovered"));
    }
    fill(&wal, 20, 14);
    wal.flush().expect("flushed");
    finish(&disk.kill())
}

/// Segments in front were recycled; a spare is left; closed cleanly.
fn truncated() -> Base {
    let (disk, wal) = create(&options(), 0, 12);
    let lsns = fill(&wal, 0, 60);
    wal.sync().expect("synced");
    let all: Vec<Record> = wal.iter().and_then(Iterator::collect).expect("it can be read");
    wal.truncate_before(lsns[lsns.len() * 3 / 4]).expect("truncated");
    fill(&wal, 60, 8);
    wal.close().expect("closed");
    let mut base = finish(&disk);
    let truncated = all.into_iter().filter(|record| record.lsn.get() < base.held[0].lsn.get());
    base.held = truncated.chain(base.held.clone()).collect();
    base
}

/// What a power cut left of a log whose last writes were not synced.
fn power_cut() -> Base {
    let (disk, wal) = create(&options(), 0, 12);
    fill(&wal, 0, 24);
    wal.sync().expect("synced");
    fill(&wal, 24, 14);
    wal.flush().expect("flushed");
    finish(&disk.crash(5))
}

/// A record of several segments, and one that spans no whole one.
fn spanning() -> Base {
    let (disk, wal) = create(&options(), 0, 12);
    fill(&wal, 0, 4);
    wal.append(&payload(1, 20_000)).expect("appended");
    wal.append_and_sync(&payload(2, 3000)).expect("synced");
    wal.append_and_sync(&payload(3, 100)).expect("synced");
    finish(&disk.kill())
}

fn finish(disk: &SimStorage) -> Base {
    let files = files_of(disk);
    let wal = open(&options().read_only(true), disk).expect("a base opens");
    let held = wal.iter().and_then(Iterator::collect).expect("a base can be read");
    let (head, tail) = (wal.head().expect("a head").get(), wal.tail().expect("a tail").get());
    let claims = claims(&files, head, tail);
    Base { files, held, claims, head, shift: 12 }
}

fn claims(files: &Files, head: u64, tail: u64) -> Vec<Claim> {
    let mut claims = Vec::new();
    let lock = &files["LOCK"];
    for at in CONTROL_SLOT_OFFSETS.map(|at| at as usize) {
        if let Ok(control) = Control::parse(&lock[at..at + SECTOR]) {
            let durable = control.durable.max(control.clean_end.unwrap_or(0));
            claims.push(Claim { file: "LOCK".to_owned(), at, len: 100, durable, segment: None });
        }
    }
    for index in head >> 12..=(tail - 1) >> 12 {
        let file = segment_name(index);
        let Some(bytes) = files.get(&file) else { continue };
        if let Ok(Some(entry)) = Entry::parse(&bytes[SECTOR..], ID, index) {
            let durable = entry.durable;
            claims.push(Claim { file: file.clone(), at: SECTOR, len: 32, durable, segment: Some(index) });
        }
        for at in (HEADER_SIZE as usize..bytes.len() - MARKER_RECORD_SIZE as usize + 1).step_by(8) {
            let lsn = (index << 12) + at as u64 - HEADER_SIZE;
            if let Some((_, marker)) = Durability::find(&bytes[at..], ID, lsn).filter(|_| lsn < tail) {
                let (len, durable) = (MARKER_RECORD_SIZE as usize, marker.durable);
                claims.push(Claim { file: file.clone(), at, len, durable, segment: Some(index) });
            }
        }
    }
    claims
}
