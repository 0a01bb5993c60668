//! Closing, while another thread appends: what was accepted is there, and nothing is accepted behind the end.

use super::{Log, check, start};
use crate::{Error, Options};

#[test]
fn a_close_waits_for_what_is_reserved() {
    check("close against append", 2, || {
        let log = Log::quiet(0);
        let other = start(&log, |log| log.append(1, 0));
        let closed = log.wal.clone().close();
        let appended = other.join().expect("no panic");
        closed.expect("the disk works");
        match appended {
            // Whatever the power does from now on.
            Ok(lsn) => log.oracle.durable_to(lsn.get() + 1),
            Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
        }
        log.check_crashes();
    });
}

/// The thread in the background hears of its work, and of the end, without any clock.
#[test]
fn the_background_thread_is_woken_and_stopped() {
    check("the background thread", 3, || {
        crate::primitive::never_time_out();
        let log = Log::new(0, Options::new().background(true));
        let lsn = log.append(0, 0).expect("there is room");
        log.wal.clone().close().expect("the disk works");
        log.oracle.durable_to(lsn.get() + 1);
        log.check_crashes();
    });
}
