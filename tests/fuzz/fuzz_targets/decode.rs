//! Bytes -> records, headers, control slots, markers: two decoders agree, and what decodes encodes to the same bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzzing::decoding::judge(input));
