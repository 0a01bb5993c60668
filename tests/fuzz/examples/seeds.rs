//! Writes the seeds from which the corpora grew: `cargo run --example seeds -- DIRECTORY` makes a directory for each target.
//! For `recover` and `c_iterator` one for each base as it is and for each operation on each of its files.

use std::fs;
use std::path::Path;

use fuzzing::base::{COUNT, base};
use fuzzing::step::OPS;

/// An input: a base and some steps.
fn input(base: u8, steps: &[[u8; 12]]) -> Vec<u8> {
    [base].into_iter().chain(steps.iter().flatten().copied()).collect()
}

fn step(op: u8, file: u8, at: u16, len: u16, value: u32, other: u16) -> [u8; 12] {
    let mut step = [0; 12];
    step[..2].copy_from_slice(&[op, file]);
    step[2..4].copy_from_slice(&at.to_le_bytes());
    step[4..6].copy_from_slice(&len.to_le_bytes());
    step[6..10].copy_from_slice(&value.to_le_bytes());
    step[10..].copy_from_slice(&other.to_le_bytes());
    step
}

fn directories(inputs: &mut Vec<Vec<u8>>) {
    for nth in 0..COUNT {
        inputs.push(input(nth, &[]));
        for file in 0..base(nth).files.len() as u8 {
            for op in 0..OPS {
                for (at, value, other) in [(0, 3, 0), (520, 5, 1), (4200, 30, 2), (5007, 6, 3)] {
                    inputs.push(input(nth, &[step(op, file, at, 100, value, other)]));
                }
            }
        }
    }
    // Each field of a control slot and of an entry, small, a power of two, and huge.
    for field in 0..10 {
        for value in [0, 8 << 3, 46 << 3 | 4, 6, 7, 32 << 3 | 5] {
            let lock = base(1).files.len() as u8 - 1;
            for slot in [0, 1] {
                inputs.push(input(
                    1,
                    &[step(12, lock, field, 1, value, slot), step(12, lock, field, 1, value, 1 - slot)],
                ));
            }
            inputs.push(input(2, &[step(13, 1, field, 1, value, 0)]));
        }
    }
}

fn main() {
    let into = std::env::args().nth(1).expect("a directory");
    let mut inputs = Vec::new();
    directories(&mut inputs);
    let decode = fuzzing::decoding::seeds();
    for (target, inputs) in [("recover", &inputs), ("c_iterator", &inputs), ("decode", &decode)] {
        let folder = Path::new(&into).join(target);
        fs::create_dir_all(&folder).expect("a directory");
        for (nth, bytes) in inputs.iter().enumerate() {
            fs::write(folder.join(format!("seed-{nth:04}")), bytes).expect("written");
        }
    }
}
