//! Appends of 100 bytes by one thread, through the C ABI and from Rust, in turns in one run: `tests/c/rate.c`, compiled
//! against the installed library (its path is the argument), and the same loop here, both in a new process for each turn.
//! `--check` fails if C reaches less than 0.9 of the Rust rate.
//!
//! The rate is that of a whole log, several segments long, so what limits it is how fast the bytes get to the files. Beside it
//! stands what the call costs while they are not waited for: the fastest runs.

use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use libwal::Wal;

/// In each log: 116 MB. The logs of a turn are removed before the operating system begins to write them back.
const RECORDS: u32 = 1_000_000;
/// Each so many are timed for themselves: less than a tenth of a millisecond, in which a busy machine may leave one alone.
const RUN: u32 = 2_000;
/// Logs in a turn, and turns of each.
const ROUNDS: u32 = 2;
const TURNS: usize = 24;
/// The first argument of the process that appends from Rust.
const APPEND: &str = "append";

/// What `tests/c/rate.c` does: prints nanoseconds for each record, a line for each `run` of them.
fn append(dir: &Path, records: u32, run: u32) -> Result<(), Box<dyn Error>> {
    let log = Wal::open(dir)?;
    let payload = std::hint::black_box([7_u8; 100]);
    // While the next segment is prepared.
    std::thread::sleep(Duration::from_millis(200));
    let mut told = String::new();
    for _ in 0..records / run {
        let begun = Instant::now();
        for _ in 0..run {
            // A slice, as C passes it: with an array the compiler would know the length and unroll the copy.
            let payload: &[u8] = std::hint::black_box(&payload);
            std::hint::black_box(log.append(payload)?);
        }
        writeln!(told, "{:.2}", begun.elapsed().as_nanos() as f64 / f64::from(run))?;
    }
    log.close()?;
    print!("{told}");
    Ok(())
}

/// Lets a process append to the logs of a turn, and reads what it prints.
fn timed(mut program: Command, dir: &Path) -> Result<Vec<f64>, Box<dyn Error>> {
    let output = program.arg(dir).args([RECORDS, RUN, ROUNDS].map(|number| number.to_string())).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?.lines().map(str::parse).collect::<Result<_, _>>()?)
}

/// What one side took: each log's nanoseconds for a record, and the fastest run of all.
struct Taken {
    logs: Vec<f64>,
    fastest: f64,
}

impl Taken {
    fn new() -> Taken {
        Taken { logs: Vec::new(), fastest: f64::INFINITY }
    }

    /// Adds the runs of some logs.
    fn add(&mut self, runs: &[f64]) {
        for log in runs.chunks((RECORDS / RUN) as usize) {
            self.logs.push(log.iter().sum::<f64>() / log.len() as f64);
            self.fastest = log.iter().copied().fold(self.fastest, f64::min);
        }
    }

    fn median(&mut self) -> f64 {
        self.logs.sort_by(f64::total_cmp);
        self.logs[self.logs.len() / 2]
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [first, dir, records, run, rounds] = args.as_slice()
        && first == APPEND
    {
        for round in 0..rounds.parse::<u32>()? {
            append(&Path::new(dir).join(format!("rust{round}")), records.parse()?, run.parse()?)?;
        }
        return Ok(true);
    }
    let program = args.iter().find(|arg| !arg.starts_with("--")).ok_or("usage: rate PROGRAM [--check]")?;
    let (mut from_c, mut from_rust) = (Taken::new(), Taken::new());
    for turn in 0..2 * TURNS {
        let dir = tempfile::tempdir()?;
        // C, Rust, Rust, C: neither always finds what the other left behind.
        if turn % 4 == 0 || turn % 4 == 3 {
            from_c.add(&timed(Command::new(program), dir.path())?);
        } else {
            let mut this = Command::new(std::env::current_exe()?);
            this.arg(APPEND);
            from_rust.add(&timed(this, dir.path())?);
        }
    }
    let (c, rust) = (from_c.median(), from_rust.median());
    println!("append 100 B, 1 thread, {} logs of {RECORDS} records each; ns for a record:", from_c.logs.len());
    println!(
        "median log: C {c:.1}, Rust {rust:.1}; fastest {RUN}: C {:.1}, Rust {:.1}",
        from_c.fastest, from_rust.fastest
    );
    println!("C / Rust rate: {:.2}; of the fastest: {:.2}", rust / c, from_rust.fastest / from_c.fastest);
    Ok(!args.iter().any(|arg| arg == "--check") || rust / c >= 0.9)
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
