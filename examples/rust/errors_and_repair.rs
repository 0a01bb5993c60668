//! What can go wrong, and what to do about it: the errors of everyday use, and a damaged byte in an acknowledged record,
//! which is found on reading, reported by `verify`, read around by a salvage, and mended by `repair`.
//!
//! Run with `cargo run --release --example errors_and_repair`.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use libwal::{Error, Lsn, Options, Recovery, Wal};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SEGMENT: u64 = 64 << 10;
const RECORDS: usize = 2_000;
const DAMAGED: usize = 1_234;

fn main() -> Result<()> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("log");
    let lsns = write(&dir)?;
    everyday_errors(&dir, lsns[1])?;
    damage(&dir, lsns[DAMAGED])?;
    find(&dir, &lsns)?;
    salvage(&dir, lsns[DAMAGED])?;
    mend(&dir, &home.path().join("kept"), &lsns)
}

fn payload(number: usize) -> Vec<u8> {
    format!("record number {number}").into_bytes()
}

fn write(dir: &Path) -> Result<Vec<Lsn>> {
    let log = Options::new().segment_size(SEGMENT).open(dir)?;
    let lsns = (0..RECORDS).map(|n| log.append(&payload(n))).collect::<libwal::Result<Vec<_>>>()?;
    // Everything is durable on return, and the log knows that it was closed.
    log.close()?;
    Ok(lsns)
}

/// Errors are told apart by variant, or by a number that the C and Python interfaces share. None of these harms the log.
fn everyday_errors(dir: &Path, lsn: Lsn) -> Result<()> {
    let log = Options::new().max_record_size(1_000).open(dir)?;
    let errors = [
        log.append(&[0; 1_001]).expect_err("too large"),
        Wal::open(dir).expect_err("locked: this process has it open"),
        log.read(Lsn::new(lsn.get() + 8)).expect_err("inside a record"),
        Options::new().segment_size(1_000).open(dir.join("other")).expect_err("not a power of two"),
        Options::new().create(false).open(dir.with_extension("absent")).expect_err("no such log"),
    ];
    let codes = errors.each_ref().map(Error::code);
    for error in &errors {
        println!("code {:>3}: {error}", error.code());
    }
    assert_eq!(codes, [-7, -4, -9, -9, -1]);
    let clone = log.clone();
    log.close()?;
    assert!(matches!(clone.append(b"late"), Err(Error::Closed)));
    Ok(())
}

/// Flips one bit of the payload of the record at `lsn`, as a bad disk would.
fn damage(dir: &Path, lsn: Lsn) -> Result<()> {
    // A segment file is a header page of 4096 bytes and then its part of the stream; a record is a header word of 8 bytes
    // and then the payload.
    let path = dir.join(format!("{:020}.wal", lsn.get() / SEGMENT));
    let offset = 4096 + lsn.get() % SEGMENT + 8;
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&[byte[0] ^ 0x10])?;
    file.sync_all()?;
    Ok(())
}

/// Reading stops at the damage and says where it is. Verifying reads everything and lists all of it.
fn find(dir: &Path, lsns: &[Lsn]) -> Result<()> {
    let log = Options::new().read_only(true).open(dir)?;
    let error = log.read(lsns[DAMAGED]).expect_err("the record is damaged");
    println!("reading: {error}");
    assert!(matches!(error, Error::Corrupt { lsn, .. } if lsn == lsns[DAMAGED]));
    let readable = log.iter()?.take_while(|record| record.is_ok()).count();
    assert_eq!(readable, DAMAGED, "an iterator yields what comes before, then the error");

    let report = libwal::verify(dir, 2, &|_| {})?;
    println!(
        "verify: {} records, {} damaged ranges, {} damaged files",
        report.records,
        report.damage.len(),
        report.files.len()
    );
    assert!(report.closed_cleanly && report.files.is_empty() && report.torn_tail.is_none());
    assert_eq!(report.records as usize, RECORDS - 1);
    assert_eq!(report.damage.len(), 1);
    assert_eq!((report.damage[0].from, report.damage[0].to), (lsns[DAMAGED], lsns[DAMAGED + 1]));
    Ok(())
}

/// A salvage reads around the damage, and changes nothing.
fn salvage(dir: &Path, damaged: Lsn) -> Result<()> {
    let log = Options::new().recovery(Recovery::Salvage).open(dir)?;
    let mut records = 0;
    for record in log.iter()? {
        assert_ne!(record?.lsn, damaged);
        records += 1;
    }
    println!("salvage: read {records} records around {} damaged ranges", log.damage().len());
    assert_eq!((records, log.damage().len()), (RECORDS - 1, 1));
    Ok(())
}

/// Repairing keeps a copy of the damaged bytes elsewhere and makes the log whole again, without what was lost.
fn mend(dir: &Path, keep: &Path, lsns: &[Lsn]) -> Result<()> {
    let report = libwal::repair(dir, keep)?;
    assert_eq!(report.damage.len(), 1);
    assert!(std::fs::read_dir(keep)?.next().is_some(), "the damaged bytes are kept");
    let report = libwal::verify(dir, 2, &|_| {})?;
    assert!(report.is_sound() && report.records as usize == RECORDS - 1);

    let log = Wal::open(dir)?;
    let intact = (0..RECORDS).filter(|&n| n != DAMAGED).map(|n| (lsns[n], payload(n)));
    let found = log.iter()?.map(|record| record.map(|record| (record.lsn, record.data)));
    assert!(found.collect::<libwal::Result<Vec<_>>>()?.into_iter().eq(intact), "all others are where they were");
    // The position of what was lost is not used again.
    assert!(log.append(b"and on")? > lsns[RECORDS - 1]);
    log.close()?;
    println!("repair: the log is whole again, with {} records", RECORDS - 1);
    Ok(())
}
