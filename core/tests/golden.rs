//! Logs of format version 1, kept as files in `tests/golden/`. This and every later version must read them, recover them,
//! and go on appending to them.
//!
//! `LIBWAL_WRITE_GOLDEN=1` makes them anew; that is for a new version of the format only, into new directories.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use libwal::format::Kind;
use libwal::storage::SimStorage;
use libwal::{Lsn, Options, Record, Wal};

const NAMES: [&str; 4] = ["v1-clean", "v1-killed", "v1-recovered", "v1-first-lsn"];
const SEGMENT: u64 = 4096;
const HEADER: u64 = 4096;

/// What `expected.txt` says of one record.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    lsn: u64,
    kind: String,
    len: usize,
    crc: u32,
}

impl Line {
    fn of(record: &Record) -> Line {
        let kind = match record.kind {
            Kind::Data => "data",
            Kind::Checkpoint => "checkpoint",
            Kind::Batch => "batch",
            Kind::BatchEnd => "batch_end",
            other => panic!("readers do not see {other:?}"),
        };
        let crc = crc32c::crc32c(&record.data);
        Line { lsn: record.lsn.get(), kind: kind.to_owned(), len: record.data.len(), crc }
    }
}

/// What `expected.txt` says of one log.
struct Expected {
    head: u64,
    tail: u64,
    lines: Vec<Line>,
}

impl Expected {
    fn of(log: &Wal) -> Expected {
        let (head, tail) = (log.head().expect("a head").get(), log.tail().expect("a tail").get());
        Expected { head, tail, lines: lines(log) }
    }

    fn to_text(&self) -> String {
        let mut text = format!("# lsn kind length crc32c-of-payload\nhead {}\ntail {}\n", self.head, self.tail);
        for Line { lsn, kind, len, crc } in &self.lines {
            writeln!(text, "{lsn} {kind} {len} {crc:08x}").expect("a string takes it");
        }
        text
    }

    fn read(name: &str) -> Expected {
        let text = fs::read_to_string(golden().join(name).join("expected.txt")).expect("an expected.txt");
        let mut expected = Expected { head: 0, tail: 0, lines: Vec::new() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["head", head] => expected.head = head.parse().expect("a number"),
                ["tail", tail] => expected.tail = tail.parse().expect("a number"),
                [lsn, kind, len, crc] => expected.lines.push(Line {
                    lsn: lsn.parse().expect("a number"),
                    kind: kind.to_owned(),
                    len: len.parse().expect("a number"),
                    crc: u32::from_str_radix(crc, 16).expect("eight digits"),
                }),
                _ => panic!("{name}: {line:?}"),
            }
        }
        expected
    }
}

fn lines(log: &Wal) -> Vec<Line> {
    log.iter().expect("readable").map(|record| Line::of(&record.expect("valid"))).collect()
}

/// Where the golden logs are; makes them first if that is asked for.
fn golden() -> &'static Path {
    static WRITTEN: OnceLock<PathBuf> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        if std::env::var_os("LIBWAL_WRITE_GOLDEN").is_some_and(|value| value == "1") {
            for name in NAMES {
                write_golden(&root, name);
            }
        }
        root
    })
}

/// The files of a directory.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("readable");
        (entry.file_name().into_string().expect("plain names"), fs::read(entry.path()).expect("readable"))
    };
    fs::read_dir(dir).expect("a directory").map(file).collect()
}

/// A copy of a golden log that may be changed.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (file, bytes) in contents(&golden().join(name).join("log")) {
        fs::write(dir.path().join(file), bytes).expect("writable");
    }
    dir
}

#[test]
fn read_only_opening_reads_them_and_changes_nothing() {
    for name in NAMES {
        let dir = copy(name);
        let before = contents(dir.path());
        let expected = Expected::read(name);
        let log = Options::new().read_only(true).open(dir.path()).expect(name);
        assert_eq!(lines(&log), expected.lines, "{name}");
        assert_eq!(log.tail().expect(name), Lsn::new(expected.tail), "{name}");
        assert_eq!(log.head().expect(name), Lsn::new(expected.head), "{name}");
        for line in &expected.lines {
            assert_eq!(Line::of(&log.read(Lsn::new(line.lsn)).expect(name)), *line, "{name}");
        }
        drop(log);
        let report = libwal::verify(dir.path(), 2, &|_| {}).expect(name);
        assert!(report.is_sound(), "{name}: {report:?}");
        assert_eq!(report.records, expected.lines.len() as u64, "{name}");
        assert!(before == contents(dir.path()), "{name} was changed");
    }
}

#[test]
fn they_can_be_recovered_and_appended_to() {
    for name in NAMES {
        let dir = copy(name);
        let mut expected = Expected::read(name);
        // Twice: the second round finds what the first one left, closed cleanly.
        for round in 0..2u8 {
            let log = Wal::open(dir.path()).expect(name);
            assert_eq!(lines(&log), expected.lines, "{name}, round {round}");
            assert_eq!(log.head().expect(name).get(), expected.head, "{name}");
            assert_eq!(log.stats().expect(name).segment_size, SEGMENT, "{name}");
            for data in [&b""[..], b"appended later", &[round; 5000]] {
                let lsn = log.append(data).expect(name);
                assert!(lsn.get() >= expected.tail, "{name}: positions are not used again");
                expected.lines.push(Line::of(&Record { lsn, kind: Kind::Data, data: data.to_vec() }));
            }
            log.sync().expect(name);
            assert_eq!(lines(&log), expected.lines, "{name}");
            expected.tail = log.tail().expect(name).get();
            log.close().expect(name);
        }
        let log = Wal::open(dir.path()).expect(name);
        assert_eq!(lines(&log), expected.lines, "{name}");
        log.close().expect(name);
        assert!(libwal::verify(dir.path(), 1, &|_| {}).expect(name).is_sound(), "{name}");
    }
}

/// The properties that make each of them worth keeping.
#[test]
fn they_hold_what_their_names_say() {
    let report = |name: &str| libwal::verify(golden().join(name).join("log"), 1, &|_| {}).expect(name);
    let has = |expected: &Expected, kind: &str| expected.lines.iter().any(|line| line.kind == kind);

    let clean = Expected::read("v1-clean");
    let found = report("v1-clean");
    assert!(found.closed_cleanly && found.torn_tail.is_none() && found.head.get() > SEGMENT && found.segments > 3);
    assert!(has(&clean, "batch") && has(&clean, "batch_end") && has(&clean, "checkpoint"));
    assert!(clean.lines.iter().any(|line| line.len == 0) && clean.lines.iter().any(|line| line.len as u64 > SEGMENT));
    let checkpoint = clean.lines.iter().rfind(|line| line.kind == "checkpoint").expect("one");
    assert_eq!(found.checkpoint, Some(Lsn::new(checkpoint.lsn)));
    let names = contents(&golden().join("v1-clean/log"));
    assert!(names.keys().any(|name| name.ends_with(".spare")));
    for (name, bytes) in &names {
        assert_eq!(bytes.len() as u64, HEADER + SEGMENT, "{name}");
    }

    let killed = report("v1-killed");
    assert!(!killed.closed_cleanly && killed.torn_tail == Some(killed.tail));
    let log = Options::new().read_only(true).open(golden().join("v1-killed/log")).expect("readable");
    assert!(log.durable_lsn() < killed.tail, "a part was accepted and not synced");
    assert!(log.last_checkpoint().is_none());

    let recovered = report("v1-recovered");
    assert!(!recovered.closed_cleanly);
    let epochs: Vec<_> = epoch_records("v1-recovered");
    assert_eq!(epochs, [1]);

    let first = Expected::read("v1-first-lsn");
    assert_eq!((first.head, first.lines[0].lsn), (5000, 5000));
    assert!(report("v1-first-lsn").closed_cleanly);
}

/// The epochs of the epoch records in a golden log, found without the library's readers.
fn epoch_records(name: &str) -> Vec<u32> {
    use libwal::format::{Durability, Identity};
    let mut epochs = Vec::new();
    for (name, bytes) in contents(&golden().join(name).join("log")) {
        if !name.ends_with(".wal") {
            continue;
        }
        let identity = Identity::parse(&bytes).expect("a segment");
        for offset in (0..SEGMENT).step_by(8) {
            let lsn = (identity.index << identity.shift) + offset;
            let found = Durability::find(&bytes[(HEADER + offset) as usize..], identity.id, lsn);
            epochs.extend(found.filter(|(kind, _)| *kind == Kind::Epoch).map(|(_, marker)| marker.epoch));
        }
    }
    epochs
}

// What follows made them.

fn payload(nth: usize, len: usize) -> Vec<u8> {
    let mut state = (nth as u32).wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn open(disk: &SimStorage, options: Options) -> Wal {
    let options = options.segment_size(SEGMENT).buffer_size(4096).background(false).recycle(1);
    options.open_on(Arc::new(disk.clone())).expect("the disk works")
}

fn write_golden(root: &Path, name: &str) {
    let disk = match name {
        "v1-clean" => make_clean(),
        "v1-killed" => make_killed(),
        "v1-recovered" => make_recovered(),
        _ => make_first_lsn(),
    };
    let log = Options::new().read_only(true).open_on(Arc::new(disk.clone())).expect("readable");
    let dir = root.join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("log")).expect("writable");
    for file in disk.names() {
        fs::write(dir.join("log").join(&file), disk.read_file(&file).expect("there")).expect("writable");
    }
    fs::write(dir.join("expected.txt"), Expected::of(&log).to_text()).expect("writable");
}

/// Closed cleanly: records of many lengths, one longer than a segment, batches, checkpoints, a head that was truncated
/// away, and a spare segment.
fn make_clean() -> SimStorage {
    let disk = SimStorage::new();
    let log = open(&disk, Options::new());
    for nth in 0..25 {
        log.append(&payload(nth, nth * 37 % 700)).expect("room");
        if nth % 6 == 0 {
            log.sync().expect("synced");
        }
    }
    let keep = log.append(&payload(25, 300)).expect("room");
    for (nth, len) in (26..).zip([0, 1, 7, 8, 9, 503, 504, 505, 9000, 0, 2000]) {
        log.append(&payload(nth, len)).expect("room");
    }
    log.checkpoint(&payload(40, 77)).expect("a checkpoint");
    log.append_batch(&[payload(41, 0), payload(42, 64), payload(43, 1500), payload(44, 3)]).expect("room");
    log.checkpoint(b"").expect("a checkpoint");
    log.append_batch(&[payload(45, 10)]).expect("room");
    log.append_batch(&[payload(46, 1000), payload(47, 1000)]).expect("room");
    log.sync().expect("synced");
    log.truncate_before(keep).expect("truncated");
    log.close().expect("closed");
    disk
}

/// Killed, then the power went: something synced, something accepted and not synced, and a record that was torn.
fn make_killed() -> SimStorage {
    let disk = SimStorage::new();
    let log = open(&disk, Options::new());
    for nth in 0..12 {
        log.append(&payload(nth, 100 + nth * 61 % 400)).expect("room");
        if nth % 4 == 3 {
            log.sync().expect("synced");
        }
    }
    log.append_batch(&[payload(20, 200), payload(21, 300)]).expect("room");
    log.append(&payload(22, 40)).expect("room");
    let torn = log.append(&payload(23, 900)).expect("room").get();
    log.append(&payload(24, 50)).expect("room");
    log.flush().expect("flushed");
    let killed = disk.kill();
    drop(log);
    // The record reaches into the next segment. Of that, only the first sector behind the header page reached the disk.
    assert!(torn < SEGMENT && torn + 900 > SEGMENT + 512);
    let name = format!("{:020}.wal", 1);
    let mut bytes = killed.read_file(&name).expect("there");
    bytes[HEADER as usize + 512..].fill(0);
    killed.write_file(&name, &bytes);
    killed
}

/// The same, recovered, written on in epoch 1, and killed again behind a sync.
fn make_recovered() -> SimStorage {
    let disk = make_killed();
    let log = open(&disk, Options::new());
    for nth in 50..65 {
        log.append(&payload(nth, nth * 17 % 600)).expect("room");
    }
    log.sync().expect("synced");
    log.append(&payload(65, 33)).expect("room");
    log.sync().expect("synced");
    let killed = disk.kill();
    drop(log);
    killed
}

/// A log that begins inside its first segment, closed cleanly.
fn make_first_lsn() -> SimStorage {
    let disk = SimStorage::new();
    let log = open(&disk, Options::new().first_lsn(Lsn::new(5000)));
    for nth in 0..8 {
        log.append(&payload(nth, nth * 123)).expect("room");
    }
    log.close().expect("closed");
    disk
}
