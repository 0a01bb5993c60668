//! The whole log under schedules drawn at random: threads that append, sync, flush, checkpoint, truncate, read and close,
//! with the log's own threads beside them, on a simulated disk that fails and loses power; each crash is recovered, and
//! judged by the oracle. `tests/schedules/check` runs it: it needs `--cfg shuttle`.
//!
//! A seed decides everything: what the threads do, which of them goes on at each step, which operations of the disk fail,
//! when the process dies and when the power goes. `LIBWAL_SEED` replays one. Every second seed draws each step evenly; the
//! others give the threads priorities and change them at a few steps (PCT), which finds what needs one thread to be far
//! behind. The orderings of atomics are not weakened here: that is loom's part.

#![cfg(shuttle)]

mod common;
#[path = "schedules/life.rs"]
mod life;

use std::sync::{Arc, Mutex};

use common::random::mix;
use common::seeds::for_each_below;
use life::Life;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};

/// How many lives; `LIBWAL_SCHEDULES` says otherwise.
const LIVES: u64 = 1500;

/// Runs the life that `seed` tells under the schedules that it tells. Returns what took place.
fn run(seed: u64) -> Vec<String> {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&notes);
    let life = move || {
        let took_place = Life::new(seed).live();
        noted.lock().expect("no panic").extend(took_place);
    };
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.failure_persistence = FailurePersistence::None; // The seed is enough.
    config.silence_warnings = true;
    if seed % 2 == 0 {
        Runner::new(RandomScheduler::new_from_seed(mix(seed), 1), config).run(life);
    } else {
        // The first of them finds out how many steps there are; where priorities change is drawn for the next.
        let depth = 2 + (seed / 2 % 4) as usize;
        Runner::new(PctScheduler::new_from_seed(mix(seed), depth, 3), config).run(life);
    }
    std::mem::take(&mut notes.lock().expect("no panic"))
}

#[test]
fn whatever_the_schedule_what_was_acknowledged_survives() {
    let lives = std::env::var("LIBWAL_SCHEDULES").map_or(LIVES, |text| text.parse().expect("a number"));
    let judged = Mutex::new((0, 0));
    for_each_below(lives, |seed| {
        let notes = run(seed);
        let mut judged = judged.lock().expect("no panic");
        judged.0 += 1;
        judged.1 += notes.iter().filter(|note| note.starts_with("judged")).count();
    });
    let (lives, crashes) = judged.into_inner().expect("no panic");
    println!("schedules: {lives} lives, {crashes} crashes recovered and judged");
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..6 {
        let (first, again) = (run(seed), run(seed));
        assert!(first.len() > 5, "seed {seed} does next to nothing");
        assert_eq!(first, again, "seed {seed}");
    }
}
