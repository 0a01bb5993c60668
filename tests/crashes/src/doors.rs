//! Who may open a log: one process at a time, nobody who may not write, and nothing but regular files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libwal::{Error, Options, Recovery, Wal};

use crate::common::child::{BUFFER, Heard, Job, copy, options};
use crate::common::oracle::{Oracle, Survived, payload};
use crate::common::{assert_healthy, judge, spawn};
use crate::disk::disks;
use crate::run::{Scene, have, skipped};

pub(crate) fn openers(scene: &Scene) {
    two_openers(scene);
    many_creators(scene);
    no_permission(scene);
    anothers_buffer(scene);
    read_only_mount(scene);
}

/// While a writer in another process lives, the log is locked; once it is killed, it is not.
fn two_openers(scene: &Scene) {
    let temporary = tempfile::tempdir_in(&scene.folder).expect("a directory");
    let dir = temporary.path().join("log");
    let oracle = Oracle::new(scene.seed);
    oracle.expect_unheard();
    let rounds = 6 * scene.rounds;
    for round in 1..=rounds {
        let job = Job { dir: &dir, seed: scene.seed, round, operations: 1 << 20 };
        let mut child = spawn(&job, &[]);
        let heard = Heard::listen(&mut child, 200, |child| {
            let second = options().open(&dir).err();
            assert!(matches!(second, Some(Error::Locked { .. })), "a second opener got {second:?} from a log in use");
            assert!(Options::new().read_only(true).open(&dir).is_ok(), "a reader needs no lock");
            child.kill().expect("killed");
        });
        child.wait().expect("ended");
        assert_healthy(&heard, &format!("openers, round {round}"));
        heard.tell(&oracle);
        judge(&oracle, &dir, Survived::Kill).unwrap_or_else(|error| panic!("openers, round {round}: {error}"));
        options().open(&dir).expect("the lock went with its process").close().expect("closed");
    }
    println!("openers: {rounds} second openers refused while the first wrote, and let in after it was killed");
}

/// Of several processes that create one log at once, one does, and no other writes.
fn many_creators(scene: &Scene) {
    let temporary = tempfile::tempdir_in(&scene.folder).expect("a directory");
    let rounds = 4 * scene.rounds;
    for round in 1..=rounds {
        let dir = temporary.path().join(round.to_string());
        let job = Job { dir: &dir, seed: scene.seed, round, operations: 40 };
        let mut children: Vec<_> = (0..4).map(|_| spawn(&job, &[])).collect();
        let heard: Vec<_> = children.iter_mut().map(|child| Heard::from(child, usize::MAX)).collect();
        let opened = heard.iter().filter(|heard| heard.count("opened") == 1).count();
        assert!(opened >= 1, "none of four could create the log");
        for heard in &heard {
            assert_eq!(heard.count("opened") + heard.count("unopened"), 1);
            assert_eq!(heard.count("poisoned") + heard.count("io") + heard.count("unclosed"), 0);
        }
        if opened == 1 {
            let oracle = Oracle::new(scene.seed);
            heard.iter().for_each(|heard| heard.tell(&oracle));
            judge(&oracle, &dir, Survived::Kill).unwrap_or_else(|error| panic!("creators, round {round}: {error}"));
        }
    }
    println!("openers: {rounds} logs, each created by four processes at once");
}

/// A log of a few hundred records, closed.
fn a_log(dir: &Path, seed: u64) {
    let wal = options().open(dir).expect("created");
    for counter in 0..300 {
        wal.append(&payload(seed, counter, 700)).expect("appended");
    }
    wal.close().expect("closed");
}

/// Opens a log in the process that `wrapper` makes: how it ended, as `open_and_tell` says it.
fn opened_by(wrapper: &[&str], mode: &str, dir: &Path) -> String {
    let exe = std::env::current_exe().expect("the path of this program");
    let output = Command::new(wrapper[0]).args(&wrapper[1..]).arg(exe).args(["--open", mode]).arg(dir).output();
    let output = output.expect("the wrapper is there");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The other side of [`opened_by`].
pub(crate) fn open_and_tell(arguments: &[String]) -> ExitCode {
    let [mode, dir] = arguments else { return ExitCode::FAILURE };
    let told = |wal: Wal| {
        wal.stats()?;
        Ok(wal.iter()?.filter(Result::is_ok).count())
    };
    match options().read_only(mode == "reading").open(dir).and_then(told) {
        Ok(records) => println!("{records} records"),
        Err(error) => println!("error {} errno {}: {error}", error.code(), error.errno().unwrap_or(0)),
    }
    ExitCode::SUCCESS
}

/// Without permission to write, a log can be read, and not be changed. As root this is tried without root's capabilities,
/// which leave only what the modes of the files allow.
fn no_permission(scene: &Scene) {
    if !have("setpriv") {
        return skipped("openers without permission: setpriv is not there");
    }
    let plain = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];
    let temporary = tempfile::tempdir_in(&scene.folder).expect("a directory");
    let dir = temporary.path().join("log");
    a_log(&dir, scene.seed);
    let before = contents(&dir);
    let modes = |files, directory| {
        for entry in fs::read_dir(&dir).expect("listed") {
            fs::set_permissions(entry.expect("listed").path(), fs::Permissions::from_mode(files)).expect("set");
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(directory)).expect("set");
    };
    let wrapper: &[&str] = if scene.mounts { &plain } else { &["env"] };
    for (files, directory) in [(0o444, 0o555), (0o444, 0o755)] {
        modes(files, directory);
        let (writer, reader) = (opened_by(wrapper, "writing", &dir), opened_by(wrapper, "reading", &dir));
        modes(0o644, 0o755);
        assert!(writer.starts_with("error -1 errno 13:"), "a writer without permission: {writer}");
        assert_eq!(reader, "300 records", "a reader without permission to write");
        assert_eq!(contents(&dir), before, "a writer without permission changed something");
    }
    println!("openers: without permission to write a log is read, and not written");
}

/// A log that another user writes is read, though its buffer is that user's alone; and what such a buffer may hold is not
/// passed over by one who opens the log for writing.
fn anothers_buffer(scene: &Scene) {
    if !have("setpriv") || !scene.mounts {
        return skipped("another user's buffer: needs root and setpriv");
    }
    let plain = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];
    let temporary = tempfile::tempdir_in(&scene.folder).expect("a directory");
    let dir = temporary.path().join("log");
    a_log(&dir, scene.seed);
    let wal = options().open(&dir).expect("opens");
    if !wal.stats().expect("open").shared_buffer {
        return skipped("another user's buffer: no buffer outlives its process here");
    }
    wal.append(b"of another user").expect("appended");
    let log = fs::metadata(&dir).expect("there");
    let shared = PathBuf::from(format!("/dev/shm/libwal-{:x}-{:x}-{BUFFER}", log.dev(), log.ino()));
    let buffer = if shared.exists() { shared } else { dir.join(BUFFER) };
    let scratch = temporary.path().join("copy");
    copy(&dir, &scratch);
    for (path, mode) in [(&dir, 0o777), (&buffer, 0o600), (&scratch, 0o777), (&scratch.join(BUFFER), 0o600)] {
        chown(path, Some(OTHER), None).expect("root may give files away");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    }
    assert_eq!(opened_by(&plain, "reading", &dir), "300 records", "a reader of another user's log");
    let writer = opened_by(&plain, "writing", &scratch);
    assert!(writer.starts_with("error -1 errno 13:"), "a writer passed over another user's buffer: {writer}");
    chown(scratch.join(BUFFER), Some(0), None).expect("root may take files");
    assert_eq!(opened_by(&plain, "writing", &scratch), "301 records", "now it is its own");
    wal.close().expect("closed");
    println!("openers: another user's log is read; its buffer is not passed over by a writer who may not read it");
}

fn read_only_mount(scene: &Scene) {
    for disk in disks(scene, "read-only mount") {
        let dir = disk.at.join("log");
        a_log(&dir, scene.seed);
        disk.read_only(true);
        let (writer, reader) = (opened_by(&["env"], "writing", &dir), opened_by(&["env"], "reading", &dir));
        disk.read_only(false);
        assert!(writer.starts_with("error -1 errno 30:"), "a writer on a read-only {}: {writer}", disk.kind);
        assert_eq!(reader, "300 records", "a reader on a read-only {}", disk.kind);
        println!("openers: on a read-only {} a log is read, and not written", disk.kind);
    }
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).expect("listed").map(|entry| entry.expect("listed").path());
    let mut files: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).expect("read"))).collect();
    files.sort();
    files
}

/// A user that nobody is.
const OTHER: u32 = 54_321;

/// What stands in place of a file.
const PLACED: [&str; 4] = ["a symbolic link to the file", "a symbolic link to nowhere", "a fifo", "a directory"];

/// A segment, or the lock file, that is no regular file is refused, not followed, not waited for and not changed.
pub(crate) fn files(scene: &Scene) {
    let temporary = tempfile::tempdir_in(&scene.folder).expect("a directory");
    let sound = temporary.path().join("sound");
    a_log(&sound, scene.seed);
    let (mut nth, mut tried) = (0, 0);
    for file in ["LOCK", "00000000000000000001.wal", "00000000000000000003.wal"] {
        for placed in PLACED {
            nth += 1;
            let (dir, outside) =
                (temporary.path().join(nth.to_string()), temporary.path().join(format!("{nth}.outside")));
            copy(&sound, &dir);
            place(placed, &dir.join(file), &outside);
            let before = fs::read(&outside).ok();
            let ways = [options(), options().read_only(true), options().recovery(Recovery::Salvage)];
            for (way, options) in ways.into_iter().enumerate() {
                let opened = options.open(&dir).and_then(|wal| every_record(&wal));
                // A salvage passes over what it cannot read, but never reads what stands elsewhere.
                let text = opened.map_or_else(|error| error.to_string(), |count| format!("{count} records"));
                assert!(
                    text.contains("not a regular file") || placed == PLACED[1] && way > 0,
                    "{file} is {placed}, and opening says: {text}"
                );
                tried += 1;
            }
            assert_eq!(fs::read(&outside).ok(), before, "{file} is {placed}, and what is outside was changed");
        }
    }
    left_over(&sound, &temporary.path().join("left"), &temporary.path().join("left.outside"));
    println!("files: {tried} openings of links, fifos and directories refused, nothing outside changed");
}

fn every_record(wal: &Wal) -> libwal::Result<usize> {
    wal.iter()?.try_fold(0, |count, record| record.map(|_| count + 1))
}

fn place(what: &str, path: &Path, outside: &Path) {
    fs::rename(path, outside).expect("moved");
    let nowhere = outside.with_extension("nowhere");
    match PLACED.iter().position(|placed| *placed == what) {
        Some(0) => symlink(outside, path).expect("linked"),
        Some(1) => symlink(nowhere, path).expect("linked"),
        Some(2) => assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo is there").success()),
        _ => fs::create_dir(path).expect("created"),
    }
}

/// A link under the name of an unfinished or a spare segment is removed or refused; what it leads to stays as it is.
fn left_over(sound: &Path, dir: &Path, outside: &Path) {
    for suffix in ["new", "spare"] {
        copy(sound, dir);
        fs::write(outside, vec![7; 69632]).expect("written");
        // Longer than what one segment holds is appended, so that a spare would be used.
        symlink(outside, dir.join(format!("{:020}.{suffix}", 9))).expect("linked");
        if let Ok(wal) = options().open(dir) {
            for _ in 0..400 {
                let _ = wal.append(&[1; 700]);
            }
            let _ = wal.close();
        }
        assert!(
            fs::read(outside).expect("read").iter().all(|&byte| byte == 7),
            "a .{suffix} that is a link was followed"
        );
        fs::remove_dir_all(dir).expect("removed");
    }
}
