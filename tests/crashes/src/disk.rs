//! A file system of our own on a loop device, which can be shut down.
//!
//! This process has a mount namespace of its own, and the loop device goes with its mount: whatever ends this process
//! cleans up.
#![allow(unsafe_code)] // One ioctl.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::run::{Scene, have, skipped};

/// How a file system is shut down: `XFS_IOC_GOINGDOWN`, and `EXT4_IOC_SHUTDOWN`, which is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Down {
    /// Everything is written first, as by a freeze.
    Written = 0,
    /// The journal is written, data is not.
    JournalWritten = 1,
    /// Nothing is written any more: the nearest to a loss of power.
    AtOnce = 2,
}

/// `_IOR('X', 125, __u32)`
const GOING_DOWN: libc::c_ulong = 2 << 30 | 4 << 16 | (b'X' as libc::c_ulong) << 8 | 125;

pub(crate) struct Disk {
    pub(crate) kind: &'static str,
    image: PathBuf,
    pub(crate) at: PathBuf,
    mounted: bool,
    // Last, so that the image goes after the mount.
    _folder: tempfile::TempDir,
}

/// A fresh file system for each kind that can be made here; a line for each that cannot.
pub(crate) fn disks(scene: &Scene, what: &str) -> Vec<Disk> {
    if !scene.mounts {
        skipped(&format!("{what}: needs root and a mount namespace"));
        return Vec::new();
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let usable = |kind: &&str| {
        let made = have(&format!("mkfs.{kind}"));
        // A kernel may load it as a module when it is first mounted.
        let mountable = known.split_whitespace().any(|word| word == *kind) || have("modprobe");
        if !made || !mountable {
            skipped(&format!("{what} on {kind}: mkfs.{kind} or the file system is not there"));
        }
        made && mountable
    };
    ["ext4", "xfs"].into_iter().filter(usable).filter_map(|kind| Disk::new(scene, kind, what)).collect()
}

impl Disk {
    fn new(scene: &Scene, kind: &'static str, what: &str) -> Option<Disk> {
        let folder = tempfile::tempdir_in(&scene.folder).expect("a directory");
        let (image, at) = (folder.path().join("image"), folder.path().join("mounted"));
        fs::create_dir(&at).expect("created");
        // The smallest that mkfs.xfs makes. Sparse: it takes what is written.
        let bytes = if kind == "xfs" { 300 << 20 } else { 64 << 20 };
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("an image");
        let options: &[&str] = if kind == "ext4" { &["-q", "-F", "-m", "0"] } else { &["-q", "-f"] };
        quiet(Command::new(format!("mkfs.{kind}")).args(options).arg(&image)).expect("a file system");
        let mut disk = Disk { kind, image, at, mounted: false, _folder: folder };
        match disk.try_mount() {
            Ok(()) => Some(disk),
            Err(error) => {
                skipped(&format!("{what} on {kind}: cannot be mounted: {error}"));
                None
            }
        }
    }

    fn try_mount(&mut self) -> Result<(), String> {
        // Five minutes between commits of the journal instead of five seconds: what is not synced is lost.
        let options = if self.kind == "ext4" { "loop,commit=300" } else { "loop" };
        quiet(Command::new("mount").args(["-t", self.kind, "-o", options]).args([&self.image, &self.at]))?;
        self.mounted = true;
        Ok(())
    }

    pub(crate) fn remount(&mut self) {
        self.unmount();
        self.try_mount().expect("the file system is mounted again");
    }

    /// Forbids, or allows again, every change.
    pub(crate) fn read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        quiet(Command::new("mount").args(["-o", options]).arg(&self.at)).expect("remounted");
    }

    fn unmount(&mut self) {
        // The handles of a process that was killed may be on their way out.
        for attempt in 1.. {
            match quiet(Command::new("umount").arg(&self.at)) {
                Ok(()) => break,
                Err(error) => assert!(attempt < 100, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.mounted = false;
    }

    /// From now on nothing reaches the disk.
    pub(crate) fn shut_down(&self, how: Down) {
        let root = File::open(&self.at).expect("the root of the file system");
        let device = |path: &Path| fs::metadata(path).expect("metadata").dev();
        // Shutting down the file system that we live on would be a calamity.
        assert_ne!(root.metadata().expect("metadata").dev(), device(self.image.parent().expect("a folder")));
        let how = how as u32;
        // SAFETY: the descriptor is open, and the call reads four bytes from a live integer.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), GOING_DOWN as _, &raw const how) };
        assert_eq!(done, 0, "{} is not shut down: {}", self.kind, std::io::Error::last_os_error());
    }

    /// Leaves `bytes` of space, and returns the file that holds the rest.
    pub(crate) fn fill_up_to(&self, bytes: u64) -> PathBuf {
        let ballast = self.at.join("ballast");
        // XFS gives the space of a removed file back a little later.
        for attempt in 1.. {
            if self.free() > bytes {
                break;
            }
            assert!(attempt < 100, "the space does not come back");
            std::thread::sleep(Duration::from_millis(50));
        }
        let length = (self.free() - bytes).to_string();
        quiet(Command::new("fallocate").args(["--length", &length]).arg(&ballast)).expect("the ballast");
        ballast
    }

    fn free(&self) -> u64 {
        let listed = Command::new("df").args(["--output=avail", "--block-size=1"]).arg(&self.at).output();
        let listed = String::from_utf8(listed.expect("df is there").stdout).expect("text");
        listed.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("the free space")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: after a failure somebody may still be in there.
            let _ = quiet(Command::new("umount").arg("--lazy").arg(&self.at));
        }
    }
}

/// Runs a command; what it says is the error.
fn quiet(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
