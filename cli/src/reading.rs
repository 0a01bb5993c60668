//! A log opened for reading, and records on their way to standard output.

use std::fs;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};
use std::path::Path;

use libwal::{Error, Options, RecordRef, Recovery, Wal};

use crate::failure::Failure;
use crate::format::{Format, write_record};

/// What is gathered before it is written to standard output, in bytes.
const OUTPUT_BUFFER: usize = 128 << 10;

/// Opens the log in `dir` for reading only: takes no lock and changes nothing. With `salvage`, reads around damage.
pub(crate) fn open(dir: &Path, salvage: bool) -> Result<Wal, Failure> {
    require(dir)?;
    let recovery = if salvage { Recovery::Salvage } else { Recovery::Strict };
    match Options::new().read_only(true).create(false).recovery(recovery).open(dir) {
        Err(Error::Io { source, path, .. }) if source.kind() == ErrorKind::NotFound && path.is_dir() => {
            Err(Failure::new(format!("there is no log in {}", dir.display())))
        }
        result => Ok(result?),
    }
}

/// Refuses what is not a directory, in plainer words than the operating system has.
pub(crate) fn require(dir: &Path) -> Result<(), Failure> {
    match fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Failure::new(format!("{} is not a directory", dir.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Failure::new(format!("there is no directory {}", dir.display())))
        }
        Err(error) => Err(Failure::stream(&dir.display().to_string(), &error)),
    }
}

/// Whether anybody still reads standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Present,
    Gone,
}

/// Standard output, for records.
pub(crate) struct Sink {
    out: BufWriter<StdoutLock<'static>>,
    format: Format,
}

impl Sink {
    pub(crate) fn new(format: Format) -> Sink {
        Sink { out: BufWriter::with_capacity(OUTPUT_BUFFER, io::stdout().lock()), format }
    }

    /// Writes a record, perhaps only to the buffer.
    pub(crate) fn write(&mut self, record: &RecordRef<'_>) -> Result<Reader, Failure> {
        judge(write_record(&mut self.out, self.format, record))
    }

    /// Writes what is in the buffer.
    pub(crate) fn flush(&mut self) -> Result<Reader, Failure> {
        judge(self.out.flush())
    }
}

fn judge(result: io::Result<()>) -> Result<Reader, Failure> {
    match result {
        Ok(()) => Ok(Reader::Present),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::stream("standard output", &error)),
    }
}
