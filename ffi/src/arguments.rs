//! What C passes, turned into what Rust may use.

use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, size_of};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Failure;

/// The `len` bytes at `data`; NULL is allowed where there are none.
///
/// # Safety
/// `data` is NULL or leads to `len` bytes that can be read for as long as `'a`.
#[inline]
pub(crate) unsafe fn bytes<'a>(data: *const u8, len: usize) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() || isize::try_from(len).is_err() {
        return Err(no_bytes(len));
    }
    // SAFETY: not NULL, and readable by this function's contract; no longer than any object can be (just checked).
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

#[cold]
fn no_bytes(len: usize) -> Failure {
    match isize::try_from(len) {
        Ok(_) => Failure::argument("the data is NULL and its length is not 0"),
        Err(_) => Failure::Log(libwal::Error::TooLarge { len: len as u64, max: isize::MAX as u64 }),
    }
}

/// A path: on Unix any bytes up to the NUL, elsewhere UTF-8.
///
/// # Safety
/// `path` is NULL or leads to a text that ends in NUL.
pub(crate) unsafe fn path(path: *const c_char) -> Result<PathBuf, Failure> {
    if path.is_null() {
        return Err(Failure::argument("the path is NULL"));
    }
    // SAFETY: not NULL; the rest is this function's contract.
    let path = unsafe { CStr::from_ptr(path) };
    if path.is_empty() {
        return Err(Failure::argument("the path is empty"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes())))
    }
    #[cfg(not(unix))]
    {
        path.to_str().map(PathBuf::from).map_err(|_| Failure::argument("the path is not UTF-8"))
    }
}

/// The place for a result that the caller needs.
///
/// # Safety
/// `out` is NULL or leads to a place for a `T`, aligned, that nobody else uses for as long as `'a`.
pub(crate) unsafe fn required<'a, T>(out: *mut T, name: &str) -> Result<&'a mut MaybeUninit<T>, Failure> {
    // SAFETY: this function's contract; what is there need not be initialised.
    unsafe { out.cast::<MaybeUninit<T>>().as_mut() }.ok_or_else(|| Failure::argument(format!("{name} is NULL")))
}

/// Writes a result that the caller may not want.
///
/// # Safety
/// `out` is NULL or leads to a place for a `T`, aligned.
#[inline]
pub(crate) unsafe fn write_optional<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: not NULL; the rest is this function's contract.
        unsafe { out.write(value) };
    }
}

/// Writes as much of `value` as the caller's version of the structure holds; where that is longer than ours, the rest
/// becomes zeros. So either may be the older one.
///
/// # Safety
/// `out` is NULL or leads to `size` bytes that can be written. `T` is `repr(C)` and has no padding.
pub(crate) unsafe fn write_sized<T: Copy>(out: *mut T, value: &T, size: usize) -> Result<(), Failure> {
    if out.is_null() || size == 0 {
        return Err(Failure::argument("the structure is NULL or has no size"));
    }
    let known = size.min(size_of::<T>());
    // SAFETY: `known` bytes are within both, `size` bytes within the caller's; the two do not overlap, since ours is borrowed.
    unsafe {
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(value).cast::<u8>(), out.cast::<u8>(), known);
        out.cast::<u8>().add(known).write_bytes(0, size - known);
    }
    Ok(())
}

/// A time limit in milliseconds; negative is none.
pub(crate) fn timeout(milliseconds: i64) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}
