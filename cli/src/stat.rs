//! `wal stat`: where a log stands, without reading it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, print};
use crate::reading;
use crate::report::{bytes, facts};

const AFTER: &str = "\
Examples:
  wal stat mylog
  wal stat mylog --json | jq .durable

Looks at the headers and at the records behind the last position known to be durable; checks nothing
else (see verify). head: the first record; tail: where the log ends; durable: everything below is
known to be on stable storage; closed cleanly: and not open for writing now.

Exit codes: 0 done, 1 wrong usage or refused, 2 the log is damaged.";

/// Print where a log stands
#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The log's directory
    dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command; its exit code if it went well.
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let stats = reading::open(&args.dir, false)?.stats()?;
    let (files, on_disk) = disk(&args.dir)?;
    let (head, tail, durable) = (stats.head.get(), stats.flushed.get(), stats.durable.get());
    let checkpoint = stats.checkpoint.map(libwal::Lsn::get);
    let text = if args.json {
        let object = serde_json::json!({
            "head": head,
            "tail": tail,
            "durable": durable,
            "checkpoint": checkpoint,
            "segments": stats.segments,
            "segment_size": stats.segment_size,
            "closed_cleanly": stats.closed_cleanly,
            "shared_buffer": stats.shared_buffer,
            "files": files,
            "bytes_on_disk": on_disk,
        });
        format!("{object}\n")
    } else {
        facts(&[
            ("head", head.to_string()),
            ("tail", tail.to_string()),
            ("durable", durable.to_string()),
            ("checkpoint", checkpoint.map_or("none".into(), |lsn| lsn.to_string())),
            ("segments", stats.segments.to_string()),
            ("segment size", bytes(stats.segment_size)),
            ("closed cleanly", if stats.closed_cleanly { "yes" } else { "no" }.to_owned()),
            ("shared buffer", if stats.shared_buffer { "yes" } else { "no" }.to_owned()),
            ("files", files.to_string()),
            ("bytes on disk", bytes(on_disk)),
        ])
    };
    print(&text)?;
    Ok(0)
}

/// How many files the directory holds, spare segments included, and how long they are together.
fn disk(dir: &Path) -> Result<(u64, u64), Failure> {
    let broken = |error| Failure::stream(&dir.display().to_string(), &error);
    let (mut files, mut length) = (0, 0);
    for entry in fs::read_dir(dir).map_err(broken)? {
        // The writer may remove or rename a file meanwhile.
        if let Ok(metadata) = entry.map_err(broken)?.metadata() {
            files += u64::from(metadata.is_file());
            length += if metadata.is_file() { metadata.len() } else { 0 };
        }
    }
    Ok((files, length))
}
