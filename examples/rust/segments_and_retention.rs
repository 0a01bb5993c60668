//! How a log is kept short: by the owner, who truncates, or by the log itself, with a retention rule. Freed segments are
//! recycled.
//!
//! Run with `cargo run --release --example segments_and_retention`.

use std::path::Path;

use libwal::{Error, Lsn, Options, Retention};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SEGMENT: u64 = 64 << 10;

fn main() -> Result<()> {
    let home = tempfile::tempdir()?;
    by_the_owner(&home.path().join("owner"))?;
    by_number(&home.path().join("number"))?;
    by_size(&home.path().join("size"))
}

/// The owner knows best what is not needed any more.
fn by_the_owner(dir: &Path) -> Result<()> {
    let log = Options::new().segment_size(SEGMENT).recycle(3).open(dir)?;
    let lsns = (0..1_000).map(|n| log.append(&[n as u8; 1_000])).collect::<libwal::Result<Vec<Lsn>>>()?;
    log.sync()?;
    let before = count(dir, "wal")?;
    let wanted = lsns[700];
    let head = log.truncate_before(wanted)?;
    println!("truncated before LSN {wanted}: head {head}, {} of {before} segments left", count(dir, "wal")?);

    // Whole segments only: what was asked for is still there, and at most a segment more.
    assert!(head <= wanted && wanted.get() - head.get() < 2 * SEGMENT);
    assert_eq!(count(dir, "spare")?, 3, "three are kept for reuse, the others are gone");
    assert_eq!(log.read(wanted)?.data, [700_u64 as u8; 1_000]);
    match log.read(lsns[0]) {
        Err(Error::Truncated { head: named }) => assert_eq!(named, head),
        other => return Err(format!("{other:?} instead of Truncated").into()),
    }
    let first = log.iter()?.next().ok_or("the log is not empty")??;
    assert_eq!(first.lsn, head);
    log.close()?;
    Ok(())
}

/// The log keeps the last four segments.
fn by_number(dir: &Path) -> Result<()> {
    let options = Options::new().segment_size(SEGMENT).retention(Retention::Segments(4));
    // By default retention keeps everything from the last checkpoint on. This log never has one.
    let log = options.retain_checkpoint(false).open(dir)?;
    let mut most = 0;
    for n in 0..5_000 {
        log.append(&[n as u8; 1_000])?;
        if n % 50 == 0 {
            // Only what is durable is ever dropped.
            log.sync()?;
            most = most.max(size(dir)?);
        }
    }
    log.sync()?;
    let stats = log.stats()?;
    println!("4 segments: wrote {} KiB, never more than {} KiB on disk", stats.reserved.get() >> 10, most >> 10);
    // Four, one or two prepared ahead, one that is about to go, two spares and the lock file.
    assert!(most < 12 * SEGMENT, "{most} bytes");
    assert!(stats.reserved.get() - stats.head.get() < 7 * SEGMENT);
    log.close()?;
    Ok(())
}

/// The log keeps at least the last 300 KiB.
fn by_size(dir: &Path) -> Result<()> {
    const KEEP: u64 = 300 << 10;
    let log = Options::new().segment_size(SEGMENT).retention(Retention::Bytes(KEEP)).open(dir)?;
    for n in 0..5_000 {
        log.append(&[n as u8; 1_000])?;
        if n % 500 == 499 {
            // Retention is applied after a checkpoint, and keeps it.
            log.checkpoint(b"the state")?;
            let kept = log.tail()?.get() - log.head()?.get();
            // A record that reaches into the oldest segment counts there, though its beginning is gone.
            assert!((KEEP - 1_008..KEEP + 3 * SEGMENT).contains(&kept), "{kept} bytes are kept");
        }
    }
    println!(
        "300 KiB: wrote {} KiB, kept {} KiB",
        log.tail()?.get() >> 10,
        (log.tail()?.get() - log.head()?.get()) >> 10
    );
    log.close()?;
    Ok(())
}

/// How many files in the directory have the given extension.
fn count(dir: &Path, extension: &str) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(dir)? {
        count += usize::from(entry?.path().extension().is_some_and(|found| found == extension));
    }
    Ok(count)
}

/// How many bytes the files in the directory have.
fn size(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        // The background thread may rename or remove a file between the listing and the question.
        bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}
