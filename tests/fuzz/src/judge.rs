//! What must hold of a log whose files were tampered with, whatever was done to them; and more where nothing was forged.
//!
//! Of bytes that were forged, with checksums that fit, only this is asked: no panic, an end to everything, memory within the
//! limits, and that a log which opens says the same the next time. Of damaged bytes, everything: what is read was
//! appended, in order and without a hole, and it reaches as far as any claim that was left standing.

use std::sync::Arc;

use libwal::format::{CONTROL_SLOT_OFFSETS, SECTOR};
use libwal::storage::SimStorage;
use libwal::{Error, Record, Recovery, Report, Wal};

use crate::base::{Base, base, segment_name};
use crate::step::Case;
use crate::{Files, disk_with, files_of, open, options, small_disk};

/// Judges every way to open, check and mend the log.
pub fn judge(case: &Case) {
    let base = base(case.base);
    let strict = open_strictly(case, base);
    verify_and_mend(case, base, strict);
}

/// All records, or why they cannot be read.
fn read(wal: &Wal) -> Result<Vec<Record>, Error> {
    wal.iter()?.collect()
}

/// A strict open, an append, and a second open. Returns whether the log opened and could be read.
fn open_strictly(case: &Case, base: &Base) -> bool {
    let disk = disk_with(&case.files);
    let wal = match open(&options(), &disk) {
        Ok(wal) => wal,
        Err(_) => {
            let same = files_of(&disk) == case.files;
            assert!(same || case.forged || case.files.is_empty(), "a refused open changed something");
            return false;
        }
    };
    let read_only = open(&options().read_only(true), &disk_with(&case.files));
    let found = read(&wal);
    let read_only = read_only.and_then(|wal| read(&wal));
    if let (Err(error), Ok(records)) = (&found, &read_only) {
        assert!(case.forged, "the open broke a log of {} records: {error}", records.len());
    }
    if let Ok(found) = &found {
        if !case.forged {
            must_hold(case, base, wal.head().expect("a head").get(), found);
        }
        match read_only {
            Ok(same) => assert!(same == *found, "read only, the log holds something else"),
            // Nothing there, and a log was made.
            Err(error) => assert!(found.is_empty(), "opens for writing, and read only: {error}"),
        }
        for record in found.iter().step_by(1 + found.len() / 4) {
            let read = wal.read(record.lsn);
            assert!(case.forged || read.as_ref().is_ok_and(|read| read == record), "read {} gave {read:?}", record.lsn);
        }
    }
    let appended = match wal.append_and_sync(b"appended behind it") {
        Ok(lsn) => lsn,
        Err(error) => {
            assert!(case.forged, "it opened, and an append failed: {error}");
            return false;
        }
    };
    let after = if case.base % 2 == 0 { disk.kill() } else { disk.crash(u64::from(case.base)) };
    drop(wal);
    again(&after, found.as_deref().ok(), appended.get(), case.forged);
    found.is_ok()
}

/// A log that opened opens again, after a kill or a power cut, and holds what it held and what was appended.
fn again(disk: &SimStorage, before: Option<&[Record]>, appended: u64, forged: bool) {
    let wal = match open(&options(), disk) {
        Ok(wal) => wal,
        Err(error) => {
            // Damage to a log that was closed cleanly is found when it is read, and after a crash when it is opened.
            assert!(forged || before.is_none(), "it opened once, and then: {error}");
            return;
        }
    };
    let found = read(&wal);
    let (Some(before), false) = (before, forged) else { return };
    let found = found.expect("what could be read can be read again");
    let (last, rest) = found.split_last().expect("the record that was appended");
    assert!(last.lsn.get() == appended && last.data == b"appended behind it", "the record appended behind it is lost");
    assert!(rest == before, "the second open found {} records, the first {}", rest.len(), before.len());
    wal.close().expect("closed");
    assert!(open(&options(), disk).is_ok_and(|wal| read(&wal).is_ok_and(|all| all == found)), "not so after a close");
}

/// What was read without an error is the log as it was written, from the head on without a hole, up to what is proven.
fn must_hold(case: &Case, base: &Base, head: u64, found: &[Record]) {
    let control_stands = base.claims.iter().any(|claim| claim.segment.is_none() && stands(&case.files, base, claim));
    assert!(head <= base.head || !control_stands, "the head moved from {} to {head}", base.head);
    let held = || base.held.iter().filter(|record| record.lsn.get() >= head);
    for (found, held) in found.iter().zip(held()) {
        assert!(found == held, "the log held {held:?}, and now {found:?}");
    }
    assert!(found.len() <= held().count(), "{} records were made up", found.len() - held().count());
    let standing = base.claims.iter().filter(|claim| stands(&case.files, base, claim));
    let proven = standing.map(|claim| claim.durable).max().unwrap_or(0);
    if let Some(lost) = held().nth(found.len()) {
        assert!(lost.lsn.get() >= proven, "silently shorter: {} is lost, proven up to {proven}", lost.lsn);
    }
}

/// Whether a claim is where it was written, in a segment that is known for what it is.
fn stands(files: &Files, base: &Base, claim: &crate::base::Claim) -> bool {
    let same = |file: &str, at: usize, len: usize| {
        let (now, then) = (files.get(file).and_then(|bytes| bytes.get(at..at + len)), &base.files[file][at..at + len]);
        now == Some(then)
    };
    let known = |index| {
        let file = segment_name(index);
        same(&file, 0, 44) && files[&file].len() == base.files[&file].len()
    };
    same(&claim.file, claim.at, claim.len) && claim.segment.is_none_or(known)
}

fn verify(disk: &SimStorage) -> Result<Report, Error> {
    libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {})
}

/// Whether this is what a creation leaves that was cut off before its first control slot was whole: no file, or a lock file whose
/// slots are zeros. The loss of all segments and of what the lock file says looks the same.
fn is_begun(files: &Files) -> bool {
    files.iter().all(|(name, bytes)| {
        let slots = CONTROL_SLOT_OFFSETS.iter().flat_map(|&at| bytes.iter().skip(at as usize).take(SECTOR));
        name == "LOCK" && slots.into_iter().all(|&byte| byte == 0)
    })
}

/// Verify, a salvage and repair agree, and a repaired log is whole.
fn verify_and_mend(case: &Case, base: &Base, strict: bool) {
    let disk = disk_with(&case.files);
    let report = verify(&disk);
    let salvage = open(&options().recovery(Recovery::Salvage), &disk);
    let salvaged = salvage.and_then(|wal| read(&wal));
    let kept = small_disk();
    assert!(files_of(&disk) == case.files, "verify or a salvage changed something");
    let mended = libwal::repair_on(Arc::new(disk.clone()), Arc::new(kept));
    if case.forged {
        if mended.is_ok() && open(&options(), &disk).is_ok_and(|wal| wal.append_and_sync(b"x").is_ok()) {
            let _ = verify(&disk);
        }
        return;
    }
    let Ok(report) = report else {
        assert!(!strict || is_begun(&case.files) || base.held.is_empty(), "opens, and verify says {report:?}");
        return;
    };
    assert!(strict || !report.is_sound(), "sound, and it does not open");
    let salvaged = salvaged.expect("what can be verified can be salvaged");
    assert!(salvaged.iter().all(|record| base.held.contains(record)), "a salvage made something up");
    let mended = mended.expect("what can be verified can be mended");
    assert!(mended.damage == report.damage, "repair found {mended:?}, verify {report:?}");
    let wal = open(&options(), &disk).unwrap_or_else(|error| panic!("mended, and then: {error}, {report:?}"));
    let found = read(&wal).expect("a mended log can be read");
    assert!(found == salvaged, "{} records after a repair, {} salvaged, {report:?}", found.len(), salvaged.len());
    let appended = wal.append_and_sync(b"appended behind it").expect("a mended log takes records");
    let after = disk.kill();
    drop(wal);
    again(&after, Some(&found), appended.get(), false);
}
