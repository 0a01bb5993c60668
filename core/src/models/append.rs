//! RESERVE, COPY, PUBLISH and FLUSH; the ring's space when it comes round again; waiting for it.

use super::{Log, check, start};

#[test]
fn what_two_threads_append_is_flushed_whole() {
    check("append and flush", 1, || {
        let log = Log::quiet(0);
        let other = start(&log, |log| log.append(1, 0).map(drop));
        log.append(0, 0).expect("there is room");
        log.wal.flush().expect("the disk works");
        other.join().expect("no panic").expect("there is room");
        log.check_live();
    });
}

/// Nobody flushes but those who append: six records in a ring for four.
#[test]
fn ring_space_is_used_again_only_when_it_was_flushed() {
    check("a full ring", 1, || {
        let log = Log::quiet(0);
        // With it the next segment is prepared: nothing but the ring's space orders what follows.
        log.append(0, 9).expect("there is room");
        // These are published and not flushed.
        for nth in 0..2 {
            log.try_append(0, nth).expect("there is room");
        }
        let other = start(&log, |log| log.append(1, 0).and_then(|_| log.append(1, 1)).map(drop));
        log.append(0, 2).expect("somebody makes room");
        log.append(0, 3).expect("somebody makes room");
        other.join().expect("no panic").expect("somebody makes room");
        log.check_live();
        log.check_crashes();
    });
}

/// All or nothing, and no watermark inside it, while another thread flushes.
#[test]
fn a_batch_is_published_as_one() {
    check("a batch", 1, || {
        let log = Log::quiet(0);
        let other = start(&log, |log| log.append_batch(1, 2));
        log.wal.flush().expect("the disk works");
        let flushed = log.wal.durable_lsn();
        log.append_and_sync(0, 0).expect("the disk works");
        assert!(flushed <= log.wal.durable_lsn());
        other.join().expect("no panic").expect("there is room");
        log.check_live();
        log.check_crashes();
    });
}
