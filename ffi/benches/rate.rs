//! Appends of 100 bytes by one thread, through the C ABI and from Rust, in turns in one run: `tests/c/rate.c`, compiled
//! against the installed library (its path is the argument), and the same loop here. `--check` fails if C reaches less than
//! 0.9 of the Rust rate.

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use libwal::Wal;

/// As many as stay inside the first segment.
const RECORDS: u32 = 400_000;
/// Each so many are timed for themselves: a tenth of a millisecond, in which a busy machine may leave one alone.
const RUN: u32 = 2_000;
/// Logs in a turn, and turns of each.
const ROUNDS: usize = 5;
const TURNS: usize = 6;

fn rust(dir: &Path) -> Result<Vec<f64>, Box<dyn Error>> {
    let log = Wal::open(dir)?;
    let payload = std::hint::black_box([7_u8; 100]);
    // While the next segment is prepared.
    std::thread::sleep(Duration::from_millis(200));
    let mut each = Vec::new();
    for _ in 0..RECORDS / RUN {
        let begun = Instant::now();
        for _ in 0..RUN {
            // A slice, as C passes it: with an array the compiler would know the length and unroll the copy.
            let payload: &[u8] = std::hint::black_box(&payload);
            std::hint::black_box(log.append(payload)?);
        }
        each.push(begun.elapsed().as_nanos() as f64 / f64::from(RUN));
    }
    log.close()?;
    Ok(each)
}

fn c(program: &str, dir: &Path) -> Result<Vec<f64>, Box<dyn Error>> {
    let output =
        Command::new(program).arg(dir).args([RECORDS, RUN, ROUNDS as u32].map(|number| number.to_string())).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?.lines().map(str::parse).collect::<Result<_, _>>()?)
}

/// The fastest and the median.
fn spread(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[0], values[values.len() / 2])
}

fn run() -> Result<bool, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let program = args.iter().find(|arg| !arg.starts_with("--")).ok_or("usage: rate PROGRAM [--check]")?;
    let (mut from_c, mut from_rust) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let dir = tempfile::tempdir()?;
        from_c.extend(c(program, dir.path())?);
        for round in 0..ROUNDS {
            from_rust.extend(rust(&dir.path().join(format!("rust{round}")))?);
        }
    }
    let (c, rust) = (spread(&mut from_c), spread(&mut from_rust));
    println!("append 100 B, 1 thread, {} runs of {RUN} records each, ns (fastest, median):", from_c.len());
    println!("C {:.1}, {:.1}; Rust {:.1}, {:.1}", c.0, c.1, rust.0, rust.1);
    // On a busy machine the fastest are those that were left alone.
    println!("C / Rust rate: {:.2} of the fastest, {:.2} of the medians", rust.0 / c.0, rust.1 / c.1);
    Ok(!args.iter().any(|arg| arg == "--check") || rust.0 / c.0 >= 0.9)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rate: {error}");
            ExitCode::FAILURE
        }
    }
}
