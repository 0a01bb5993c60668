//! Standard input -> records.

use std::io::{self, BufRead, BufReader, Read};

use crate::failure::Failure;

/// What is read at once, in bytes.
const INPUT_BUFFER: usize = 256 << 10;

/// How records stand in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Framing {
    /// Each line is a record, without its newline; a last line without one counts
    Lines,
    /// Each record ends with a NUL byte, which is no part of it; a last one without counts
    Nul,
    /// Each record follows its length, an unsigned 32-bit little-endian number
    Length,
}

/// Splits an input into records, none of which is longer than a limit.
pub(crate) struct Records<R> {
    input: BufReader<R>,
    framing: Framing,
    limit: u64,
    /// How many records were read.
    count: u64,
}

impl<R: Read> Records<R> {
    pub(crate) fn new(input: R, framing: Framing, limit: u64) -> Records<R> {
        Records { input: BufReader::with_capacity(INPUT_BUFFER, input), framing, limit, count: 0 }
    }

    /// Whether the next record has to be waited for, perhaps for long.
    pub(crate) fn must_wait(&self) -> bool {
        self.input.buffer().is_empty()
    }

    /// Reads the next record into `record`, which it clears first. `false` at the end of the input.
    pub(crate) fn next(&mut self, record: &mut Vec<u8>) -> Result<bool, Failure> {
        record.clear();
        let found = match self.framing {
            Framing::Lines => self.until(b'\n', record),
            Framing::Nul => self.until(0, record),
            Framing::Length => self.behind_length(record),
        }?;
        self.count += u64::from(found);
        Ok(found)
    }

    fn until(&mut self, end: u8, record: &mut Vec<u8>) -> Result<bool, Failure> {
        // One byte more than the limit, for the delimiter: so a line without end fills no memory.
        let read = self.input.by_ref().take(self.limit.saturating_add(1)).read_until(end, record);
        if read.map_err(|error| self.broken(&error))? == 0 {
            return Ok(false);
        }
        if record.last() == Some(&end) {
            record.pop();
        } else if record.len() as u64 > self.limit {
            return Err(self.wrong(&format!("is longer than the limit of {} bytes", self.limit)));
        }
        Ok(true)
    }

    fn behind_length(&mut self, record: &mut Vec<u8>) -> Result<bool, Failure> {
        let mut prefix = Vec::with_capacity(4);
        self.read_up_to(4, &mut prefix)?;
        let length = match <[u8; 4]>::try_from(&prefix[..]) {
            Ok(bytes) => u64::from(u32::from_le_bytes(bytes)),
            Err(_) if prefix.is_empty() => return Ok(false),
            Err(_) => {
                let missing = 4 - prefix.len();
                return Err(self.wrong(&format!("is cut off: {missing} of the 4 bytes of its length are missing")));
            }
        };
        if length > self.limit {
            return Err(self.wrong(&format!("is {length} bytes long: the limit is {}", self.limit)));
        }
        self.read_up_to(length, record)?;
        match length - record.len() as u64 {
            0 => Ok(true),
            missing => Err(self.wrong(&format!("is cut off: {missing} of its {length} bytes are missing"))),
        }
    }

    /// Reads that many bytes, or fewer if the input ends. The buffer grows with what really comes.
    fn read_up_to(&mut self, bytes: u64, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        let read = self.input.by_ref().take(bytes).read_to_end(buffer);
        read.map(drop).map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &io::Error) -> Failure {
        Failure::stream("standard input", error)
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::new(format!("standard input: record {} {what}", self.count + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(input: &[u8], framing: Framing) -> (Vec<Vec<u8>>, bool) {
        let (mut records, mut record, mut all) = (Records::new(input, framing, 8), Vec::new(), Vec::new());
        loop {
            match records.next(&mut record) {
                Ok(true) => all.push(record.clone()),
                Ok(false) => return (all, true),
                Err(_) => return (all, false),
            }
        }
    }

    fn owned(records: &[&[u8]]) -> Vec<Vec<u8>> {
        records.iter().map(|record| record.to_vec()).collect()
    }

    #[test]
    fn delimiters_are_no_part_of_a_record() {
        assert_eq!(split(b"", Framing::Lines), (vec![], true));
        assert_eq!(split(b"a\n\nb\r\nc", Framing::Lines), (owned(&[b"a", b"", b"b\r", b"c"]), true));
        assert_eq!(split(b"a\nb\0\0", Framing::Nul), (owned(&[b"a\nb", b""]), true));
    }

    #[test]
    fn the_limit_counts_without_the_delimiter() {
        assert_eq!(split(b"12345678\n12345678", Framing::Lines), (owned(&[b"12345678", b"12345678"]), true));
        assert_eq!(split(b"1\n123456789\n2", Framing::Lines), (owned(&[b"1"]), false));
        assert_eq!(split(b"\xff\xff\xff\xff", Framing::Length), (vec![], false));
    }

    #[test]
    fn a_length_must_be_kept() {
        assert_eq!(split(b"\x02\0\0\0ab\0\0\0\0", Framing::Length), (owned(&[b"ab", b""]), true));
        assert_eq!(split(b"\x02\0\0\0ab\x02\0\0\0a", Framing::Length), (owned(&[b"ab"]), false));
        assert_eq!(split(b"\x02\0\0", Framing::Length), (vec![], false));
    }
}
