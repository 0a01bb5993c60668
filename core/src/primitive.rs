//! Atomics, locks and threads: those the whole crate uses come from here, so that a model
//! checker can take their place in one file.

#[cfg(any(loom, shuttle))]
mod checked;

#[cfg(any(loom, shuttle))]
pub(crate) use checked::*;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use {
    crowd::Crowd,
    parking_lot::{Condvar, Mutex, MutexGuard},
    std::hint,
    std::sync::OnceLock,
    std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence},
    std::thread,
    std::time::Instant,
};

#[cfg(not(any(loom, shuttle)))]
mod crowd {
    use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

    /// A lock, and two places where a crowd waits under it. The standard library's, not parking_lot's: it wakes all who wait
    /// with one system call, where parking_lot makes one for each thread.
    pub(crate) struct Crowd<T> {
        lock: Mutex<T>,
        places: [Condvar; 2],
    }

    impl<T> Crowd<T> {
        pub(crate) fn new(value: T) -> Crowd<T> {
            Crowd { lock: Mutex::new(value), places: Default::default() }
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.lock.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Gives the lock back until somebody wakes those who wait at `place`, or for no reason.
        pub(crate) fn wait<'a>(&self, guard: MutexGuard<'a, T>, place: usize) -> MutexGuard<'a, T> {
            self.places[place].wait(guard).unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn wake_one(&self, place: usize) {
            self.places[place].notify_one();
        }

        pub(crate) fn wake_all(&self, place: usize) {
            self.places[place].notify_all();
        }
    }
}

/// Lets others run, where a thread looks again and again until some time has passed: the checkers know no time that passes
/// by itself.
#[cfg(not(any(loom, shuttle)))]
pub(crate) fn let_time_pass() {
    thread::yield_now();
}

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
