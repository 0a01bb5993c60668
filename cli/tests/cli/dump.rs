//! `wal dump`: formats, ranges, a reader that goes away.

use std::io::Read;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::tools::{Bench, lines, objects};

#[test]
fn json_gives_every_record_back() {
    let bench = Bench::new();
    let records: [&[u8]; 5] = ["grüße".as_bytes(), b"\xff\0\x80", b"", b"quote\" back\\ tab\t", b"plain"];
    bench.feed(&["append", "log", "--input", "nul"], b"gr\xc3\xbc\xc3\x9fe\0").ok();
    let framed = records[1..].iter().fold(Vec::new(), |mut bytes, record| {
        bytes.extend((record.len() as u32).to_le_bytes());
        bytes.extend(*record);
        bytes
    });
    bench.feed(&["append", "log", "--input", "length"], &framed).ok();
    let dumped = objects(&bench.run(&["dump", "log", "--format", "json"]).ok().out);
    assert_eq!(dumped.len(), records.len());
    let mut last = None;
    for (object, record) in dumped.iter().zip(records) {
        let data = match object["data"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => STANDARD.decode(object["data_base64"].as_str().expect("either of the two")).expect("base64"),
        };
        assert_eq!(data, record);
        assert_eq!(object["len"], record.len());
        assert_eq!(object["kind"], "data");
        let lsn = object["lsn"].as_u64();
        assert!(last < lsn);
        last = lsn;
    }
}

#[test]
fn ranges_and_limits() {
    let bench = Bench::with_lines(&lines(100));
    let all = objects(&bench.run(&["dump", "log", "--format", "json"]).ok().out);
    let lsn = |number: usize| all[number]["lsn"].to_string();
    let dump = |args: &[&str]| objects(&bench.run(&[&["dump", "log", "--format", "json"], args].concat()).ok().out);
    assert_eq!(dump(&["--from", &lsn(40)]), all[40..]);
    assert_eq!(dump(&["--to", &lsn(40)]), all[..40]);
    assert_eq!(dump(&["--from", &lsn(10), "--to", &lsn(12)]), all[10..12]);
    assert_eq!(dump(&["--from", &lsn(10), "--limit", "5"]), all[10..15]);
    assert_eq!(dump(&["--from", &lsn(10), "--to", &lsn(10)]), all[..0]);
    assert_eq!(dump(&["--limit", "0"]), all[..0]);
    // `--to` need not be where a record begins.
    let inside = all[12]["lsn"].as_u64().expect("a number") + 1;
    assert_eq!(dump(&["--to", &inside.to_string()]), all[..13]);
    bench.run(&["dump", "log", "--from", "1"]).refused("not the beginning of a record");
    bench.run(&["dump", "log", "--from", "99999999"]).refused("beyond the end");
    bench.run(&["dump", "log", "--from", "288230376151711744"]).refused("beyond the end");
    bench.run(&["dump", "log", "--from", "18446744073709551615"]).refused("an LSN is a whole number");
}

#[test]
fn from_the_last_checkpoint() {
    let bench = Bench::with_lines("before\n");
    assert_eq!(bench.run(&["dump", "log", "--checkpoint"]).ok().text(), "before\n");
    let wal = libwal::Wal::open(bench.path("log")).expect("open");
    wal.checkpoint(b"state").expect("checkpoint");
    wal.append(b"after").expect("append");
    wal.close().expect("close");
    assert_eq!(bench.run(&["dump", "log", "--checkpoint"]).ok().text(), "state\nafter\n");
    let first = &objects(&bench.run(&["dump", "log", "--checkpoint", "--format", "json"]).ok().out)[0];
    assert_eq!(first["kind"], "checkpoint");
}

#[test]
fn truncated_positions_are_told() {
    let bench = Bench::with_lines(&lines(200));
    let wal = libwal::Wal::open(bench.path("log")).expect("open");
    let head = wal.truncate_before(wal.tail().expect("tail")).expect("truncate");
    wal.close().expect("close");
    assert!(head.get() > 0);
    bench.run(&["dump", "log", "--from", "0"]).refused(&format!("the log begins at LSN {head}"));
    bench.run(&["dump", "log"]).ok();
}

#[test]
fn hex_looks_like_hexdump() {
    let bench = Bench::with_lines("0123456789abcdefX\n");
    let expected = "0 data 17\n\
        00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n\
        00000010  58                                                |X|\n\
        00000011\n";
    assert_eq!(bench.run(&["dump", "log", "--format", "hex"]).ok().text(), expected);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let bench = Bench::new();
    let text = lines(20_000);
    bench.feed(&["append", "log"], text.as_bytes()).ok();
    for format in ["lines", "raw", "json", "hex"] {
        let mut command = bench.command(&["dump", "log", "--format", format]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start");
        let mut some = [0; 10];
        child.stdout.take().expect("a pipe").read_exact(&mut some).expect("read");
        let output = child.wait_with_output().expect("wait");
        assert_eq!(output.status.code(), Some(0), "{format}");
        assert_eq!(output.stderr, b"", "{format}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_a_failure() {
    let bench = Bench::with_lines(&lines(10));
    for args in [&["dump", "log"][..], &["stat", "log"], &["verify", "log"], &["follow", "log", "--timeout", "0"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("open");
        let output = bench.command(args).stdout(full).output().expect("run");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(output.stderr.starts_with(b"wal: standard output: "), "{args:?}");
    }
}
