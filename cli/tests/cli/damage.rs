//! `wal verify`, `wal repair` and `wal dump --salvage` on damaged logs.

use std::fs;

use crate::tools::{Bench, flip, lines, objects};

/// A log of two hundred lines whose record 77 is damaged, and that record's LSN.
fn damaged() -> (Bench, u64) {
    let bench = Bench::with_lines(&lines(200));
    let all = objects(&bench.run(&["dump", "log", "--format", "json"]).ok().out);
    let lsn = all[77]["lsn"].as_u64().expect("a number");
    flip(&bench.path("log"), lsn + 12);
    (bench, lsn)
}

fn without(record: usize) -> String {
    let text = lines(200);
    text.split_inclusive('\n').enumerate().filter(|&(number, _)| number != record).map(|(_, line)| line).collect()
}

#[test]
fn a_sound_log_is_left_alone() {
    let bench = Bench::with_lines(&lines(200));
    let answer = bench.run(&["verify", "log"]).ok();
    assert!(
        answer.text().contains("\nrecords         200\n") && answer.text().ends_with("\nsound\n"),
        "{}",
        answer.text()
    );
    let before = bench.snapshot("log");
    for args in [&["repair", "log"][..], &["repair", "log", "--yes"], &["repair", "log", "--yes", "--keep", "kept"]] {
        assert_eq!(bench.run(args).ok().text(), "sound: there is nothing to repair\n");
    }
    assert!(bench.snapshot("log").keys().eq(before.keys()));
    assert!(!bench.path("kept").exists() && !bench.path("log.dropped").exists());
}

#[test]
fn damage_is_found() {
    let (bench, lsn) = damaged();
    for threads in ["1", "2", "7"] {
        let answer = bench.run(&["verify", "log", "--threads", threads]).code(2);
        assert!(answer.text().contains(&format!("damage: LSN {lsn} up to ")), "{}", answer.text());
        assert!(answer.text().ends_with("damaged: 0 files, 1 range of the stream\n"), "{}", answer.text());
        assert_eq!(answer.err, "");
    }
    assert_eq!(bench.run(&["verify", "log", "--quiet"]).code(2).out, b"");
}

#[test]
fn a_strict_dump_ends_at_the_damage() {
    let (bench, lsn) = damaged();
    let answer = bench.run(&["dump", "log"]).code(2);
    assert_eq!(answer.text(), lines(77));
    assert_eq!(answer.err.lines().count(), 1);
    assert!(answer.err.contains(&format!("corrupt at LSN {lsn}")), "{}", answer.err);
    let answer = bench.run(&["follow", "log", "--timeout", "0"]).code(2);
    assert_eq!(answer.text(), lines(77));
}

#[test]
fn a_salvage_reads_around_it() {
    let (bench, lsn) = damaged();
    let before = bench.snapshot("log");
    let answer = bench.run(&["dump", "log", "--salvage"]).code(2);
    assert_eq!(answer.text(), without(77));
    assert_eq!(answer.err.lines().count(), 1);
    assert!(answer.err.starts_with(&format!("wal: damage: LSN {lsn} up to ")), "{}", answer.err);
    assert!(bench.snapshot("log") == before);
}

#[test]
fn repair_asks_first_and_keeps_a_copy() {
    let (bench, lsn) = damaged();
    let before = bench.snapshot("log");
    let answer = bench.run(&["repair", "log"]).code(2);
    assert!(answer.text().contains(&format!("LSN {lsn} ")), "{}", answer.text());
    assert!(answer.text().contains("would drop 1 range") && answer.text().contains("log.dropped"), "{}", answer.text());
    assert!(bench.snapshot("log") == before && !bench.path("log.dropped").exists());

    let answer = bench.run(&["repair", "log/", "--yes"]).ok();
    assert!(answer.text().contains("dropped 1 range"), "{}", answer.text());
    let kept = bench.snapshot("log.dropped");
    let damaged = {
        let mut bytes = lines(200).lines().nth(77).expect("a line").as_bytes().to_vec();
        bytes[4] ^= 0xff;
        bytes
    };
    let holds = |bytes: &[u8]| bytes.windows(damaged.len()).any(|window| window == damaged);
    assert!(kept.values().any(|(_, bytes)| holds(bytes)), "{:?}", kept.keys());

    bench.run(&["verify", "log"]).ok();
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), without(77));
    bench.feed(&["append", "log"], b"more\n").ok();
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), without(77) + "more\n");
    bench.run(&["verify", "log"]).ok();
}

#[test]
fn repair_never_mixes_two_copies() {
    let (bench, _) = damaged();
    fs::create_dir(bench.path("kept")).expect("a directory");
    fs::write(bench.path("kept/something"), "here").expect("a file");
    let before = bench.snapshot("log");
    bench.run(&["repair", "log", "--yes", "--keep", "kept"]).refused("not empty");
    bench.run(&["repair", "log", "--yes", "--keep", "log/kept"]).refused("inside the log's own directory");
    bench.run(&["repair", "log", "--yes", "--keep", "log"]).refused("inside the log's own directory");
    let after = bench.snapshot("log");
    assert!(before.iter().all(|(path, (_, bytes))| after[path].1 == *bytes));
    fs::remove_file(bench.path("kept/something")).expect("remove");
    bench.run(&["repair", "log", "--yes", "--keep", "kept"]).ok();
    bench.run(&["verify", "log"]).ok();
}

#[test]
fn repair_finds_a_place_beside_the_current_directory() {
    let (bench, _) = damaged();
    let output = bench.command(&["repair", ".", "--yes"]).current_dir(bench.path("log")).output().expect("run");
    assert_eq!(output.status.code(), Some(0));
    assert!(bench.path("log.dropped").is_dir());
    bench.run(&["verify", "log"]).ok();
}

#[test]
fn a_missing_segment_is_damage() {
    let bench = Bench::with_lines(&lines(200));
    fs::remove_file(bench.path("log/00000000000000000001.wal")).expect("remove");
    bench.run(&["verify", "log"]).code(2);
    bench.run(&["dump", "log"]).code(2);
    bench.feed(&["append", "log"], b"x\n").code(2);
    let saved = bench.run(&["dump", "log", "--salvage"]).code(2);
    bench.run(&["repair", "log", "--yes"]).ok();
    bench.run(&["verify", "log"]).ok();
    assert_eq!(bench.run(&["dump", "log"]).ok().out, saved.out);
}

#[test]
fn garbage_in_a_file_is_mended_and_never_a_panic() {
    let commands = ["dump log", "stat log", "stat log --json", "verify log", "repair log --yes"];
    for seed in 0..40_u64 {
        // A seed stands for a file, so it has to be there: a close may come before the second segment is made.
        let bench = loop {
            let bench = Bench::with_lines(&lines(60));
            if bench.path("log/00000000000000000001.wal").exists() {
                break bench;
            }
        };
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut paths: Vec<_> = bench.snapshot("log").into_keys().filter(|path| path.is_file()).collect();
        paths.rotate_left(seed as usize % 3);
        let mut bytes = fs::read(&paths[0]).expect("read");
        for _ in 0..200 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
        }
        if seed % 5 == 0 {
            bytes.truncate(bytes.len() / 3);
        }
        fs::write(&paths[0], bytes).expect("write");
        let saved = bench.run(&["dump", "log", "--salvage"]).out;
        for command in commands {
            let answer = bench.run(&crate::tools::words(command));
            let code = answer.code.expect("no signal");
            assert!((0..=3).contains(&code), "seed {seed}: {command}: {code}: {}", answer.err);
            assert!(!answer.err.contains("panicked"), "seed {seed}: {command}: {}", answer.err);
        }
        // Garbage where the format version stands looks like a log of a newer version: that is refused, not mended.
        if bench.run(&["verify", "log"]).code == Some(1) {
            continue;
        }
        // Garbage in one file can all be mended, and then every record that could be read before is still there.
        bench.run(&["verify", "log"]).ok();
        assert_eq!(bench.run(&["dump", "log"]).ok().out, saved, "seed {seed}");
        bench.feed(&["append", "log"], b"more\n").ok();
        assert_eq!(bench.run(&["dump", "log"]).ok().out, [&saved[..], b"more\n"].concat(), "seed {seed}");
    }
}
