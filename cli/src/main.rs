//! `wal`: writes, reads, checks and mends libwal's write-ahead logs from the command line.
//!
//! One file per subcommand, each with its arguments and a `run`; what they share stands in `args` (how option values are
//! written), `input` (standard input -> records), `format` (records -> standard output), `reading` (a log opened for
//! reading), `report` (facts and findings as text) and `failure` (error lines and exit codes).

mod append;
mod args;
mod dump;
mod failure;
mod follow;
mod format;
mod input;
mod reading;
mod repair;
mod report;
mod stat;
mod verify;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use failure::{Failure, REFUSED};

const EXAMPLES: &str = "\
Examples:
  printf 'one\\ntwo\\n' | wal append mylog
  wal dump mylog --format json
  wal follow mylog --from-end
  wal verify mylog && echo sound

Only append and repair --yes write to a log; append creates it. All others may be used while another
process writes it. An LSN is the position of a record in the log, in bytes.

Exit codes:
  0  done; also if the reader of standard output went away
  1  wrong usage, or the operating system or the log refused something
  2  the log is damaged
  3  verify: sound, but with a torn tail that the next open cuts";

/// Writes, reads, checks and mends write-ahead logs
#[derive(Parser)]
#[command(name = "wal", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Append(append::Args),
    Dump(dump::Args),
    Follow(follow::Args),
    Stat(stat::Args),
    Verify(verify::Args),
    Repair(repair::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return answer(&error),
    };
    let result = match cli.command {
        Command::Append(args) => append::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Follow(args) => follow::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Repair(args) => repair::run(&args),
    };
    ExitCode::from(result.unwrap_or_else(|failure| {
        failure.print();
        failure.code()
    }))
}

/// Help, the version, or what is wrong with the arguments. Wrong usage is one line like any other error, and its exit code
/// is 1, not clap's 2, which here means a damaged log.
fn answer(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(REFUSED)
        }
        _ => {
            let text = error.to_string();
            let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
            let mut message = String::new();
            for line in lines.filter(|line| !line.is_empty() && !line.starts_with("For more")) {
                message.push_str(match &message[..] {
                    "" => "",
                    _ if line.starts_with("tip:") => "; ",
                    _ => " ",
                });
                message.push_str(line);
            }
            let message = message.strip_prefix("error: ").unwrap_or(&message);
            Failure::new(format!("{message} (see wal --help)")).print();
            ExitCode::from(REFUSED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
