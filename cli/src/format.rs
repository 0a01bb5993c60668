//! Records -> text or bytes on standard output.

use std::io::{self, Write};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use libwal::RecordRef;
use libwal::format::Kind;

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// The payloads back to back, nothing added
    Raw,
    /// A JSON object a line: lsn, kind, len, and the payload as data (if UTF-8) or data_base64
    Json,
    /// A line with LSN, kind and length, then the payload as `hexdump -C` shows it
    Hex,
    /// Each payload and a newline
    Lines,
}

/// The bytes that one line of a hex dump shows.
const ROW: usize = 16;

/// The name of a kind of record.
pub(crate) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Data => "data",
        Kind::Checkpoint => "checkpoint",
        Kind::Batch => "batch",
        Kind::BatchEnd => "batch_end",
        // Readers do not see the log's own records.
        _ => "internal",
    }
}

/// Writes one record.
pub(crate) fn write_record(out: &mut impl Write, format: Format, record: &RecordRef<'_>) -> io::Result<()> {
    match format {
        Format::Raw => out.write_all(record.data),
        Format::Lines => {
            out.write_all(record.data)?;
            out.write_all(b"\n")
        }
        Format::Json => write_json(out, record),
        Format::Hex => {
            writeln!(out, "{} {} {}", record.lsn, kind_name(record.kind), record.data.len())?;
            write_hex(out, record.data)
        }
    }
}

fn write_json(out: &mut impl Write, record: &RecordRef<'_>) -> io::Result<()> {
    let (lsn, kind, len) = (record.lsn, kind_name(record.kind), record.data.len());
    write!(out, "{{\"lsn\":{lsn},\"kind\":\"{kind}\",\"len\":{len},")?;
    match std::str::from_utf8(record.data) {
        Ok(text) => {
            out.write_all(b"\"data\":")?;
            serde_json::to_writer(&mut *out, text).map_err(io::Error::from)?;
        }
        Err(_) => write!(out, "\"data_base64\":\"{}\"", Base64Display::new(record.data, &STANDARD))?,
    }
    out.write_all(b"}\n")
}

fn write_hex(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (number, row) in data.chunks(ROW).enumerate() {
        let mut hex = [b' '; 3 * ROW + 1];
        let mut text = [b' '; ROW];
        for (at, &byte) in row.iter().enumerate() {
            // One more space between the two halves of the row.
            let column = 3 * at + usize::from(at >= ROW / 2);
            hex[column] = DIGITS[usize::from(byte >> 4)];
            hex[column + 1] = DIGITS[usize::from(byte & 15)];
            text[at] = if byte == b' ' || byte.is_ascii_graphic() { byte } else { b'.' };
        }
        write!(out, "{:08x}  ", number * ROW)?;
        out.write_all(&hex)?;
        out.write_all(b" |")?;
        out.write_all(&text[..row.len()])?;
        out.write_all(b"|\n")?;
    }
    if data.is_empty() { Ok(()) } else { writeln!(out, "{:08x}", data.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libwal::Lsn;

    fn written(format: Format, data: &[u8]) -> String {
        let mut out = Vec::new();
        let record = RecordRef { lsn: Lsn::new(24), kind: Kind::Data, data };
        write_record(&mut out, format, &record).expect("write to memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn hex_is_what_hexdump_prints() {
        let expected = "24 data 20\n\
            00000000  61 62 63 64 65 66 67 68  69 6a 6b 6c 6d 6e 6f 70  |abcdefghijklmnop|\n\
            00000010  71 0a 00 ff                                       |q...|\n\
            00000014\n";
        assert_eq!(written(Format::Hex, b"abcdefghijklmnopq\n\0\xff"), expected);
        assert_eq!(written(Format::Hex, b""), "24 data 0\n");
    }

    #[test]
    fn json_says_how_the_payload_is_written() {
        assert_eq!(
            written(Format::Json, b"a\"\n\0"),
            "{\"lsn\":24,\"kind\":\"data\",\"len\":4,\"data\":\"a\\\"\\n\\u0000\"}\n"
        );
        assert_eq!(
            written(Format::Json, b"\xff\xfe"),
            "{\"lsn\":24,\"kind\":\"data\",\"len\":2,\"data_base64\":\"//4=\"}\n"
        );
        assert_eq!(written(Format::Json, b""), "{\"lsn\":24,\"kind\":\"data\",\"len\":0,\"data\":\"\"}\n");
    }

    #[test]
    fn raw_and_lines() {
        assert_eq!(written(Format::Raw, b"ab"), "ab");
        assert_eq!(written(Format::Lines, b"ab"), "ab\n");
    }
}
