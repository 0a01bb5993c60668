//! Where a bad record was found: the next valid one behind it.

use std::mem;

use super::ranges::Range;
use super::sums::Sums;
use crate::error::Result;
use crate::format::{Durability, HEADER_WORD, Kind, MARKER_RECORD_SIZE, Sum, Unseal, Word};
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
/// Together that is once in 1800 GiB; and with few epochs, or where there is an entry sector for every 64 MiB, far more rarely.
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

/// Of what kind the last of the records from `position` to `to` seems to be, of which the first is bad: their header words may
/// be whole. They are believed if they lead to `to`, where the next record was found.
pub(super) fn likely_kind(input: &Input, mut position: u64, to: u64) -> Result<Option<Kind>> {
    let mut words = input.again();
    let mut kind = None;
    for _ in 0..MOST_FOLLOWED {
        let mut bytes = [0; HEADER_WORD];
        words.read(position, &mut bytes)?;
        let Ok(word) = Word::parse(&bytes) else { return Ok(None) };
        position += word.size();
        kind = Some(word.kind());
        if position >= to {
            break;
        }
    }
    Ok(kind.filter(|_| position == to))
}

/// Whether what stands at `position` says that it is padding, or an epoch record.
pub(super) fn is_own(input: &Input, position: u64) -> Result<bool> {
    let mut bytes = [0; HEADER_WORD];
    input.again().read(position, &mut bytes)?;
    Ok(Word::parse(&bytes).is_ok_and(|word| match word.kind() {
        Kind::Padding => true,
        Kind::Epoch => word.size() == MARKER_RECORD_SIZE,
        _ => false,
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::format::{HEADER_SIZE, LogId, Seal, write_record};
    use crate::segment::segment_name;
    use crate::storage::SimStorage;

    const ID: LogId = LogId::from_bytes(*b"0123456789abcdef");
    /// Higher epochs are not looked for.
    const LAST: u32 = 30;

    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % limit
        }
    }

    /// Records of the sizes that `sizes` draws, each with its position; epochs rise now and then, also without a record that
    /// says so.
    fn stream(random: &mut Random, end: usize, sizes: impl Fn(&mut Random) -> u64) -> (Vec<u8>, Vec<(u64, u32)>) {
        let (mut stream, mut places, mut epoch) = (Vec::new(), Vec::new(), 3);
        loop {
            epoch += u32::from(random.below(20) == 0);
            let lsn = stream.len() as u64;
            let (kind, payload) = match random.below(12) {
                0 => {
                    epoch += 1;
                    let marker = Durability { durable: lsn, checkpoint: None, epoch, clean_close: false };
                    (Kind::Epoch, marker.to_bytes().to_vec())
                }
                1 => (Kind::Padding, vec![0xA5; sizes(random) as usize]),
                nth => {
                    // Of zeros, for what no file holds reads as zeros.
                    let fill = (random.below(2) * random.below(256)) as u8;
                    ([Kind::Data, Kind::Batch][nth as usize % 2], vec![fill; sizes(random) as usize])
                }
            };
            if stream.len() + payload.len() + 16 > end {
                stream.resize(end, 0);
                return (stream, places);
            }
            places.push((lsn, epoch - u32::from(kind == Kind::Epoch)));
            write_record(&mut stream, Seal::new(ID, epoch), lsn, kind, &payload).unwrap();
        }
    }

    /// In segments, of which `missing` is not there, and the one behind it is cut off in its middle.
    fn input(stream: &[u8], shift: u32, missing: u64) -> Input {
        let disk = SimStorage::new();
        for (index, bytes) in (0..).zip(stream.chunks(1 << shift)) {
            let kept = if index == missing + 1 { bytes.len() / 2 } else { bytes.len() };
            if index != missing {
                let file = [&[0; HEADER_SIZE as usize], &bytes[..kept]].concat();
                disk.write_file(&segment_name(index), &file);
            }
        }
        Input::new(Arc::new(disk), ID, shift).lenient()
    }

    fn range(from: u64, to: u64, next: Option<u32>) -> Range {
        Range { from, epoch: Some(0), to, next, limit: to }
    }

    /// What the search is to find: every position looked at, and every epoch tried.
    fn by_hand(input: &Input, from: u64, to: u64, epoch: u32) -> Option<(u64, u32)> {
        let mut words = input.again();
        for lsn in (from..to).step_by(HEADER_WORD) {
            let mut bytes = [0; HEADER_WORD];
            words.read(lsn, &mut bytes).unwrap();
            if Word::parse(&bytes).is_err() {
                continue;
            }
            for epoch in epoch..=LAST {
                let step = Cursor::new(input.again(), lsn, epoch).step(to, Want::Check).unwrap();
                if let Step::Record(found) = step {
                    let mut marker = Cursor::new(input.again(), lsn, epoch);
                    marker.step(to, Want::Check).unwrap();
                    let before = if found.kind == Kind::Epoch { marker.epoch() - 1 } else { epoch };
                    return Some((lsn, before));
                }
            }
        }
        None
    }

    #[test]
    fn what_is_found_is_what_a_cursor_accepts() {
        for seed in 0..if cfg!(miri) { 1 } else { 4 } {
            let mut random = Random(seed);
            let (mut bytes, _) = stream(&mut random, 40 << 10, |random| match random.below(4) {
                0 => random.below(9000),
                _ => random.below(200),
            });
            for _ in 0..random.below(60) {
                let at = random.below(bytes.len() as u64) as usize;
                let len = random.below(40).min((bytes.len() - at) as u64) as usize;
                bytes[at..at + len].fill_with(|| random.below(256) as u8);
            }
            let to = bytes.len() as u64;
            let input = input(&bytes, 12, random.below(20));
            let range = range(0, to, Some(LAST));
            let known: Vec<u32> = (0..=LAST).collect();
            let mut search = Search::new(&input, &range, &known);
            let (mut from, mut epoch) = (0, 3);
            loop {
                let found = search.next_valid(from, epoch).unwrap();
                assert_eq!(found, by_hand(&input, from, to, epoch), "seed {seed}, from {from}, epoch {epoch}");
                let Some((lsn, next)) = found else { break };
                // Over some good ones, as a scan does.
                (from, epoch) = (lsn + 8, next);
                if random.below(2) == 0 {
                    let mut cursor = Cursor::new(input.again(), lsn, epoch);
                    while matches!(cursor.step(to, Want::Check).unwrap(), Step::Record(_)) {}
                    (from, epoch) = (cursor.position() + 8, cursor.epoch());
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore)] // Megabytes.
    fn long_records_are_found() {
        for seed in 0..6 {
            let mut random = Random(seed);
            let (bytes, places) = stream(&mut random, 12 << 20, |random| {
                let bits = random.below(13);
                random.below(1024 << bits)
            });
            let input = input(&bytes, 20, u64::MAX - 1);
            let range = range(0, bytes.len() as u64, None);
            let known: Vec<u32> = (0..=places[places.len() - 1].1).collect();
            let mut search = Search::new(&input, &range, &known);
            for pair in places.windows(2) {
                let ((lsn, epoch), next) = (pair[0], pair[1]);
                assert_eq!(search.next_valid(lsn + 8, epoch).unwrap(), Some(next), "seed {seed}, behind {lsn}");
            }
        }
    }

    /// Of records of one epoch, of which those at `bad` have no header word any more.
    fn found_long(epoch: u32, size: usize, bad: &[usize]) -> bool {
        let mut bytes = vec![0; 8];
        let mut places = Vec::new();
        for nth in 0..20 {
            places.push(bytes.len());
            let len = if nth == 0 { size } else { 64 };
            let lsn = bytes.len() as u64;
            write_record(&mut bytes, Seal::new(ID, epoch), lsn, Kind::Data, &vec![1; len]).unwrap();
        }
        for &nth in bad {
            // The kind of the header word, or if only the payload is to be bad, a byte of that.
            bytes[places[nth] + 7] = 0xF0;
        }
        bytes[places[1] + 20] ^= 1;
        let end = bytes.len() as u64;
        let input = input(&bytes, 22, u64::MAX - 1);
        let range = range(0, end, Some(9));
        Search::new(&input, &range, &[2, 5, 9]).next_valid(8, 2).unwrap() == Some((8, epoch))
    }

    #[test]
    #[cfg_attr(miri, ignore)] // Megabytes.
    fn a_long_record_asks_for_more_than_its_checksum() {
        // What follows is bad; its header word leads on. Then no record is followed by anything that makes sense.
        for (epoch, size, alone) in [(2, 1 << 20, false), (2, 1 << 19, true), (5, 1 << 16, false), (5, 1 << 15, true)] {
            assert!(found_long(epoch, size, &[]), "epoch {epoch}, {size} bytes");
            assert_eq!(found_long(epoch, size, &[1]), alone, "epoch {epoch}, {size} bytes");
            assert_eq!(found_long(epoch, size, &[5]), alone, "epoch {epoch}, {size} bytes");
            assert!(found_long(epoch, size, &[15]), "epoch {epoch}, {size} bytes");
        }
    }
}
