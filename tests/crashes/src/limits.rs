//! Limits of the kernel: on the size of files, and on memory.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use libwal::{Error, Options, Recovery};

use crate::common::child::{Heard, Job, copy};
use crate::common::oracle::{Oracle, Survived};
use crate::common::random::Random;
use crate::common::{assert_sane, judge, spawn};
use crate::run::{Scene, have, skipped};

/// The header page of a segment file, and the bytes of the stream behind it, in the writers' logs.
const HEADER: u64 = 4096;
const SEGMENT: u64 = 1 << 16;
/// Shorter than a segment file, so that writes into an old segment meet it, and new segments are not made.
const FILE_SIZE: &str = "--fsize=49152";
const IGNORING_THE_SIGNAL: [&str; 4] = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];

/// Writes beyond the limit fail, or kill: either way what was flushed is there once the limit is gone.
pub(crate) fn file_size(scene: &Scene) {
    if !have("prlimit") {
        return skipped("file-size: prlimit is not there");
    }
    let (mut failed, mut killed) = (0, 0);
    let rounds = 10 * scene.rounds;
    for round in 1..=rounds {
        let ignored = round % 2 == 0;
        let name = format!("file-size, round {round} of seed {}", scene.seed);
        let temporary = tempfile::tempdir_in(&scene.folder).expect("a directory");
        let dir = temporary.path().join("log");
        let oracle = Oracle::new(scene.seed ^ round);
        oracle.expect_unheard();
        let mut random = Random::new(scene.seed ^ round << 16);
        // Without a limit first, so that the segment is there, and its first part written.
        let job = Job { dir: &dir, seed: scene.seed ^ round, round: 1, operations: 1 << 16 };
        Heard::from(&mut spawn(&job, &[]), 2 + random.below(30) as usize).tell(&oracle);
        judge(&oracle, &dir, Survived::Kill).unwrap_or_else(|error| panic!("{name}, before: {error}"));
        let limited: Vec<&str> = if ignored { IGNORING_THE_SIGNAL.to_vec() } else { Vec::new() }
            .into_iter()
            .chain(["prlimit", FILE_SIZE])
            .collect();
        let job = Job { round: 2, operations: 2000, ..job };
        let mut child = spawn(&job, &limited);
        let heard = Heard::from(&mut child, usize::MAX);
        assert_sane(&heard, &name);
        heard.tell(&oracle);
        let status = child.wait().expect("ended");
        if ignored {
            assert!(status.success(), "{name}: {status}");
            failed += heard.count("poisoned") + heard.count("io") + heard.count("unopened");
        } else {
            assert_eq!(status.signal(), Some(libc::SIGXFSZ), "{name}: {status}");
            killed += 1;
        }
        judge(&oracle, &dir, Survived::Kill).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(failed > 0 && killed > 0, "the limit was not met");
    println!("file-size: {rounds} rounds beyond the limit; {failed} failures were told, {killed} writers were killed");
}

/// Damaged lengths get no memory: opening, reading and mending such logs goes on under a limit that one of those lengths
/// would break.
pub(crate) fn memory(scene: &Scene) {
    if !have("prlimit") {
        return skipped("memory: prlimit is not there");
    }
    let temporary = tempfile::tempdir_in(&scene.folder).expect("a directory");
    let dir = temporary.path().join("log");
    // Killed, so that recovery has a tail to scan.
    let job = Job { dir: &dir, seed: scene.seed, round: 1, operations: 1 << 16 };
    let heard = Heard::from(&mut spawn(&job, &[]), 400);
    assert!(heard.count("append") > 100, "memory: the writer reported only {} appends", heard.count("append"));
    let wal = Options::new().read_only(true).open(&dir).expect("a log that was killed is read");
    let records: Vec<u64> = wal.iter().expect("read").map(|record| record.expect("read").lsn.get()).collect();
    drop(wal);
    let damaged = temporary.path().join("damaged");
    fs::create_dir(&damaged).expect("created");
    let mut random = Random::new(scene.seed);
    let count = 60 * scene.rounds;
    for nth in 0..count {
        let log = damaged.join(nth.to_string());
        copy(&dir, &log);
        if nth % 2 == 0 {
            forge_record(&log, random.pick(&records));
        } else {
            forge(&log, &mut random);
        }
    }
    // 220 MiB: less than the 256 MiB that a length can promise, and than the 4 GiB that a header can.
    let status = Command::new("prlimit")
        .arg(format!("--as={}", 220 << 20))
        .args(["setpriv", "--pdeathsig", "KILL"])
        .arg(std::env::current_exe().expect("the path of this program"))
        .arg("--open-damaged")
        .arg(&damaged)
        .env("MALLOC_ARENA_MAX", "1")
        .status();
    let status = status.expect("prlimit is there");
    assert!(status.success(), "memory: a damaged length of seed {} was believed: {status}", scene.seed);
    println!("memory: {count} damaged logs opened, verified, salvaged and mended within 220 MiB");
}

/// Gives a record the greatest length there is: 28 bits of it, below the kind, in the upper half of its header word.
fn forge_record(log: &Path, lsn: u64) {
    let file = log.join(format!("{:020}.wal", lsn / SEGMENT));
    let at = (HEADER + lsn % SEGMENT) as usize;
    let mut bytes = fs::read(&file).expect("read");
    let word = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes"));
    bytes[at + 4..at + 8].copy_from_slice(&(word | 0x0FFF_FFFF).to_le_bytes());
    fs::write(file, bytes).expect("written");
}

/// Overwrites any words of a header page or of the lock file.
fn forge(log: &Path, random: &mut Random) {
    let mut names: Vec<_> = fs::read_dir(log).expect("listed").map(|entry| entry.expect("listed").path()).collect();
    // The writer may have been killed when it had only just made a file.
    names.retain(|name| fs::metadata(name).expect("a file").len() >= HEADER);
    names.sort();
    let file = &names[random.below(names.len() as u64) as usize];
    let mut bytes = fs::read(file).expect("read");
    let words = bytes.len().min(HEADER as usize) as u64 / 8;
    for _ in 0..=random.below(6) {
        let at = random.below(words) as usize * 8;
        match random.below(3) {
            0 => bytes[at + 4..at + 8].copy_from_slice(&(0x0FFF_FFFF_u32).to_le_bytes()),
            1 => bytes[at..at + 8].copy_from_slice(&[0xFF; 8]),
            _ => bytes[at..at + 8].copy_from_slice(&random.next().to_le_bytes()),
        }
    }
    fs::write(file, bytes).expect("written");
}

/// The limited process: opens each log below `folder` in every way. An allocation that fails would abort it.
pub(crate) fn open_damaged(folder: &Path) -> ExitCode {
    // The limit is in force.
    assert!(Vec::<u8>::new().try_reserve_exact(256 << 20).is_err(), "256 MiB are to be had");
    for entry in fs::read_dir(folder).expect("listed") {
        let log = entry.expect("listed").path();
        let ways = [
            Options::new().read_only(true),
            Options::new().recovery(Recovery::Salvage),
            Options::new().segment_size(1 << 16).buffer_size(1 << 14),
        ];
        let _ = libwal::verify(&log, 1, &|_| {});
        for way in ways {
            match way.open(&log).and_then(|wal| wal.iter()?.try_for_each(|record| record.map(drop))) {
                Ok(()) | Err(Error::Corrupt { .. } | Error::UnsupportedVersion { .. } | Error::InvalidArgument(_)) => {}
                Err(error) => panic!("{}: {error}", log.display()),
            }
        }
        let _ = libwal::repair(&log, log.with_extension("kept"));
    }
    ExitCode::SUCCESS
}
