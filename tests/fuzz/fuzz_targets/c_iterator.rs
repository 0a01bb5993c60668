//! The C functions over a directory that was tampered with, in a real file system, as a C program calls them.
#![no_main]

use std::ffi::{CString, c_int};
use std::fs;
use std::path::PathBuf;
use std::ptr::{null_mut, slice_from_raw_parts};
use std::sync::LazyLock;

use fuzzing::base::base;
use fuzzing::step::Case;
use wal::*;

/// Below `TMPDIR`, which the check puts into memory. Taken away after each input.
static DIR: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("c_iterator-{}", std::process::id())));

const LSNS: [u64; 6] = [0, 8, 100, 4096, 13_096, u64::MAX];

libfuzzer_sys::fuzz_target!(|case: Case| {
    let log = DIR.join("log");
    fs::create_dir_all(&log).expect("a directory");
    for (name, bytes) in &case.files {
        fs::write(log.join(name), bytes).expect("a file");
    }
    let dir = CString::new(log.to_str().expect("a path")).expect("no zeros");
    let keep = CString::new(DIR.join("keep").to_str().expect("a path")).expect("no zeros");
    let first = case.steps.first().map_or(0, |step| step.value);
    if first % 4 == 0 {
        read_all(&dir, 1, 0, &case);
    }
    read_all(&dir, 0, WAL_RECOVERY_SALVAGE, &case);
    let strict = read_all(&dir, 0, WAL_RECOVERY_STRICT, &case);
    if strict.is_none() {
        // SAFETY: both paths end in a zero; a report is not wanted.
        let mended = unsafe { wal_repair(dir.as_ptr(), keep.as_ptr(), null_mut()) };
        assert_ne!(mended, WAL_ERR_PANIC, "wal_repair");
    }
    fs::remove_dir_all(&*DIR).expect("taken away");
});

/// Opens, walks, seeks, reads, appends and closes. Returns how many records there were, if none was bad.
fn read_all(dir: &CString, read_only: c_int, recovery: c_int, case: &Case) -> Option<usize> {
    let options = wal_options_new();
    assert_eq!(wal_options_set_segment_size(options, 4096), WAL_OK);
    assert_eq!(wal_options_set_buffer_size(options, 4096), WAL_OK);
    assert_eq!(wal_options_set_background(options, 0), WAL_OK);
    assert_eq!(wal_options_set_read_only(options, read_only), WAL_OK);
    assert_eq!(wal_options_set_recovery(options, recovery), WAL_OK);
    let mut log = null_mut();
    // SAFETY: the path ends in a zero, and `log` is a place for a pointer.
    let opened = unsafe { wal_open(dir.as_ptr(), options, &raw mut log) };
    wal_options_free(options);
    assert_ne!(opened, WAL_ERR_PANIC, "wal_open");
    if opened != WAL_OK {
        assert!(log.is_null(), "a failed open gave a log");
        return None;
    }
    let count = walk(log, case);
    for lsn in LSNS {
        seek(log, lsn);
    }
    let mut lsn = 0;
    // SAFETY: four bytes to read, and a place for a number.
    let appended = unsafe { wal_append_and_sync(log, b"more".as_ptr().cast(), 4, &raw mut lsn) };
    assert_ne!(appended, WAL_ERR_PANIC, "wal_append_and_sync");
    if appended == WAL_OK {
        let read = seek(log, lsn);
        assert!(case.forged || read.as_deref() == Some(&b"more"[..]), "what was appended is not read: {read:?}");
    } else {
        assert!(case.forged || read_only == 1 || recovery == WAL_RECOVERY_SALVAGE, "append: {appended}");
    }
    let closed = wal_close(log);
    assert_ne!(closed, WAL_ERR_PANIC, "wal_close");
    assert_eq!(wal_close(log), WAL_ERR_CLOSED, "closed twice");
    count
}

/// Walks over all records and compares what was not forged with what was appended.
fn walk(log: *mut wal_t, case: &Case) -> Option<usize> {
    let mut iter = null_mut();
    // SAFETY: `iter` is a place for a pointer.
    let made = unsafe { wal_iter_from_head(log, &raw mut iter) };
    assert_ne!(made, WAL_ERR_PANIC, "wal_iter_from_head");
    if made != WAL_OK {
        return None;
    }
    let mut record = wal_record_t { lsn: 0, data: null_mut(), len: 0, kind: 0, reserved: 0 };
    let (mut last, mut count) = (None, 0);
    let end = loop {
        // SAFETY: `record` is a place for a record.
        let next = unsafe { wal_iter_next(iter, &raw mut record) };
        if next != WAL_OK {
            break next;
        }
        assert!(last.is_none_or(|last| last < record.lsn), "LSNs do not rise");
        last = Some(record.lsn);
        count += 1;
        // SAFETY: the bytes hold until the next call on the iterator.
        let data = unsafe { &*slice_from_raw_parts(record.data.cast::<u8>(), record.len) };
        let held = |held: &libwal::Record| held.lsn.get() == record.lsn && held.data == data;
        let kind = (1..=4).contains(&record.kind);
        assert!(kind && (case.forged || base(case.base).held.iter().any(held)), "{} was made up", record.lsn);
    };
    assert_ne!(end, WAL_ERR_PANIC, "wal_iter_next");
    // SAFETY: as above.
    assert_eq!(unsafe { wal_iter_next(iter, &raw mut record) }, WAL_END, "something follows the end");
    wal_iter_close(iter);
    (end == WAL_END).then_some(count)
}

/// Reads the one record at `lsn`, and makes an iterator there.
fn seek(log: *mut wal_t, lsn: u64) -> Option<Vec<u8>> {
    let (mut iter, mut record) = (null_mut(), null_mut());
    // SAFETY: `iter` is a place for a pointer.
    let made = unsafe { wal_iter(log, lsn, &raw mut iter) };
    assert_ne!(made, WAL_ERR_PANIC, "wal_iter");
    if made == WAL_OK {
        wal_iter_close(iter);
    }
    // SAFETY: `record` is a place for a pointer.
    let read = unsafe { wal_read(log, lsn, &raw mut record) };
    assert_ne!(read, WAL_ERR_PANIC, "wal_read");
    if read != WAL_OK {
        return None;
    }
    // SAFETY: the record and its bytes hold until it is freed, once.
    unsafe {
        let data = (*slice_from_raw_parts((*record).data.cast::<u8>(), (*record).len)).to_vec();
        wal_record_free(record);
        Some(data)
    }
}
