//! Bytes -> records, headers, control slots, markers, and back: what decodes must encode to the same bytes.

use libwal::format::{
    Control, Durability, Entry, HEADER_WORD, Identity, Kind, LogId, MARKER_RECORD_SIZE, SECTOR, Seal, decode,
    read_record, write_record,
};

const ID: LogId = LogId::from_bytes(*b"another identity");
const EPOCH: u32 = 2;
/// How many kinds of input there are.
const KINDS: u8 = 6;

/// Judges one input. Its first byte says what the rest is, and whether checksums are made to fit first.
pub fn judge(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    if choice & 1 == 1 {
        seal(choice >> 1, &mut bytes);
    }
    match (choice >> 1) % KINDS {
        0 => walk(&bytes),
        1 => {
            promise(&mut bytes);
            walk(&bytes);
        }
        2 => sector(&bytes, 44, |bytes| Identity::parse(bytes).ok().map(|identity| identity.to_bytes().to_vec())),
        3 => sector(&bytes, 32, |bytes| Some(Entry::parse(bytes, ID, 7).ok()??.to_bytes(ID, 7).to_vec())),
        // The four bytes behind the epoch are not looked at, and the checksum covers them.
        4 => sector(&bytes, 92, |bytes| Control::parse(bytes).ok().map(|control| control.to_bytes().to_vec())),
        _ => marker(&bytes),
    }
}

/// Makes the checksums fit, with arithmetic of its own.
fn seal(choice: u8, bytes: &mut [u8]) {
    let put = |bytes: &mut [u8], at: usize, crc: u32| {
        if let Some(place) = bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
    };
    match choice % KINDS {
        0 => seal_records(bytes),
        2 if bytes.len() >= 44 => put(bytes, 40, !crc(!0, &bytes[..40])),
        3 if bytes.len() >= 32 => {
            let begun = crc(crc(!0, &ID.to_bytes()), &7u64.to_le_bytes());
            put(bytes, 28, !crc(begun, &bytes[..28]));
        }
        4 if bytes.len() >= 100 => put(bytes, 96, !crc(!0, &bytes[..96])),
        5 if bytes.len() >= MARKER_RECORD_SIZE as usize => {
            let epoch = u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes"));
            let crc = record_crc(epoch, 4096, &bytes[4..8], &bytes[8..32]);
            put(bytes, 0, crc);
        }
        _ => {}
    }
}

/// Makes the first header word promise tens of millions of bytes.
fn promise(bytes: &mut [u8]) {
    if let Some(upper) = bytes.get_mut(7) {
        *upper = 0x1F - *upper % 8;
    }
}

/// CRC-32C, bit by bit; neither end is complemented.
fn crc(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

/// As docs/format.md has it: the id, the epoch, the LSN, the upper half of the header word as a u64, and what follows.
fn record_crc(epoch: u32, lsn: u64, upper: &[u8], covered: &[u8]) -> u32 {
    let head = [&ID.to_bytes()[..], &epoch.to_le_bytes(), &lsn.to_le_bytes(), upper, &[0; 4], covered].concat();
    !crc(!0, &head)
}

/// Gives each record of a chain the checksum that fits, as far as the lengths lead.
fn seal_records(bytes: &mut [u8]) {
    let mut at = 0;
    while at + HEADER_WORD <= bytes.len() {
        let upper = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes"));
        let (kind, len) = (upper >> 28, (upper & 0x0FFF_FFFF) as usize);
        let size = (HEADER_WORD + len).next_multiple_of(8);
        if at + size > bytes.len() {
            return;
        }
        let covered = if kind == 7 { at + 8..at + 8 } else { at + 8..at + size };
        bytes[at + 8 + len..at + size].fill(0);
        let crc = record_crc(EPOCH, 1 << 20 | at as u64, &bytes[at + 4..at + 8], &bytes[covered]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += size;
    }
}

/// Walks over records. Two decoders must agree, and what they give must encode to what was there.
fn walk(bytes: &[u8]) {
    let seal = Seal::new(ID, EPOCH);
    let mut at = 0;
    while at < bytes.len() {
        let (rest, lsn) = (&bytes[at..], 1 << 20 | at as u64);
        let mut input = rest;
        let streamed = read_record(&mut input, seal, lsn, usize::MAX);
        let Ok(decoded) = decode(rest, seal, lsn) else {
            assert!(!matches!(streamed, Ok(Some(_))), "only read_record finds a record at {at}");
            return;
        };
        let streamed = streamed.expect("read_record reads what decode finds").expect("a record");
        assert_eq!((streamed.0, &streamed.1[..]), (decoded.kind, decoded.payload));
        let size = usize::try_from(decoded.size).expect("a size");
        assert!(size >= HEADER_WORD && size % HEADER_WORD == 0 && size <= rest.len(), "a record of {size} bytes");
        assert_eq!(rest.len() - input.len(), size);
        let mut encoded = Vec::new();
        write_record(&mut encoded, seal, lsn, decoded.kind, decoded.payload).expect("written");
        // What follows the header word of padding is not looked at.
        let same = if decoded.kind == Kind::Padding { HEADER_WORD } else { size };
        assert_eq!(encoded[..same], rest[..same], "a record that encodes to something else");
        let fits = record_crc(EPOCH, lsn, &rest[4..8], &rest[8..same]).to_le_bytes();
        assert_eq!(fits, rest[..4], "a record whose checksum does not fit");
        at += size;
    }
}

/// A sector whose first `len` bytes count.
fn sector(bytes: &[u8], len: usize, again: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    let mut whole = bytes.to_vec();
    whole.resize(SECTOR, 0);
    if let Some(encoded) = again(&whole) {
        assert_eq!(encoded[..len], whole[..len], "a sector that encodes to something else");
    }
}

fn marker(bytes: &[u8]) {
    let Some((kind, marker)) = Durability::find(bytes, ID, 4096) else { return };
    let mut found = bytes[..MARKER_RECORD_SIZE as usize].to_vec();
    assert_eq!(record_crc(marker.epoch, 4096, &found[4..8], &found[8..]).to_le_bytes(), found[..4]);
    // Flags other than the first are ignored.
    let flag = u32::from(found[28] & 1);
    found[28..].copy_from_slice(&flag.to_le_bytes());
    assert_eq!(marker.to_record(ID, 4096, kind)[4..], found[4..], "a marker that encodes to something else");
}

/// Inputs to begin from.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let seal = Seal::new(ID, EPOCH);
    let mut records = Vec::new();
    for (kind, len) in [(1, 0), (2, 5), (3, 8), (4, 40), (5, 24), (6, 24), (7, 16), (1, 700)] {
        let lsn = 1 << 20 | records.len() as u64;
        let kind = Kind::from_u8(kind).expect("a kind");
        write_record(&mut records, seal, lsn, kind, &vec![0xA5; len]).expect("written");
    }
    let control = Control {
        sequence: 4,
        id: ID,
        shift: 12,
        first_lsn: 0,
        head: 0,
        end: 3,
        durable: 4096,
        checkpoint: Some(32),
        clean_end: None,
        epoch: 1,
        repairing: false,
    };
    let entry = Entry { first_record: 7 << 12, durable: 4096, checkpoint: None, epoch: 1 };
    let marker = Durability { durable: 4000, checkpoint: Some(8), epoch: 3, clean_close: true };
    let bodies = [
        records,
        [&[0; 4][..], &[16, 0, 0, 0x10], &[1; 16]].concat(),
        Identity { id: ID, index: 7, shift: 12 }.to_bytes()[..64].to_vec(),
        entry.to_bytes(ID, 7)[..40].to_vec(),
        control.to_bytes()[..104].to_vec(),
        marker.to_record(ID, 4096, Kind::Commit).to_vec(),
    ];
    let both = |nth: usize| [nth as u8 * 2, nth as u8 * 2 + 1];
    let input = |choice, body: &[u8]| [&[choice], body].concat();
    bodies.iter().enumerate().flat_map(|(nth, body)| both(nth).map(|choice| input(choice, body))).collect()
}
