//! The optional background thread: flushes while the ring fills, prepares the next segment, syncs on an interval.
//!
//! Nothing needs it: whoever is not served by it in time does the work itself.

use std::io;
use std::time::Duration;

use super::writer::Writer;
use crate::primitive::{Arc, AtomicBool, Condvar, Instant, Mutex, Ordering, thread};

/// Tells the thread that there is something to do.
#[derive(Default)]
pub(super) struct Signal {
    raised: AtomicBool,
    stop: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Signal {
    /// Raises the signal; costs one load while it is up already.
    pub(super) fn raise(&self) {
        // AcqRel: pairs with the swap in `wait`; what was done before the signal was raised is seen by whom it wakes.
        if !self.raised.load(Ordering::Relaxed) && !self.raised.swap(true, Ordering::AcqRel) {
            let _lock = self.lock.lock();
            self.changed.notify_one();
        }
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _lock = self.lock.lock();
        self.changed.notify_one();
    }

    /// Waits until the signal is raised, and lowers it, or until `until`. `false`: stop.
    fn wait(&self, until: Option<Instant>) -> bool {
        let mut lock = self.lock.lock();
        loop {
            if self.stop.load(Ordering::Acquire) {
                return false;
            }
            if self.raised.swap(false, Ordering::AcqRel) {
                return true;
            }
            match until {
                None => self.changed.wait(&mut lock),
                Some(until) => {
                    if self.changed.wait_until(&mut lock, until).timed_out() {
                        return !self.stop.load(Ordering::Acquire);
                    }
                }
            }
        }
    }
}

/// The running thread.
pub(super) struct Background {
    writer: Arc<Writer>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Background {
    pub(super) fn start(writer: &Arc<Writer>, interval: Option<Duration>) -> io::Result<Background> {
        let shared = Arc::clone(writer);
        let thread = thread::Builder::new().name("libwal".to_owned()).spawn(move || run(&shared, interval))?;
        Ok(Background { writer: Arc::clone(writer), thread: Some(thread) })
    }

    /// Stops the thread and waits for it.
    pub(super) fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.writer.signal.stop();
            // A panic there would be a bug of ours; the log itself is intact, and close goes on without the thread.
            let _ = thread.join();
        }
    }

    /// Forgets the thread: after a fork the child does not have it.
    pub(super) fn forget(&mut self) {
        std::mem::forget(self.thread.take());
    }
}

fn run(writer: &Writer, interval: Option<Duration>) {
    writer.flush.ring.memory().populate();
    // The segment behind the first one is worth preparing before anything is appended.
    let _ = writer.look_after_segments();
    // An interval that ends behind all time is none.
    let next = || interval.and_then(|interval| Instant::now().checked_add(interval));
    let mut due = next();
    while writer.signal.wait(due) {
        // Failures: a write's or a sync's is latched and met by the next call. A full disk is met by the append that needs
        // the space, and tried again at the next signal.
        let _ = writer.flush.flush_if_free();
        let _ = writer.look_after_segments();
        if due.is_some_and(|due| due <= Instant::now()) {
            let _ = writer.sync();
            due = next();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::primitive::Arc;
    use crate::storage::SimStorage;
    use crate::{Options, Retention};

    const SEGMENT: u64 = 4096;

    /// A thread that never gets a turn is one that has stopped: whoever enters a segment then drops old ones as well.
    #[test]
    fn retention_does_not_wait_for_the_thread() {
        let options = Options::new().segment_size(SEGMENT).retention(Retention::Segments(2)).retain_checkpoint(false);
        let log = options.open_on(Arc::new(SimStorage::new())).expect("opened");
        log.handle.background.lock().as_mut().expect("it runs").stop();
        for nth in 0..100 {
            log.append_and_sync(&[nth; 1000]).expect("appended");
            let stats = log.stats().expect("a writer");
            let kept = stats.reserved.get() - stats.head.get();
            assert!(kept <= 3 * SEGMENT, "{kept} bytes are kept after {nth} records");
        }
        log.close().expect("closed");
    }

    /// An interval that no clock can hold must not end the thread, which makes room and segments.
    #[test]
    fn an_interval_may_have_any_length() {
        let options = Options::new().segment_size(SEGMENT).buffer_size(4096).sync_interval(Some(Duration::MAX));
        let log = options.open_on(Arc::new(SimStorage::new())).expect("opened");
        let begun = Instant::now();
        for nth in 0..100u8 {
            while log.try_append(&[nth; 100]).is_err() {
                assert!(begun.elapsed() < Duration::from_secs(20), "nobody makes room for record {nth}");
                std::thread::yield_now();
            }
        }
    }
}
