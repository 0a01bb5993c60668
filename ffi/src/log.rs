//! `wal_t`: a log.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use libwal::{Error, Lsn, Wal};

use crate::arguments::{bytes, path, required, timeout, write_optional};
use crate::error::{Failure, WAL_END, WAL_OK, WAL_TIMEOUT, boundary, remember};
use crate::event::Event;
use crate::handle::{Refused, Table};
use crate::in_call;
use crate::options::{options_of, wal_options_t};

/// A log that is open. Any number of threads may use it at once. It is closed, once, by wal_close().
pub struct wal_t {
    _private: [u8; 0],
}

/// A record that is to be appended: `len` bytes at `data`, which may be NULL if there are none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wal_slice_t {
    /// The bytes; only read, and only during the call.
    pub data: *const c_void,
    /// How many.
    pub len: usize,
}

/// What a handle stands for.
pub(crate) struct Log {
    pub(crate) wal: Wal,
    pub(crate) event: Arc<Event>,
}

static LOGS: Table<Log> = Table::new(1);

/// Runs a call on a log.
#[inline]
pub(crate) fn with_log(log: *mut wal_t, call: impl FnOnce(&Log) -> Result<c_int, Failure>) -> c_int {
    // A failure becomes its code inside, so that nothing larger than a number passes through.
    let call = |log: &Log| call(log).unwrap_or_else(|failure| remember(&failure));
    boundary(|| LOGS.shared(log.addr(), call).map_err(no_log))
}

#[cold]
fn no_log(refused: Refused) -> Failure {
    Failure::Handle(refused, "log")
}

/// The same for a call that asks for one position.
fn position(log: *mut wal_t, lsn: *mut u64, ask: impl FnOnce(&Wal) -> libwal::Result<Lsn>) -> c_int {
    with_log(log, |log| {
        // SAFETY: the caller passes a place for one number, or NULL.
        let lsn = unsafe { required(lsn, "lsn") }?;
        lsn.write(ask(&log.wal)?.get());
        Ok(WAL_OK)
    })
}

/// Opens the log in the directory `dir` (a path as the operating system takes it; UTF-8 on Windows), or creates it, with
/// `options`, or the defaults if NULL. Recovers it first: a torn tail is cut, and what is found is durable on return. The
/// handle belongs to the caller, who closes it with wal_close(). Any thread.
/// WAL_ERR_LOCKED: open for writing elsewhere. WAL_ERR_CORRUPT: acknowledged data is damaged or missing.
/// WAL_ERR_UNSUPPORTED_VERSION. WAL_ERR_INVALID_ARGUMENT: an option is outside its domain, or the directory holds something
/// else than a log. WAL_ERR_NO_SPACE: there is no space to create it. WAL_ERR_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_open(dir: *const c_char, options: *const wal_options_t, out: *mut *mut wal_t) -> c_int {
    boundary(|| {
        // SAFETY: the caller passes a text that ends in NUL and a place for a pointer, or NULL.
        let (dir, out) = unsafe { (path(dir)?, required(out, "out")?) };
        // Before the log starts a thread: for a process with a single one the kernel is done at once; else it waits for an RCU
        // grace period, 9 to 17 ms in `strace -r` of an opening that takes 1.4 without it. Once for each process.
        in_call::prepare();
        let wal = options_of(options)?.open(dir)?;
        let handle = LOGS.insert(Log { wal, event: Arc::default() })?;
        out.write(ptr::without_provenance_mut(handle));
        Ok(WAL_OK)
    })
}

/// Closes a log: waits for appends that are under way, makes everything durable, records that it was closed cleanly, makes
/// the callbacks that are outstanding, and frees it. Other threads may be inside calls on it: theirs succeed or return
/// WAL_ERR_CLOSED, and so does every later call. Iterators stay usable. A process may also end without it: the next open
/// then recovers, as after a crash. Freed and unlocked whatever it returns, except in a forked child, where nothing happens.
/// Any thread, a callback's included; if a callback closes the log, the callbacks that are outstanding are made after that
/// callback returns.
/// The first failure of the log's life if it is poisoned (WAL_ERR_POISONED), or that of closing: WAL_ERR_IO.
#[unsafe(no_mangle)]
pub extern "C" fn wal_close(log: *mut wal_t) -> c_int {
    boundary(|| {
        let closing = LOGS.begin_close(log.addr()).map_err(|refused| Failure::Handle(refused, "log"))?;
        let closed = closing.value().wal.clone().close();
        if matches!(closed, Err(Error::Forked)) {
            closing.undo();
        } else {
            // Nobody else can name it now; those who are inside leave soon, for the log refuses them.
            drop(closing.take_unused());
        }
        closed?;
        Ok(WAL_OK)
    })
}

/// Appends a record of `len` bytes, 0 to max_record_size, and stores its LSN unless `lsn` is NULL. Waits only if the buffer
/// is full. The bytes are not used after the call, and must not change during it: a record longer than the buffer is written
/// from where it lies, and would damage the log. Any thread; if the call returned in one thread before it was made in another, the first
/// one's LSN is lower. Ordered on return, and its disk space exists. Survives the process once the appends before it have
/// returned too, if the buffer does (see wal_options_set_shared_buffer()), and otherwise after wal_flush(); survives power
/// loss after wal_sync().
/// A writing call; WAL_ERR_TOO_LARGE, WAL_ERR_NO_SPACE, and WAL_ERR_IO (the next segment could not be made): nothing was
/// appended, and nothing else is affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_append(log: *mut wal_t, data: *const c_void, len: usize, lsn: *mut u64) -> c_int {
    with_log(log, |log| {
        // SAFETY: the caller passes `len` readable bytes, and a place for a number or NULL.
        unsafe { write_optional(lsn, log.wal.append(bytes(data.cast(), len)?)?.get()) };
        Ok(WAL_OK)
    })
}

/// Appends a record as wal_append() does, if that needs no waiting.
/// A writing call; WAL_ERR_FULL: it would have to wait, also on a full disk. WAL_ERR_TOO_LARGE: also if the record is longer
/// than the buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_try_append(log: *mut wal_t, data: *const c_void, len: usize, lsn: *mut u64) -> c_int {
    with_log(log, |log| {
        // SAFETY: as in `wal_append`.
        unsafe { write_optional(lsn, log.wal.try_append(bytes(data.cast(), len)?)?.get()) };
        Ok(WAL_OK)
    })
}

/// Appends a record and makes it durable, with everything appended before. Threads that call it at once share a sync.
/// A writing call; WAL_ERR_TOO_LARGE, WAL_ERR_NO_SPACE, WAL_ERR_IO: nothing was appended. WAL_ERR_POISONED: it may or may
/// not be in the log when that is opened again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_append_and_sync(log: *mut wal_t, data: *const c_void, len: usize, lsn: *mut u64) -> c_int {
    with_log(log, |log| {
        // SAFETY: as in `wal_append`.
        unsafe { write_optional(lsn, log.wal.append_and_sync(bytes(data.cast(), len)?)?.get()) };
        Ok(WAL_OK)
    })
}

/// Appends `count` records, one directly after the other, and stores their LSNs in `lsns` (a place for `count` of them, or
/// NULL). Across a crash either all of them are in the log or none. A batch is less than 4 GiB long; one of none succeeds.
/// Any thread; as durable on return, and with the errors, as wal_append().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_append_batch(
    log: *mut wal_t,
    records: *const wal_slice_t,
    count: usize,
    lsns: *mut u64,
) -> c_int {
    with_log(log, |log| {
        if count > isize::MAX as usize / size_of::<wal_slice_t>() || (records.is_null() && count > 0) {
            return Err(Failure::argument("the records are NULL, or more than memory holds"));
        }
        let mut slices = Vec::with_capacity(count);
        for nth in 0..count {
            // SAFETY: the caller passes `count` slices, each of readable bytes or of none.
            slices.push(unsafe {
                let slice = *records.add(nth);
                bytes(slice.data.cast::<u8>(), slice.len)?
            });
        }
        for (nth, lsn) in log.wal.append_batch(&slices)?.into_iter().enumerate() {
            if !lsns.is_null() {
                // SAFETY: the caller passes a place for `count` numbers, or NULL.
                unsafe { lsns.add(nth).write(lsn.get()) };
            }
        }
        Ok(WAL_OK)
    })
}

/// Hands every record that was appended before to the operating system: on return they survive this process, not power
/// loss. Any thread.
/// A writing call.
#[unsafe(no_mangle)]
pub extern "C" fn wal_flush(log: *mut wal_t) -> c_int {
    with_log(log, |log| {
        log.wal.flush()?;
        Ok(WAL_OK)
    })
}

/// Makes every record that was appended before durable: on return they survive power loss. One sync serves all threads
/// that wait for one. A failed sync is never tried again. Any thread.
/// A writing call.
#[unsafe(no_mangle)]
pub extern "C" fn wal_sync(log: *mut wal_t) -> c_int {
    with_log(log, |log| {
        log.wal.sync()?;
        Ok(WAL_OK)
    })
}

/// Makes every record up to and including the one that begins at `lsn` durable. Any thread.
/// A writing call; WAL_ERR_INVALID_ARGUMENT: no record begins there. WAL_ERR_TRUNCATED: it lies below the head.
/// WAL_ERR_CORRUPT, WAL_ERR_IO.
#[unsafe(no_mangle)]
pub extern "C" fn wal_sync_to(log: *mut wal_t, lsn: u64) -> c_int {
    with_log(log, |log| {
        log.wal.sync_to(Lsn::new(lsn))?;
        Ok(WAL_OK)
    })
}

/// Waits until the record that begins at `lsn` is durable by the syncs of others (threads, callbacks, the sync interval),
/// up to `timeout_ms` milliseconds; negative: however long it takes. Does not sync by itself. WAL_OK: it is durable.
/// WAL_TIMEOUT: not yet. Any thread.
/// A writing call; WAL_ERR_INVALID_ARGUMENT beyond the end.
#[unsafe(no_mangle)]
pub extern "C" fn wal_wait_durable(log: *mut wal_t, lsn: u64, timeout_ms: i64) -> c_int {
    with_log(log, |log| {
        let durable = log.wal.wait_durable(Lsn::new(lsn), timeout(timeout_ms))?;
        Ok(if durable { WAL_OK } else { WAL_TIMEOUT })
    })
}

/// Appends a checkpoint record that holds `len` bytes of state, and makes it the record that wal_iter_from_checkpoint()
/// begins with. Everything that the state does not contain must be appended after this call. Stores its LSN (unless `lsn`
/// is NULL), up to which the log may be truncated. Durable on return, with everything appended before. Any thread.
/// As wal_append_and_sync().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_checkpoint(log: *mut wal_t, state: *const c_void, len: usize, lsn: *mut u64) -> c_int {
    with_log(log, |log| {
        // SAFETY: as in `wal_append`.
        unsafe { write_optional(lsn, log.wal.checkpoint(bytes(state.cast(), len)?)?.get()) };
        Ok(WAL_OK)
    })
}

/// Stores the LSN of the last durable checkpoint. WAL_END: there is none, or it was truncated away (by truncating beyond
/// it). Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_last_checkpoint(log: *mut wal_t, lsn: *mut u64) -> c_int {
    with_log(log, |log| {
        // SAFETY: the caller passes a place for one number, or NULL.
        let lsn = unsafe { required(lsn, "lsn") }?;
        log.wal.check_fork()?;
        let Some(checkpoint) = log.wal.last_checkpoint() else { return Ok(WAL_END) };
        lsn.write(checkpoint.get());
        Ok(WAL_OK)
    })
}

/// Drops the records below `lsn`, where a record must begin or the log end, as far as they fill whole segments and are
/// durable; the segment with the last durable byte is kept. A position at or below the head changes nothing. wal_head() has the new head. Any thread.
/// A writing call; WAL_ERR_INVALID_ARGUMENT inside a record or beyond the end. WAL_ERR_CORRUPT, WAL_ERR_IO.
#[unsafe(no_mangle)]
pub extern "C" fn wal_truncate_before(log: *mut wal_t, lsn: u64) -> c_int {
    with_log(log, |log| {
        log.wal.truncate_before(Lsn::new(lsn))?;
        Ok(WAL_OK)
    })
}

/// Stores the position below which everything is on stable storage; for a log that is open for reading only, is known to
/// be. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_durable_lsn(log: *mut wal_t, lsn: *mut u64) -> c_int {
    position(log, lsn, |wal| wal.check_fork().map(|()| wal.durable_lsn()))
}

/// Stores the position of the first record that can be read; the end, if there is none. Any thread. WAL_ERR_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_head(log: *mut wal_t, lsn: *mut u64) -> c_int {
    position(log, lsn, Wal::head)
}

/// Stores the end of the log: the next record will begin there or later. Any thread. WAL_ERR_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_tail(log: *mut wal_t, lsn: *mut u64) -> c_int {
    position(log, lsn, Wal::tail)
}
