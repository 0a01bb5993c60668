//! Properties of the record format, with arbitrary payloads, kinds and positions.

use libwal::format::{Decoded, Kind, LogId, Seal, decode, read_record, record_size, write_record};
use proptest::prelude::*;

const ID: LogId = LogId::from_bytes(*b"0123456789abcdef");

fn any_kind() -> impl Strategy<Value = Kind> {
    (1u8..=7).prop_map(|number| Kind::from_u8(number).expect("a kind"))
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        payload in proptest::collection::vec(any::<u8>(), 0..600),
        kind in any_kind(),
        lsn in (0u64..1 << 56).prop_map(|n| n * 8),
        epoch in any::<u32>(),
    ) {
        let seal = Seal::new(ID, epoch);
        let mut bytes = Vec::new();
        write_record(&mut bytes, seal, lsn, kind, &payload).unwrap();
        prop_assert_eq!(bytes.len() as u64, record_size(payload.len()));
        let decoded = decode(&bytes, seal, lsn).unwrap();
        prop_assert_eq!(decoded, Decoded { kind, payload: &payload, size: bytes.len() as u64 });
        let read = read_record(&mut &bytes[..], seal, lsn, payload.len()).unwrap();
        prop_assert_eq!(read, Some((kind, payload)));
    }

    #[test]
    fn a_flipped_bit_never_passes(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        bit in any::<prop::sample::Index>(),
    ) {
        let seal = Seal::new(ID, 3);
        let mut bytes = Vec::new();
        write_record(&mut bytes, seal, 64, Kind::Data, &payload).unwrap();
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A flip that turns the kind into padding is caught as well: the checksum of the payload does not fit then.
        prop_assert!(decode(&bytes, seal, 64).is_err());
    }

    #[test]
    fn another_log_epoch_or_position_never_passes(
        payload in proptest::collection::vec(any::<u8>(), 0..100),
        shift in 12u32..=32,
        here in 0u64..1 << 20,
        there in 0u64..1 << 20,
    ) {
        let mut bytes = Vec::new();
        write_record(&mut bytes, Seal::new(ID, 1), here << shift, Kind::Data, &payload).unwrap();
        prop_assert!(decode(&bytes, Seal::new(ID, 2), here << shift).is_err());
        prop_assert!(decode(&bytes, Seal::new(LogId::from_bytes([1; 16]), 1), here << shift).is_err());
        prop_assert_eq!(decode(&bytes, Seal::new(ID, 1), there << shift).is_ok(), here == there);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), lsn in any::<u64>()) {
        let _ = decode(&bytes, Seal::new(ID, 0), lsn);
        let _ = read_record(&mut &bytes[..], Seal::new(ID, 0), lsn, 1 << 20);
    }
}
