//! `wal follow`: the records of a log as they are appended.

use std::path::PathBuf;
use std::time::Duration;

use libwal::{Iter, Lsn};

use crate::args;
use crate::failure::Failure;
use crate::format::Format;
use crate::reading::{self, Reader, Sink};

/// How long one call waits if there is no timeout; then the next one does.
const LONG: Duration = Duration::from_secs(3600);

const AFTER: &str = "\
Examples:
  wal follow mylog                              everything, and then what comes
  wal follow mylog --from-end --format json | your-consumer
  wal follow mylog --from 4096 --timeout 10

The log may be written by another process meanwhile. Records appear as soon as the writer has flushed
them, which is before they are durable. Everything found is written to standard output before the
command waits for more, so it can be ended by Ctrl-C at any time. When the reader of standard output
went away, it ends with the next record.

Exit codes: 0 no record came within the timeout, the limit was reached, or the reader of standard
output went away; 1 wrong usage or refused; 2 the log is damaged. Ctrl-C ends the process by its
signal, as shells expect.";

/// Print the records of a log, and wait for new ones
#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The log's directory
    dir: PathBuf,
    /// Begin with the record at this LSN [default: the oldest record]
    #[arg(long, value_name = "LSN", value_parser = args::lsn)]
    from: Option<Lsn>,
    /// Begin with the first record that is appended from now on
    #[arg(long, conflicts_with = "from")]
    from_end: bool,
    /// How records are printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Lines)]
    format: Format,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Stop when no record has come for this long [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = args::seconds)]
    timeout: Option<Duration>,
}

/// Runs the command; its exit code if it went well.
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let wal = reading::open(&args.dir, false)?;
    let iter = match args.from {
        Some(lsn) => wal.iter_from(lsn),
        None if args.from_end => wal.tail().and_then(|tail| wal.iter_from(tail)),
        None => wal.iter(),
    };
    let mut sink = Sink::new(args.format);
    let copied = copy(iter?, args, &mut sink);
    let flushed = sink.flush();
    copied?;
    flushed?;
    Ok(0)
}

/// Copies until nothing comes, nobody reads, or the limit is reached.
fn copy(mut iter: Iter, args: &Args, sink: &mut Sink) -> Result<(), Failure> {
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let record = match iter.follow(Duration::ZERO)? {
            Some(record) => record,
            None => {
                // About to wait: what was found so far must not wait too.
                if sink.flush()? == Reader::Gone {
                    return Ok(());
                }
                match iter.follow(args.timeout.unwrap_or(LONG))? {
                    Some(record) => record,
                    None if args.timeout.is_some() => return Ok(()),
                    None => continue,
                }
            }
        };
        if sink.write(&record)? == Reader::Gone {
            return Ok(());
        }
        left -= 1;
    }
    Ok(())
}
