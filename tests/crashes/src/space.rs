//! A full disk refuses appends, says so, and loses nothing; with space freed the log goes on.

use std::fs;

use libwal::format::Kind;
use libwal::{Error, Lsn, Options, Wal};

use crate::common::child::{Heard, Job};
use crate::common::oracle::{Oracle, Survived, WRITER_SHIFT};
use crate::common::{assert_sane, judge, spawn};
use crate::disk::{Disk, Down, disks};
use crate::run::Scene;

pub(crate) fn check(scene: &Scene) {
    for disk in disks(scene, "full disk") {
        refused_and_resumed(scene, &disk);
        println!(
            "full disk on {}: refused, reopened, and went on after space was freed and after truncation",
            disk.kind
        );
    }
    for disk in disks(scene, "crash on a full disk") {
        crashed(scene, disk);
    }
}

/// Without recycling, what truncation frees goes back to the disk.
fn options() -> Options {
    Options::new().segment_size(1 << 16).buffer_size(1 << 14).recycle(0)
}

/// Appends from many threads until each of them was refused. Returns how many records that were.
fn fill(wal: &Wal, oracle: &Oracle, pass: u64) -> u64 {
    let fill_one = |writer: u64| -> u64 {
        for nth in 1.. {
            let counter = writer << WRITER_SHIFT | pass << 24 | nth;
            let len = 16 + (counter * 37 % 900) as usize;
            let data = oracle.payload(counter, len);
            let appended = wal.append(&data).and_then(|lsn| {
                oracle.appended(lsn, counter, len, Kind::Data);
                if nth % 8 != 0 {
                    return Ok(());
                }
                wal.sync_to(lsn)?;
                oracle.durable_to(lsn.get() + 1);
                Ok(())
            });
            match appended {
                Ok(()) => {}
                Err(error @ Error::NoSpace { .. }) => {
                    assert_eq!(error.code(), -2);
                    assert!(error.to_string().contains("no disk space"), "{error}");
                    return nth - 1;
                }
                Err(error) => panic!("on a full disk: {error}"),
            }
        }
        unreachable!("a disk without end")
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..6).map(|writer| scope.spawn(move || fill_one(writer))).collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).sum()
    })
}

/// Everything can still be synced and read.
fn settled(wal: &Wal, oracle: &Oracle) {
    let tail = wal.tail().expect("a tail");
    wal.sync().expect("a full disk syncs");
    oracle.durable_to(tail.get());
    oracle.check_live(wal).unwrap_or_else(|error| panic!("on a full disk: {error}"));
}

fn refused_and_resumed(scene: &Scene, disk: &Disk) {
    let dir = disk.at.join("log");
    let oracle = Oracle::new(scene.seed);
    let wal = options().open(&dir).expect("created");
    let ballast = disk.fill_up_to(2 << 20);
    assert!(fill(&wal, &oracle, 0) > 500, "hardly anything fitted");
    settled(&wal, &oracle);
    wal.close().expect("a full disk lets a log be closed");
    judge(&oracle.fork(), &dir, Survived::Crash).unwrap_or_else(|error| panic!("closed on a full disk: {error}"));
    let wal = options().open(&dir).expect("a full disk lets a log be opened");
    settled(&wal, &oracle);
    fill(&wal, &oracle, 1);
    settled(&wal, &oracle);

    fs::remove_file(&ballast).expect("removed");
    let ballast = disk.fill_up_to(1 << 20);
    assert!(fill(&wal, &oracle, 2) > 100, "the space that was freed is not used");
    settled(&wal, &oracle);

    let half = Lsn::new(*oracle.readable().get(oracle.len() / 2).expect("records"));
    oracle.truncating(half.get());
    oracle.truncated(wal.truncate_before(half).expect("truncated"));
    assert!(fill(&wal, &oracle, 3) > 100, "the space that truncation freed is not used");
    settled(&wal, &oracle);
    wal.close().expect("closed");
    judge(&oracle, &dir, Survived::Crash).unwrap_or_else(|error| panic!("at the end: {error}"));
    fs::remove_file(ballast).expect("removed");
}

fn crashed(scene: &Scene, mut disk: Disk) {
    let dir = disk.at.join("log");
    let oracle = Oracle::new(scene.seed);
    oracle.expect_unheard();
    let (mut refused, mut rounds) = (0, 0);
    // Less than four segments: no order of the child's truncations keeps it away from the end.
    disk.fill_up_to(256 << 10);
    for round in 1..=3 * scene.rounds {
        rounds = round;
        let job = Job { dir: &dir, seed: scene.seed, round, operations: 1 << 16 };
        let heard = Heard::from(&mut spawn(&job, &[]), 600);
        let name = format!("full {}, round {round} of seed {}", disk.kind, scene.seed);
        assert_sane(&heard, &name);
        assert_eq!(heard.count("unopened") + heard.count("poisoned") + heard.count("io"), 0, "{name}");
        heard.tell(&oracle);
        refused += heard.count("nospace");
        disk.shut_down(Down::AtOnce);
        disk.remount();
        judge(&oracle, &dir, Survived::Crash).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(refused > 0, "the disk was never full");
    println!("crash on a full {}: {rounds} rounds, {refused} operations refused", disk.kind);
}
