//! Appends of 100 bytes by one thread, through the C ABI and from Rust, in turns in one run. Two loops are measured: one in
//! a process of its own, `tests/c/rate.c` compiled against the installed library (its path is the argument), and the same
//! loop here. `--check` fails if C reaches less than 0.9 of the Rust rate.

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use libwal::Wal;

/// As many as stay inside the first segment.
const RECORDS: u32 = 200_000;
const ROUNDS: usize = 41;

fn rust(dir: &Path) -> Result<f64, Box<dyn Error>> {
    let log = Wal::open(dir)?;
    let payload = std::hint::black_box([7_u8; 100]);
    let begun = Instant::now();
    for _ in 0..RECORDS {
        std::hint::black_box(log.append(&payload)?);
    }
    let each = begun.elapsed().as_nanos() as f64 / f64::from(RECORDS);
    log.close()?;
    Ok(each)
}

fn c(program: &str, dir: &Path) -> Result<f64, Box<dyn Error>> {
    let output = Command::new(program).arg(dir).arg(RECORDS.to_string()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run() -> Result<bool, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let program = args.iter().find(|arg| !arg.starts_with("--")).ok_or("usage: rate PROGRAM [--check]")?;
    let (mut from_c, mut from_rust, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir()?;
        let (c, rust) = (c(program, &dir.path().join("c"))?, rust(&dir.path().join("rust"))?);
        from_c.push(c);
        from_rust.push(rust);
        ratios.push(rust / c);
    }
    let (pairs, c, rust) = (median(&mut ratios), median(&mut from_c), median(&mut from_rust));
    // On a busy machine the fastest runs are those that were left alone.
    let ratio = from_rust[0] / from_c[0];
    println!("append 100 B, 1 thread, {ROUNDS} runs each in turns, ns: C {c:.1}, Rust {rust:.1} (medians)");
    println!(
        "C / Rust rate: {ratio:.2} of the fastest runs ({:.1}, {:.1} ns), {pairs:.2} median of pairs",
        from_c[0], from_rust[0]
    );
    Ok(!args.iter().any(|arg| arg == "--check") || ratio >= 0.9)
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
