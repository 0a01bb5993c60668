//! SIGKILL at random moments: while the log is written, and while it is recovered.

use std::process::{Child, Command};
use std::time::Duration;

use crate::common::child::{Heard, Job, options};
use crate::common::oracle::{Oracle, Survived};
use crate::common::random::Random;
use crate::common::{assert_healthy, judge, spawn};
use crate::run::Scene;

/// Kills the writer after `delay`, and hears what it reported until then.
pub(crate) fn killed_after(mut child: Child, delay: Duration) -> Heard {
    let pid = child.id().to_string();
    // The writer is not waited for before the pipe ends, so its number is not given to another process.
    let killer = std::thread::spawn(move || {
        std::thread::sleep(delay);
        Command::new("kill").args(["-KILL", &pid]).status().expect("kill is there");
    });
    let heard = Heard::listen(&mut child, usize::MAX, |_| {});
    killer.join().expect("the writer was killed");
    child.wait().expect("ended");
    heard
}

pub(crate) fn check(scene: &Scene) {
    let temporary = tempfile::tempdir_in(&scene.folder).expect("a directory");
    let dir = temporary.path().join("log");
    let oracle = Oracle::new(scene.seed);
    oracle.expect_unheard();
    let mut random = Random::new(scene.seed ^ 0x51);
    let (mut appends, mut recoveries) = (0, 0);
    let rounds = 16 * scene.rounds;
    for round in 1..=rounds {
        let job = Job { dir: &dir, seed: scene.seed, round, operations: 1 << 16 };
        let mut heard = killed_after(spawn(&job, &[]), Duration::from_millis(20 + random.below(150)));
        heard.tell(&oracle);
        appends += heard.count("append");
        // What a recovery that was killed leaves is recovered by the next one, which is killed too.
        for _ in 0..random.below(4) {
            assert_healthy(&heard, &format!("round {round} of seed {}", scene.seed));
            let job = Job { operations: 0, ..job };
            heard = killed_after(spawn(&job, &[]), Duration::from_micros(random.below(6000)));
            recoveries += usize::from(heard.count("opened") == 0);
        }
        assert_healthy(&heard, &format!("round {round} of seed {}", scene.seed));
        judge(&oracle, &dir, Survived::Kill).unwrap_or_else(|error| panic!("kills, round {round}: {error}"));
        if random.one_in(3) {
            options().open(&dir).expect("the log opens").close().expect("closed");
        }
    }
    assert!(appends > 500, "the writers reported only {appends} appends");
    println!(
        "kills: {rounds} writers killed after {appends} appends, {recoveries} of their successors before they had opened"
    );
}
