//! Reading the stream: segment files -> records, one after the other.

use std::io::ErrorKind;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::format::{Durability, HEADER_SIZE, HEADER_WORD, Invalid, Kind, LogId, Seal, Word, decode};
use crate::primitive::Arc;
use crate::segment::{Header, Segment, aside_name, segment_name};
use crate::storage::{Mode, Storage};

mod iter;
mod seek;

pub use iter::{Iter, Record, RecordRef};
pub(crate) use seek::{Claims, Hole, Source, head_lsn, last_checkpoint, read_record, seek};

/// How much is read at once, in bytes; no more than a segment. Larger records are read whole only where somebody wants their
/// payload.
const CHUNK: usize = 256 << 10;

/// Opens segment `index` for a salvage: where a repair was cut off between its two renames, the file that it put aside.
pub(crate) fn open_or_aside(storage: &dyn Storage, index: u64) -> Result<Segment> {
    let opened = Segment::open(storage, index, Mode::Read);
    if !matches!(&opened, Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound) {
        return opened;
    }
    let name = aside_name(index);
    let path = storage.path().join(&name);
    match storage.open(&name, Mode::Read) {
        Ok(file) => Ok(Segment { index, path, file }),
        Err(error) if error.kind() == ErrorKind::NotFound => opened,
        Err(error) => Err(Error::io("open", path, error)),
    }
}

/// The segment files of one log, for reading.
pub(crate) struct Input {
    storage: Arc<dyn Storage>,
    pub(crate) id: LogId,
    pub(crate) shift: u32,
    /// The segment read last.
    segment: Option<Segment>,
    lenient: bool,
}

impl Input {
    pub(crate) fn new(storage: Arc<dyn Storage>, id: LogId, shift: u32) -> Input {
        Input { storage, id, shift, segment: None, lenient: false }
    }

    /// The same for a salvage: what is missing reads as zeros, and a file counts as the segment that its name says.
    pub(crate) fn lenient(mut self) -> Input {
        self.lenient = true;
        self
    }

    /// A fresh input of the same log.
    pub(crate) fn again(&self) -> Input {
        Input {
            storage: Arc::clone(&self.storage),
            id: self.id,
            shift: self.shift,
            segment: None,
            lenient: self.lenient,
        }
    }

    /// The path of the segment that holds `position`, for error messages.
    pub(crate) fn path(&self, position: u64) -> PathBuf {
        self.storage.path().join(segment_name(position >> self.shift))
    }

    /// The segment that holds `position`; `None` if its file is gone.
    fn segment(&mut self, position: u64) -> Result<Option<&Segment>> {
        let index = position >> self.shift;
        if self.segment.as_ref().is_none_or(|segment| segment.index != index) {
            let opened = match self.lenient {
                true => open_or_aside(&*self.storage, index),
                false => Segment::open(&*self.storage, index, Mode::Read),
            };
            self.segment = match opened {
                Ok(segment) => Some(segment),
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        Ok(self.segment.as_ref())
    }

    /// The header page of the segment that holds `position`, checked against the log; `None` if the file is gone.
    pub(crate) fn header(&mut self, position: u64) -> Result<Option<Header>> {
        let (id, shift) = (self.id, self.shift);
        let base = position >> shift << shift;
        let Some(segment) = self.segment(position)? else {
            return Ok(None);
        };
        let header = match segment.header(base) {
            Ok(header) => header,
            // Where another segment is being made of the file, half of its new identity may be there; it has lost its name
            // before.
            Err(error) => return if self.is_gone(position)? { Ok(None) } else { Err(error) },
        };
        if header.identity.id != id || header.identity.shift != shift {
            return Err(Error::corrupt(base, &segment.path, "the segment belongs to another log"));
        }
        Ok((header.identity.index == segment.index).then_some(header))
    }

    /// Whether no file has the name of the segment that holds `position` any more.
    fn is_gone(&mut self, position: u64) -> Result<bool> {
        self.segment = None;
        Ok(self.segment(position)?.is_none())
    }

    /// From `position` on, where the next bytes are that some file holds, or may be: here, or where the next segment begins.
    pub(crate) fn skip_what_no_file_holds(&mut self, position: u64) -> Result<u64> {
        let within = position & ((1 << self.shift) - 1);
        let held = match self.segment(position)? {
            Some(segment) => segment.file.len().map_err(|error| Error::io("stat", &segment.path, error))?,
            None => 0,
        };
        Ok(if held > HEADER_SIZE + within { position } else { ((position >> self.shift) + 1) << self.shift })
    }

    /// Reads at `position` into `buf`, up to the end of the segment. `None` if the segment is gone or was recycled.
    pub(crate) fn read(&mut self, position: u64, buf: &mut [u8]) -> Result<Option<usize>> {
        let within = position & ((1 << self.shift) - 1);
        let left = (1u64 << self.shift) - within;
        let wanted = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let lenient = self.lenient;
        let Some(segment) = self.segment(position)? else {
            buf[..wanted].fill(0);
            return Ok(lenient.then_some(wanted));
        };
        let read = segment.file.read_at(&mut buf[..wanted], HEADER_SIZE + within);
        let read = read.map_err(|error| Error::io("read", &segment.path, error))?;
        if lenient {
            buf[read..wanted].fill(0);
            return Ok(Some(wanted));
        }
        if !segment.is_current()? {
            self.segment = None;
            return Ok(None);
        }
        if read < wanted {
            // Segments have their full length from the start, so this is no end of the log.
            return Err(Error::corrupt(position + read as u64, &segment.path, "the file is too short"));
        }
        Ok(Some(read))
    }
}

/// What stands at a position of the stream.
#[derive(Debug)]
pub(crate) enum Step {
    /// A valid record, the log's own included.
    Record(Found),
    /// The end that was given.
    End,
    /// No valid record.
    Invalid(Invalid),
    /// The segment is gone: it was truncated, or it is missing.
    Gone,
}

/// A valid record; [`Cursor::payload`] gives its payload until the next step.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) lsn: u64,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    /// The length of the payload.
    pub(crate) len: usize,
    /// Where in the buffer it is; `None` for a long one that was only checked.
    at: Option<usize>,
}

/// What [`Cursor::step`] gives of a payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// All of it; the buffer grows as far as that needs.
    Payload,
    /// Only that its checksum fits; a long payload is never held in memory as a whole.
    Check,
}

/// Walks over the records of the stream from a given record boundary on, checking each.
pub(crate) struct Cursor {
    pub(crate) input: Input,
    /// The next record begins here.
    position: u64,
    seal: Seal,
    /// Bytes of the stream from `position` on are `buffer[from..to]`.
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Cursor {
    /// Begins at `position`, where a record of epoch `epoch` begins, or an epoch record that raises it.
    pub(crate) fn new(input: Input, position: u64, epoch: u32) -> Cursor {
        let seal = Seal::new(input.id, epoch);
        Cursor { input, position, seal, buffer: Vec::new(), from: 0, to: 0 }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn epoch(&self) -> u32 {
        self.seal.epoch()
    }

    /// Forgets what was read ahead; the next step reads anew.
    pub(crate) fn forget(&mut self) {
        self.from = 0;
        self.to = 0;
        self.input.segment = None;
    }

    /// Decodes the record at the position and moves behind it. Nothing at or beyond `end` is looked at.
    pub(crate) fn step(&mut self, end: u64, want: Want) -> Result<Step> {
        match self.step_in_buffer(end) {
            Some(found) => Ok(Step::Record(found)),
            None => self.step_slow(end, want),
        }
    }

    /// The same for what is nearly always the case: an ordinary valid record that lies in the buffer as a whole. `None`,
    /// and nothing moved, in every other case.
    #[inline]
    fn step_in_buffer(&mut self, end: u64) -> Option<Found> {
        let bytes = self.buffer.get(self.from..self.to).filter(|bytes| bytes.len() >= HEADER_WORD)?;
        let word = Word::parse(bytes).ok()?;
        let size = word.size();
        let whole = size <= bytes.len() as u64 && self.position < end && size <= end - self.position;
        if !whole || matches!(word.kind(), Kind::Epoch | Kind::Padding) {
            return None;
        }
        let covered = &bytes[HEADER_WORD..size as usize];
        word.check(Seal::extend(self.seal.begin(self.position, word), covered), covered).ok()?;
        Some(self.found(word, self.seal))
    }

    /// Every other case, the bad ones included.
    #[inline(never)]
    fn step_slow(&mut self, end: u64, want: Want) -> Result<Step> {
        // Behind the end nothing begins; only headers that no log wrote lead there.
        let Some(left) = end.checked_sub(self.position) else { return Ok(Step::Invalid(Invalid::Length)) };
        if left == 0 {
            return Ok(Step::End);
        }
        if left < HEADER_WORD as u64 {
            return Ok(Step::Invalid(Invalid::Length));
        }
        if !self.fill(HEADER_WORD, end)? {
            return Ok(Step::Gone);
        }
        let word = match Word::parse(&self.buffer[self.from..self.to]) {
            Ok(word) => word,
            Err(why) => return Ok(Step::Invalid(why)),
        };
        let size = word.size();
        if size > left {
            return Ok(Step::Invalid(Invalid::Length));
        }
        if word.kind() == Kind::Epoch && !Durability::is_in(word) {
            return Ok(Step::Invalid(Invalid::Length));
        }
        let whole = usize::try_from(size).expect("a record fits in memory");
        if whole > CHUNK {
            // Checked piece by piece: a damaged length gets no memory.
            match self.check_long(word, end)? {
                Step::Record(found) if want == Want::Check || word.kind() == Kind::Padding => {
                    self.position += size;
                    self.forget();
                    return Ok(Step::Record(found));
                }
                Step::Record(_) => {}
                bad => return Ok(bad),
            }
        }
        if !self.fill(whole, end)? {
            return Ok(Step::Gone);
        }
        let bytes = &self.buffer[self.from..self.from + whole];
        let seal = if word.kind() == Kind::Epoch { self.next_seal(bytes) } else { Some(self.seal) };
        match seal.ok_or(Invalid::Checksum).and_then(|seal| decode(bytes, seal, self.position).map(|_| seal)) {
            Ok(seal) => Ok(Step::Record(self.found(word, seal))),
            Err(why) => Ok(Step::Invalid(why)),
        }
    }

    /// Moves behind the record in the buffer that was found valid.
    #[inline]
    fn found(&mut self, word: Word, seal: Seal) -> Found {
        let (lsn, size) = (self.position, word.size());
        let at = Some(self.from + HEADER_WORD);
        self.seal = seal;
        self.position += size;
        self.from += size as usize;
        Found { lsn, kind: word.kind(), size, len: word.len(), at }
    }

    /// The payload of the record that the last step found; empty for a long one that was only to be checked.
    pub(crate) fn payload(&self, found: &Found) -> &[u8] {
        found.at.map_or(&[], |at| &self.buffer[at..at + found.len])
    }

    /// The seal that an epoch record puts in force. Epochs only rise: an epoch record of an earlier recovery, left over
    /// behind a later cut, is no record.
    fn next_seal(&self, bytes: &[u8]) -> Option<Seal> {
        let marker = Durability::parse(bytes.get(HEADER_WORD..)?).ok()?;
        (marker.epoch > self.seal.epoch()).then(|| Seal::new(self.input.id, marker.epoch))
    }

    /// Checks the record at the position piece by piece, without holding it in memory.
    fn check_long(&self, word: Word, end: u64) -> Result<Step> {
        let lsn = self.position;
        let mut crc = self.seal.begin(lsn, word);
        let mut covered = word.covered();
        let mut ahead = Cursor::new(self.input.again(), lsn + HEADER_WORD as u64, 0);
        let mut last = [0; HEADER_WORD];
        while covered > 0 {
            if !ahead.fill(HEADER_WORD, end)? {
                return Ok(Step::Gone);
            }
            // Whole words, so that the last one, which ends with the padding, is in one piece.
            let words = (ahead.to - ahead.from) / HEADER_WORD * HEADER_WORD;
            let bytes = &ahead.buffer[ahead.from..][..words.min(usize::try_from(covered).unwrap_or(usize::MAX))];
            crc = Seal::extend(crc, bytes);
            last = *bytes.last_chunk().expect("a word at least was read");
            let piece = bytes.len();
            ahead.from += piece;
            ahead.position += piece as u64;
            covered -= piece as u64;
        }
        Ok(match word.check(crc, &last) {
            Ok(()) => Step::Record(Found { lsn, kind: word.kind(), size: word.size(), len: word.len(), at: None }),
            Err(why) => Step::Invalid(why),
        })
    }

    /// Makes at least `wanted` bytes from the position on available, none beyond `end`. `false` if the segment is gone.
    /// The caller has checked that they lie below `end`, so no length from disk sizes an allocation beyond the log.
    fn fill(&mut self, wanted: usize, end: u64) -> Result<bool> {
        if self.to - self.from >= wanted {
            return Ok(true);
        }
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        let chunk = CHUNK.min(1 << self.input.shift);
        let room = wanted.max(chunk).min(left.max(self.to));
        if self.buffer.len() != room {
            self.buffer.resize(room.max(self.to), 0);
            self.buffer.shrink_to(room.max(chunk));
        }
        while self.to < wanted {
            let at = self.position + self.to as u64;
            match self.input.read(at, &mut self.buffer[self.to..])? {
                Some(read) => self.to += read,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}
