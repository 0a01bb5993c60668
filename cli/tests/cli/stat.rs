//! `wal stat`, and that commands which only read change nothing.

use crate::tools::{Bench, lines, reading_commands};

#[test]
fn facts_agree_with_the_log() {
    let bench = Bench::with_lines(&lines(100));
    let answer = bench.run(&["stat", "log", "--json"]).ok();
    let stat: serde_json::Value = serde_json::from_slice(&answer.out).expect("one object");
    assert_eq!(stat["head"], 0);
    assert_eq!(stat["segment_size"], 4096);
    assert_eq!((&stat["closed_cleanly"], &stat["shared_buffer"]), (&true.into(), &false.into()));
    assert_eq!(stat["checkpoint"], serde_json::Value::Null);
    assert_eq!(stat["durable"], stat["tail"]);
    let snapshot = bench.snapshot("log");
    assert_eq!(stat["files"], snapshot.len() - 1);
    assert_eq!(stat["bytes_on_disk"], snapshot.values().map(|(_, bytes)| bytes.len()).sum::<usize>());

    let wal = libwal::Wal::open(bench.path("log")).expect("open");
    let lsn = wal.checkpoint(b"").expect("checkpoint");
    let stat: serde_json::Value =
        serde_json::from_slice(&bench.run(&["stat", "log", "--json"]).ok().out).expect("object");
    assert_eq!(stat["closed_cleanly"], false);
    assert_eq!(stat["shared_buffer"], wal.stats().expect("open").shared_buffer);
    assert_eq!(stat["checkpoint"], lsn.get());
    let text = bench.run(&["stat", "log"]).ok();
    assert!(text.text().contains(&format!("\ncheckpoint      {lsn}\n")), "{}", text.text());
}

#[test]
fn reading_changes_nothing() {
    let bench = Bench::with_lines(&lines(200));
    let before = bench.snapshot("log");
    let around = bench.snapshot("");
    for args in reading_commands() {
        bench.run(&args).ok();
        assert!(bench.snapshot("log") == before, "{args:?} changed the log");
        assert!(bench.snapshot("") == around, "{args:?} changed what is beside the log");
    }
}

#[test]
fn reading_changes_nothing_of_a_log_that_was_not_closed() {
    let bench = Bench::new();
    let options = libwal::Options::new().segment_size(4096).background(false);
    let wal = options.open(bench.path("log")).expect("open");
    for line in lines(150).lines() {
        wal.append(line.as_bytes()).expect("append");
    }
    wal.flush().expect("flush");
    let before = bench.snapshot("log");
    for args in reading_commands() {
        let answer = bench.run(&args);
        assert!(matches!(answer.code, Some(0 | 3)), "{args:?}: {}", answer.err);
        assert!(bench.snapshot("log") == before, "{args:?} changed the log");
    }
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), lines(150));
}

#[test]
fn what_is_not_there_is_not_made() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("empty")).expect("a directory");
    for args in reading_commands() {
        bench.run(&args).refused("there is no directory log");
        assert!(!bench.path("log").exists(), "{args:?}");
        let args: Vec<_> = args.iter().map(|&arg| if arg == "log" { "empty" } else { arg }).collect();
        bench.run(&args).code(1);
        assert_eq!(bench.snapshot("empty").len(), 1, "{args:?}");
    }
    bench.run(&["repair", "log", "--yes"]).refused("there is no directory log");
    bench.run(&["repair", "empty", "--yes"]).code(1);
    assert_eq!(bench.snapshot("").len(), 2);
    assert_eq!(bench.snapshot("empty").len(), 1);
}
