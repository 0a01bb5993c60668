//! `wal dump`: the records of a log, or a part of them.

use std::path::PathBuf;

use libwal::{Iter, Lsn};

use crate::args;
use crate::failure::{DAMAGED, Failure, note};
use crate::format::Format;
use crate::reading::{self, Reader, Sink};
use crate::report::damage_line;

const AFTER: &str = "\
Examples:
  wal dump mylog                                the payloads, a line each
  wal dump mylog --checkpoint --format json     what a restart would replay
  wal dump mylog --from 4096 --limit 1 --format hex
  wal dump mylog --salvage > rescued            all that can be read of a damaged log

Damage ends the output behind the last good record, with exit code 2. With --salvage the output goes
on behind it; the exit code is 2 all the same.

Exit codes: 0 done, 1 wrong usage or refused, 2 the log is damaged.";

/// Print the records of a log, in order
#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The log's directory
    dir: PathBuf,
    /// Begin with the record at this LSN [default: the oldest record]
    #[arg(long, value_name = "LSN", value_parser = args::lsn)]
    from: Option<Lsn>,
    /// Stop before the first record that begins at this LSN or later
    #[arg(long, value_name = "LSN", value_parser = args::lsn)]
    to: Option<Lsn>,
    /// Begin with the last durable checkpoint, or with the oldest record if there is none
    #[arg(long, conflicts_with = "from")]
    checkpoint: bool,
    /// How records are printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Lines)]
    format: Format,
    /// Print at most this many records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Read around damage, and report each damaged range on standard error
    #[arg(long)]
    salvage: bool,
}

/// Runs the command; its exit code if it went well.
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    let wal = reading::open(&args.dir, args.salvage)?;
    let damage = wal.damage();
    for range in &damage {
        note(&damage_line(range));
    }
    let iter = match args.from {
        Some(lsn) => wal.iter_from(lsn),
        None if args.checkpoint => wal.iter_from_checkpoint(),
        None => wal.iter(),
    };
    let mut sink = Sink::new(args.format);
    let copied = copy(iter?, args, &mut sink);
    // What was read before an error is good, and is written before the error is told.
    let flushed = sink.flush();
    let gone = copied? == Reader::Gone || flushed? == Reader::Gone;
    Ok(if damage.is_empty() || gone { 0 } else { DAMAGED })
}

fn copy(mut iter: Iter, args: &Args, sink: &mut Sink) -> Result<Reader, Failure> {
    let end = args.to.unwrap_or(Lsn::MAX);
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        match iter.next_ref()? {
            Some(record) if record.lsn < end => {
                if sink.write(&record)? == Reader::Gone {
                    return Ok(Reader::Gone);
                }
            }
            _ => break,
        }
        left -= 1;
    }
    Ok(Reader::Present)
}
