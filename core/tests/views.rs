//! Handles that read what another one writes.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{open, records, small};
use libwal::storage::SimStorage;
use libwal::{Error, Lsn};

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
