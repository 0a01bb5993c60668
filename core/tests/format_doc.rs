//! The worked example of docs/format.md, checked byte for byte against the code: encoded, decoded, opened as a log. The
//! checksums are computed a second time, bit by bit, by code that shares nothing with the library's.

use std::sync::Arc;

use libwal::format::{
    CONTROL_SIZE, CONTROL_SLOT_OFFSETS, Control, Durability, Entry, HEADER_SIZE, Identity, Kind, LogId, SECTOR, Seal,
    decode, write_record,
};
use libwal::storage::SimStorage;
use libwal::{Lsn, Options, Wal};

const PAGE: &str = include_str!("../../docs/format.md");
const ID: LogId = LogId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
const SEGMENT: &str = "00000000000000000000.wal";

/// The records of the example: position, kind, payload.
const RECORDS: [(u64, Kind, &[u8]); 3] =
    [(0, Kind::Data, b"hello"), (16, Kind::Batch, b"a"), (32, Kind::BatchEnd, b"bc")];

fn control() -> Control {
    Control {
        sequence: 3,
        id: ID,
        shift: 12,
        first_lsn: 0,
        head: 0,
        end: 1,
        durable: 48,
        checkpoint: None,
        clean_end: Some(80),
        epoch: 0,
        repairing: false,
    }
}

const IDENTITY: Identity = Identity { id: ID, index: 0, shift: 12 };
const ENTRY: Entry = Entry { first_record: 0, durable: 0, checkpoint: None, epoch: 0 };
const MARKER: Durability = Durability { durable: 48, checkpoint: None, epoch: 0, clean_close: true };

/// The bytes of the block ```` ```hex name ````, up to the last one shown.
fn block(name: &str) -> Vec<u8> {
    let mut lines = PAGE.lines().skip_while(|line| *line != format!("```hex {name}")).skip(1);
    let mut bytes = Vec::new();
    loop {
        let line = lines.next().unwrap_or_else(|| panic!("docs/format.md has no complete block {name}"));
        if line == "```" {
            return bytes;
        }
        let (offset, row) = line.split_once(": ").expect("an offset and bytes");
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "the offset in {line:?}");
        bytes.extend(row.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")));
    }
}

/// The block as a sector: what is not shown is zero.
fn sector(name: &str) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let shown = block(name);
    sector[..shown.len()].copy_from_slice(&shown);
    sector
}

/// CRC-32C, one bit at a time.
fn bitwise_crc32c(parts: &[&[u8]]) -> u32 {
    let mut register = u32::MAX;
    for byte in parts.concat() {
        register ^= u32::from(byte);
        for _ in 0..8 {
            register = if register & 1 == 1 { (register >> 1) ^ 0x82f6_3b78 } else { register >> 1 };
        }
    }
    !register
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[test]
fn the_bitwise_checksum_is_the_one_the_page_names() {
    assert_eq!(bitwise_crc32c(&[b"123456789"]), 0xe306_9283);
    assert!(PAGE.contains("e3069283") && PAGE.contains("82f63b78"));
}

#[test]
fn the_example_is_what_the_code_writes() {
    assert_eq!(sector("control"), control().to_bytes());
    assert_eq!(sector("identity"), IDENTITY.to_bytes());
    assert_eq!(sector("entry"), ENTRY.to_bytes(ID, 0));
    let mut stream = Vec::new();
    for (lsn, kind, payload) in RECORDS {
        assert_eq!(stream.len() as u64, lsn);
        write_record(&mut stream, Seal::new(ID, 0), lsn, kind, payload).expect("memory takes it");
    }
    stream.extend(MARKER.to_record(ID, 48, Kind::Commit));
    assert_eq!(block("stream"), stream);
}

#[test]
fn the_example_is_what_the_code_reads() {
    assert_eq!(Control::parse(&sector("control")), Ok(control()));
    assert_eq!(Control::newest([&[0; SECTOR], &sector("control")]), Ok(control()));
    assert_eq!(Identity::parse(&sector("identity")), Ok(IDENTITY));
    assert_eq!(Entry::parse(&sector("entry"), ID, 0), Ok(Some(ENTRY)));
    let stream = block("stream");
    let mut position = 0;
    for (lsn, kind, payload) in RECORDS {
        let decoded = decode(&stream[position as usize..], Seal::new(ID, 0), position).expect("a record");
        assert_eq!((position, decoded.kind, decoded.payload), (lsn, kind, payload));
        position += decoded.size;
    }
    assert_eq!(Durability::find(&stream[position as usize..], ID, position), Some((Kind::Commit, MARKER)));
    assert_eq!(position + 32, stream.len() as u64);
}

#[test]
fn every_checksum_of_the_example_is_what_the_page_defines() {
    let id = ID.to_bytes();
    let control = block("control");
    assert_eq!(bitwise_crc32c(&[&control[..96]]), u32_at(&control, 96));
    let identity = block("identity");
    assert_eq!(bitwise_crc32c(&[&identity[..40]]), u32_at(&identity, 40));
    let entry = block("entry");
    assert_eq!(bitwise_crc32c(&[&id, &0u64.to_le_bytes(), &entry[..28]]), u32_at(&entry, 28));
    let stream = block("stream");
    let mut at = 0;
    while at < stream.len() {
        let meta = &stream[at + 4..at + 8];
        let len = (u32_at(meta, 0) & 0x0fff_ffff) as usize;
        let end = at + (8 + len).next_multiple_of(8);
        let (epoch, lsn) = (0u32.to_le_bytes(), (at as u64).to_le_bytes());
        let crc = bitwise_crc32c(&[&id, &epoch, &lsn, meta, &[0; 4], &stream[at + 8..end]]);
        assert_eq!(crc, u32_at(&stream, at), "the record at {at}");
        at = end;
    }
    // The one that the page spells out.
    assert_eq!(u32_at(&stream, 0), 0x2d21_4031);
    assert!(PAGE.contains("`2d214031`"));
}

/// What the page does not show in the example: another epoch, and padding, whose payload the checksum does not cover.
#[test]
fn the_epoch_and_padding_enter_the_checksum_as_the_page_says() {
    let id = ID.to_bytes();
    for epoch in [0u32, 1, 0xdead_beef] {
        let mut bytes = Vec::new();
        write_record(&mut bytes, Seal::new(ID, epoch), 1 << 40, Kind::Padding, &[7; 21]).expect("memory takes it");
        let parts: [&[u8]; 5] = [&id, &epoch.to_le_bytes(), &(1u64 << 40).to_le_bytes(), &bytes[4..8], &[0; 4]];
        assert_eq!(bitwise_crc32c(&parts), u32_at(&bytes, 0));
        let mut bytes = Vec::new();
        write_record(&mut bytes, Seal::new(ID, epoch), 1 << 40, Kind::Data, &[7; 21]).expect("memory takes it");
        let parts = [parts[0], parts[1], parts[2], &bytes[4..8], parts[4], &bytes[8..]];
        assert_eq!(bitwise_crc32c(&parts), u32_at(&bytes, 0));
    }
}

/// The example as files: the library opens it as the cleanly closed log that the page says it is.
#[test]
fn the_example_is_a_log() {
    let mut lock = vec![0; CONTROL_SIZE as usize];
    let slot = CONTROL_SLOT_OFFSETS[1] as usize;
    lock[slot..slot + SECTOR].copy_from_slice(&sector("control"));
    let mut segment = vec![0; HEADER_SIZE as usize + 4096];
    segment[..SECTOR].copy_from_slice(&sector("identity"));
    segment[SECTOR..2 * SECTOR].copy_from_slice(&sector("entry"));
    let stream = block("stream");
    segment[HEADER_SIZE as usize..HEADER_SIZE as usize + stream.len()].copy_from_slice(&stream);
    let disk = SimStorage::new();
    disk.write_file("LOCK", &lock);
    disk.write_file(SEGMENT, &segment);

    let report = libwal::verify_on(Arc::new(disk.clone()), 1, &|_| {}).expect("a log");
    assert!(report.is_sound() && report.closed_cleanly && report.tail == Lsn::new(80), "{report:?}");
    let open = |options: Options| -> Wal { options.open_on(Arc::new(disk.clone())).expect("the example opens") };
    for options in [Options::new().read_only(true), Options::new().background(false)] {
        let log = open(options);
        let records: Vec<_> = log.iter().expect("readable").map(|record| record.expect("valid")).collect();
        let found: Vec<_> = records.iter().map(|record| (record.lsn.get(), record.kind, &record.data[..])).collect();
        assert_eq!(found, RECORDS);
        assert_eq!(log.tail().expect("readable"), Lsn::new(80));
    }
}
