//! `wal_iter_t`: the records of a log in order.

use std::ffi::c_int;
use std::ptr;
use std::time::Duration;

use libwal::{Iter, Lsn, RecordRef, Wal};

use crate::arguments::{required, timeout};
use crate::error::{Failure, WAL_END, WAL_OK, WAL_TIMEOUT, boundary};
use crate::handle::Table;
use crate::log::{wal_t, with_log};
use crate::record::wal_record_t;

/// The records of a log in order, up to where the log ended when it was made. One thread at a time; another's call at the
/// same time is WAL_ERR_INVALID_ARGUMENT. It keeps what it needs of its log: it stays usable when that is closed. It is
/// closed, once, by wal_iter_close().
pub struct wal_iter_t {
    _private: [u8; 0],
}

static ITERATORS: Table<Iter> = Table::new(2);

fn with_iter(iter: *mut wal_iter_t, call: impl FnOnce(&mut Iter) -> Result<c_int, Failure>) -> c_int {
    boundary(|| match ITERATORS.exclusive(iter.addr(), call) {
        Ok(result) => result,
        Err(refused) => Err(Failure::Handle(refused, "iterator")),
    })
}

fn make(log: *mut wal_t, out: *mut *mut wal_iter_t, begin: impl FnOnce(&Wal) -> libwal::Result<Iter>) -> c_int {
    with_log(log, |log| {
        // SAFETY: the caller passes a place for a pointer, or NULL.
        let out = unsafe { required(out, "out") }?;
        let handle = ITERATORS.insert(begin(&log.wal)?)?;
        out.write(ptr::without_provenance_mut(handle));
        Ok(WAL_OK)
    })
}

/// Makes an iterator over the records from the one that begins at `from` on; `from` may also be the end of the log. It
/// belongs to the caller, who closes it with wal_iter_close(). What was appended before is flushed first, and is seen.
/// Any thread.
/// WAL_ERR_INVALID_ARGUMENT inside a record or beyond the end. WAL_ERR_TRUNCATED below the head. WAL_ERR_CORRUPT, WAL_ERR_IO.
/// WAL_ERR_POISONED: a write failed, now or before what begins there was flushed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_iter(log: *mut wal_t, from: u64, out: *mut *mut wal_iter_t) -> c_int {
    make(log, out, |wal| wal.iter_from(Lsn::new(from)))
}

/// The same over all records, from the head on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_iter_from_head(log: *mut wal_t, out: *mut *mut wal_iter_t) -> c_int {
    make(log, out, Wal::iter)
}

/// The same over the records from the last durable checkpoint on, beginning with the checkpoint record itself; all records
/// if there is none. Another checkpoint record may follow, of a crash before it was known as the last: its state takes the
/// place of what was read before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_iter_from_checkpoint(log: *mut wal_t, out: *mut *mut wal_iter_t) -> c_int {
    make(log, out, Wal::iter_from_checkpoint)
}

/// Writes what was read, if anything was.
///
/// # Safety
/// `out` is NULL or leads to a place for a record.
unsafe fn give(record: Option<RecordRef<'_>>, none: c_int, out: *mut wal_record_t) -> Result<c_int, Failure> {
    // SAFETY: this function's contract.
    let out = unsafe { required(out, "out") }?;
    let Some(RecordRef { lsn, kind, data }) = record else { return Ok(none) };
    out.write(wal_record_t::new(lsn, kind, data));
    Ok(WAL_OK)
}

/// Stores the next record, whose checksum was checked. Its bytes belong to the iterator and hold until the next call on it.
/// WAL_END: there is none. After an error there is none either.
/// WAL_ERR_CORRUPT. WAL_ERR_TRUNCATED: the position was truncated away meanwhile. WAL_ERR_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_iter_next(iter: *mut wal_iter_t, out: *mut wal_record_t) -> c_int {
    // SAFETY: the caller passes a place for a record, or NULL. It is looked at before the iterator moves.
    with_iter(iter, |iter| unsafe {
        required(out, "out")?;
        give(iter.next_ref()?, WAL_END, out)
    })
}

/// As wal_iter_next(), beyond the end that the log had: waits up to `timeout_ms` milliseconds (0: not at all; negative:
/// for ever) for a record to be appended. WAL_TIMEOUT: none came. WAL_END, at once: none can come any more, since the log was
/// this process's to write and is closed, or the iterator met an error before. That another process has closed its log is not
/// seen. It sees records once they are flushed, perhaps before they are durable: compare with wal_durable_lsn() where that
/// matters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_iter_follow(iter: *mut wal_iter_t, timeout_ms: i64, out: *mut wal_record_t) -> c_int {
    // SAFETY: as in `wal_iter_next`.
    with_iter(iter, |iter| unsafe {
        required(out, "out")?;
        let given = give(iter.follow(timeout(timeout_ms).unwrap_or(Duration::MAX))?, WAL_TIMEOUT, out)?;
        Ok(if given == WAL_TIMEOUT && iter.ended() { WAL_END } else { given })
    })
}

/// Moves the iterator's end to where the log ends now. WAL_OK: there may be more to read. WAL_END: there is not.
/// WAL_ERR_IO, WAL_ERR_POISONED.
#[unsafe(no_mangle)]
pub extern "C" fn wal_iter_refresh(iter: *mut wal_iter_t) -> c_int {
    with_iter(iter, |iter| Ok(if iter.refresh()? { WAL_OK } else { WAL_END }))
}

/// Stores where the iterator stands: at the next record, or at one of the log's own in front of it. Behind a checkpoint
/// record, that is where the log begins to grow beyond it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_iter_position(iter: *mut wal_iter_t, lsn: *mut u64) -> c_int {
    with_iter(iter, |iter| {
        // SAFETY: the caller passes a place for one number, or NULL.
        unsafe { required(lsn, "lsn") }?.write(Iter::position(iter).get());
        Ok(WAL_OK)
    })
}

/// Closes an iterator and frees it. NULL and iterators that were closed are left alone, and so is one that another thread
/// is using.
#[unsafe(no_mangle)]
pub extern "C" fn wal_iter_close(iter: *mut wal_iter_t) {
    let _ = boundary(|| Ok(ITERATORS.remove(iter.addr()).map_or(WAL_OK, |_| WAL_OK)));
}
