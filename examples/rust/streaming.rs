//! Streams a log of 100 MB in constant memory: [`libwal::Iter::next_ref`] lends each payload out of the iterator's own
//! buffer and copies nothing.
//!
//! Run with `cargo run --release --example streaming`.

use std::time::Instant;

use libwal::Wal;

const TOTAL: usize = 100_000_000;
/// What the process may need at its peak: the log's buffer and the iterator's, not the log.
const MEMORY: u64 = 64 << 20;

/// The length of the record with the given number: 0 to 4 KiB, in no order.
fn length(number: u64) -> usize {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let log = Wal::open(home.path().join("log"))?;
    let begun = Instant::now();
    let (mut written, mut records) = (0, 0);
    while written < TOTAL {
        let payload = [records as u8; 4096];
        log.append(&payload[..length(records)])?;
        written += length(records);
        records += 1;
    }
    log.flush()?;
    println!("wrote {records} records, {} MB, in {:.2?}", written / 1_000_000, begun.elapsed());

    let begun = Instant::now();
    let (mut read, mut number) = (0, 0);
    let mut stream = log.iter()?;
    while let Some(record) = stream.next_ref()? {
        assert_eq!(record.data.len(), length(number), "record {number}");
        assert!(record.data.iter().all(|&byte| byte == number as u8), "record {number}");
        read += record.data.len();
        number += 1;
    }
    assert_eq!((read, number), (written, records));
    println!("read and checked all of them in {:.2?}", begun.elapsed());

    if let Some(peak) = peak_memory() {
        println!("peak memory of the whole process: {} MiB", peak >> 20);
        assert!(peak < MEMORY, "{peak} bytes of memory");
    }
    log.close()?;
    Ok(())
}

/// The largest resident size this process has had, in bytes, where the system tells it in this way.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}
