//! Two threads that sync the same file: the operating system tells one of them of an error, and the log both.

use std::io::ErrorKind;

use super::check;
use crate::primitive::{Arc, thread};
use crate::segment::{Handles, segment_name};
use crate::storage::{Fault, Mode, SimOp, SimStorage, Storage};

#[test]
fn a_sync_beside_one_that_fails_is_no_success() {
    check("two syncs of a file", 3, || {
        let disk = SimStorage::new();
        disk.create_dir().expect("the disk works");
        disk.open(&segment_name(0), Mode::CreateNew).expect("the disk works");
        let handles = Arc::new(Handles::new(Arc::new(disk.clone()), Arc::default()));
        handles.get(0).expect("the disk works");
        disk.inject(Fault::new(SimOp::Sync, 0, ErrorKind::Other));
        let other = Arc::clone(&handles);
        let other = thread::spawn(move || other.sync(0));
        let synced = [handles.sync(0), other.join().expect("no panic")];
        assert!(synced.iter().all(Result::is_err), "{synced:?}");
    });
}
