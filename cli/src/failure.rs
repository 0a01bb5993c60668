//! [`Failure`]: how a command ends when it does not end well, and the text it prints on the way.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write as _};

use libwal::Error;

/// The exit code for wrong usage and for what the operating system or the log refused.
pub(crate) const REFUSED: u8 = 1;
/// The exit code for damage in the log.
pub(crate) const DAMAGED: u8 = 2;
/// The exit code of `verify` for a sound log with a torn tail.
pub(crate) const TORN: u8 = 3;

/// Why a command did not do what it was asked to: one line for standard error, and an exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// A failure with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), code: REFUSED }
    }

    /// A failure of reading or writing one of the standard streams.
    pub(crate) fn stream(what: &str, error: &io::Error) -> Failure {
        Failure::new(format!("{what}: {error}"))
    }

    /// The process's exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Prints the failure on standard error.
    pub(crate) fn print(&self) {
        note(&self.message);
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = if matches!(error, Error::Corrupt { .. }) { DAMAGED } else { REFUSED };
        Failure { message: error.to_string(), code }
    }
}

/// Prints one line on standard error, whatever `message` contains: paths may hold line breaks. That standard error is
/// closed is no reason to fail, so unlike `eprintln` this never panics.
pub(crate) fn note(message: &str) {
    let mut line = String::with_capacity(message.len() + 6);
    line.push_str("wal: ");
    for character in message.chars() {
        if character.is_control() {
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Prints `text` on standard output. A reader that went away is no failure: the exit code still says the result.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::stream("standard output", &error)),
        _ => Ok(()),
    }
}
