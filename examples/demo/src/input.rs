//! The input: every line of the sources and documents, with the file's name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;

const ENDINGS: [&str; 7] = ["rs", "md", "toml", "c", "h", "py", "lock"];
const DIRECTORIES: [&str; 9] = ["core", "cli", "ffi", "bindings", "bench", "docs", "examples", "tests", "spec"];

/// All lines below `root`, in a fixed order, each as the record that is written for it: `file:number:line`.
pub(crate) fn lines(root: &Path) -> Outcome<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    collect(root, false, &mut files)?;
    for directory in DIRECTORIES.map(|name| root.join(name)) {
        if directory.is_dir() {
            collect(&directory, true, &mut files)?;
        }
    }
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        let name = file.strip_prefix(root)?.display().to_string();
        for (number, line) in fs::read(&file)?.split(|&byte| byte == b'\n').enumerate() {
            let mut record = format!("{name}:{}:", number + 1).into_bytes();
            record.extend_from_slice(line);
            lines.push(record);
        }
    }
    if lines.is_empty() { Err(format!("no input in {}", root.display()).into()) } else { Ok(lines) }
}

fn collect(directory: &Path, deep: bool, files: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let wanted =
            path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending));
        if path.is_dir() {
            if deep && !path.ends_with("target") {
                collect(&path, deep, files)?;
            }
        } else if wanted && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}
