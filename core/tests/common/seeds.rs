//! Running a test for many seeds, and telling which one failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs `test` for many seeds on all processors. `LIBWAL_SEED` replays one; `LIBWAL_SEEDS` says how many otherwise, by
/// default `fewer`, and five times as many where `CI` is set.
pub(crate) fn for_each_seed(fewer: u64, test: impl Fn(u64) + Sync) {
    let default = if std::env::var_os("CI").is_some() { fewer * 5 } else { fewer };
    for_each_below(number("LIBWAL_SEEDS").unwrap_or(default), test);
}

/// The same for all seeds below `count`.
pub(crate) fn for_each_below(count: u64, test: impl Fn(u64) + Sync) {
    if let Some(seed) = number("LIBWAL_SEED") {
        return test(seed);
    }
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count || failed.lock().expect("not poisoned").len() >= 10 {
                        return;
                    }
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(seed))) {
                        // Said here: a model checker that hooks into panics may have swallowed their messages.
                        let why = panic.downcast_ref::<String>().map_or("it panicked", String::as_str);
                        eprintln!("seed {seed}: {why}; replay with LIBWAL_SEED={seed}");
                        failed.lock().expect("not poisoned").push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("not poisoned");
    assert!(failed.is_empty(), "seeds {failed:?} failed of {count}; replay with LIBWAL_SEED={}", failed[0]);
}
