//! The file system is shut down under the log: after its writer was killed, or while it writes. What was acknowledged as
//! durable is there once it is mounted again.

use libwal::storage::{FileStorage, Storage};

use crate::common::child::{BUFFER, Heard, Job, options};
use crate::common::oracle::{Oracle, Survived};
use crate::common::random::Random;
use crate::common::{assert_healthy, assert_sane, judge, spawn};
use crate::disk::{Disk, Down, disks};
use crate::run::Scene;

pub(crate) fn check(scene: &Scene) {
    for disk in disks(scene, "shutdown") {
        on(scene, disk);
    }
}

fn on(scene: &Scene, mut disk: Disk) {
    let kind = disk.kind;
    let dir = disk.at.join("log");
    let oracle = Oracle::new(scene.seed);
    oracle.expect_unheard();
    let mut random = Random::new(scene.seed ^ 0x5D);
    let (mut appends, mut acknowledged, mut met) = (0, 0, 0);
    let rounds = 12 * scene.rounds;
    for round in 1..=rounds {
        let how = match round % 6 {
            0 => Down::Written,
            3 => Down::JournalWritten,
            _ => Down::AtOnce,
        };
        let alive = round % 2 == 0;
        let name = format!("{kind}, round {round} of seed {}, {how:?}, alive {alive}", scene.seed);
        let job = Job { dir: &dir, seed: scene.seed, round, operations: 1 << 16 };
        let patience = 1 + random.below(if round % 5 == 0 { 8 } else { 500 }) as usize;
        let mut child = spawn(&job, &[]);
        let heard = if alive {
            let heard = Heard::listen(&mut child, patience, |_| disk.shut_down(how));
            child.wait().expect("ended");
            assert_sane(&heard, &name);
            met += heard.count("poisoned");
            heard
        } else {
            let heard = Heard::from(&mut child, patience);
            assert_healthy(&heard, &name);
            disk.shut_down(how);
            heard
        };
        heard.tell(&oracle);
        appends += heard.count("append");
        acknowledged += heard.count("durable");
        disk.remount();
        // It is in memory, which goes with the power.
        FileStorage::new(&dir).remove_memory(BUFFER);
        judge(&oracle, &dir, Survived::Crash).unwrap_or_else(|error| panic!("{name}: {error}"));
        if round % 4 == 0 {
            // Otherwise the next writer is the one to recover it in place.
            let wal = options().open(&dir).unwrap_or_else(|error| panic!("{name}: {error}"));
            oracle.check_live(&wal).unwrap_or_else(|error| panic!("{name}, in place: {error}"));
            wal.close().expect("closed");
        }
    }
    assert!(acknowledged > 100, "the writers on {kind} reported only {acknowledged} syncs");
    assert!(met > 0, "no writer on {kind} met the shutdown");
    println!(
        "shutdown on {kind}: {rounds} rounds, {appends} appends, {acknowledged} syncs, {met} threads met it alive"
    );
}
