//! What the figures were measured on, as far as it matters to them.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::common::{limits, median, payload};

#[derive(Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) file_system: String,
    /// Microseconds of a write of 4 KiB and an `fdatasync` into blocks that are written already.
    pub(crate) sync_micros: f64,
    /// Runnable threads a minute before, in the mean: above zero, other work ran beside.
    pub(crate) load: String,
    pub(crate) rust: String,
}

impl Machine {
    pub(crate) fn here(dir: &Path) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |path: &str, name: &str| {
            let text = read(path);
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let kib: f64 = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
        let rustc = std::process::Command::new("rustc").arg("--version").output();
        let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        Machine {
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kib / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().split('.').take(2).collect::<Vec<_>>().join("."),
            file_system: file_system(dir),
            sync_micros: sync_micros(dir),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            rust: rustc.split(' ').nth(1).unwrap_or("?").to_owned(),
        }
    }
}

/// The type of the file system that holds `dir`: that of the longest mount point above it.
fn file_system(dir: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && dir.starts_with(fields[1]));
    above.max_by_key(|fields| fields[1].len()).map_or("?".to_owned(), |fields| fields[2].to_owned())
}

fn sync_micros(dir: &Path) -> f64 {
    let path = dir.join("machine");
    let file = limits::zeroed_file(&path, 4 << 20);
    let (payload, begun, mut offset) = (payload(4088), Instant::now(), 0);
    let mut micros = Vec::new();
    while begun.elapsed() < Duration::from_millis(300) && offset + 4096 <= 4 << 20 {
        micros.push(limits::commits(&file, &mut offset, 1, &payload).as_secs_f64() * 1e6);
    }
    let _ = std::fs::remove_file(path);
    median(micros)
}
