//! The primitives under a model checker: `--cfg loom` tries every schedule and every value that the orderings allow a load
//! to see, `--cfg shuttle` draws schedules at random. The signatures are those of `parking_lot`, and of `std`.
//!
//! Neither checker knows time. Here it passes only in timed waits, a millisecond in each: a timed wait lets others run and
//! returns, whatever time it was given; every caller looks again at what it waits for. That hides wake-ups that are lost
//! where the wait is timed; a model that looks for those calls [`never_time_out`].

use std::cell::Cell;
use std::ops::{Add, Deref, DerefMut};
use std::sync::PoisonError;
use std::time::Duration;

#[cfg(loom)]
use loom as checker;
#[cfg(shuttle)]
use shuttle as checker;

pub(crate) use checker::hint;
pub(crate) use checker::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

// The threads of a model are all run by the one thread that runs the model.
thread_local! {
    static TIMES_OUT: Cell<bool> = const { Cell::new(true) };
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// From here on, in this test, a timed wait returns only when it is woken.
#[cfg(loom)]
pub(crate) fn never_time_out() {
    TIMES_OUT.set(false);
}

/// One turn of a timed wait, in place of time: others run. `false`: wait to be woken.
fn time_passes() -> bool {
    let passes = TIMES_OUT.get();
    if passes {
        NOW.set(NOW.get() + Duration::from_millis(1));
        thread::yield_now();
    }
    passes
}

/// As a timed wait that nobody ends.
pub(crate) fn let_time_pass() {
    time_passes();
}

/// A reading of that clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Instant {
        Instant(NOW.get())
    }

    pub(crate) fn elapsed(self) -> Duration {
        Instant::now().saturating_duration_since(self)
    }

    pub(crate) fn checked_add(self, time: Duration) -> Option<Instant> {
        self.0.checked_add(time).map(Instant)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, time: Duration) -> Instant {
        Instant(self.0 + time)
    }
}

/// Threads as the checker has them.
pub(crate) mod thread {
    use super::checker::thread;
    #[cfg(test)]
    pub(crate) use thread::panicking;
    pub(crate) use thread::{JoinHandle, Thread, current, park, yield_now};

    /// The checkers' threads have stacks of a few pages by default, too few for a recovery.
    const STACK: usize = 1 << 17;

    pub(crate) struct Builder(thread::Builder);

    impl Builder {
        pub(crate) fn new() -> Builder {
            Builder(thread::Builder::new().stack_size(STACK))
        }

        pub(crate) fn name(self, name: String) -> Builder {
            Builder(self.0.name(name))
        }

        pub(crate) fn spawn<T: Send + 'static>(
            self,
            run: impl FnOnce() -> T + Send + 'static,
        ) -> std::io::Result<JoinHandle<T>> {
            self.0.spawn(run)
        }
    }

    #[cfg(test)]
    pub(crate) fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        Builder::new().spawn(run).expect("a checker starts every thread")
    }

    pub(crate) fn sleep(_time: super::Duration) {
        super::let_time_pass();
    }

    /// Waits to be unparked, or for time to pass.
    pub(crate) fn park_timeout(_longest: super::Duration) {
        if !super::time_passes() {
            park();
        }
    }
}

/// A mutex that is not poisoned by a panic.
#[derive(Default)]
pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

/// Holds the lock until it is dropped. `None` only while [`Condvar::wait`] has given it back.
pub(crate) struct MutexGuard<'a, T> {
    held: Option<checker::sync::MutexGuard<'a, T>>,
    of: &'a Mutex<T>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Mutex<T> {
        Mutex(checker::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { held: Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)), of: self }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(held) => Some(MutexGuard { held: Some(held), of: self }),
            Err(std::sync::TryLockError::Poisoned(held)) => {
                Some(MutexGuard { held: Some(held.into_inner()), of: self })
            }
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("the lock is held")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("the lock is held")
    }
}

#[derive(Default)]
pub(crate) struct Condvar(checker::sync::Condvar);

/// Whether a timed wait ended because its time was over.
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) fn new() -> Condvar {
        Condvar(checker::sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect("the lock is held");
        guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> WaitTimeoutResult {
        if TIMES_OUT.get() {
            guard.held = None;
            time_passes();
            guard.held = guard.of.lock().held.take();
        } else {
            self.wait(guard);
        }
        WaitTimeoutResult(until <= Instant::now())
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, longest: Duration) -> WaitTimeoutResult {
        self.wait_until(guard, Instant::now() + longest)
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// A lock, and two places where a crowd waits under it.
pub(crate) struct Crowd<T> {
    lock: Mutex<T>,
    places: [Condvar; 2],
}

impl<T> Crowd<T> {
    pub(crate) fn new(value: T) -> Crowd<T> {
        Crowd { lock: Mutex::new(value), places: [Condvar::new(), Condvar::new()] }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.lock.lock()
    }

    pub(crate) fn wait<'a>(&self, mut guard: MutexGuard<'a, T>, place: usize) -> MutexGuard<'a, T> {
        self.places[place].wait(&mut guard);
        guard
    }

    pub(crate) fn wake_one(&self, place: usize) {
        self.places[place].notify_one();
    }

    pub(crate) fn wake_all(&self, place: usize) {
        self.places[place].notify_all();
    }
}

/// Set once. The flag beside the value is what the checker sees: a step of its own, that orders what was done before it.
pub(crate) struct OnceLock<T> {
    set: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> OnceLock<T> {
        OnceLock { set: AtomicBool::new(false), value: std::sync::OnceLock::new() }
    }
}

impl<T> OnceLock<T> {
    /// Acquire: pairs with the releases below.
    pub(crate) fn get(&self) -> Option<&T> {
        if self.set.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.set.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn get_or_init(&self, value: impl FnOnce() -> T) -> &T {
        let value = self.value.get_or_init(value);
        self.set.store(true, Ordering::Release);
        value
    }
}

/// One cell for each word of the ring: loom knows for each which accesses are ordered, and fails where two are not and one
/// of them writes.
#[cfg(loom)]
pub(crate) struct Accesses(Box<[loom::cell::UnsafeCell<()>]>);

#[cfg(loom)]
impl Accesses {
    const WORD: u64 = 8;

    pub(crate) fn new(capacity: usize) -> Accesses {
        Accesses((0..capacity as u64 / Accesses::WORD).map(|_| loom::cell::UnsafeCell::new(())).collect())
    }

    /// The bytes at positions `position .. position + len` are written.
    pub(crate) fn write(&self, position: u64, len: u64) {
        self.cells(position, len).for_each(|cell| cell.with_mut(|_| ()));
    }

    /// They are read.
    pub(crate) fn read(&self, position: u64, len: u64) {
        self.cells(position, len).for_each(|cell| cell.with(|_| ()));
    }

    fn cells(&self, position: u64, len: u64) -> impl Iterator<Item = &loom::cell::UnsafeCell<()>> {
        let words = position / Accesses::WORD..(position + len) / Accesses::WORD;
        words.map(|word| &self.0[word as usize % self.0.len()])
    }
}
