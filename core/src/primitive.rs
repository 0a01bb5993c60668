//! Atomics, locks and threads: those the whole crate uses come from here, so that a model
//! checker can take their place in one file.

#[cfg(any(loom, shuttle))]
mod checked;

#[cfg(any(loom, shuttle))]
pub(crate) use checked::*;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use {
    parking_lot::{Condvar, Mutex, MutexGuard},
    std::hint,
    std::sync::OnceLock,
    std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
    std::thread,
    std::time::Instant,
};

/// References are counted by the standard library everywhere: the checkers' own cannot hold a `dyn Storage`.
pub(crate) use std::sync::Arc;

/// A number that is counted for a report and that nothing else depends on: no step worth a checker's while.
pub(crate) type Counter = std::sync::atomic::AtomicU64;

/// Where a checker looks for two threads at the same bytes of the ring, one of them writing: see `checked.rs`. Nothing
/// otherwise.
#[cfg(not(loom))]
pub(crate) struct Accesses;

#[cfg(not(loom))]
impl Accesses {
    pub(crate) fn new(_capacity: usize) -> Accesses {
        Accesses
    }

    #[inline(always)]
    pub(crate) fn write(&self, _position: u64, _len: u64) {}

    #[inline(always)]
    pub(crate) fn read(&self, _position: u64, _len: u64) {}
}

/// A value on cache lines of its own, so that writing it does not slow down readers of its neighbours. 128 bytes: the
/// adjacent-line prefetcher of x86-64 works on pairs of lines, and some aarch64 cores have lines of that length.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
