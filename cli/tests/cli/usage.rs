//! Wrong usage, and the help texts.

use crate::tools::{Bench, words};

#[test]
fn wrong_usage_is_one_line_and_exit_code_1() {
    let bench = Bench::with_lines("one\n");
    let wrong = [
        ("frob", "unrecognized subcommand"),
        ("dump", "<DIR>"),
        ("dump log --fromm 3", "a similar argument exists"),
        ("dump log --from x", "an LSN is a whole number"),
        ("dump log --from 0 --checkpoint", "cannot be used with"),
        ("dump log --format xml", "possible values"),
        ("append log --acks", "--acks needs --sync each"),
        ("append log --sync sometimes", "milliseconds"),
        ("append log --segment-size 5K", "power of two"),
        ("append log --segment-size 64MB", "1024 each"),
        ("append log --buffer-size 1", "power of two"),
        ("append log --max-record-size 1T", "max_record_size"),
        ("append log --batch 0", "--batch"),
        ("append log --first-lsn 9", "multiple of 8"),
        ("verify log --threads 0", "--threads"),
        ("follow log --from 0 --from-end", "cannot be used with"),
        ("follow log --timeout soon", "a number of seconds"),
        ("stat", "<DIR>"),
    ];
    for (line, what) in wrong {
        bench.run(&words(line)).refused(what);
    }
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), "one\n");
}

#[test]
fn help_tells_the_exit_codes() {
    let bench = Bench::new();
    assert!(bench.run(&["--version"]).ok().text().starts_with("wal "));
    assert!(bench.run(&["--help"]).ok().text().contains("Exit codes"));
    for command in ["append", "dump", "follow", "stat", "verify", "repair"] {
        let answer = bench.run(&[command, "--help"]).ok();
        assert!(answer.text().contains("Exit codes") && answer.text().contains("Examples"), "{command}");
        assert!(answer.text().lines().all(|line| line.chars().count() <= 110), "{command}");
    }
    let answer = bench.run(&[]);
    assert_eq!(answer.code, Some(1));
    assert!(answer.err.contains("Usage"));
}
