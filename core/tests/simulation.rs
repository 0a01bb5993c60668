//! Seeded lives of a log on a simulated disk: power cuts, kills, failing operations, full disks, and crashes while it
//! recovers, each judged by the oracle.
//!
//! `LIBWAL_SEEDS` says how many seeds are run, `LIBWAL_SEED` replays one. The log's id is random, so checksums differ
//! from run to run; everything else follows from the seed.

mod common;
#[path = "simulation/life.rs"]
mod life;

use common::oracle::Survived;
use common::random::Random;
use common::seeds::for_each_seed;
use common::{open, used};
use libwal::Error;
use libwal::storage::{Fault, SimOp, SimStorage};
use life::Life;

/// The operations an error may be ordered for.
const FAULTY: [SimOp; 12] = [
    SimOp::Sync,
    SimOp::Sync,
    SimOp::Write,
    SimOp::Write,
    SimOp::SyncDir,
    SimOp::Rename,
    SimOp::Remove,
    SimOp::Create,
    SimOp::Open,
    SimOp::Allocate,
    SimOp::Read,
    SimOp::Any,
];

#[test]
fn whatever_was_acknowledged_survives_every_crash() {
    for_each_seed(2000, |seed| {
        let mut random = Random::new(seed);
        let mut life = Life::new(seed, &mut random);
        for _ in 0..1 + random.below(4) {
            live(&mut life, &mut random);
            life = die(life, &mut random);
        }
    });
}

/// One life: opens the log, works until something happens.
fn live(life: &mut Life, random: &mut Random) {
    if life.was_open {
        life.open().unwrap_or_else(|error| panic!("seed {}: cannot be opened: {error}", life.seed));
        let found = life.judge(Survived::Kill);
        life.adopt(&found);
    }
    match random.below(8) {
        0..=3 => {
            let most = random.pick(&[30, 250, 250]);
            life.cut_after(random.below(most));
        }
        4 => order_faults(life, random),
        5 => life.short_of_space(random),
        _ => {}
    }
    if life.is_open() || life.open().is_ok() {
        let operations = 20 + random.below(120);
        life.work(random, operations);
    }
}

fn order_faults(life: &mut Life, random: &mut Random) {
    life.faulty = true;
    for _ in 0..1 + random.below(2) {
        let kind = random.pick(&[std::io::ErrorKind::Other, std::io::ErrorKind::StorageFull]);
        let fault = match random.one_in(3) {
            true => Fault::errno(random.pick(&FAULTY), random.below(60), 5),
            false => Fault::new(random.pick(&FAULTY), random.below(60), kind),
        };
        life.disk.inject(if random.one_in(4) { fault.sticky() } else { fault });
    }
}

/// Several ways in which the same life may end, each recovered and judged; one of them is lived on.
fn die(mut life: Life, random: &mut Random) -> Life {
    life.check_poison();
    let mut next = None;
    for _ in 0..3 {
        let after = life.after(life.disk.crash(random.next()));
        next = Some(reborn(after, Survived::Crash, random));
    }
    let after = life.after(life.disk.kill());
    let killed = reborn(after, Survived::Kill, random);
    let next = if random.one_in(3) { killed } else { next.expect("three of them") };
    life.forget();
    next
}

/// Recovers what survived, with crashes in the middle of it, and judges it; twice, and with appends in between.
fn reborn(mut life: Life, survived: Survived, random: &mut Random) -> Life {
    let mut survived = survived;
    for _ in 0..random.below(3) {
        let full = life.was_open && random.one_in(3);
        match random.below(2) {
            // No free space at all: recovery must not need any.
            _ if full => life.disk.set_capacity(Some(used(&life.disk))),
            0 => life.cut_after(random.below(25)),
            _ => order_faults(&mut life, random),
        }
        let opened = life.open();
        if let (true, Err(error)) = (full, &opened) {
            panic!("seed {}: recovery needs space: {error}", life.seed);
        }
        // What it accepted, it has made durable.
        let judged = opened.is_ok() && !life.faulty && life.has_power();
        if judged {
            let found = life.judge(survived);
            life.adopt(&found);
        }
        if judged || !random.one_in(3) {
            let seed = random.next();
            life = life.replaced_by(|disk| disk.crash(seed));
            survived = Survived::Crash;
        } else {
            life = life.replaced_by(SimStorage::kill);
        }
    }
    life.clear();
    life.open().unwrap_or_else(|error| panic!("seed {}: cannot be opened: {error}", life.seed));
    let found = life.judge(survived);
    life.adopt(&found);
    settle_again(life, found.len(), random)
}

/// A crash right after recovery changes nothing; what is appended and synced then survives the next one.
fn settle_again(mut life: Life, count: usize, random: &mut Random) -> Life {
    for round in 0..2 {
        let seed = random.next();
        life = life.replaced_by(|disk| if seed % 4 == 0 { disk.kill() } else { disk.crash(seed) });
        life.open().unwrap_or_else(|error| panic!("seed {}: cannot be opened again: {error}", life.seed));
        let found = life.judge(Survived::Crash);
        assert!(round > 0 || found.len() == count, "seed {}: {} records, then {count}", life.seed, found.len());
        life.adopt(&found);
        life.append_some(random);
    }
    if random.one_in(3) {
        life.close().unwrap_or_else(|error| panic!("seed {}: close: {error}", life.seed));
    }
    life.replaced_by(SimStorage::kill)
}

/// A disk that fills up refuses appends and loses nothing; with space again, the same handle goes on.
#[test]
fn a_full_disk_refuses_appends_and_keeps_what_it_accepted() {
    for_each_seed(400, |seed| {
        let mut random = Random::new(seed ^ 0xF011);
        let mut life = Life::new(seed, &mut random);
        life.open().expect("the disk is empty");
        for _ in 0..4 {
            life.work(&mut random, 20);
            life.disk.set_capacity(Some(used(&life.disk) + random.pick(&[0, 100, 9000])));
            let refused = life.fill_up(&mut random);
            assert!(matches!(refused, Error::NoSpace { .. }), "seed {seed}: {refused}");
            life.sync();
            life.check_live();
            // Also when the power goes now, and nothing is free afterwards.
            let disk = life.disk.crash(random.next());
            disk.set_capacity(Some(used(&disk)));
            let mut after = life.after(disk);
            after.open().unwrap_or_else(|error| panic!("seed {seed}: recovery needs space: {error}"));
            let found = after.judge(Survived::Crash);
            after.adopt(&found);
            after.truncate_to_the_end();
            after.clear();
            after.append_some(&mut random);
            let disk = after.disk.crash(random.next());
            let mut again = after.after(disk);
            again.open().unwrap_or_else(|error| panic!("seed {seed}: after a full disk: {error}"));
            again.judge(Survived::Crash);
            life.clear();
            life.append_some(&mut random);
        }
    });
}

/// The disk full at creation, at any point: `NoSpace`, and the next open succeeds.
#[test]
fn a_log_that_could_not_be_created_for_want_of_space_can_be_later() {
    for capacity in (0..40_000).step_by(509) {
        let disk = SimStorage::new();
        disk.set_capacity(Some(capacity));
        let options = common::small();
        match open(&options, &disk) {
            Ok(_) => {}
            Err(Error::NoSpace { .. }) => {}
            Err(error) => panic!("capacity {capacity}: {error}"),
        }
        disk.set_capacity(None);
        let wal = open(&options, &disk).unwrap_or_else(|error| panic!("capacity {capacity}: {error}"));
        wal.append_and_sync(b"at last").expect("space is there");
    }
}
