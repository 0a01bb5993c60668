//! The sum of the stream up to any position, of which each byte is read once, and then a little again for each question.

use crate::error::Result;
use crate::format::Sum;
use crate::reader::Input;

/// How much is read at once.
const CHUNK: usize = 256 << 10;
/// So many bytes lie between two marks at first.
const FIRST_STEP: u64 = 4 << 10;
/// More marks than this are thinned out, so that memory does not grow with the log.
const MOST_MARKS: usize = 1 << 18;

/// A position up to which the sum is known.
struct Mark {
    position: u64,
    sum: Sum,
    /// Whether what follows, up to the next mark, is held by a file; otherwise it reads as zeros.
    held: bool,
}

/// The sums of the stream from some position on.
pub(super) struct Sums {
    input: Input,
    /// Nothing at or beyond this is read.
    to: u64,
    /// Ascending, with `step` bytes between them at most, except where no file holds anything.
    marks: Vec<Mark>,
    step: u64,
    /// How far the stream has been read.
    known: (u64, Sum),
    chunk: Vec<u8>,
    /// What stands behind the mark that was asked for last.
    block: Vec<u8>,
    block_at: u64,
    /// Somewhere in the block, or at its end: where the last question was.
    current: (u64, Sum),
}

impl Sums {
    /// From `origin` on.
    pub(super) fn new(input: Input, origin: u64, to: u64) -> Sums {
        Sums {
            input,
            to,
            marks: vec![Mark { position: origin, sum: Sum::default(), held: true }],
            step: FIRST_STEP,
            known: (origin, Sum::default()),
            chunk: Vec::new(),
            block: Vec::new(),
            block_at: origin,
            current: (origin, Sum::default()),
        }
    }

    /// The sum up to `position`, which is not in front of the origin, nor beyond the end. Ascending questions are the cheapest.
    pub(super) fn at(&mut self, position: u64) -> Result<Sum> {
        if position < self.current.0 || position > self.block_at + self.block.len() as u64 {
            self.reach(position)?;
            let behind = self.marks.partition_point(|mark| mark.position <= position);
            let mark = &self.marks[behind - 1];
            if !mark.held {
                return Ok(mark.sum.and_zeros(position - mark.position));
            }
            let end = self.marks.get(behind).map_or(self.known.0, |next| next.position);
            (self.block_at, self.current) = (mark.position, (mark.position, mark.sum));
            self.block.resize((end - mark.position) as usize, 0);
            let mut kept = 0;
            while kept < self.block.len() {
                kept += self.input.read(self.block_at + kept as u64, &mut self.block[kept..])?.unwrap_or(0);
            }
        }
        let piece = (self.current.0 - self.block_at) as usize..(position - self.block_at) as usize;
        self.current = (position, self.current.1.and(&self.block[piece]));
        Ok(self.current.1)
    }

    /// Reads on, so that the sums up to `position` are known.
    fn reach(&mut self, position: u64) -> Result<()> {
        while self.known.0 < position {
            let (at, sum) = self.known;
            let there = self.input.skip_what_no_file_holds(at)?.min(self.to);
            if there > at {
                self.marks.push(Mark { position: at, sum, held: false });
                self.known = (there, sum.and_zeros(there - at));
                self.marks.push(Mark { position: there, sum: self.known.1, held: true });
            } else {
                self.read_on()?;
            }
            if self.marks.len() > MOST_MARKS {
                self.thin_out();
            }
        }
        Ok(())
    }

    /// Reads one chunk more.
    fn read_on(&mut self) -> Result<()> {
        self.chunk.resize(CHUNK, 0);
        let (mut at, mut sum) = self.known;
        let wanted = CHUNK.min(usize::try_from(self.to - at).unwrap_or(CHUNK));
        let kept = self.input.read(at, &mut self.chunk[..wanted])?.unwrap_or(0);
        let mut left = &self.chunk[..kept];
        while !left.is_empty() {
            let (piece, rest) = left.split_at(left.len().min((self.step - at % self.step) as usize));
            (at, sum, left) = (at + piece.len() as u64, sum.and(piece), rest);
            if at % self.step == 0 {
                self.marks.push(Mark { position: at, sum, held: true });
            }
        }
        self.known = (at, sum);
        Ok(())
    }

    /// Leaves every second mark out, but for the first one and those around what no file holds.
    fn thin_out(&mut self) {
        self.step *= 2;
        let mut behind_a_gap = true;
        let step = self.step;
        self.marks.retain(|mark| {
            let kept = behind_a_gap || !mark.held || mark.position % step == 0;
            behind_a_gap = !mark.held;
            kept
        });
    }
}
