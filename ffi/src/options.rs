//! `wal_options_t`: how a log is opened.

use std::ffi::c_int;
use std::ptr;
use std::time::Duration;

use libwal::{Lsn, Options, Recovery, Retention};

use crate::error::{Failure, WAL_OK, boundary, remember};
use crate::handle::Table;

/// wal_options_set_recovery(): a torn tail is cut; damage of acknowledged data is WAL_ERR_CORRUPT. The default.
pub const WAL_RECOVERY_STRICT: c_int = 0;
/// wal_options_set_recovery(): opens for reading only and reads around damage, which wal_damage() lists.
pub const WAL_RECOVERY_SALVAGE: c_int = 1;

/// How a log is opened. Made by wal_options_new(), read by wal_open(), which keeps nothing of it, and freed by
/// wal_options_free(). It may be used for any number of logs. One thread at a time.
pub struct wal_options_t {
    _private: [u8; 0],
}

static OPTIONS: Table<Options> = Table::new(3);

/// Options with the default values. Free them with wal_options_free(). Any thread. NULL only if there are a million open
/// ones.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_new() -> *mut wal_options_t {
    match OPTIONS.insert(Options::new()) {
        Ok(handle) => ptr::without_provenance_mut(handle),
        Err(full) => {
            remember(&full.into());
            ptr::null_mut()
        }
    }
}

/// Frees options; NULL and options that were freed are left alone. Logs that were opened with them are not concerned.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_free(options: *mut wal_options_t) {
    let _ = boundary(|| Ok(OPTIONS.remove(options.addr()).map_or(WAL_OK, |_| WAL_OK)));
}

/// What `options` holds; the defaults if it is NULL.
pub(crate) fn options_of(options: *const wal_options_t) -> Result<Options, Failure> {
    if options.is_null() { Ok(Options::new()) } else { with(options.addr(), |options| options.clone()) }
}

fn with<R>(handle: usize, use_it: impl FnOnce(&mut Options) -> R) -> Result<R, Failure> {
    OPTIONS.exclusive(handle, use_it).map_err(|refused| Failure::Handle(refused, "options"))
}

fn set(options: *mut wal_options_t, change: impl FnOnce(Options) -> Options) -> c_int {
    boundary(|| {
        with(options.addr(), |options| *options = change(std::mem::take(options)))?;
        Ok(WAL_OK)
    })
}

/// Bytes of the stream in each segment file: a power of two from 4 KiB to 4 GiB. Default 64 MiB. It counts when a log is
/// created; a log that exists keeps the size it has. Here and below, a value outside its domain is refused by wal_open().
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_segment_size(options: *mut wal_options_t, bytes: u64) -> c_int {
    set(options, |options| options.segment_size(bytes))
}

/// Bytes of memory between appends and the operating system: a power of two from 4 KiB to 1 GiB, lowered to the segment
/// size if above. Default 4 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_buffer_size(options: *mut wal_options_t, bytes: u64) -> c_int {
    set(options, |options| options.buffer_size(bytes))
}

/// Not 0: the buffer is memory that the death of the process leaves behind, where the system has such (Linux), so that what
/// was appended is found there by the next open; see wal_append(). It takes up its whole size from the beginning, on /dev/shm, in
/// a file of this user's alone, which goes when the log is closed. 0: memory of the process. Default 1. wal_stats() tells
/// which it is.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_shared_buffer(options: *mut wal_options_t, shared: c_int) -> c_int {
    set(options, |options| options.shared_buffer(shared != 0))
}

/// The longest record that is accepted, in bytes, up to 256 MiB - 1. Default 64 MiB. It bounds what is appended, not what
/// is read.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_max_record_size(options: *mut wal_options_t, bytes: u64) -> c_int {
    set(options, |options| options.max_record_size(bytes))
}

/// How many segments that truncation freed are kept for reuse. Default 2.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_recycle(options: *mut wal_options_t, segments: usize) -> c_int {
    set(options, |options| options.recycle(segments))
}

/// Nothing is dropped but by wal_truncate_before(). The default.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_retention_none(options: *mut wal_options_t) -> c_int {
    set(options, |options| options.retention(Retention::None))
}

/// Drops the oldest segments while the others hold at least this many bytes.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_retention_bytes(options: *mut wal_options_t, bytes: u64) -> c_int {
    set(options, |options| options.retention(Retention::Bytes(bytes)))
}

/// Keeps this many segments, at least one, and drops older ones.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_retention_segments(options: *mut wal_options_t, segments: u64) -> c_int {
    set(options, |options| options.retention(Retention::Segments(segments)))
}

/// Whether (not 0) retention keeps everything from the last checkpoint on, and everything if there is none. Default yes.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_retain_checkpoint(options: *mut wal_options_t, retain: c_int) -> c_int {
    set(options, |options| options.retain_checkpoint(retain != 0))
}

/// Syncs in the background whenever this many milliseconds have passed and something is not durable; 0 never does, and is
/// the default. Needs the background thread.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_sync_interval(options: *mut wal_options_t, milliseconds: u64) -> c_int {
    let interval = (milliseconds > 0).then(|| Duration::from_millis(milliseconds));
    set(options, |options| options.sync_interval(interval))
}

/// Whether (not 0) one background thread prepares segments, flushes, and serves the sync interval. Default yes.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_background(options: *mut wal_options_t, background: c_int) -> c_int {
    set(options, |options| options.background(background != 0))
}

/// Whether (not 0) the log is opened for reading only: no lock, no change, also while another process writes it. Default
/// no.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_read_only(options: *mut wal_options_t, read_only: c_int) -> c_int {
    set(options, |options| options.read_only(read_only != 0))
}

/// Whether (not 0) a log is created where there is none; otherwise that is WAL_ERR_IO with ENOENT. Default yes.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_create(options: *mut wal_options_t, create: c_int) -> c_int {
    set(options, |options| options.create(create != 0))
}

/// WAL_RECOVERY_STRICT or WAL_RECOVERY_SALVAGE; others are WAL_ERR_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_recovery(options: *mut wal_options_t, recovery: c_int) -> c_int {
    let recovery = match recovery {
        WAL_RECOVERY_STRICT => Recovery::Strict,
        WAL_RECOVERY_SALVAGE => Recovery::Salvage,
        other => return remember(&Failure::argument(format!("there is no recovery mode {other}"))),
    };
    set(options, |options| options.recovery(recovery))
}

/// The LSN at which a new log begins: a multiple of 8 below 2^57. Default 0.
#[unsafe(no_mangle)]
pub extern "C" fn wal_options_set_first_lsn(options: *mut wal_options_t, lsn: u64) -> c_int {
    set(options, |options| options.first_lsn(Lsn::new(lsn)))
}
