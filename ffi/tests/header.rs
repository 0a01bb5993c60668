//! The committed header and the committed list of symbols are those of the sources.
//! `LIBWAL_WRITE_HEADER=1` (`make header`) writes both anew.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn generated() -> String {
    let config = cbindgen::Config::from_file(Path::new(env!("CARGO_MANIFEST_DIR")).join("cbindgen.toml"));
    let bindings = cbindgen::generate_with_config(env!("CARGO_MANIFEST_DIR"), config.expect("a configuration"));
    let mut text = Vec::new();
    bindings.expect("the sources can be read").write(&mut text);
    String::from_utf8(text).expect("UTF-8")
}

/// The functions that a header declares: what stands before the first `(` of a declaration.
fn functions(header: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (at, _) in header.match_indices('(') {
        let before = header[..at].trim_end_matches(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
        let name = &header[before.len()..at];
        let line = before.rsplit('\n').next().unwrap_or_default();
        let declares = line.ends_with([' ', '*']) && !line.trim_start().starts_with(['*', '/', '#']);
        if declares && name.starts_with("wal_") && !line.contains('(') {
            names.push(name);
        }
    }
    names.sort_unstable();
    names.iter().map(|name| format!("{name}\n")).collect()
}

fn compare(file: &str, expected: &str) {
    let path = root().join(file);
    if std::env::var_os("LIBWAL_WRITE_HEADER").is_some() {
        std::fs::write(&path, expected).expect("written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{file} is not what the sources give: run `make header` and commit it");
}

#[test]
fn the_header_and_the_symbols_are_those_of_the_sources() {
    let header = generated();
    compare("include/wal.h", &header);
    compare("ffi/symbols.txt", &functions(&header));
}

#[test]
fn every_function_in_the_sources_is_in_the_list() {
    let mut exported = Vec::new();
    for entry in std::fs::read_dir(root().join("ffi/src")).expect("the sources") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).expect("text");
        for part in text.split("#[unsafe(no_mangle)]").skip(1) {
            let name = part.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).expect("a function");
            exported.push(name.to_owned());
        }
    }
    exported.sort_unstable();
    let listed = std::fs::read_to_string(root().join("ffi/symbols.txt")).expect("the list");
    assert_eq!(listed.lines().collect::<Vec<_>>(), exported);
}
