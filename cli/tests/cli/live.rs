//! Several processes at one log, and processes that are killed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::tools::{Bench, lines, objects};

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().expect("run kill");
    assert!(status.success());
}

#[test]
fn a_follower_sees_what_is_appended_beside_it() {
    let bench = Bench::with_lines("first\n");
    let mut all = bench.start(&["follow", "log"]);
    let mut new = bench.start(&["follow", "log", "--from-end", "--limit", "2"]);
    let mut out = BufReader::new(all.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("read");
    assert_eq!(line, "first\n");

    let mut appender = bench.start(&["append", "log"]);
    let mut input = appender.stdin.take().expect("a pipe");
    // The second follower may begin at any of them.
    let mut written = Vec::new();
    while new.try_wait().expect("look").is_none() {
        let text = format!("line {}\n", written.len());
        // The appender waits for more input, and has handed on what it has.
        input.write_all(text.as_bytes()).expect("write");
        line.clear();
        out.read_line(&mut line).expect("read");
        assert_eq!(line, text);
        written.push(text);
    }
    let output = new.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(0));
    assert!(written.windows(2).any(|pair| output.stdout == pair.concat().as_bytes()), "{output:?}");

    // As Ctrl-C would; but that signal is ignored by what a script starts in the background.
    signal(&all, "TERM");
    assert_eq!(all.wait().expect("wait").signal(), Some(15));
    drop(input);
    assert_eq!(appender.wait_with_output().expect("wait").status.code(), Some(0));
    bench.run(&["verify", "log"]).ok();
}

#[test]
fn a_follower_keeps_up_across_segments_and_stops_when_nothing_comes() {
    let bench = Bench::with_lines("");
    let follower = bench.start(&["follow", "log", "--timeout", "2"]);
    let text = lines(3000);
    bench.feed(&["append", "log", "--sync", "5"], text.as_bytes()).ok();
    let output = follower.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == text.as_bytes());
}

#[test]
fn a_follower_ends_when_nobody_reads() {
    let bench = Bench::with_lines("first\n");
    let mut follower = bench.start(&["follow", "log"]);
    drop(follower.stdout.take());
    // The first record may have been written before nobody read any more; the next ones cannot.
    while follower.try_wait().expect("look").is_none() {
        bench.feed(&["append", "log"], b"more\n").ok();
    }
    let output = follower.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}

#[test]
fn a_timeout_is_kept() {
    let bench = Bench::with_lines("first\n");
    let begun = Instant::now();
    assert_eq!(bench.run(&["follow", "log", "--timeout", "0.3"]).ok().text(), "first\n");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_second_writer_is_refused() {
    let bench = Bench::with_lines("first\n");
    let mut appender = bench.start(&["append", "log"]);
    let mut input = appender.stdin.take().expect("a pipe");
    input.write_all(b"second\n").expect("write");
    let mut follower = bench.start(&["follow", "log", "--limit", "2"]);
    assert_eq!(follower.wait().expect("wait").code(), Some(0));
    bench.feed(&["append", "log"], b"x\n").refused("locked");
    let answer = bench.run(&["repair", "log", "--yes"]);
    assert_eq!(answer.code, Some(1), "{}", answer.err);
    drop(input);
    assert_eq!(appender.wait_with_output().expect("wait").status.code(), Some(0));
}

/// Kills an appender in the middle of its work; what it had acknowledged must be there.
#[test]
fn what_was_acknowledged_survives_a_kill() {
    let bench = Bench::new();
    let mut written = 0;
    for (round, batch) in [None, Some("1"), Some("7"), None].into_iter().enumerate() {
        let mut args = vec!["append", "log", "--segment-size", "16K", "--sync", "each", "--acks"];
        args.extend(batch.iter().flat_map(|size| ["--batch", size]));
        let mut child = bench.start(&args);
        let mut input = child.stdin.take().expect("a pipe");
        let feeder = thread::spawn(move || {
            for number in 0.. {
                if writeln!(input, "round {round} record {number}").is_err() {
                    return;
                }
            }
        });
        let mut acks = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut lsns: Vec<u64> = Vec::new();
        while lsns.len() < 150 {
            lsns.push(acks.next().expect("a line").expect("read").parse().expect("an LSN"));
        }
        child.kill().expect("kill");
        lsns.extend(acks.map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok()));
        assert_eq!(child.wait().expect("wait").signal(), Some(9));
        feeder.join().expect("feed");

        let code = bench.run(&["verify", "log"]).code;
        assert!(matches!(code, Some(0 | 3)), "{code:?}");
        let dump = || objects(&bench.run(&["dump", "log", "--format", "json"]).ok().out);
        // A view sees what had reached the segments; the next writer also finds what was still in the buffer.
        let viewed = dump();
        assert!(viewed.len() >= written + lsns.len());
        bench.feed(&["append", "log"], b"").ok();
        let dumped = dump();
        assert!(dumped.starts_with(&viewed));
        for (number, object) in dumped[written..].iter().enumerate() {
            assert_eq!(object["data"], format!("round {round} record {number}"));
        }
        for (lsn, object) in lsns.iter().zip(&dumped[written..]) {
            assert_eq!(object["lsn"], *lsn);
        }
        written = dumped.len();
    }
    bench.feed(&["append", "log"], b"last\n").ok();
    assert_eq!(bench.run(&["dump", "log"]).ok().text().lines().count(), written + 1);
    bench.run(&["verify", "log"]).ok();
}

/// What was read before the appender waited for more input is with the operating system, also without any sync.
#[test]
fn a_kill_loses_nothing_that_was_read_before_a_pause() {
    let bench = Bench::new();
    let mut child = bench.start(&["append", "log"]);
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(lines(50).as_bytes()).expect("write");
    input.flush().expect("flush");
    // The log has to be there before anybody can follow it.
    let begun = Instant::now();
    while bench.run(&["stat", "log"]).code != Some(0) {
        assert!(begun.elapsed() < Duration::from_secs(20), "no log was made");
        thread::sleep(Duration::from_millis(20));
    }
    let follower = bench.start(&["follow", "log", "--limit", "50"]);
    assert!(follower.wait_with_output().expect("wait").stdout == lines(50).as_bytes());
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), lines(50));
}
