//! Which library this is.

use std::ffi::c_char;

/// The ABI that this header describes. It changes when a program has to be compiled anew.
pub const WAL_ABI_VERSION: u32 = 1;

/// The version of the library that is loaded, as "0.1.0". The text is constant. Any thread; never fails.
#[unsafe(no_mangle)]
pub extern "C" fn wal_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The ABI of the library that is loaded. A program that finds another number than its WAL_ABI_VERSION must not go on to
/// use the library. Any thread; never fails.
#[unsafe(no_mangle)]
pub extern "C" fn wal_abi_version() -> u32 {
    WAL_ABI_VERSION
}
