//! The smallest use of a log: append, sync, iterate, and find everything again after opening it anew.
//!
//! Run with `cargo run --release --example basic`.

use libwal::Wal;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("log");

    let log = Wal::open(&dir)?;
    let first = log.append(b"one")?;
    let second = log.append(b"two")?;
    // A batch is all or nothing across a crash.
    let batch = log.append_batch(&["three", "four"])?;
    log.sync()?;
    assert!(first < second && second < batch[0] && batch[0] < batch[1]);
    assert!(log.durable_lsn() > batch[1]);
    // Appending and making durable in one call.
    let last = log.append_and_sync(b"five")?;
    println!("five records are durable, from LSN {first} to LSN {last}");

    // An LSN finds its record at once.
    assert_eq!(log.read(second)?.data, b"two");
    log.close()?;

    let log = Wal::open(&dir)?;
    let mut found = Vec::new();
    for record in log.iter()? {
        let record = record?;
        println!("  LSN {:>3}: {}", record.lsn, String::from_utf8_lossy(&record.data));
        found.push(record.data);
    }
    assert_eq!(found, [&b"one"[..], b"two", b"three", b"four", b"five"]);

    // New records go on behind the old ones.
    assert!(log.append(b"six")? > last);
    assert_eq!(log.iter_from(last)?.count(), 2);
    log.close()?;
    println!("all of them came back after opening the log again");
    Ok(())
}
