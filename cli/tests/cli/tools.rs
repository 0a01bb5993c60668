//! What the tests share: a directory, the command, and what it answered.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::SystemTime;

use tempfile::TempDir;

/// A directory in which the command runs; the log is `log` in it.
pub(crate) struct Bench {
    dir: TempDir,
}

/// What a run of the command gave.
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

/// Every file of a directory with its bytes and its time of change, and the directory's own time under an empty name.
pub(crate) type Snapshot = BTreeMap<PathBuf, (SystemTime, Vec<u8>)>;

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench { dir: TempDir::new().expect("a temporary directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wal"));
        command.args(args).current_dir(self.dir.path());
        command
    }

    /// Starts the command with all its streams in our hands.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("start wal")
    }

    pub(crate) fn run(&self, args: &[&str]) -> Answer {
        self.feed(args, b"")
    }

    /// Runs the command with `input` as its standard input.
    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Answer {
        let mut child = self.start(args);
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        // On a thread of its own, so that neither side waits for the other; the command may also read nothing.
        let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("wait for wal");
        feeder.join().expect("feed wal");
        output.into()
    }

    /// A log of small segments that holds these lines.
    pub(crate) fn with_lines(lines: &str) -> Bench {
        let bench = Bench::new();
        bench.feed(&["append", "log", "--segment-size", "4K"], lines.as_bytes()).ok();
        bench
    }

    pub(crate) fn snapshot(&self, name: &str) -> Snapshot {
        let dir = self.path(name);
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&dir).expect("list") {
            let path = entry.expect("an entry").path();
            let time = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
            let bytes = if path.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
            all.insert(path, (time, bytes));
        }
        let time = fs::metadata(&dir).and_then(|metadata| metadata.modified()).expect("a time");
        all.insert(PathBuf::new(), (time, Vec::new()));
        all
    }
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("text on standard output")
    }

    /// Asserts the exit code, and that errors are told in lines that begin as they should.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Answer {
        assert_eq!(self.code, Some(code), "standard error: {}", self.err);
        assert!(self.err.lines().all(|line| line.starts_with("wal: ")), "{}", self.err);
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Answer {
        self.code(0)
    }

    /// Asserts that the command refused, in one line that contains `what`.
    #[track_caller]
    pub(crate) fn refused(self, what: &str) -> Answer {
        let answer = self.code(1);
        assert_eq!(answer.err.lines().count(), 1, "{}", answer.err);
        assert!(answer.err.contains(what), "{}", answer.err);
        answer
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Answer {
        let err = String::from_utf8(output.stderr).expect("text on standard error");
        Answer { code: output.status.code(), out: output.stdout, err }
    }
}

/// Lines of different lengths, all different.
pub(crate) fn lines(count: usize) -> String {
    (0..count).map(|number| format!("record {number} {}\n", "x".repeat(number % 200))).collect()
}

/// The objects that `dump --format json` printed.
pub(crate) fn objects(text: &[u8]) -> Vec<serde_json::Value> {
    text.split_inclusive(|&byte| byte == b'\n').map(|line| serde_json::from_slice(line).expect("JSON")).collect()
}

/// Inverts one byte of the stream of a log with 4 KiB segments.
pub(crate) fn flip(log: &Path, position: u64) {
    let path = log.join(format!("{:020}.wal", position / 4096));
    let mut bytes = fs::read(&path).expect("read the segment");
    let at = usize::try_from(4096 + position % 4096).expect("a small offset");
    bytes[at] ^= 0xff;
    fs::write(&path, bytes).expect("write the segment");
}

/// Arguments from one line.
pub(crate) fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The arguments of commands that must change nothing.
pub(crate) fn reading_commands() -> Vec<Vec<&'static str>> {
    [
        "dump log",
        "dump log --salvage --format json",
        "dump log --checkpoint --format hex",
        "follow log --timeout 0.05",
        "follow log --from-end --timeout 0",
        "stat log",
        "stat log --json",
        "verify log",
        "verify log --quiet --threads 3",
        "repair log",
    ]
    .map(words)
    .to_vec()
}
