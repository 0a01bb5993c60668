//! A strict open of a damaged log: an error that names the file, never a shorter log, never wrong bytes, and not one
//! byte of the storage changed.

mod common;

use std::sync::Arc;

use common::oracle::payload;
use common::random::Random;
use common::seeds::for_each_seed;
use common::{contents, open, records, segment_name, small};
use libwal::format::{Control, Entry, HEADER_SIZE, Identity};
use libwal::storage::SimStorage;
use libwal::{Error, Lsn};

/// A log of several segments: what it holds, and how far a marker, a header or a control slot proves it.
struct Image {
    disk: SimStorage,
    held: Vec<(u64, Vec<u8>)>,
    proven: u64,
    first_segment: u64,
    segments: u64,
}

fn image(seed: u64, random: &mut Random, clean: bool) -> Image {
    let disk = SimStorage::with_seed(seed);
    let wal = open(&small(), &disk).expect("the log opens");
    let mut boundaries = vec![];
    for counter in 0..20 + random.below(60) {
        let len = random.pick(&[0, 7, 50, 200, 900]);
        boundaries.push(wal.append(&payload(seed, counter, len)).expect("appended"));
        if random.one_in(6) {
            wal.sync().expect("synced");
        }
    }
    wal.sync().expect("synced");
    if random.one_in(2) {
        wal.truncate_before(boundaries[boundaries.len() / 2]).expect("truncated");
    }
    let proven = wal.durable_lsn().get();
    // The marker that this sync leaves proves the one before.
    wal.append_and_sync(b"evidence").expect("synced");
    wal.sync().expect("synced");
    wal.append_and_sync(b"evidence").expect("synced");
    let held = records(&wal);
    let (proven, disk) = if clean {
        let tail = wal.tail().expect("open").get();
        wal.close().expect("closed");
        (tail, disk)
    } else {
        (proven, disk.crash(seed))
    };
    let names = disk.names();
    let mut indexes = names.iter().filter_map(|name| name.strip_suffix(".wal")?.parse().ok());
    let first_segment = indexes.next().expect("a segment");
    let segments = 1 + indexes.count() as u64;
    Image { disk, held, proven, first_segment, segments }
}

/// Opens and reads everything. `Ok` is only acceptable if nothing is missing or wrong.
fn judge(image: &Image, what: &str) -> Option<Error> {
    let before = contents(&image.disk);
    let opened = open(&small(), &image.disk);
    let wal = match opened {
        Err(error) => {
            assert!(contents(&image.disk) == before, "{what}: a refused open changed something");
            return Some(error);
        }
        Ok(wal) => wal,
    };
    let iter = match wal.iter() {
        Ok(iter) => iter,
        Err(error) => return Some(error),
    };
    let mut held = image.held.iter();
    for record in iter {
        match record {
            Err(error) => return Some(error),
            Ok(record) => {
                let expected = held.next().unwrap_or_else(|| panic!("{what}: {} was made up", record.lsn));
                assert_eq!((record.lsn.get(), &record.data), (expected.0, &expected.1), "{what}: wrong bytes");
            }
        }
    }
    assert!(held.next().is_none_or(|(lsn, _)| *lsn >= image.proven), "{what}: silently shorter");
    None
}

fn names_the_file(error: &Error, index: u64, what: &str) {
    match error {
        Error::Corrupt { path, .. } | Error::UnsupportedVersion { path, .. } => {
            assert!(path.ends_with(segment_name(index)), "{what}: {error}");
        }
        other => panic!("{what}: {other}"),
    }
}

#[test]
fn a_flipped_bit_in_acknowledged_records_is_corrupt() {
    for_each_seed(500, |seed| {
        let mut random = Random::new(seed ^ 0xF11F);
        let clean = random.one_in(2);
        for _ in 0..6 {
            let image = image(seed, &mut random, clean);
            let from = image.held[0].0;
            let at = from + random.below(image.proven - from);
            let file = segment_name(at >> 12);
            assert!(image.disk.flip_bit(&file, HEADER_SIZE + at % 4096, random.below(8) as u8));
            let error = judge(&image, &format!("seed {seed}, bit at {at}"));
            assert!(matches!(error, Some(Error::Corrupt { .. })), "seed {seed}, bit at {at}: {error:?}");
        }
    });
}

/// Headers and the lock file: damage there may be harmless (there are copies), but never passes for less of a log.
#[test]
fn a_flipped_bit_anywhere_never_shortens_the_log() {
    for_each_seed(500, |seed| {
        let mut random = Random::new(seed ^ 0xA11);
        let clean = random.one_in(2);
        let image = image(seed, &mut random, clean);
        let names: Vec<_> = image.disk.names();
        let name = &names[random.below(names.len() as u64) as usize];
        let at = if random.one_in(2) { random.below(64) } else { random.below(4096 * 2) };
        image.disk.flip_bit(name, at + if random.one_in(3) { 512 } else { 0 }, random.below(8) as u8);
        let what = format!("seed {seed}, bit at {at} of {name}");
        match judge(&image, &what) {
            None | Some(Error::Corrupt { .. } | Error::UnsupportedVersion { .. }) => {}
            Some(error) => panic!("{what}: {error}"),
        }
    });
}

/// The records behind the last control write are proven by markers only, and those stand in a segment that does not look
/// entered.
#[test]
fn markers_behind_a_damaged_entry_sector_are_found() {
    let disk = SimStorage::new();
    let wal = open(&small(), &disk).expect("a new log");
    wal.append_and_sync(&[1; 3500]).expect("synced");
    let lsn = wal.append(&[2; 300]).expect("appended").get();
    while wal.tail().expect("open").get() < 2 * 4096 + 100 {
        wal.append(&[3; 300]).expect("appended");
    }
    wal.sync().expect("synced");
    wal.append_and_sync(&[4; 300]).expect("synced");
    let disk = disk.kill();
    drop(wal);
    let lock = disk.read_file("LOCK").expect("a lock file");
    let durable = Control::newest([&lock[..512], &lock[4096..4608]]).expect("a slot").durable;
    assert!(durable <= lsn, "a control slot proves it");

    assert!(disk.flip_bit(&segment_name(lsn >> 12), HEADER_SIZE + (lsn & 4095) + 20, 0));
    for sector in [None, Some(2)] {
        if let Some(index) = sector {
            assert!(disk.flip_bit(&segment_name(index), 512 + 3, 0));
        }
        let before = contents(&disk);
        let error = open(&small(), &disk).err();
        assert!(matches!(&error, Some(Error::Corrupt { lsn: at, .. }) if at.get() == lsn), "{error:?}");
        assert_eq!(contents(&disk), before);
    }
}

/// A disk that lost one write, which held the entry sector and the first records of a segment; what was written and synced
/// behind it stands.
#[test]
fn a_lost_first_write_to_a_segment_is_no_torn_tail() {
    for (segments, lost, len, full) in [(1, 8, 350, false), (1, 0, 350, true), (1, 700, 350, true), (2, 700, 420, true)]
    {
        let disk = SimStorage::new();
        // Where no further segment can be prepared, the older control slot does not name this one.
        disk.set_capacity(full.then_some((segments + 2) * 8192));
        let wal = open(&small(), &disk).expect("a new log");
        let mut lsns = Vec::new();
        while wal.tail().expect("open").get() < segments * 4096 + 1500 {
            lsns.push(wal.append_and_sync(&vec![1; len as usize]).expect("synced").get());
        }
        let crosses = |lsn: u64| lsn >> 12 != segments && (lsn + len) >> 12 == segments;
        assert!(lsns.iter().copied().any(crosses), "a record begins in the segment before");
        let disk = disk.kill();
        drop(wal);
        let name = segment_name(segments);
        let mut bytes = disk.read_file(&name).expect("a segment");
        bytes[512..4096 + lost].fill(0);
        disk.write_file(&name, &bytes);
        // The control slots may claim as much; the older one may not even name the segment; without them there are only the
        // markers.
        let slots = disk.read_file("LOCK").expect("a lock file");
        let sequence = |at| Control::parse(&slots[at..at + 512]).expect("a slot").sequence;
        let newest = if sequence(0) > sequence(4096) { 0 } else { 4096 };
        for lock in ["whole", "without its newest slot", "missing"] {
            match lock {
                "without its newest slot" => assert!(disk.flip_bit("LOCK", newest + 50, 0)),
                "missing" => assert!(disk.remove_file("LOCK")),
                _ => {}
            }
            let before = contents(&disk);
            let error = open(&small().read_only(lock == "missing"), &disk).err();
            assert!(matches!(&error, Some(Error::Corrupt { .. })), "{segments}, {lost}, LOCK {lock}: {error:?}");
            assert_eq!(contents(&disk), before);
            let report = libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {}).expect("a report");
            assert!(!report.is_sound(), "{segments}, {lost}, LOCK {lock}: {report:?}");
            let mended = disk.kill();
            libwal::repair_on(Arc::new(mended.clone()), Arc::new(SimStorage::new())).expect("repaired");
            let wal = open(&small(), &mended).expect("mended");
            let last = wal.iter().and_then(|records| records.last().expect("records")).expect("whole");
            assert_eq!(Some(&last.lsn.get()), lsns.last(), "{segments}, {lost}, LOCK {lock}");
        }
    }
}

#[test]
fn what_is_missing_from_a_cleanly_closed_log_is_named() {
    for_each_seed(60, |seed| {
        let mut random = Random::new(seed);
        let prepared = |image: &Image| image.first_segment + image.segments;
        // A removed segment: the last one, those before it, the first one.
        let count = image(seed, &mut Random::new(seed), true).segments;
        for nth in 0..count {
            let image = image(seed, &mut Random::new(seed), true);
            let index = prepared(&image) - 1 - nth;
            assert!(image.disk.remove_file(&segment_name(index)));
            names_the_file(&judge(&image, "removed").expect("an error"), index, "removed");
        }
        // A file that is shorter or longer than it was.
        for len in [0, 100, 600, 4096, 8000, 8191, 9000] {
            let image = image(seed, &mut Random::new(seed), true);
            let index = image.first_segment + random.below(count);
            let mut bytes = image.disk.read_file(&segment_name(index)).expect("there");
            bytes.resize(len, 0);
            image.disk.write_file(&segment_name(index), &bytes);
            let what = format!("seed {seed}, {index} of length {len}");
            names_the_file(&judge(&image, &what).expect(&what), index, &what);
        }
        for len in [0, 100, 600, 4096, 4600] {
            let image = image(seed, &mut Random::new(seed), true);
            let mut bytes = image.disk.read_file("LOCK").expect("there");
            bytes.truncate(len);
            image.disk.write_file("LOCK", &bytes);
            // All of it stands in the segments as well, so either is right.
            judge(&image, &format!("seed {seed}, lock file of length {len}"));
        }
    });
}

/// Whatever becomes of its last bytes, and although no record is missing: the end is known.
#[test]
fn the_end_of_a_cleanly_closed_log_is_checked() {
    for_each_seed(60, |seed| {
        let mut random = Random::new(seed);
        let image = image(seed, &mut random, true);
        let lock = image.disk.read_file("LOCK").expect("there");
        let control = Control::newest([&lock[..512], &lock[4096..4608]]).expect("a control slot");
        let at = control.clean_end.expect("closed cleanly") - 1 - random.below(32);
        assert!(image.disk.flip_bit(&segment_name(at >> 12), HEADER_SIZE + at % 4096, random.below(8) as u8));
        let what = format!("seed {seed}, bit at {at}");
        // Not only when it is read: an open that went on from here would append behind damage.
        assert!(open(&small(), &image.disk).is_err(), "{what}");
        names_the_file(&judge(&image, &what).expect(&what), (control.clean_end.unwrap_or(0) - 32) >> 12, &what);
    });
}

#[test]
fn a_segment_in_the_wrong_place_is_named() {
    for_each_seed(60, |seed| {
        let mut random = Random::new(seed);
        let build = || image(seed, &mut Random::new(seed), true);
        let first = build();
        let index = first.first_segment + random.below(first.segments - 1);
        let (one, two) = (segment_name(index), segment_name(index + 1));

        let swapped = build();
        let (a, b) = (swapped.disk.read_file(&one).expect("there"), swapped.disk.read_file(&two).expect("there"));
        swapped.disk.write_file(&one, &b);
        swapped.disk.write_file(&two, &a);
        names_the_file(&judge(&swapped, "swapped").expect("an error"), index, "swapped");

        // The same segment of a log that was made in the same way.
        let foreign = build();
        foreign.disk.write_file(&one, &first.disk.read_file(&one).expect("there"));
        names_the_file(&judge(&foreign, "foreign").expect("an error"), index, "foreign");
    });
}

#[test]
fn a_newer_version_is_refused_and_named() {
    let image = image(1, &mut Random::new(1), true);
    let name = segment_name(image.first_segment);
    let mut bytes = image.disk.read_file(&name).expect("there");
    bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
    image.disk.write_file(&name, &bytes);
    let error = judge(&image, "newer").expect("an error");
    names_the_file(&error, image.first_segment, "newer");
    assert!(matches!(error, Error::UnsupportedVersion { found: 2, supported: 1, .. }), "{error}");
}

/// An entry sector that is damaged and a log that opens all the same must not fail later on.
#[test]
fn a_log_that_opened_opens_again_and_can_be_read_everywhere() {
    for_each_seed(200, |seed| {
        let mut random = Random::new(seed);
        let image = image(seed, &mut random, false);
        let index = image.first_segment + random.below(image.segments);
        image.disk.flip_bit(&segment_name(index), 512 + random.below(32), 1);
        let what = format!("seed {seed}, entry of {index}");
        let header = image.disk.read_file(&segment_name(index)).expect("there");
        let identity = Identity::parse(&header).expect("an identity");
        if Entry::parse(&header[512..], identity.id, index).is_ok() {
            return;
        }
        let Ok(wal) = open(&small(), &image.disk) else { return };
        if wal.iter().and_then(|iter| iter.collect::<libwal::Result<Vec<_>>>()).is_err() {
            return;
        }
        for (lsn, data) in &image.held {
            let read = wal.read(Lsn::new(*lsn)).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(&read.data, data, "{what}");
        }
        drop(wal);
        open(&small(), &image.disk).unwrap_or_else(|error| panic!("{what}: opened once, and then: {error}"));
    });
}
