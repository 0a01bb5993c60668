//! Callbacks, and a descriptor for event loops: durability without a thread that waits for it.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use libwal::Lsn;

use crate::arguments::{bytes, required, write_optional};
use crate::error::{Failure, WAL_NO_LSN, WAL_OK, remember};
use crate::log::{Log, wal_t, with_log};

/// What is called when something became durable, or never will: WAL_OK and the LSN, or an error code and WAL_NO_LSN, with
/// the message in wal_last_error(). Called once for each request that succeeded, on a thread of the log's own, one after
/// the other; it delays the others while it runs. It may use the log, also append to it and close it; a call in it that
/// waits for a sync keeps the others waiting. It must return: no exception and no longjmp may leave it.
pub type wal_done_fn = Option<unsafe extern "C" fn(context: *mut c_void, code: c_int, lsn: u64)>;

/// A callback and what it is called with.
struct Callback(wal_done_fn, *mut c_void);

// SAFETY: the header says that the callback is made on another thread; what the context leads to is the caller's to guard.
unsafe impl Send for Callback {}

impl Callback {
    fn call(self, result: libwal::Result<Lsn>) {
        let (code, lsn) = match result {
            Ok(lsn) => (WAL_OK, lsn.get()),
            Err(error) => (remember(&Failure::Log(error)), WAL_NO_LSN),
        };
        if let Callback(Some(function), context) = self {
            // SAFETY: the caller passed this function to be called with this context, once, on this thread.
            unsafe { function(context, code, lsn) };
        }
    }
}

fn done(log: &Log, function: wal_done_fn, context: *mut c_void) -> impl FnOnce(libwal::Result<Lsn>) + Send + 'static {
    let (callback, event) = (Callback(function, context), Arc::clone(&log.event));
    move |result| {
        callback.call(result);
        event.raise();
    }
}

/// Appends a record as wal_append() does, stores its LSN, and returns at once. Once the record is durable, or failed to
/// become so, `done` (which may be NULL) is called with `context`, and the descriptor of wal_event_fd() becomes readable.
/// If this returns an error, it is not called; otherwise exactly once, perhaps before this returns, and at the latest
/// before wal_close() does. But if a callback closes the log, the callbacks that are outstanding are made after that
/// callback returns. Any number of records may be outstanding; they share syncs. Any thread.
/// As wal_append(); WAL_ERR_IO if the log's commit thread cannot be started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_append_async(
    log: *mut wal_t,
    data: *const c_void,
    len: usize,
    done_fn: wal_done_fn,
    context: *mut c_void,
    lsn: *mut u64,
) -> c_int {
    with_log(log, |log| {
        // SAFETY: the caller passes `len` readable bytes, and a place for a number or NULL.
        unsafe {
            let position = log.wal.append_async(bytes(data.cast(), len)?, done(log, done_fn, context))?;
            write_optional(lsn, position.get());
        }
        Ok(WAL_OK)
    })
}

/// Makes every record that was appended before durable, without waiting for it: `done` (which may be NULL) is called as by
/// wal_append_async(), with the position below which everything is durable then. Any thread.
/// A writing call, but that the log is poisoned is told to `done`. WAL_ERR_IO if the commit thread cannot be started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_sync_async(log: *mut wal_t, done_fn: wal_done_fn, context: *mut c_void) -> c_int {
    with_log(log, |log| {
        log.wal.sync_async(done(log, done_fn, context))?;
        Ok(WAL_OK)
    })
}

/// Makes the record that begins at `lsn` durable, without waiting for it: `done` (which may be NULL) is called as by
/// wal_append_async(). Whether a record begins there is not looked at. Any thread.
/// As wal_sync_async(); WAL_ERR_INVALID_ARGUMENT beyond the end.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_when_durable(
    log: *mut wal_t,
    lsn: u64,
    done_fn: wal_done_fn,
    context: *mut c_void,
) -> c_int {
    with_log(log, |log| {
        log.wal.when_durable(Lsn::new(lsn), done(log, done_fn, context))?;
        Ok(WAL_OK)
    })
}

/// Stores a descriptor for poll(), epoll and their like. It becomes readable when a request of wal_append_async(),
/// wal_sync_async() or wal_when_durable() is done, with success or not, and stays so until wal_event_clear(). What was done
/// before the first call of this is not told. The same one at each call. It belongs to the log, which closes it in wal_close(): take it out of the loop before. Do not read it.
/// Any thread. WAL_ERR_IO if there is no descriptor left, and on systems other than Unix.
///
/// In the loop: wal_event_clear() first, then wal_durable_lsn(), and answer all that lies below. If what was asked for is
/// not below, wal_wait_durable() with a timeout of 0 says whether the log is poisoned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_event_fd(log: *mut wal_t, fd: *mut c_int) -> c_int {
    with_log(log, |log| {
        // SAFETY: the caller passes a place for one number, or NULL.
        let fd = unsafe { required(fd, "fd") }?;
        log.wal.check_fork()?;
        let descriptor = log.event.descriptor().map_err(|error| {
            let source = Arc::new(error);
            Failure::Log(libwal::Error::Io { op: "make an event descriptor for", path: log.wal.path(), source })
        })?;
        fd.write(descriptor);
        Ok(WAL_OK)
    })
}

/// Makes the descriptor of wal_event_fd() unreadable until the next request is done. Any thread; never waits.
#[unsafe(no_mangle)]
pub extern "C" fn wal_event_clear(log: *mut wal_t) -> c_int {
    with_log(log, |log| {
        log.wal.check_fork()?;
        log.event.clear();
        Ok(WAL_OK)
    })
}
