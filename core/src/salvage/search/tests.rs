//! The search against logs made by hand.

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

/// In a range whose first epoch is not known, those in front of the next one are as likely as those behind it.
#[test]
fn epochs_near_both_ends_of_a_range_and_named_ones_are_possible() {
    let input = input(&[], 12, 0);
    let (known, unknown) = (range(0, 8, Some(700)), range(0, 8, None));
    let possible = |range: &Range, candidate| Search::new(&input, range, &[5, 300, 900]).is_possible(candidate, 10);
    for candidate in [10, 11, 74, 300, 636, 700] {
        assert!(possible(&known, candidate), "{candidate}");
    }
    for candidate in [0, 5, 9, 75, 299, 635, 701, 900, u32::MAX] {
        assert!(!possible(&known, candidate), "{candidate}");
    }
    assert!(possible(&unknown, 836) && possible(&unknown, 900) && !possible(&unknown, 901));
}

/// The first one of epoch 3 that is found from `from` on, with segments of 4096 bytes.
fn found(bytes: &[u8], missing: u64, from: u64) -> Option<u64> {
    let range = range(0, bytes.len() as u64, Some(3));
    let found = Search::new(&input(bytes, 12, missing), &range, &[]).next_valid(from, 3).unwrap();
    found.map(|(lsn, _)| lsn)
}

#[test]
fn a_record_that_ends_behind_the_window_is_found_over_what_no_file_holds() {
    // Segment 10 is not there, nor is the second half of segment 11: the record ends in front of them, in one, between
    // the two, in the other and behind.
    for end in [9, 10, 11, 12, 13].map(|segment| segment * 4096 - 800) {
        let mut bytes = vec![0xFF; 200];
        // What is held is not all zeros.
        let mut payload = vec![0; end - 208];
        payload[..39_000.min(end - 208)].fill(0x77);
        write_record(&mut bytes, Seal::new(ID, 3), 200, Kind::Data, &payload).unwrap();
        bytes.resize(16 * 4096, 0xFF);
        assert_eq!(found(&bytes, 10, 8), Some(200), "up to {end}");
    }
}

#[test]
fn of_those_that_end_behind_the_window_the_first_is_found() {
    // One that begins in the other, and ends in it or behind it. No log writes one that ends behind.
    for end in [25_000, 35_000] {
        let mut bytes = vec![0xFF; 5000];
        write_record(&mut bytes, Seal::new(ID, 3), 5000, Kind::Data, &vec![1; end - 5008]).unwrap();
        bytes.resize(40_000, 0xFF);
        let word = crate::format::encode_word(Seal::new(ID, 3), 8, Kind::Data, &bytes[16..30_000]);
        bytes[8..16].copy_from_slice(&word);
        assert_eq!(found(&bytes, u64::MAX - 1, 8), Some(8));
        assert_eq!(found(&bytes, u64::MAX - 1, 16), Some(5000));
    }
}
