//! What the core's tests share, and how a log is judged here.

#![allow(dead_code)] // A part of it is used.

#[path = "../../../core/tests/common/child.rs"]
pub(crate) mod child;
#[path = "../../../core/tests/common/oracle.rs"]
pub(crate) mod oracle;
#[path = "../../../core/tests/common/random.rs"]
pub(crate) mod random;

use std::path::Path;
use std::process::Child;

use child::{Heard, Job, copy, options};
use oracle::{Oracle, Survived};

/// Starts a writer that does not outlive this process, behind the words of `wrapper`.
pub(crate) fn spawn(job: &Job<'_>, wrapper: &[&str]) -> Child {
    job.spawn(&[&["setpriv", "--pdeathsig", "KILL"], wrapper].concat())
}

/// Judges a copy of the log, takes what it holds for the truth, and returns how many records that is. The copy is
/// recovered twice and appended to.
pub(crate) fn judge(oracle: &Oracle, dir: &Path, survived: Survived) -> Result<usize, String> {
    let scratch = tempfile::tempdir_in(run_folder(dir)).map_err(|error| error.to_string())?;
    let copied = scratch.path().join("copy");
    copy(dir, &copied);
    let wal = options().open(&copied).map_err(|error| format!("open: {error}"))?;
    let found = oracle.check(&wal, survived)?;
    oracle.adopt(&found, wal.durable_lsn());
    wal.close().map_err(|error| format!("close: {error}"))?;
    let wal = options().open(&copied).map_err(|error| format!("second open: {error}"))?;
    let again = oracle.check(&wal, survived).map_err(|error| format!("second recovery: {error}"))?;
    if again.len() != found.len() {
        return Err(format!("{} records, and {} when recovered again", found.len(), again.len()));
    }
    let lsn = wal.append_and_sync(b"afterwards").map_err(|error| format!("append afterwards: {error}"))?;
    match wal.read(lsn) {
        Ok(record) if record.data == b"afterwards" => Ok(found.len()),
        other => Err(format!("what was appended afterwards reads {other:?}")),
    }
}

/// Where copies go: out of the file system under test, which may be full or small.
fn run_folder(dir: &Path) -> &Path {
    super::run::folder().unwrap_or(dir)
}

/// Nothing that no crash explains.
pub(crate) fn assert_sane(heard: &Heard, round: &str) {
    for never in ["unexpected", "unpoisoned"] {
        assert_eq!(heard.count(never), 0, "{round}: a writer reported {never}");
    }
}

/// Nothing that a healthy disk explains.
pub(crate) fn assert_healthy(heard: &Heard, round: &str) {
    assert_sane(heard, round);
    for never in ["unopened", "poisoned", "io"] {
        assert_eq!(heard.count(never), 0, "{round}: a writer reported {never}");
    }
}
