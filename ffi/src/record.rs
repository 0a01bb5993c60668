//! `wal_record_t`: a record that was read.

use std::ffi::{c_int, c_void};

use libwal::format::Kind;
use libwal::{Lsn, Record};

use crate::arguments::required;
use crate::error::{WAL_OK, boundary};
use crate::log::{wal_t, with_log};

/// A record that was appended on its own.
pub const WAL_KIND_DATA: u32 = 1;
/// A checkpoint.
pub const WAL_KIND_CHECKPOINT: u32 = 2;
/// A member of an atomic batch; more members follow directly.
pub const WAL_KIND_BATCH: u32 = 3;
/// The last member of an atomic batch.
pub const WAL_KIND_BATCH_END: u32 = 4;

/// A record. Who owns the bytes is said where it comes from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wal_record_t {
    /// Where the record begins.
    pub lsn: u64,
    /// Its payload; never NULL.
    pub data: *const c_void,
    /// The length of the payload.
    pub len: usize,
    /// One of WAL_KIND_DATA, WAL_KIND_CHECKPOINT, WAL_KIND_BATCH and WAL_KIND_BATCH_END.
    pub kind: u32,
    /// Reserved; 0.
    pub reserved: u32,
}

impl wal_record_t {
    pub(crate) fn new(lsn: Lsn, kind: Kind, data: &[u8]) -> wal_record_t {
        wal_record_t { lsn: lsn.get(), data: data.as_ptr().cast(), len: data.len(), kind: kind as u32, reserved: 0 }
    }
}

/// A record with its payload: what `wal_read` gives and `wal_record_free` takes. The first field is what C sees.
#[repr(C)]
struct Owned {
    record: wal_record_t,
    data: Vec<u8>,
}

/// Reads the record that begins at `lsn`. It belongs to the caller, who frees it with wal_record_free(); it does not depend
/// on the log any more. Any thread. What was appended before is flushed first, and is seen.
/// WAL_ERR_INVALID_ARGUMENT: no record begins there. WAL_ERR_TRUNCATED: it lies below the head. WAL_ERR_CORRUPT, WAL_ERR_IO.
/// WAL_ERR_POISONED: a write failed, and it was not flushed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_read(log: *mut wal_t, lsn: u64, out: *mut *mut wal_record_t) -> c_int {
    with_log(log, |log| {
        // SAFETY: the caller passes a place for a pointer, or NULL.
        let out = unsafe { required(out, "out") }?;
        let Record { lsn, kind, data } = log.wal.read(Lsn::new(lsn))?;
        let owned = Box::new(Owned { record: wal_record_t::new(lsn, kind, &data), data });
        debug_assert_eq!(owned.record.data, owned.data.as_ptr().cast());
        out.write(Box::into_raw(owned).cast());
        Ok(WAL_OK)
    })
}

/// Frees a record of wal_read(), once. NULL is left alone. Not for the records of an iterator. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_record_free(record: *mut wal_record_t) {
    let _ = boundary(|| {
        if !record.is_null() {
            // SAFETY: the caller passes what `wal_read` gave, once: an `Owned` that came from `Box::into_raw`.
            drop(unsafe { Box::from_raw(record.cast::<Owned>()) });
        }
        Ok(WAL_OK)
    });
}
