//! `wal append`: framings, limits, sync policies, what is told at the end.

use crate::tools::{Bench, lines, objects};

fn framed(records: &[&[u8]]) -> Vec<u8> {
    records.iter().fold(Vec::new(), |mut bytes, record| {
        bytes.extend(u32::try_from(record.len()).expect("a small record").to_le_bytes());
        bytes.extend(*record);
        bytes
    })
}

/// The LSN of the line `durable <lsn>`, which must be the last.
fn durable(text: &str) -> u64 {
    let line = text.lines().last().expect("a line");
    line.strip_prefix("durable ").and_then(|lsn| lsn.parse().ok()).expect("the durable LSN")
}

#[test]
fn lines_come_out_as_they_went_in() {
    for policy in ["end", "5", "5ms", "each"] {
        let text = lines(300);
        let bench = Bench::new();
        let answer = bench.feed(&["append", "log", "--segment-size", "64K", "--sync", policy], text.as_bytes()).ok();
        assert!(answer.err.contains(&format!("300 records, {} ", text.len() - 300)), "{}", answer.err);
        assert!(durable(answer.text()) > text.len() as u64);
        assert_eq!(bench.run(&["dump", "log"]).ok().text(), text);
    }
}

#[test]
fn a_last_line_without_newline_counts() {
    let bench = Bench::with_lines("a\n\nb\r\nc");
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), "a\n\nb\r\nc\n");
    assert_eq!(bench.run(&["dump", "log", "--format", "raw"]).ok().text(), "ab\rc");
}

#[test]
fn nul_and_length_carry_any_bytes() {
    let bench = Bench::new();
    let records: [&[u8]; 4] = [b"a\nb\0", b"", b"\xff\xfe\n", b"end"];
    bench.feed(&["append", "log", "--input", "length"], &framed(&records)).ok();
    assert_eq!(bench.run(&["dump", "log", "--format", "raw"]).ok().out, records.concat());
    let lens: Vec<_> = objects(&bench.run(&["dump", "log", "--format", "json"]).ok().out)
        .iter()
        .map(|object| object["len"].as_u64())
        .collect();
    assert_eq!(lens, [Some(4), Some(0), Some(3), Some(3)]);

    let bench = Bench::new();
    bench.feed(&["append", "log", "--input", "nul"], b"a\nb\0\0\xff\0c").ok();
    assert_eq!(bench.run(&["dump", "log"]).ok().out, b"a\nb\n\n\xff\nc\n");
}

#[test]
fn records_larger_than_buffer_and_segment() {
    let bench = Bench::new();
    let text: String =
        (0..5).map(|number| format!("{}\n", char::from(b'a' + number).to_string().repeat(50_000))).collect();
    bench.feed(&["append", "log", "--segment-size", "16K", "--buffer-size", "4k"], text.as_bytes()).ok();
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), text);
    assert_eq!(bench.run(&["verify", "log"]).ok().err, "");
}

#[test]
fn appending_goes_on_where_it_ended() {
    let bench = Bench::with_lines("one\n");
    let first = durable(bench.feed(&["append", "log", "--no-create"], b"two\n").ok().text());
    let second = durable(bench.feed(&["append", "log"], b"").ok().text());
    assert!(second >= first);
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), "one\ntwo\n");
    bench.feed(&["append", "log"], b"three\n").ok();
    let rest = bench.run(&["dump", "log", "--from", &first.to_string()]).ok();
    assert_eq!(rest.text(), "three\n");
}

#[test]
fn nothing_is_appended_from_nothing() {
    let bench = Bench::new();
    assert_eq!(durable(bench.feed(&["append", "log", "--first-lsn", "4096"], b"").ok().text()), 4096);
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), "");
}

#[test]
fn a_cut_off_record_says_what_is_missing() {
    let mut input = framed(&[b"whole", b"not whole"]);
    input.truncate(input.len() - 3);
    let bench = Bench::new();
    let answer = bench.feed(&["append", "log", "--input", "length"], &input).code(1);
    assert!(answer.err.contains("record 2 is cut off: 3 of its 9 bytes are missing"), "{}", answer.err);
    assert_eq!(durable(answer.text()), 16);
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), "whole\n");

    let answer = bench.feed(&["append", "log", "--input", "length"], &[1, 0]).code(1);
    assert!(answer.err.contains("record 1 is cut off: 2 of the 4 bytes of its length are missing"), "{}", answer.err);
}

#[test]
fn a_record_above_the_limit_is_refused_before_it_is_read() {
    let bench = Bench::new();
    let answer = bench.feed(&["append", "log", "--input", "length"], b"\x01\0\0\0a\xff\xff\xff\xff").code(1);
    assert!(answer.err.contains("record 2 is 4294967295 bytes long: the limit is 67108864"), "{}", answer.err);
    let answer = bench.feed(&["append", "log", "--max-record-size", "4"], b"b\n1234\n12345\nc\n").code(1);
    assert!(answer.err.contains("record 3 is longer than the limit of 4 bytes"), "{}", answer.err);
    assert_eq!(bench.run(&["dump", "log"]).ok().text(), "a\nb\n1234\n");
}

#[test]
fn batches_are_whole() {
    let bench = Bench::new();
    let answer = bench.feed(&["append", "log", "--batch", "3", "--sync", "each", "--acks"], b"1\n2\n3\n4\n").ok();
    let kinds = |answer: Vec<u8>| -> Vec<String> {
        objects(&answer).iter().map(|object| object["kind"].as_str().expect("a kind").to_owned()).collect()
    };
    let dumped = bench.run(&["dump", "log", "--format", "json"]).ok().out;
    let lsns: Vec<_> = objects(&dumped).iter().map(|object| object["lsn"].to_string()).collect();
    let acks: Vec<_> = answer.text().lines().map(str::to_owned).collect();
    assert_eq!(acks[..4], lsns);
    assert_eq!(kinds(dumped)[..3], ["batch", "batch", "batch_end"]);

    // What was read of an unfinished batch when the input turns out to be wrong is left out.
    let mut input = framed(&[b"a", b"b", b"c", b"cut"]);
    input.pop();
    bench.feed(&["append", "other", "--batch", "2", "--input", "length"], &input).code(1);
    assert_eq!(bench.run(&["dump", "other"]).ok().text(), "a\nb\n");
}

#[test]
fn a_log_in_use_or_of_something_else_is_refused() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("home")).expect("a directory");
    std::fs::write(bench.path("home/letter"), "dear").expect("a file");
    bench.feed(&["append", "home"], b"x\n").refused("not a log");
    bench.feed(&["append", "log", "--no-create"], b"x\n").code(1);
    assert!(!bench.path("log").exists());
    bench.feed(&["append", "home/letter"], b"x\n").code(1);
}
