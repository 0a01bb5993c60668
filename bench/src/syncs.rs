//! Counts the syncs of this process, whichever library asks for them: these definitions come before those of the C
//! library. What calls the kernel without the C library is not seen; none of the logs here does.

#![allow(unsafe_code)] // Functions with the names and the contracts of the C library's.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

static SYNCS: AtomicU64 = AtomicU64::new(0);

/// How many syncs of files and mappings were begun so far.
pub(crate) fn count() -> u64 {
    SYNCS.load(Ordering::Relaxed)
}

fn counted(result: libc::c_long) -> c_int {
    SYNCS.fetch_add(1, Ordering::Relaxed);
    result as c_int
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: the system call has no other argument, and checks the descriptor.
    counted(unsafe { libc::syscall(libc::SYS_fdatasync, fd) })
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    // SAFETY: as above.
    counted(unsafe { libc::syscall(libc::SYS_fsync, fd) })
}

#[unsafe(no_mangle)]
extern "C" fn msync(address: *mut c_void, len: usize, flags: c_int) -> c_int {
    // SAFETY: the kernel checks the range.
    counted(unsafe { libc::syscall(libc::SYS_msync, address, len, flags) })
}
