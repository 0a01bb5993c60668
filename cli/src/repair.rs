//! `wal repair`: makes a damaged log one that opens again.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use libwal::Report;

use crate::failure::{DAMAGED, Failure, print};
use crate::reading;
use crate::report::{bytes, findings, plural};
use crate::verify::check;

const AFTER: &str = "\
Examples:
  wal repair mylog                              what is damaged, and what would be dropped
  wal repair mylog --yes                        drop it, with a copy in mylog.dropped
  wal dump mylog --salvage > rescued            no repair, only what can still be read

Everything that is readable stays, at the LSN it has; only a batch that lost a record goes as a whole.
The bytes of each damaged range and of each damaged file are copied before anything is changed. A torn
tail is no damage: the next open cuts it. If --yes is interrupted, the log does not open until it was
called again, with another --keep.

Exit codes: 0 the log is sound or was mended, 1 wrong usage or refused, 2 the log is damaged (without
--yes, or what --yes could not mend).";

/// Drop what is damaged, so that the log opens again
#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The log's directory
    dir: PathBuf,
    /// Really do it; otherwise only what would be dropped is printed
    #[arg(long)]
    yes: bool,
    /// The directory for a copy of what is dropped, new or empty (by default: DIR.dropped)
    #[arg(long, value_name = "PATH")]
    keep: Option<PathBuf>,
}

/// Runs the command; its exit code if it went well.
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    reading::require(&args.dir)?;
    let keep = match &args.keep {
        Some(keep) => keep.clone(),
        None => beside(&args.dir)?,
    };
    let report = if args.yes {
        refuse_inside(&args.dir, &keep)?;
        libwal::repair(&args.dir, &keep)?
    } else {
        check(&args.dir, None, false)?
    };
    if report.is_sound() {
        print("sound: there is nothing to repair\n")?;
        return Ok(0);
    }
    let (length, files) = (bytes(lost(&report)), plural(report.files.len(), "file"));
    let ranges = plural(report.damage.len(), "range");
    let (text, code) = if args.yes {
        (format!("dropped {ranges}, {length} bytes; rebuilt {files}; a copy is in {}", keep.display()), 0)
    } else {
        let what = format!("would drop {ranges}, {length} bytes, and rebuild {files}");
        (format!("{what}; --yes does it and keeps a copy in {}", keep.display()), DAMAGED)
    };
    print(&format!("{}{text}\n", findings(&report)))?;
    Ok(code)
}

/// How many bytes of the stream cannot be read.
fn lost(report: &Report) -> u64 {
    report.damage.iter().map(|damage| damage.to.get().saturating_sub(damage.from.get())).sum()
}

/// The directory beside `dir` with `.dropped` behind its name.
fn beside(dir: &Path) -> Result<PathBuf, Failure> {
    let named = match dir.file_name() {
        Some(_) => dir.to_owned(),
        // Such as `.`, which has a name only where it really stands.
        None => fs::canonicalize(dir).map_err(|error| Failure::stream(&dir.display().to_string(), &error))?,
    };
    let name = named.file_name().ok_or_else(|| Failure::new("there is nothing beside this directory: give --keep"))?;
    let mut name = OsString::from(name);
    name.push(".dropped");
    Ok(named.with_file_name(name))
}

/// A copy inside the log's directory would be one more thing there that is no log.
fn refuse_inside(dir: &Path, keep: &Path) -> Result<(), Failure> {
    // The copy's directory need not exist: its nearest ancestor that does decides. The last one of a relative path is empty.
    let here = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    let real = |path: &Path| path.ancestors().find_map(|ancestor| fs::canonicalize(here(ancestor)).ok());
    match (fs::canonicalize(dir), real(keep)) {
        (Ok(dir), Some(keep)) if keep.starts_with(&dir) => {
            Err(Failure::new("the copy cannot be kept inside the log's own directory"))
        }
        _ => Ok(()),
    }
}
