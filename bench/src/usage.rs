//! What this process has used so far, as the kernel counts it.

#![allow(unsafe_code)] // getrusage.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[derive(Clone, Copy)]
pub(crate) struct Usage {
    /// Processor time of all threads, user and system.
    pub(crate) cpu_seconds: f64,
    /// Bytes that the process caused to be sent to a disk.
    pub(crate) written: u64,
    pub(crate) syncs: u64,
}

impl Usage {
    pub(crate) fn now() -> Usage {
        // SAFETY: all zeros is a value of the structure, and the kernel writes nothing beyond it.
        let times = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
            [usage.ru_utime, usage.ru_stime]
        };
        let cpu_seconds = times.iter().map(|time| time.tv_sec as f64 + time.tv_usec as f64 / 1e6).sum();
        Usage { cpu_seconds, written: field("/proc/self/io", "write_bytes:"), syncs: crate::syncs::count() }
    }
}

/// The most memory that was resident at once, in KiB.
pub(crate) fn peak_memory_kib() -> u64 {
    field("/proc/self/status", "VmHWM:")
}

/// The first number of a line of a file of the kernel's; 0 if it is not there.
fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes of disk that the files below `dir` take.
pub(crate) fn allocated(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => allocated(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}
