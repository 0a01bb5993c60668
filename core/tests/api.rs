//! The public API, call by call: what each returns, and what each refuses.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use libwal::format::Kind;
use libwal::prelude::*;
use libwal::storage::{Fault, SimOp, SimStorage};

fn small() -> Options {
    Options::new().segment_size(4096).buffer_size(4096).background(false)
}

fn open(options: Options, storage: &SimStorage) -> Wal {
    options.open_on(Arc::new(storage.clone())).unwrap()
}

fn lsns(iter: Iter) -> Vec<u64> {
    iter.map(|record| record.unwrap().lsn.get()).collect()
}

fn is_invalid<T>(result: libwal::Result<T>) -> bool {
    matches!(result, Err(Error::InvalidArgument(_)))
}

#[test]
fn error_codes_are_stable() {
    let path = std::path::PathBuf::new;
    let io = || Arc::new(std::io::Error::from_raw_os_error(5));
    let errors = [
        Error::Io { op: "read", path: path(), source: io() },
        Error::NoSpace { path: path() },
        Error::Corrupt { lsn: Lsn::ZERO, path: path(), reason: String::new() },
        Error::Locked { path: path() },
        Error::Poisoned { cause: Arc::new(Error::Io { op: "sync", path: path(), source: io() }) },
        Error::Closed,
        Error::TooLarge { len: 1, max: 0 },
        Error::Full,
        Error::InvalidArgument(String::new()),
        Error::Truncated { head: Lsn::ZERO },
        Error::Forked,
        Error::UnsupportedVersion { path: path(), found: 2, supported: 1 },
    ];
    assert_eq!(errors.each_ref().map(Error::code), std::array::from_fn(|nth| -1 - nth as i32));
    assert_eq!((errors[0].errno(), errors[4].errno(), errors[5].errno()), (Some(5), Some(5), None));
}

#[test]
fn options_outside_their_domain_are_refused_before_anything_is_made() {
    let bad = [
        Options::new().segment_size(5000),
        Options::new().segment_size(2048),
        Options::new().segment_size(8 << 30),
        Options::new().buffer_size(1000),
        Options::new().max_record_size(1 << 28),
        Options::new().sync_interval(Some(Duration::from_micros(10))),
        Options::new().sync_interval(Some(Duration::from_secs(1))).background(false),
        Options::new().first_lsn(Lsn::new(7)),
    ];
    for options in bad {
        let storage = SimStorage::new();
        assert!(is_invalid(options.clone().open_on(Arc::new(storage.clone()))), "{options:?}");
        assert_eq!(storage.operations(), 0);
    }
}

#[test]
fn records_of_every_length_come_back() {
    let log = open(small().max_record_size(20_000), &SimStorage::new());
    for len in [0, 1, 7, 8, 9, 4080, 4088, 4089, 8192, 20_000] {
        let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let lsn = log.append(&data).unwrap();
        assert_eq!(log.read(lsn).unwrap(), Record { lsn, kind: Kind::Data, data });
    }
    let too_large = log.append(&[0; 20_001]).unwrap_err();
    assert!(matches!(too_large, Error::TooLarge { len: 20_001, max: 20_000 }));
    assert_eq!(log.iter().unwrap().count(), 10);
}

#[test]
fn a_position_inside_a_record_or_beyond_the_end_is_refused_everywhere() {
    let storage = SimStorage::new();
    let log = open(small(), &storage);
    // The payload holds the image of a whole valid record of this very log, which a reader might take for one.
    log.append(b"first").unwrap();
    log.flush().unwrap();
    let image = storage.read_file("00000000000000000000.wal").unwrap()[4096..4112].to_vec();
    let lsn = log.append(&image.repeat(20)).unwrap();
    log.append(&[1; 5000]).unwrap();
    let tail = log.tail().unwrap();
    for inside in [lsn.get() + 1, lsn.get() + 8, lsn.get() + 16, lsn.get() + 24, tail.get() - 8, 4096] {
        let inside = Lsn::new(inside);
        assert!(is_invalid(log.iter_from(inside)), "{inside}");
        assert!(is_invalid(log.read(inside)));
        assert!(is_invalid(log.sync_to(inside)));
        assert!(is_invalid(log.truncate_before(inside)));
    }
    for beyond in [tail.get() + 8, u64::MAX] {
        assert!(is_invalid(log.iter_from(Lsn::new(beyond))));
        assert!(is_invalid(log.read(Lsn::new(beyond))));
        assert!(is_invalid(log.sync_to(Lsn::new(beyond))));
        assert!(is_invalid(log.truncate_before(Lsn::new(beyond))));
        assert!(is_invalid(log.wait_durable(Lsn::new(beyond), None)));
    }
    assert_eq!(log.iter_from(tail).unwrap().count(), 0);
    assert!(is_invalid(log.read(tail)));
    assert!(is_invalid(log.sync_to(tail)));
}

#[test]
fn a_sync_makes_durable_what_it_says() {
    let log = open(small(), &SimStorage::new());
    let first = log.append(b"1").unwrap();
    let second = log.append(b"2").unwrap();
    assert_eq!(log.durable_lsn(), first);
    assert!(!log.wait_durable(first, Some(Duration::from_millis(1))).unwrap());
    log.sync_to(first).unwrap();
    assert!(log.durable_lsn() > first);
    log.sync().unwrap();
    assert!(log.durable_lsn() > second);
    assert!(log.wait_durable(second, None).unwrap());
    let third = log.append_and_sync(b"3").unwrap();
    assert!(log.durable_lsn() > third);
    let stats = log.stats().unwrap();
    assert!(stats.syncs >= 2 && stats.records >= 3 && stats.bytes > 0 && stats.flushes > 0, "{stats:?}");
    assert_eq!(stats.sync_latency.buckets.iter().map(|(_, counted)| counted).sum::<u64>(), stats.syncs);
    assert!(stats.durable <= stats.flushed && stats.flushed <= stats.published && stats.published <= stats.reserved);
}

#[test]
fn a_timed_sync_makes_durable_without_being_asked() {
    let dir = tempfile::tempdir().unwrap();
    let log =
        small().background(true).sync_interval(Some(Duration::from_millis(1))).open(dir.path().join("log")).unwrap();
    let lsn = log.append(b"soon").unwrap();
    assert!(log.wait_durable(lsn, None).unwrap());
    assert!(log.durable_lsn() > lsn);
}

#[test]
fn replay_begins_with_the_last_checkpoint() {
    let storage = SimStorage::new();
    let log = open(small(), &storage);
    let before = log.append(b"before").unwrap();
    assert_eq!(log.last_checkpoint(), None);
    assert_eq!(lsns(log.iter_from_checkpoint().unwrap()), [before.get()]);
    log.checkpoint(b"old").unwrap();
    let checkpoint = log.checkpoint(b"state").unwrap();
    let behind = log.append(b"behind").unwrap();
    let expected = [checkpoint.get(), behind.get()];
    assert_eq!(lsns(log.iter_from_checkpoint().unwrap()), expected);
    assert_eq!(log.read(checkpoint).unwrap().kind, Kind::Checkpoint);
    log.close().unwrap();
    let log = open(small(), &storage);
    assert_eq!(
        (log.last_checkpoint(), lsns(log.iter_from_checkpoint().unwrap())),
        (Some(checkpoint), expected.to_vec())
    );
    // Also after a crash, and however far behind it lies.
    for _ in 0..100 {
        log.append_and_sync(&[0; 500]).unwrap();
    }
    let killed = storage.kill();
    drop(log);
    let log = open(small(), &killed);
    assert_eq!(log.last_checkpoint(), Some(checkpoint));
    assert_eq!(log.iter_from_checkpoint().unwrap().count(), 102);
    // Truncated away on purpose: the rest is all there is.
    log.sync().unwrap();
    let head = log.truncate_before(log.tail().unwrap()).unwrap();
    assert!(head > checkpoint);
    assert_eq!(log.last_checkpoint(), None);
}

#[test]
fn truncation_frees_whole_segments_and_nothing_that_is_asked_for() {
    let storage = SimStorage::new();
    let log = open(small().recycle(1), &storage);
    let positions: Vec<_> = (0..100u8).map(|n| log.append(&[n; 300]).unwrap()).collect();
    // Not durable yet: nothing may be freed.
    assert_eq!(log.truncate_before(positions[50]).unwrap(), Lsn::ZERO);
    log.sync().unwrap();
    let head = log.truncate_before(positions[50]).unwrap();
    assert!(head > Lsn::ZERO && head <= positions[50]);
    assert_eq!(lsns(log.iter().unwrap())[0], head.get());
    let kept = log.iter().unwrap().count();
    assert!((50..50 + 14).contains(&kept), "{kept}");
    assert!(matches!(log.read(positions[0]), Err(Error::Truncated { head: now }) if now == head));
    assert!(matches!(log.iter_from(positions[0]), Err(Error::Truncated { .. })));
    assert_eq!(log.truncate_before(positions[3]).unwrap(), head);
    assert_eq!(storage.names().iter().filter(|name| name.ends_with(".spare")).count(), 1);
    // The spare is used again, and its old records are not seen.
    for n in 0..40u8 {
        log.append_and_sync(&[n; 300]).unwrap();
    }
    assert_eq!(storage.names().iter().filter(|name| name.ends_with(".spare")).count(), 0);
    assert_eq!(log.iter().unwrap().count(), kept + 40);
    log.close().unwrap();
    assert_eq!(open(small(), &storage).iter().unwrap().count(), kept + 40);
}

#[test]
fn an_iterator_sees_a_prefix_and_outlives_its_log() {
    let log = open(small(), &SimStorage::new());
    let first = log.append(b"1").unwrap();
    let mut iter = log.iter().unwrap();
    let second = log.append(b"2").unwrap();
    assert_eq!(iter.next_ref().unwrap().unwrap().lsn, first);
    assert!(iter.next_ref().unwrap().is_none());
    assert!(iter.refresh().unwrap());
    assert_eq!(iter.next_ref().unwrap().unwrap().lsn, second);
    assert!(iter.follow(Duration::from_millis(1)).unwrap().is_none());
    let third = log.append(b"3").unwrap();
    assert_eq!(iter.follow(Duration::from_secs(10)).unwrap().unwrap().data, b"3");
    let from = log.iter_from(second).unwrap();
    log.close().unwrap();
    assert_eq!(lsns(from), [second.get(), third.get()]);
}

#[test]
fn an_iterator_that_meets_a_truncated_position_says_so() {
    let log = open(small().recycle(0), &SimStorage::new());
    for _ in 0..1000 {
        log.append(&[1; 1000]).unwrap();
    }
    log.sync().unwrap();
    let mut iter = log.iter().unwrap();
    iter.next_ref().unwrap();
    log.truncate_before(log.tail().unwrap()).unwrap();
    let error = iter.find_map(Result::err).expect("an error");
    assert!(matches!(error, Error::Truncated { .. }), "{error}");
    assert!(iter.next_ref().unwrap().is_none());
    assert!(iter.follow(Duration::from_secs(60)).unwrap().is_none(), "nothing more after an error, and no wait");
    assert!(iter.ended());
}

#[test]
fn retention_drops_old_segments_but_nothing_behind_the_checkpoint() {
    let fill = |options: Options, checkpoint: bool| {
        let storage = SimStorage::new();
        let log = open(options, &storage);
        if checkpoint {
            log.checkpoint(b"early").unwrap();
        }
        for _ in 0..100 {
            log.append_and_sync(&[1; 1000]).unwrap();
        }
        (log.stats().unwrap(), log.iter().unwrap().count())
    };
    for retention in [Retention::Bytes(20_000), Retention::Segments(5)] {
        let options = small().retention(retention);
        let (stats, _) = fill(options.clone().retain_checkpoint(false), false);
        assert!(stats.head > Lsn::new(60_000) && stats.segments <= 8, "{stats:?}");
        assert_eq!(fill(options.clone(), false).1, 100);
        assert_eq!(fill(options.clone(), true).1, 101);
        let storage = SimStorage::new();
        let log = open(options, &storage);
        for _ in 0..100 {
            log.append_and_sync(&[1; 1000]).unwrap();
        }
        let checkpoint = log.checkpoint(b"late").unwrap();
        assert!(log.head().unwrap() > Lsn::new(60_000));
        assert_eq!(log.last_checkpoint(), Some(checkpoint));
    }
}

#[test]
fn a_checkpoint_is_made_though_what_it_frees_cannot_be_removed() {
    let storage = SimStorage::new();
    let options = small().retention(Retention::Segments(2)).recycle(0);
    let log = open(options.clone(), &storage);
    for _ in 0..20 {
        log.append_and_sync(&[1; 1000]).unwrap();
    }
    storage.inject(Fault::new(SimOp::Remove, 0, ErrorKind::PermissionDenied).sticky());
    let checkpoint = log.checkpoint(b"state").unwrap();
    assert_eq!(log.last_checkpoint(), Some(checkpoint));
    assert!(log.head().unwrap() > Lsn::ZERO);
    assert!(storage.read_file("00000000000000000000.wal").is_some(), "it could not be removed");
    log.append_and_sync(b"more").unwrap();
    drop(log);
    let storage = storage.kill();
    assert_eq!(open(options, &storage).last_checkpoint(), Some(checkpoint));
    assert!(storage.read_file("00000000000000000000.wal").is_none(), "the next open has removed it");
}

#[test]
fn try_append_does_not_wait() {
    let log = open(small(), &SimStorage::new());
    assert!(matches!(log.try_append(&[0; 5000]), Err(Error::TooLarge { .. })));
    let full = (0..100).find_map(|_| log.try_append(&[0; 1000]).err()).expect("a full buffer");
    assert!(matches!(full, Error::Full));
    log.flush().unwrap();
    log.append(&[0; 2000]).unwrap();
    log.flush().unwrap();
    log.try_append(b"again").unwrap();
}

#[test]
fn a_log_may_continue_another_one() {
    let storage = SimStorage::new();
    let start = Lsn::new(4096 * 77 + 1016);
    let log = open(small().first_lsn(start), &storage);
    assert_eq!((log.head().unwrap(), log.tail().unwrap(), log.iter().unwrap().count()), (start, start, 0));
    assert_eq!(log.append(b"first").unwrap(), start);
    assert!(matches!(log.read(Lsn::ZERO), Err(Error::Truncated { head }) if head == start));
    let killed = storage.kill();
    drop(log);
    for storage in [killed, storage] {
        let log = open(small(), &storage);
        assert_eq!(lsns(log.iter().unwrap()).first().copied().unwrap_or(start.get()), start.get());
        assert!(log.append_and_sync(b"more").unwrap() > start);
    }
}

#[test]
fn one_log_has_one_writer_and_a_closed_one_takes_nothing() {
    let storage = SimStorage::new();
    let log = open(small(), &storage);
    let second = small().open_on(Arc::new(storage.clone()));
    assert!(matches!(second, Err(Error::Locked { .. })));
    let clone = log.clone();
    let lsn = clone.append(b"1").unwrap();
    log.close().unwrap();
    assert!(matches!(clone.append(b"2"), Err(Error::Closed)));
    assert!(matches!(clone.append(&[0; 10_000]), Err(Error::Closed)));
    assert!(matches!(clone.try_append(b"2"), Err(Error::Closed)));
    assert!(matches!(clone.append_batch(&["2", "3"]), Err(Error::Closed)));
    assert!(matches!(clone.sync(), Err(Error::Closed)));
    assert!(matches!(clone.flush(), Err(Error::Closed)));
    assert!(matches!(clone.truncate_before(lsn), Err(Error::Closed)));
    assert!(matches!(clone.checkpoint(b""), Err(Error::Closed)));
    assert_eq!(lsns(clone.iter().unwrap()), [lsn.get()]);
    // The lock is free although a clone is still there.
    let again = open(small(), &storage);
    assert_eq!(lsns(again.iter().unwrap()), [lsn.get()]);
    assert!(matches!(clone.close(), Err(Error::Closed)));
}

#[test]
fn dropping_the_last_clone_closes_cleanly() {
    let storage = SimStorage::new();
    let log = open(small(), &storage);
    log.append(b"kept").unwrap();
    drop(log.clone());
    log.append(b"kept too").unwrap();
    drop(log);
    let report = libwal::verify_on(Arc::new(storage.crash(1)), 1, &|_| {}).unwrap();
    assert!(report.closed_cleanly && report.records == 2 && report.is_sound(), "{report:?}");
}

#[test]
fn a_reader_follows_the_writer_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = small().open(&path).unwrap();
    let first = log.append_and_sync(b"1").unwrap();
    let reader = Options::new().read_only(true).open(&path).unwrap();
    assert!(is_invalid(reader.append(b"no")) && is_invalid(reader.sync()) && is_invalid(reader.truncate_before(first)));
    let mut iter = reader.iter().unwrap();
    assert_eq!(iter.next_ref().unwrap().unwrap().lsn, first);
    assert!(iter.follow(Duration::from_millis(1)).unwrap().is_none());
    let mut expected = vec![first.get()];
    let mut seen = expected.clone();
    for round in 0..50u8 {
        expected.push(log.append(&[round; 700]).unwrap().get());
        expected.extend(log.append_batch(&[[round; 10], [round; 10]]).unwrap().into_iter().map(Lsn::get));
        log.flush().unwrap();
        for _ in 0..3 {
            seen.push(iter.follow(Duration::from_secs(20)).unwrap().unwrap().lsn.get());
        }
    }
    assert_eq!(seen, expected);
    assert_eq!(lsns(reader.iter().unwrap()), expected);
    log.truncate_before(log.tail().unwrap()).unwrap();
    log.sync().unwrap();
    log.truncate_before(log.tail().unwrap()).unwrap();
    assert!(reader.head().unwrap() > first);
    assert!(matches!(reader.read(first), Err(Error::Truncated { .. })));
    reader.close().unwrap();
    log.append(b"the writer goes on").unwrap();
}

#[test]
fn a_reader_needs_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    for options in
        [Options::new().read_only(true), Options::new().create(false), Options::new().recovery(Recovery::Salvage)]
    {
        assert!(options.clone().open(&missing).is_err());
        assert!(!missing.exists());
        assert!(options.open(dir.path()).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_close_that_succeeded_is_a_clean_one_whatever_raced_with_it() {
    for _ in 0..200 {
        let storage = SimStorage::new();
        let log = open(small(), &storage);
        let racing = log.clone();
        let other = std::thread::spawn(move || {
            while racing.checkpoint(b"state").is_ok() && racing.append(&[1; 900]).is_ok() {
                let _ = racing.truncate_before(racing.tail().unwrap());
            }
        });
        std::thread::yield_now();
        log.close().unwrap();
        other.join().unwrap();
        let report = libwal::verify_on(Arc::new(storage), 1, &|_| {}).unwrap();
        assert!(report.closed_cleanly && report.is_sound(), "{report:?}");
    }
}

#[test]
fn a_log_of_records_larger_than_the_buffer_is_retained_as_any_other() {
    for background in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new().segment_size(1 << 16).buffer_size(4096).background(background);
        let options = options.retention(Retention::Segments(2)).retain_checkpoint(false);
        let log = options.open(dir.path().join("log")).unwrap();
        for _ in 0..300 {
            log.append_and_sync(&[1; 8000]).unwrap();
        }
        // The thread may be behind; closing waits for it.
        while background && log.stats().unwrap().segments > 6 {
            log.append_and_sync(&[1; 8000]).unwrap();
        }
        assert!(log.stats().unwrap().segments <= 6);
    }
}

#[test]
fn a_log_that_only_tries_to_append_goes_on_without_a_background_thread() {
    let log = open(small(), &SimStorage::new());
    for _ in 0..200 {
        if matches!(log.try_append(&[1; 900]), Err(Error::Full)) {
            log.sync().unwrap();
            log.try_append(&[1; 900]).unwrap();
        }
    }
    assert_eq!(log.iter().unwrap().count(), 200);
}

#[test]
fn retention_serves_a_log_that_only_tries_to_append() {
    let log = open(small().retention(Retention::Segments(2)).retain_checkpoint(false), &SimStorage::new());
    for _ in 0..200 {
        while log.try_append(&[1; 900]).is_err() {
            log.sync().unwrap();
        }
    }
    assert!(log.stats().unwrap().segments <= 4);
}

#[test]
fn a_poisoned_or_closed_log_says_so_also_where_nothing_is_to_be_done() {
    let storage = SimStorage::new();
    let log = open(small(), &storage);
    let lsn = log.append_and_sync(b"x").unwrap();
    storage.inject(Fault::errno(SimOp::Sync, 0, 5));
    log.append_and_sync(b"y").unwrap_err();
    assert!(matches!(log.sync_to(lsn), Err(Error::Poisoned { .. })));
    assert!(matches!(log.append_batch::<&[u8]>(&[]), Err(Error::Poisoned { .. })));
    let clone = log.clone();
    log.close().unwrap_err();
    assert!(matches!(clone.append_batch::<&[u8]>(&[]), Err(Error::Closed)));
}

#[test]
fn refused_appends_never_wear_a_closed_log_out() {
    let log = open(small(), &SimStorage::new());
    let clone = log.clone();
    log.close().unwrap();
    let huge = vec![0; 60 << 20];
    for _ in 0..1000 {
        assert!(matches!(clone.append(&huge), Err(Error::Closed)));
        assert!(matches!(clone.try_append(b"x"), Err(Error::Closed)));
    }
}
