//! Instructions of one append of 100 B, in all threads of the process: what valgrind counts for a longer run less what it
//! counts for a shorter one. They do not depend on what else the machine does.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::record_size;
use crate::job::{Job, Task};
use crate::peers::{ALL, Peer, Result};

const LEN: usize = 100;
const RECORDS: [u64; 2] = [20_000, 60_000];

pub(crate) fn run(dir: &Path) -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    let base = tempfile::tempdir_in(dir)?;
    let base = base.path().canonicalize()?;
    println!("instructions of one append of {LEN} B, one thread, the log's own threads included");
    for peer in ALL {
        let counted = RECORDS.map(|records| count(&base, peer, records));
        match counted {
            [Ok(shorter), Ok(longer)] => {
                let each = longer.saturating_sub(shorter) as f64 / (RECORDS[1] - RECORDS[0]) as f64;
                println!("{:<12} {each:>8.0}   {}", peer.name, peer.append);
            }
            [Err(error), _] | [_, Err(error)] => println!("{:<12}        -   {error}", peer.name),
        }
    }
    Ok(())
}

/// What a process that appends `records` records executes from its beginning to its end.
fn count(base: &Path, peer: &Peer, records: u64) -> Result<u64> {
    let dir = base.join("log");
    let job = Job {
        system: peer.name.to_owned(),
        task: Task::Append,
        len: LEN,
        threads: 1,
        dir: dir.clone(),
        shared: base.to_owned(),
        millis: Duration::from_secs(600).as_millis() as u64,
        bytes: records * record_size(LEN) as u64,
    };
    let output = Command::new("timeout")
        .args(["--kill-after=5", "120", "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .arg("--job")
        .arg(serde_json::to_string(&job)?)
        .env("WALRUS_DATA_DIR", &job.dir)
        .env("WALRUS_QUIET", "1")
        .output()?;
    // Some logs make their directory with the first record.
    let _ = std::fs::remove_dir_all(dir);
    let text = String::from_utf8_lossy(&output.stderr);
    let told = text.lines().find_map(|line| line.split_once("Collected :"));
    match told.and_then(|(_, number)| number.trim().parse().ok()) {
        Some(number) if output.status.success() => Ok(number),
        _ => Err(format!("{}: {}", output.status, text.lines().last().unwrap_or("it said nothing")).into()),
    }
}
