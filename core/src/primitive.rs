//! Atomics, locks and threads: those the whole crate uses come from here, so that a model
//! checker can take their place in one file.

pub(crate) use {
    parking_lot::{Condvar, Mutex, MutexGuard},
    std::sync::Arc,
    std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
    std::thread,
};

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
