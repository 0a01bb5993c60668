//! `wal append`: standard input -> records of a log.

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use libwal::{Lsn, Options, Wal};

use crate::args::{self, SyncWhen};
use crate::failure::{Failure, note, print};
use crate::input::{Framing, Records};
use crate::report::{bytes, plural};

const AFTER: &str = "\
Examples:
  printf 'one\\ntwo\\n' | wal append mylog
  find . -print0 | wal append mylog --input nul --batch 100
  your-producer | wal append mylog --input length --sync 20 --segment-size 256M
  your-producer | wal append mylog --sync each --acks

The last line on standard output is `durable <lsn>`, also after an error: every record that begins
below that LSN is on stable storage. Standard error gets a summary. Records are handed to the
operating system before the command waits for more input: then the end of the process cannot lose
them, only a power failure can. The end of the input makes all of them durable. After an error in
the input, what came before it is in the log; an unfinished batch is not.

Sizes are in bytes, with K, M, G or T behind the number for powers of 1024.

Exit codes: 0 done, 1 wrong usage, wrong input or refused, 2 the log is damaged.";

/// Append records from standard input; creates the log if there is none
#[derive(clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// The log's directory
    dir: PathBuf,
    /// How records stand in the input
    #[arg(long, value_name = "FRAMING", value_enum, default_value_t = Framing::Lines)]
    input: Framing,
    /// When to sync: after each record or batch, at the end, or every so many milliseconds and at the end
    #[arg(long, value_name = "each|end|MS", default_value = "end", value_parser = args::sync)]
    sync: SyncWhen,
    /// Print each record's LSN as soon as it is durable; needs --sync each
    #[arg(long)]
    acks: bool,
    /// Append atomic batches of N records (the last may be smaller): all or nothing across a crash
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroUsize>,
    /// The size of a segment, a power of two from 4K to 4G; counts for a new log only
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = args::size)]
    segment_size: u64,
    /// The size of the buffer in memory, a power of two of at least 4K
    #[arg(long, value_name = "SIZE", default_value = "4M", value_parser = args::size)]
    buffer_size: u64,
    /// The longest record accepted
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = args::size)]
    max_record_size: u64,
    /// The LSN of the first record of a new log, a multiple of 8
    #[arg(long, value_name = "LSN", default_value = "0", value_parser = args::lsn)]
    first_lsn: Lsn,
    /// Refuse to create a log where there is none
    #[arg(long)]
    no_create: bool,
}

/// Runs the command; its exit code if it went well.
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    if args.acks && args.sync != SyncWhen::Each {
        return Err(Failure::new("--acks needs --sync each"));
    }
    let wal = options(args).open(&args.dir)?;
    let mut feed = Feed::new(&wal, args);
    let fed = feed.run();
    let (records, length) = (feed.records, feed.bytes);
    feed.bar.finish_and_clear();
    // Also after an error: what was appended before it is good. After a failed sync this fails too, with the same cause.
    let closed = wal.clone().close();
    let told = print(&format!("durable {}\n", wal.durable_lsn()));
    if let Ok(stats) = wal.stats() {
        let records = plural(usize::try_from(records).unwrap_or(usize::MAX), "record");
        let syncs = plural(usize::try_from(stats.syncs).unwrap_or(usize::MAX), "sync");
        note(&format!("{records}, {} bytes, {syncs}", bytes(length)));
    }
    fed?;
    closed?;
    told?;
    Ok(0)
}

fn options(args: &Args) -> Options {
    let options = Options::new()
        .segment_size(args.segment_size)
        .buffer_size(args.buffer_size)
        .max_record_size(args.max_record_size)
        .first_lsn(args.first_lsn)
        .create(!args.no_create);
    match args.sync {
        SyncWhen::Every(interval) => options.sync_interval(Some(interval)),
        SyncWhen::Each | SyncWhen::End => options,
    }
}

/// Records on their way from standard input into the log.
struct Feed<'a> {
    wal: &'a Wal,
    args: &'a Args,
    input: Records<io::StdinLock<'static>>,
    bar: ProgressBar,
    /// How many records were appended, and how many bytes they have.
    records: u64,
    bytes: u64,
    /// Whether something was appended that may not be with the operating system yet.
    unflushed: bool,
}

impl<'a> Feed<'a> {
    fn new(wal: &'a Wal, args: &'a Args) -> Feed<'a> {
        let bar = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed}") {
            bar.set_style(style);
        }
        let input = Records::new(io::stdin().lock(), args.input, args.max_record_size);
        Feed { wal, args, input, bar, records: 0, bytes: 0, unflushed: false }
    }

    /// Appends everything up to the end of the input, or the first error.
    fn run(&mut self) -> Result<(), Failure> {
        let size = self.args.batch.map_or(1, NonZeroUsize::get);
        let mut batch: Vec<Vec<u8>> = Vec::new();
        loop {
            let full = self.fill(&mut batch, size)?;
            match (self.args.batch, &batch[..]) {
                (_, []) => return Ok(()),
                (None, [record, ..]) => self.append_one(record)?,
                (Some(_), records) => self.append_batch(records)?,
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// Reads up to `size` records into `batch`, in buffers that are used again. Whether there may be more.
    fn fill(&mut self, batch: &mut Vec<Vec<u8>>, size: usize) -> Result<bool, Failure> {
        let mut length = 0;
        for at in 0..size {
            if self.unflushed && self.input.must_wait() {
                self.wal.flush()?;
                self.unflushed = false;
            }
            if at == batch.len() {
                batch.push(Vec::new());
            }
            if !self.input.next(&mut batch[at])? {
                batch.truncate(at);
                return Ok(false);
            }
            // Told here, before more memory is filled with what the log would refuse.
            length += batch[at].len() as u64;
            if length > u64::from(u32::MAX) {
                return Err(Failure::new("a batch must be shorter than 4 GiB: choose a smaller --batch"));
            }
        }
        Ok(true)
    }

    fn append_one(&mut self, record: &[u8]) -> Result<(), Failure> {
        let lsn = match self.args.sync {
            SyncWhen::Each => self.wal.append_and_sync(record)?,
            SyncWhen::End | SyncWhen::Every(_) => self.wal.append(record)?,
        };
        self.count(1, record.len());
        self.acknowledge(&[lsn])
    }

    fn append_batch(&mut self, records: &[Vec<u8>]) -> Result<(), Failure> {
        let lsns = self.wal.append_batch(records)?;
        if self.args.sync == SyncWhen::Each {
            self.wal.sync()?;
        }
        self.count(records.len(), records.iter().map(Vec::len).sum());
        self.acknowledge(&lsns)
    }

    fn count(&mut self, records: usize, bytes: usize) {
        self.records += records as u64;
        self.bytes += bytes as u64;
        self.unflushed = self.args.sync != SyncWhen::Each;
        self.bar.set_position(self.bytes);
    }

    /// Nobody to acknowledge to is an error here: whoever relies on acknowledgements must not lose them silently.
    fn acknowledge(&self, lsns: &[Lsn]) -> Result<(), Failure> {
        if !self.args.acks {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        let mut write = || {
            lsns.iter().try_for_each(|lsn| writeln!(out, "{lsn}"))?;
            out.flush()
        };
        write().map_err(|error| Failure::stream("standard output", &error))
    }
}
