//! Where a bad record was found: the next valid one behind it.

use crate::error::Result;
use crate::format::{Durability, HEADER_WORD, Kind, MARKER_RECORD_SIZE, Word};
use crate::reader::{Cursor, Input, Step, Want};

/// How many header words in a row must be plausible before a checksum is computed in the search for the next record.
const PLAUSIBLE: u32 = 3;
/// How many header words are followed to tell what a hole held.
const MOST_FOLLOWED: u32 = 1 << 16;

/// The first valid record at or behind `from` that ends at or below `to`, and its epoch.
///
/// Random bytes often look like a header word, and its length may be large, so a checksum is computed only where several
/// header words in a row make sense.
pub(super) fn next_valid(input: &Input, from: u64, to: u64, epoch: u32, epochs: &[u32]) -> Result<Option<(u64, u32)>> {
    const WINDOW: usize = 1 << 20;
    let mut reader = input.again();
    let mut words = input.again();
    let mut window = vec![0; WINDOW.min(usize::try_from(to.saturating_sub(from)).unwrap_or(WINDOW))];
    let mut at = from;
    while at < to {
        // Nothing begins in bytes that are not there, however many the headers say there should be.
        let there = reader.skip_what_no_file_holds(at)?;
        if there > at {
            at = there;
            continue;
        }
        let wanted = window.len().min(usize::try_from(to - at).unwrap_or(WINDOW));
        let mut kept = 0;
        while kept < wanted {
            kept += reader.read(at + kept as u64, &mut window[kept..wanted])?.unwrap_or(0);
        }
        // The last marker-length of the window is looked at again with the next one, unless it is the end.
        let last = if at + kept as u64 == to { kept } else { kept - MARKER_RECORD_SIZE as usize };
        for offset in (0..last).step_by(HEADER_WORD) {
            let lsn = at + offset as u64;
            if let Some((kind, marker)) = Durability::find(&window[offset..kept], input.id, lsn) {
                // An epoch record begins in the epoch before the one that it puts in force.
                let before = if kind == Kind::Epoch { marker.epoch.saturating_sub(1) } else { marker.epoch };
                if before >= epoch || kind == Kind::Epoch {
                    return Ok(Some((lsn, before.max(epoch))));
                }
                continue;
            }
            if plausible(&mut words, &window[offset..kept], lsn, to)? {
                for &candidate in [epoch].iter().chain(epochs.iter().filter(|&&other| other > epoch)) {
                    let mut cursor = Cursor::new(input.again(), lsn, candidate);
                    if matches!(cursor.step(to, Want::Check)?, Step::Record(_)) {
                        return Ok(Some((lsn, candidate)));
                    }
                }
            }
        }
        at += last as u64;
    }
    Ok(None)
}

/// Whether a chain of header words from `lsn` on makes sense; the first one is at the beginning of `bytes`.
fn plausible(words: &mut Input, bytes: &[u8], lsn: u64, to: u64) -> Result<bool> {
    let mut position = lsn;
    let mut word = [0; HEADER_WORD];
    word.copy_from_slice(&bytes[..HEADER_WORD]);
    for _ in 0..PLAUSIBLE {
        let Ok(parsed) = Word::parse(&word) else {
            // Zeros may follow the last record of the log.
            return Ok(position != lsn && word == [0; HEADER_WORD]);
        };
        position += parsed.size();
        if position >= to {
            return Ok(position == to);
        }
        let within = (position - lsn) as usize;
        match bytes.get(within..within + HEADER_WORD) {
            Some(next) => word.copy_from_slice(next),
            None => {
                words.read(position, &mut word)?;
            }
        }
    }
    Ok(true)
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
