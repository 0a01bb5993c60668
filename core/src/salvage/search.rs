//! Where a bad record was found: the next valid one behind it.

use std::mem;
use std::ops::RangeInclusive;

use super::ranges::Range;
use super::sums::Sums;
use crate::error::Result;
use crate::format::{Durability, HEADER_WORD, Kind, MARKER_RECORD_SIZE, MAX_PAYLOAD, Sum, Unseal, Word, record_size};
use crate::reader::{Cursor, Input, Step, Want};

/// A checksum is evidence enough for a record of up to this size, whatever follows it.
const SHORT: u64 = 64 << 10;
/// The same of a record in the epoch in force.
const SHORT_IN_FORCE: u64 = 1 << 20;
/// So many plausible header words in a row behind a longer record make up for its length.
const FOLLOWED: u32 = 12;
/// Epochs that nothing names are believed this far from those in force at both ends of a range.
const UNNAMED: u32 = 64;
/// How many header words are followed to tell what a hole held.
const MOST_FOLLOWED: u32 = 1 << 16;
/// How much is looked at at once, first and at most: next to one bad record stands a good one as a rule.
const FIRST_WINDOW: usize = 16 << 10;
const WINDOW: usize = 4 << 20;
/// So many candidates that end behind the window are looked at together.
const MOST_LONGER: usize = 1 << 18;

/// The search for valid records in a part of the stream, from ever higher positions on.
///
/// Random bytes often look like a header word: of eight bytes of them one time in 2.3, and with any length up to 256 MiB. So
/// nothing is read for each candidate, nor is a checksum taken of it. The sums of the stream tell in which epoch a candidate's
/// checksum would fit ([`Unseal`]), and only if that epoch is possible is it read, and checked as any record is.
///
/// What is possible decides how often random bytes pass for a record. Each candidate has one chance in 2^32 for each epoch.
/// One GiB of random bytes, between two known record boundaries, holds this many candidates (2^27 words * 7/16 * the share of
/// the lengths), and lets one of them pass with this probability:
///
/// | of a size up to | candidates | epochs | followed by | probability |
/// |---|---|---|---|---|
/// | 64 KiB | 1.4e4 | 129 | anything | 4e-4 |
/// | 1 MiB | 2.3e5 | 1 | anything | 5e-5 |
/// | 256 MiB | 5.9e7 | 129 | 12 header words, of which each is plausible one time in 2.3 | 9e-5 |
///
/// Together that is once in 1700 GiB; and with few epochs, or where there is an entry sector for every 64 MiB, far more rarely.
/// The old records of a recycled segment are no such candidates: an LSN that differs in at most 32 neighbouring bits makes
/// another checksum in whichever epoch, and so the true epoch does not come out, but any other.
pub(super) struct Search<'a> {
    input: Input,
    unseal: Unseal,
    /// Where the part ends, and the epoch in force there if it is known.
    to: u64,
    next: Option<u32>,
    /// The epochs that are known to have been in force, ascending.
    epochs: &'a [u32],
    window: Window,
    /// From the first window on that held the beginning of a record that might end behind it.
    stream: Option<Sums>,
}

/// A piece of the stream.
#[derive(Default)]
struct Window {
    at: u64,
    bytes: Vec<u8>,
    /// The sums up to its words, as far as they were asked for; the first one is that of the stream.
    sums: Vec<Sum>,
}

impl Window {
    fn sum(&mut self, offset: usize) -> Sum {
        while self.sums.len() <= offset / HEADER_WORD {
            let nth = self.sums.len() - 1;
            self.sums.push(self.sums[nth].and(&self.bytes[nth * HEADER_WORD..][..HEADER_WORD]));
        }
        self.sums[offset / HEADER_WORD]
    }
}

impl<'a> Search<'a> {
    /// In `range`; `epochs`, ascending, are known to have been in force.
    pub(super) fn new(input: &Input, range: &Range, epochs: &'a [u32]) -> Search<'a> {
        Search {
            input: input.again(),
            unseal: Unseal::new(input.id),
            to: range.to,
            next: range.next,
            epochs,
            window: Window::default(),
            stream: None,
        }
    }

    /// The first valid record at or behind `from`, which is at or behind where the search was before, and its epoch: `epoch`,
    /// which is in force there, or one that may follow it.
    pub(super) fn next_valid(&mut self, from: u64, epoch: u32) -> Result<Option<(u64, u32)>> {
        let mut at = from;
        let mut size = FIRST_WINDOW;
        while at < self.to {
            // Nothing begins in bytes that are not there, however many the headers say there should be.
            let there = self.input.skip_what_no_file_holds(at)?;
            if there > at {
                at = there;
                continue;
            }
            self.read(at, size)?;
            if let Some(found) = self.find(epoch)? {
                return Ok(Some(found));
            }
            let kept = self.window.bytes.len();
            // The last marker-length of the window is looked at again with the next one, unless it is the end.
            at += if at + kept as u64 == self.to { kept } else { kept - MARKER_RECORD_SIZE as usize } as u64;
            size = (4 * size).min(WINDOW);
        }
        Ok(None)
    }

    /// Makes a window of what stands at `at`.
    fn read(&mut self, at: u64, size: usize) -> Result<()> {
        let window = &mut self.window;
        window.at = at;
        window.bytes.resize(size.min(usize::try_from(self.to - at).unwrap_or(size)), 0);
        let mut kept = 0;
        while kept < window.bytes.len() {
            kept += self.input.read(at + kept as u64, &mut window.bytes[kept..])?.unwrap_or(0);
        }
        window.sums.clear();
        let sum = self.stream.as_mut().map_or(Ok(Sum::default()), |stream| stream.at(at))?;
        window.sums.push(sum);
        Ok(())
    }

    /// The first valid record in the window, and its epoch.
    fn find(&mut self, epoch: u32) -> Result<Option<(u64, u32)>> {
        let mut found = None;
        // Where what the checksum covers ends, and where the record begins, of those that end behind the window.
        let mut longer: Vec<(u64, usize)> = Vec::new();
        for offset in (0..self.window.bytes.len()).step_by(HEADER_WORD) {
            let Some(bytes) = self.window.bytes.get(offset..).filter(|bytes| bytes.len() >= HEADER_WORD) else { break };
            let Ok(word) = Word::parse(bytes) else { continue };
            let lsn = self.window.at + offset as u64;
            if word.size() > self.to - lsn {
                continue;
            }
            if let Some((kind, marker)) = Durability::find(bytes, self.input.id, lsn) {
                // An epoch record begins in the epoch before the one that it puts in force.
                let before = if kind == Kind::Epoch { marker.epoch.saturating_sub(1) } else { marker.epoch };
                if before >= epoch || kind == Kind::Epoch {
                    found = Some((lsn, before.max(epoch)));
                    break;
                }
                continue;
            }
            let payload = offset + HEADER_WORD;
            let covered = word.covered();
            if covered > (self.window.bytes.len() - payload) as u64 {
                longer.push((lsn + HEADER_WORD as u64 + covered, offset));
                if longer.len() == MOST_LONGER {
                    found = self.find_longer(mem::take(&mut longer), None, epoch)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                continue;
            }
            let (before, behind) = (self.window.sum(payload), self.window.sum(payload + covered as usize));
            let candidate = match word.kind() {
                // Sealed with an epoch that is not in force yet, and that stands in it: the cursor reads it.
                Kind::Epoch if word.size() == MARKER_RECORD_SIZE => epoch,
                _ => self.unseal.epoch(lsn, word, before, behind),
            };
            if self.is_valid(lsn, word, epoch, candidate)? {
                found = Some((lsn, candidate));
                break;
            }
        }
        self.find_longer(longer, found, epoch)
    }

    /// The first valid record among those that end behind the window, `longer`, or what was `found` if that is before it.
    fn find_longer(
        &mut self,
        mut longer: Vec<(u64, usize)>,
        mut found: Option<(u64, u32)>,
        epoch: u32,
    ) -> Result<Option<(u64, u32)>> {
        // Each part of the stream is read once for all that end there.
        longer.sort_unstable();
        for (end, offset) in longer {
            let at = self.window.at;
            let stream = self.stream.get_or_insert_with(|| Sums::new(self.input.again(), at, self.to));
            let behind = stream.at(end)?;
            let Ok(word) = Word::parse(&self.window.bytes[offset..]) else { continue };
            let lsn = at + offset as u64;
            let before = self.window.sum(offset + HEADER_WORD);
            let candidate = self.unseal.epoch(lsn, word, before, behind);
            if found.is_none_or(|(first, _)| lsn < first) && self.is_valid(lsn, word, epoch, candidate)? {
                found = Some((lsn, candidate));
            }
        }
        Ok(found)
    }

    /// Whether there may be records of `candidate` behind a position where `epoch` is in force. Epochs only rise. No entry
    /// sector names an epoch that began and ended inside a segment, or the one of a damaged sector.
    fn is_possible(&self, candidate: u32, epoch: u32) -> bool {
        let last = self.next.or(self.epochs.last().copied()).map_or(epoch, |last| last.max(epoch));
        (epoch..=last).contains(&candidate)
            && (candidate - epoch <= UNNAMED
                || last - candidate <= UNNAMED
                || self.epochs.binary_search(&candidate).is_ok())
    }

    /// Whether the record at `lsn`, which begins with `word`, is valid in the epoch `candidate`, and more than chance.
    fn is_valid(&self, lsn: u64, word: Word, epoch: u32, candidate: u32) -> Result<bool> {
        if !self.is_possible(candidate, epoch) {
            return Ok(false);
        }
        let mut cursor = Cursor::new(self.input.again(), lsn, candidate);
        if !matches!(cursor.step(self.to, Want::Check)?, Step::Record(_)) {
            return Ok(false);
        }
        if word.size() <= if candidate == epoch { SHORT_IN_FORCE } else { SHORT } {
            return Ok(true);
        }
        let behind = cursor.position();
        match cursor.step(self.to, Want::Check)? {
            Step::Record(_) | Step::End => Ok(true),
            _ => self.is_followed(behind),
        }
    }

    /// Whether header words lead on from `position`, to the end of the part, or to zeros, which may follow the last record of
    /// the log.
    fn is_followed(&self, mut position: u64) -> Result<bool> {
        let mut words = self.input.again();
        for _ in 0..FOLLOWED {
            let mut bytes = [0; HEADER_WORD];
            words.read(position, &mut bytes)?;
            let Ok(word) = Word::parse(&bytes) else { return Ok(bytes == [0; HEADER_WORD]) };
            position += word.size();
            if position >= self.to {
                return Ok(position == self.to);
            }
        }
        Ok(true)
    }
}

/// Whether what follows at `to` may be more of a batch that has lost members between `position`, where a bad record begins, and
/// `to`, where the next good one was found. `open` says whether a batch was open in front of them, and `epochs` are those in force
/// at both ends. The header words of the bad ones may be whole: they are believed if they lead to `to`.
///
/// With one wrong bit in its header word a record becomes a member of a batch, or a member one that stands alone. If only the kind
/// is damaged, or the length of the last one, then the checksum fits with the right one.
pub(super) fn batch_goes_on(input: &Input, position: u64, to: u64, epochs: [u32; 2], open: bool) -> Result<bool> {
    // Another one directly behind a member, which has more to follow, is not what it seems to be.
    let behind = |open, kind| match kind {
        Kind::Batch => true,
        Kind::BatchEnd => false,
        _ => open,
    };
    let (mut at, mut goes_on) = (position, open);
    for _ in 0..MOST_FOLLOWED {
        let mut bytes = [0; HEADER_WORD];
        input.again().read(at, &mut bytes)?;
        let (len, rest) = (Word::corrected(&bytes, Kind::Data, None).len(), to - at - HEADER_WORD as u64);
        let kind = match Word::parse(&bytes) {
            _ if record_size(len) > to - at => None,
            word => fitting_kind(input, at, len as u64..=len as u64, epochs)?.or(word.ok().map(Word::kind)),
        };
        if kind.is_none() || at == position {
            if let Some(kind) = fitting_kind(input, at, rest.saturating_sub(HEADER_WORD as u64 - 1)..=rest, epochs)? {
                return Ok(behind(goes_on, kind));
            }
        }
        let Some(kind) = kind else { break };
        goes_on = behind(goes_on, kind);
        at += record_size(len);
        if at == to {
            return Ok(goes_on);
        }
    }
    Ok(open)
}

/// The kind with which the checksum of the record at `lsn` fits, with one of these lengths, which take the same room.
fn fitting_kind(input: &Input, lsn: u64, lens: RangeInclusive<u64>, epochs: [u32; 2]) -> Result<Option<Kind>> {
    if *lens.start() > MAX_PAYLOAD as u64 {
        return Ok(None);
    }
    let mut bytes = [0; HEADER_WORD];
    input.again().read(lsn, &mut bytes)?;
    let payload = lsn + HEADER_WORD as u64;
    let end = payload + lens.end().next_multiple_of(HEADER_WORD as u64);
    let (unseal, sum) = (Unseal::new(input.id), Sums::new(input.again(), payload, end).at(end)?);
    for len in lens.filter(|&len| len <= MAX_PAYLOAD as u64) {
        for kind in [Kind::Data, Kind::Checkpoint, Kind::Batch, Kind::BatchEnd] {
            let word = Word::corrected(&bytes, kind, Some(len as usize));
            if epochs.contains(&unseal.epoch(lsn, word, Sum::default(), sum)) {
                return Ok(Some(kind));
            }
        }
    }
    Ok(None)
}

/// The header word that stands at `position`.
fn word_at(input: &Input, position: u64) -> Result<Option<Word>> {
    let mut bytes = [0; HEADER_WORD];
    input.again().read(position, &mut bytes)?;
    Ok(Word::parse(&bytes).ok())
}

/// Whether what stands at `position` says that it is padding, or an epoch record.
pub(super) fn is_own(input: &Input, position: u64) -> Result<bool> {
    Ok(word_at(input, position)?.is_some_and(|word| match word.kind() {
        Kind::Padding => true,
        Kind::Epoch => word.size() == MARKER_RECORD_SIZE,
        _ => false,
    }))
}

/// Whether what stands at `position` says that it is the last of a batch. No batch has one member only.
pub(super) fn ends_batch(input: &Input, position: u64) -> Result<bool> {
    Ok(word_at(input, position)?.is_some_and(|word| word.kind() == Kind::BatchEnd))
}

#[cfg(test)]
mod tests;
