//! A process that is killed at any instant loses nothing that was appended, but what stands behind a hole.

#![cfg(unix)]

mod common;

use common::child::{BUFFER, Heard, Job, judge_copy, options};
use common::oracle::Oracle;
use common::random::Random;
use libwal::storage::{FileStorage, Storage};

/// Run by [`a_killed_process_loses_nothing_that_was_appended`] in a process of its own.
#[test]
fn child() {
    common::child::main();
}

#[test]
fn a_killed_process_loses_nothing_that_was_appended() {
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = temporary.path().join("log");
    let seed = std::env::var("LIBWAL_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().expect("a number"));
    println!("replay with LIBWAL_SEED={seed}");
    let mut random = Random::new(seed);
    let oracle = Oracle::new(seed);
    oracle.expect_unheard();
    let mut appends = 0;
    for round in 1..=24 {
        let job = Job { dir: &dir, seed, round, operations: 1 << 16 };
        // Some die while they recover, or have hardly begun.
        let patience = 1 + random.below(if round % 4 == 0 { 3 } else { 1500 });
        let heard = Heard::from(&mut job.spawn(&[]), patience as usize);
        heard.tell(&oracle);
        appends += heard.count("append");
        assert_eq!(heard.count("unexpected") + heard.count("unopened") + heard.count("poisoned"), 0);
        let judged = judge_copy(&oracle, &dir, &temporary.path().join("copy"));
        judged.unwrap_or_else(|error| panic!("round {round} of seed {seed}: {error}"));
        if round % 5 == 0 {
            // Otherwise the next child is the one to recover it.
            options().open(&dir).expect("the log opens").close().expect("closed");
        }
    }
    // The last child was killed too, and nobody opens its log again.
    FileStorage::new(&dir).remove_memory(BUFFER);
    assert!(appends > 1000, "the children reported only {appends} appends");
}
