//! Handles that read what another one writes.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use common::watched::{Seen, watched};
use common::{open, records, segment_name, small};
use libwal::storage::SimStorage;
use libwal::{Error, Lsn, Options, Wal};

/// Were it not looked at anew, the view would end for ever where the log no longer begins.
#[test]
fn a_view_that_fell_behind_a_truncation_goes_on() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    log.append_and_sync(b"first").expect("synced");
    let view = small().read_only(true).open_on(Arc::new(disk.clone())).expect("a view");
    let mut follower = view.iter().expect("readable");
    assert_eq!(follower.next_ref().expect("readable").expect("a record").data, b"first");
    assert!(follower.next_ref().expect("readable").is_none());

    let mut last = Lsn::ZERO;
    for n in 0..40 {
        last = log.append_and_sync(&[n; 1000]).expect("synced");
    }
    log.truncate_before(last).expect("truncated");
    log.append_and_sync(b"new").expect("synced");

    assert_eq!(view.head().expect("a head"), log.head().expect("a head"));
    assert_eq!(view.tail().expect("a tail"), log.tail().expect("a tail"));
    assert_eq!(records(&view), records(&log));
    // It may read on in a file that it has open; it must not wait for what will never come.
    let error = loop {
        match follower.follow(Duration::ZERO) {
            Ok(Some(_)) => {}
            other => break other.map(|record| record.is_some()),
        }
    };
    assert!(matches!(error, Err(Error::Truncated { .. })), "{error:?}");
}

/// Opens the log for reading only, while `watcher` sees what that does.
fn view(
    options: Options,
    disk: &SimStorage,
    watcher: impl Fn(Seen<'_>) + Send + Sync + 'static,
) -> libwal::Result<Wal> {
    options.read_only(true).open_on(watched(disk, watcher))
}

#[test]
fn a_segment_that_is_recycled_while_its_header_is_read_is_no_damage() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    for n in 0..20 {
        log.append_and_sync(&[n; 1000]).expect("synced");
    }
    log.close().expect("closed");
    let truncate = Arc::new(AtomicBool::new(false));
    let (now, writers) = (Arc::clone(&truncate), disk.clone());
    let view = view(small(), &disk, move |seen| match seen {
        Seen::HasRead(name, 0, header) if name == segment_name(0) && now.swap(false, Ordering::Relaxed) => {
            let writer = open(&small(), &writers).expect("opens");
            writer.truncate_before(writer.tail().expect("open")).expect("truncated");
            // Half of the new identity.
            header[32..40].fill(1);
        }
        _ => {}
    });
    let view = view.expect("a view");
    truncate.store(true, Ordering::Relaxed);
    let read = view.read(Lsn::ZERO);
    assert!(matches!(read, Err(Error::Truncated { .. })), "{read:?}");
    assert!(!truncate.load(Ordering::Relaxed));
}

/// The control slots, which are read later, tell of segments that had no name yet.
#[test]
fn a_segment_that_gets_its_name_behind_the_listing_is_not_missing() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    log.append_and_sync(b"first").expect("synced");
    let writer = log.clone();
    let view = view(small(), &disk, move |seen| {
        if matches!(seen, Seen::Listed) {
            for n in 0..5 {
                writer.append_and_sync(&[n; 1000]).expect("synced");
            }
        }
    });
    assert_eq!(records(&view.expect("the log is sound")), records(&log));
    // One that has none at all is.
    drop(log);
    disk.remove_file(&segment_name(1));
    let view = small().read_only(true).open_on(Arc::new(disk));
    assert!(matches!(view, Err(Error::Corrupt { .. })), "{:?}", view.err());
}

/// Its entry sector was looked at before the walk, which then finds that it is durable.
#[test]
fn a_segment_that_is_entered_while_the_log_is_walked_is_not_damaged() {
    let disk = SimStorage::new();
    let options = small().segment_size(1 << 16);
    let log = open(&options, &disk).expect("a new log");
    log.append_and_sync(&[1; 4000]).expect("synced");
    let writer = log.clone();
    let segment = |log: &Wal| log.tail().expect("open").get() >> 16;
    let view = view(options, &disk, move |seen| match seen {
        Seen::ToRead(name, 4096..) if name.ends_with(".wal") => {
            let before = segment(&writer);
            while segment(&writer) == before {
                writer.append_and_sync(&[1; 4000]).expect("synced");
            }
            for _ in 0..2 {
                writer.append_and_sync(&[1; 1000]).expect("synced");
            }
        }
        _ => {}
    });
    view.expect("the log is sound");
}

/// Whatever the reader finds while the writer is at it says nothing of the log, however often.
#[test]
fn a_view_is_tried_again_for_as_long_as_the_segments_change() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    log.append_and_sync(b"first").expect("synced");
    let (writer, times) = (log.clone(), AtomicU32::new(0));
    let view = view(small(), &disk, move |seen| match seen {
        // Behind the control slots: the segments that they tell of go before they are opened.
        Seen::HasRead("LOCK", 4096.., _) if times.fetch_add(1, Ordering::Relaxed) < 40 => {
            for n in 0..9 {
                writer.append_and_sync(&[n; 1000]).expect("synced");
            }
            writer.truncate_before(writer.tail().expect("open")).expect("truncated");
        }
        _ => {}
    });
    assert_eq!(records(&view.expect("the log is sound")), records(&log));
}

#[test]
fn a_writer_that_never_rests_does_not_keep_a_reader_for_ever() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    for n in 0..9 {
        log.append_and_sync(&[n; 1000]).expect("synced");
    }
    disk.remove_file(&segment_name(0));
    let writer = log.clone();
    let view = view(small(), &disk, move |seen| {
        if matches!(seen, Seen::Listed) {
            writer.checkpoint(b"").expect("taken");
        }
    });
    assert!(matches!(view, Err(Error::Corrupt { .. })), "{:?}", view.err());
}

/// It begins inside a segment, which is not there yet.
#[test]
fn a_log_whose_creation_was_cut_off_has_nothing_to_read() {
    let options = small().first_lsn(Lsn::new(6000));
    let mut empty = 0;
    for operations in 0.. {
        let disk = SimStorage::new();
        disk.crash_after(operations);
        let done = open(&options, &disk).is_ok();
        if let Ok(view) = small().read_only(true).open_on(Arc::new(disk.kill())) {
            assert_eq!((records(&view), view.head().expect("a head")), (vec![], Lsn::new(6000)), "{operations}");
            empty += 1;
        }
        if done {
            break;
        }
    }
    assert!(empty > 1);
}

#[test]
fn a_view_that_is_followed_into_damage_of_acknowledged_records_says_so() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    log.append_and_sync(b"seen").expect("synced");
    let view = open(&small().read_only(true), &disk).expect("a view");
    let mut followed = view.iter().expect("an iterator");
    assert!(followed.next().is_some_and(|record| record.is_ok()));
    let lsns: Vec<Lsn> = (0..20).map(|n| log.append_and_sync(&[n; 1000]).expect("synced")).collect();
    // A checkpoint of the control slots: they claim that all of it is durable.
    log.close().expect("closed");
    let mut bytes = disk.read_file(&segment_name(0)).expect("a segment");
    let damaged = 4096 + lsns[1].get() as usize + 100;
    bytes[damaged] ^= 1;
    disk.write_file(&segment_name(0), &bytes);
    let is_there = |error: &Error| assert!(matches!(error, Error::Corrupt { lsn, .. } if *lsn == lsns[1]), "{error}");
    // What stands in front of it is given all the same, whatever was asked for first.
    let mut records = view.iter().expect("an iterator");
    assert_eq!(records.next().expect("a record").expect("whole").data, b"seen");
    assert_eq!(records.next().expect("a record").expect("whole").lsn, lsns[0]);
    is_there(&records.next().expect("no end").expect_err("damaged"));
    assert!(records.next().is_none());
    assert_eq!(view.read(lsns[0]).expect("whole").data, [0; 1000]);
    for lsn in &lsns[1..] {
        is_there(&view.read(*lsn).expect_err("damaged, or behind it"));
    }
    is_there(&view.tail().expect_err("not the end"));
    assert_eq!(followed.follow(Duration::ZERO).expect("whole").expect("a record").lsn, lsns[0]);
    for _ in 0..2 {
        is_there(&followed.follow(Duration::ZERO).expect_err("damaged"));
    }
    // Where it can be read again, it is followed again.
    bytes[damaged] ^= 1;
    disk.write_file(&segment_name(0), &bytes);
    for &lsn in &lsns[1..] {
        assert_eq!(followed.follow(Duration::ZERO).expect("whole").expect("a record").lsn, lsn);
    }
}

/// A log with one record, a view that has seen it, and a writer.
fn followed(watcher: impl Fn(&Wal, Seen<'_>) + Send + Sync + 'static) -> (SimStorage, Wal, Wal) {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    log.append_and_sync(b"seen").expect("synced");
    let writer = log.clone();
    let view = view(small(), &disk, move |seen| watcher(&writer, seen)).expect("a view");
    assert_eq!(records(&view).len(), 1);
    (disk, log, view)
}

fn twenty(log: &Wal) -> Vec<Lsn> {
    (0..20).map(|n| log.append_and_sync(&[n; 1000]).expect("synced")).collect()
}

/// One that was there when its writer acknowledged what is in it. What stands in front of it is read.
#[test]
fn a_view_that_is_followed_to_a_missing_segment_says_so() {
    for missing in [false, true] {
        for index in [0, 2] {
            let (disk, log, view) = followed(|_, _| ());
            let lsns = twenty(&log);
            log.close().expect("closed");
            let name = segment_name(index);
            assert!(if missing { disk.remove_file(&name) } else { disk.flip_bit(&name, 33, 1) });
            assert!(matches!(view.tail(), Err(Error::Corrupt { .. })));
            if index > 0 {
                let read: Vec<_> = view.iter().expect("an iterator").collect();
                let whole = lsns.iter().take_while(|lsn| lsn.get() + 1008 <= index * 4096).count();
                assert_eq!(read.len(), 1 + whole + 1, "missing {missing}");
                assert!(matches!(read.last(), Some(Err(Error::Corrupt { .. }))), "missing {missing}");
            }
        }
    }
}

/// The truncation comes when the view has learnt how far the log reaches, and walks there.
#[test]
fn a_truncation_under_a_view_that_walks_on_is_no_end_and_no_damage() {
    for keep in [1, 0] {
        let armed = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&armed);
        let (_disk, log, view) = followed(move |writer, seen| match seen {
            Seen::ToOpen(name) if name == segment_name(1) && now.swap(false, Ordering::Relaxed) => {
                let all = records(writer);
                let from = if keep == 1 { Lsn::new(all[all.len() - 1].0) } else { writer.tail().expect("open") };
                writer.truncate_before(from).expect("truncated");
            }
            _ => {}
        });
        let lsns = twenty(&log);
        armed.store(true, Ordering::Relaxed);
        if keep == 1 {
            assert_eq!(view.read(lsns[19]).expect("it was kept").data, [19; 1000]);
        } else {
            assert_eq!(view.tail().expect("a tail"), log.tail().expect("open"));
        }
        assert!(!armed.load(Ordering::Relaxed), "it came");
    }
}

/// It is flushed between two looks at the control slots of the one who reads it by its position.
#[test]
fn a_record_that_is_flushed_while_it_is_looked_for_is_no_damage() {
    let looks = Arc::new(AtomicU32::new(0));
    let now = Arc::clone(&looks);
    let (_disk, log, view) = followed(move |writer, seen| match seen {
        Seen::ToOpen("LOCK") if now.fetch_add(1, Ordering::Relaxed) == 1 => writer.flush().expect("flushed"),
        _ => {}
    });
    log.append(b"one").expect("appended");
    let lsn = log.append(b"two").expect("appended");
    looks.store(0, Ordering::Relaxed);
    let read = view.read(lsn);
    assert!(!matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
}

#[test]
fn a_segment_that_is_entered_while_the_log_is_verified_is_no_damage() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    for n in 0..3 {
        log.append_and_sync(&[n; 1000]).expect("synced");
    }
    let armed = AtomicBool::new(true);
    let storage = watched(&disk, move |seen| match seen {
        Seen::ToRead(name, 4096..) if name.ends_with(".wal") && armed.swap(false, Ordering::Relaxed) => {
            for n in 0..3 {
                log.append_and_sync(&[n; 1000]).expect("synced");
            }
        }
        _ => {}
    });
    let report = libwal::verify_on(storage, 1, &|_| {}).expect("verified");
    assert!(report.is_sound(), "{report:?}");
}

/// The head moves during each scan, however often one is made.
#[test]
fn what_is_truncated_while_the_log_is_verified_is_no_damage() {
    let disk = SimStorage::new();
    let log = open(&small(), &disk).expect("a new log");
    twenty(&log);
    let storage = watched(&disk, move |seen| match seen {
        Seen::ToRead(name, 4096..) if name.ends_with(".wal") => {
            for n in 0..5 {
                log.append_and_sync(&[n; 1000]).expect("synced");
            }
            log.truncate_before(Lsn::new(records(&log)[5].0)).expect("truncated");
        }
        _ => {}
    });
    let report = libwal::verify_on(storage, 1, &|_| {}).expect("verified");
    assert!(report.is_sound(), "{report:?}");
}
