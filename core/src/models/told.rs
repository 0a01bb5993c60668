//! Completions: each request that was accepted is told of once, before the close returns, and what is told is so.

use std::sync::Mutex;

use super::{Log, check, counter, start, survives};
use crate::primitive::Arc;
use crate::{Error, Lsn, Result};

type Told = Arc<Mutex<Vec<Result<Lsn>>>>;

/// Appends with a callback, which notes what it is told and looks at the disk.
fn append_async(log: &Log, writer: u64, told: &Told) -> Result<Lsn> {
    let payload = log.payload(counter(writer, 0));
    let (disk, step, bytes, told) = (log.disk.clone(), Arc::clone(&log.step), payload.clone(), Arc::clone(told));
    let appended = log.wal.append_async(&payload, move |result| {
        // A panic in here would be caught by the log.
        let result = match result {
            Ok(lsn) if !survives(&disk, &step, &bytes) => Err(Error::corrupt(lsn.get(), "", "not there")),
            result => result,
        };
        told.lock().expect("no panic").push(result);
    });
    log.heard(counter(writer, 0), appended)
}

#[test]
fn a_close_returns_when_all_were_told() {
    check("completions and a close", 2, || {
        let log = Log::quiet(0);
        let told = Told::default();
        let others = Arc::clone(&told);
        let other = start(&log, move |log| append_async(log, 1, &others));
        log.wal.clone().close().expect("the disk works");
        match other.join().expect("no panic") {
            Ok(lsn) => {
                log.oracle.durable_to(lsn.get() + 1);
                let told = told.lock().expect("no panic");
                assert!(matches!(told[..], [Ok(it)] if it == lsn), "{told:?}");
            }
            Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
        }
        log.check_crashes();
    });
}
