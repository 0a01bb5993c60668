//! Which checks are run, and what is skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use crate::common::child;
use crate::{doors, forks, kills, limits, shutdown, space};

type Check = fn(&Scene);

const CHECKS: [(&str, Check); 8] = [
    ("kills", kills::check),
    ("shutdown", shutdown::check),
    ("space", space::check),
    ("file-size", limits::file_size),
    ("memory", limits::memory),
    ("forks", forks::check),
    ("openers", doors::openers),
    ("files", doors::files),
];

/// What the checks may use.
pub(crate) struct Scene {
    pub(crate) folder: PathBuf,
    pub(crate) mounts: bool,
    /// How often each thing is done, in multiples of the usual.
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
}

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

pub(crate) fn folder() -> Option<&'static Path> {
    FOLDER.get().map(PathBuf::as_path)
}

/// Says that something is skipped; a failure where nothing may be.
pub(crate) fn skipped(what: &str) {
    println!("skipped: {what}");
    assert_ne!(std::env::var("LIBWAL_NO_SKIP").as_deref(), Ok("1"), "skipped: {what}");
}

/// Whether the command can be run at all.
pub(crate) fn have(command: &str) -> bool {
    let tried = Command::new(command).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok()
}

pub(crate) fn main() -> ExitCode {
    // This process may be a writer that another one started.
    if std::env::var_os("LIBWAL_TEST_CHILD").is_some() {
        child::main();
        return ExitCode::SUCCESS;
    }
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == "--open").is_some() {
        return doors::open_and_tell(&arguments.collect::<Vec<_>>());
    }
    if arguments.next_if(|argument| argument == "--open-damaged").is_some() {
        return limits::open_damaged(Path::new(&arguments.next().expect("a folder")));
    }
    let folder = PathBuf::from(arguments.next().expect("a folder for what the checks write"));
    FOLDER.set(folder.clone()).expect("set once");
    let mounts = arguments.next_if(|argument| argument == "--mounts").is_some();
    let rounds = arguments
        .next_if(|argument| argument == "--rounds")
        .map_or(1, |_| arguments.next().and_then(|number| number.parse().ok()).expect("a number of rounds"));
    let only: Vec<String> = arguments.collect();
    if let Some(unknown) = only.iter().find(|name| CHECKS.iter().all(|(known, _)| known != name)) {
        eprintln!("no check is called {unknown}");
        return ExitCode::FAILURE;
    }
    let seed = std::env::var("LIBWAL_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().expect("a number"));
    println!("crashes: LIBWAL_SEED={seed} chooses the same moments, as far as the machine lets it");
    let scene = Scene { folder, mounts, rounds, seed };
    for (name, check) in CHECKS {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            check(&scene);
        }
    }
    ExitCode::SUCCESS
}
