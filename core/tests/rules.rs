//! The rules of ARCHITECTURE.md and CONTRIBUTING.md that the sources can be read for. A rule stands here only if it fails
//! on a planted string; the tests at the end plant one for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The layer of each module of core/src, and the modules of its own layer that it may import. A module may import
/// everything below its layer and nothing above.
const LAYERS: [(&str, u8, &[&str]); 23] = [
    ("lsn", 0, &[]),
    ("primitive", 0, &[]),
    ("error", 0, &["lsn"]),
    ("stats", 0, &["lsn", "primitive"]),
    ("format", 1, &[]),
    ("storage", 1, &[]),
    ("options", 2, &[]),
    ("watermark", 2, &[]),
    ("reserve", 2, &[]),
    ("poison", 2, &["reserve"]),
    ("publish", 2, &["reserve", "watermark"]),
    ("ring", 2, &["publish", "reserve"]),
    ("segment", 2, &["poison", "watermark"]),
    ("stream", 2, &["segment"]),
    ("flush", 3, &[]),
    ("sync", 3, &["flush"]),
    ("reader", 3, &[]),
    ("recovery", 3, &["reader"]),
    ("salvage", 3, &["reader", "recovery"]),
    ("wal", 4, &[]),
    ("prelude", 5, &[]),
    ("lib", 5, &[]),
    // Only where loom checks it.
    ("models", 6, &[]),
];

/// Each watermark and the one file that stores it.
const OWNERS: [(&str, &str); 3] = [("durable", "sync.rs"), ("flushed", "flush.rs"), ("published", "publish.rs")];

const ORDERINGS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 70;

/// One source file.
struct Source {
    /// `core`, `ffi`, `cli` or `bindings/python`.
    package: &'static str,
    /// Its path below `src`, with slashes.
    path: String,
    lines: usize,
    /// Comments and the contents of literals taken out, lines kept.
    code: String,
    /// The same without tests and without white space.
    dense: String,
}

impl Source {
    fn new(package: &'static str, path: &str, text: &str) -> Source {
        let code = without_comments_and_literals(text);
        let is_test = path == "tests.rs" || path.ends_with("/tests.rs") || path.starts_with("models/");
        let shipped = if is_test { String::new() } else { without_tests(&code) };
        let dense = dense(&shipped);
        Source { package, path: path.to_owned(), lines: text.lines().count(), code, dense }
    }

    fn core(path: &str, text: &str) -> Source {
        Source::new("core", path, text)
    }

    /// The module of the crate that the file belongs to.
    fn module(&self) -> &str {
        self.path.split('/').next().map_or("", |first| first.strip_suffix(".rs").unwrap_or(first))
    }

    /// What the memory-ordering table calls it.
    fn listed(&self) -> String {
        if self.package == "core" { self.path.clone() } else { format!("{}/{}", self.package, self.path) }
    }

    fn name(&self) -> String {
        format!("{}/src/{}", self.package, self.path)
    }
}

/// What a rule says of a file: nothing, if it is kept.
type Rule = fn(&Source) -> Vec<String>;

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Takes white space out, but keeps words apart.
fn dense(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut gap = false;
    for letter in code.chars() {
        if letter.is_whitespace() {
            gap = true;
            continue;
        }
        if gap && is_word(letter) && out.ends_with(is_word) {
            out.push(' ');
        }
        gap = false;
        out.push(letter);
    }
    out
}

/// The places where `word` stands as a whole word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

fn without_comments_and_literals(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let next_is = |at: usize, what: &str| what.chars().enumerate().all(|(nth, c)| letters.get(at + nth) == Some(&c));
    while at < letters.len() {
        let letter = letters[at];
        let end = if next_is(at, "//") {
            at + letters[at..].iter().position(|&c| c == '\n').unwrap_or(letters.len() - at)
        } else if next_is(at, "/*") {
            block_comment_end(&letters, at)
        } else if letter == '"' {
            string_end(&letters, at)
        } else if let Some(end) = raw_string_end(&letters, at, &out) {
            end
        } else if letter == '\'' {
            // A character, or the mark of a lifetime.
            match (letters.get(at + 1), letters.get(at + 2)) {
                (Some('\\'), _) => at + 3 + letters[at + 3..].iter().position(|&c| c == '\'').map_or(0, |nth| nth + 1),
                (Some(_), Some('\'')) => at + 3,
                _ => at,
            }
        } else {
            at
        };
        if end == at {
            out.push(letter);
            at += 1;
        } else {
            // Something stays in place of a literal, so that what stood around it stays apart.
            out.push_str(if next_is(at, "/") { " " } else { "\"\"" });
            out.extend(letters[at..end].iter().filter(|&&c| c == '\n'));
            at = end;
        }
    }
    out
}

fn block_comment_end(letters: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < letters.len() {
        match (letters[at], letters.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(letters: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < letters.len() && letters[at] != '"' {
        at += if letters[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(letters.len())
}

fn raw_string_end(letters: &[char], from: usize, before: &str) -> Option<usize> {
    let own = before.ends_with(is_word) && !before.ends_with('b');
    if letters[from] != 'r' || own {
        return None;
    }
    let hashes = letters[from + 1..].iter().take_while(|&&c| c == '#').count();
    let open = from + 1 + hashes;
    if letters.get(open) != Some(&'"') {
        return None;
    }
    let closes = |&at: &usize| letters[at] == '"' && letters[at + 1..].iter().take(hashes).all(|&c| c == '#');
    (open + 1..letters.len()).find(closes).map(|at| (at + 1 + hashes).min(letters.len()))
}

/// Where the block that opens at or behind `from` closes.
fn block_end(code: &str, from: usize) -> Option<(usize, usize)> {
    let open = from + code[from..].find('{')?;
    let mut depth = 0;
    for (at, letter) in code[open..].char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((open, open + at));
        }
    }
    None
}

/// Takes out every item marked `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        rest = &rest[at + MARK.len()..];
        let semicolon = rest.find(';').unwrap_or(rest.len());
        rest = match block_end(rest, 0) {
            Some((open, close)) if open < semicolon => &rest[close + 1..],
            _ => &rest[(semicolon + 1).min(rest.len())..],
        };
    }
    out + rest
}

/// The names that are reached from the root of the crate, by `crate::` or by a chain of `super::`.
fn root_names(source: &Source) -> Vec<String> {
    let depth = source.path.matches('/').count() + usize::from(!source.path.ends_with("mod.rs"));
    let supers = "super::".repeat(depth);
    let mut names = Vec::new();
    for prefix in ["crate::", &supers] {
        for at in words(&source.dense, prefix.trim_end_matches(':')) {
            let before = &source.dense[..at];
            let Some(rest) = source.dense[at..].strip_prefix(prefix) else { continue };
            if before.ends_with("super::") || rest.starts_with("super::") {
                continue;
            }
            match rest.strip_prefix('{') {
                Some(group) => names.extend(heads(group)),
                None => names.extend(heads(rest).into_iter().take(1)),
            }
        }
    }
    names
}

/// The first name of each path in a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let (mut depth, mut open) = (0, true);
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(String::new());
                open = true;
            }
            _ if depth == 0 && open && is_word(letter) => names.last_mut().expect("one at least").push(letter),
            _ => open = false,
        }
    }
    names
}

/// Which module each name comes from that the root of the crate hands on.
fn re_exports(lib: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for part in dense(&without_comments_and_literals(lib)).split("pub use ").skip(1) {
        let (module, rest) = part.split_once("::").expect("a path");
        let list = rest.split(';').next().expect("a first part");
        for name in list.trim_matches(['{', '}']).split(',').filter(|name| !name.is_empty()) {
            names.insert(name.to_owned(), module.to_owned());
        }
    }
    names
}

fn breaks_layers(source: &Source, exports: &BTreeMap<String, String>) -> Vec<String> {
    let find = |name: &str| LAYERS.iter().find(|(module, _, _)| *module == name);
    let Some((module, layer, siblings)) = find(source.module()) else {
        return vec![format!("{}: the module has no layer; give it one in this table", source.name())];
    };
    let mut broken = Vec::new();
    for name in root_names(source) {
        let target = exports.get(&name).unwrap_or(&name);
        let allowed = match find(target) {
            Some((other, _, _)) if other == module => true,
            Some((other, below, _)) => below < layer || (below == layer && siblings.contains(other)),
            None => false,
        };
        if !allowed {
            broken.push(format!("{}: {module} (layer {layer}) may not import {target} (by `{name}`)", source.name()));
        }
    }
    broken
}

fn is_too_long(source: &Source) -> Vec<String> {
    let long = source.lines > LONGEST_FILE;
    long.then(|| format!("{}: {} lines, at most {LONGEST_FILE}", source.name(), source.lines)).into_iter().collect()
}

/// Functions with too many lines of code between their braces; comments and empty lines do not count.
fn has_long_functions(source: &Source) -> Vec<String> {
    let code = &source.code;
    let mut broken = Vec::new();
    for at in words(code, "fn") {
        let rest = code[at + 2..].trim_start();
        // A type such as `fn(u64)`, or a declaration without a body.
        if !rest.starts_with(is_word) || code[at..].find(';') < code[at..].find('{') && !has_array(code, at) {
            continue;
        }
        let Some((open, close)) = block_end(code, at) else { continue };
        let lines = code[open + 1..close].lines().filter(|line| !line.trim().is_empty()).count();
        if lines > LONGEST_FUNCTION {
            let name: String = rest.chars().take_while(|&letter| is_word(letter)).collect();
            broken.push(format!("{}: {name} has {lines} lines of code, at most {LONGEST_FUNCTION}", source.name()));
        }
    }
    broken
}

/// Whether the first semicolon behind `at` stands inside brackets, as in `[u8; 4]`.
fn has_array(code: &str, at: usize) -> bool {
    let before = code[at..].split(';').next().unwrap_or("");
    before.matches('[').count() > before.matches(']').count()
}

fn is_unsafe(source: &Source) -> Vec<String> {
    let core = ["ring.rs", "format/crc.rs"].contains(&&*source.path) || source.path.starts_with("storage/file/");
    let allowed = match source.package {
        "ffi" => true,
        "core" => core,
        // The memory of Python's objects, memory lent to Python, and the one method that is called as C's are.
        "bindings/python" => ["append.rs", "data.rs", "view.rs"].contains(&&*source.path),
        _ => false,
    };
    let uses = if allowed { 0 } else { words(&source.code, "unsafe").count() };
    (0..uses).map(|_| format!("{}: unsafe code", source.name())).collect()
}

fn prints(source: &Source) -> Vec<String> {
    let library = source.package != "cli";
    let uses = ["println", "eprintln", "print", "eprint", "dbg"].into_iter().flat_map(|name| {
        words(&source.dense, name).filter(move |at| source.dense[at + name.len()..].starts_with('!')).map(move |_| name)
    });
    uses.filter(|_| library).map(|name| format!("{}: {name}!", source.name())).collect()
}

/// Every `.advance(` is either a method of the file's own, called on `self`, or moves a watermark in its owner's file.
fn advances_anothers_watermark(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    for (at, _) in source.dense.match_indices(".advance(") {
        let before = &source.dense[..at];
        let receiver = &before[before.trim_end_matches(is_word).len()..];
        let own = receiver == "self" && source.path != "watermark.rs";
        if !own && !OWNERS.contains(&(receiver, source.path.as_str())) {
            broken.push(format!("{}: moves the watermark `{receiver}`", source.name()));
        }
    }
    for (at, _) in source.dense.match_indices("Watermark::advance") {
        if !source.dense[..at].ends_with(is_word) {
            broken.push(format!("{}: moves a watermark by the method's path", source.name()));
        }
    }
    broken
}

fn is_sequentially_consistent(source: &Source) -> Vec<String> {
    let all = words(&source.dense, "SeqCst").count();
    let fenced = source.path == "flush.rs" || (source.package == "ffi" && source.path == "in_call.rs");
    let fences = if fenced { source.dense.matches("fence(Ordering::SeqCst)").count() } else { 0 };
    (fences..all).map(|_| format!("{}: SeqCst outside a fence of flush.rs or in_call.rs", source.name())).collect()
}

fn unwraps(source: &Source) -> Vec<String> {
    let uses = if source.package == "cli" { 0 } else { source.dense.matches(".unwrap()").count() };
    (0..uses).map(|_| format!("{}: .unwrap()", source.name())).collect()
}

/// The orderings that the memory-ordering table of ARCHITECTURE.md names for each file.
fn ordering_table(page: &str) -> BTreeMap<String, BTreeSet<&'static str>> {
    let section = page.split("\n## ").find(|section| section.starts_with("Memory ordering")).unwrap_or("");
    let mut table: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for row in section.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let Some(file) = cells.get(1).and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`')) else { continue };
        let named =
            ORDERINGS.into_iter().filter(|ordering| words(cells.get(3).unwrap_or(&""), ordering).next().is_some());
        table.entry(file.to_owned()).or_default().extend(named);
    }
    table
}

fn orderings_used(source: &Source) -> BTreeSet<&'static str> {
    let uses = |ordering: &&str| words(&source.dense, ordering).any(|at| source.dense[..at].ends_with("Ordering::"));
    ORDERINGS.into_iter().filter(uses).collect()
}

fn has_unlisted_orderings(source: &Source, table: &BTreeMap<String, BTreeSet<&'static str>>) -> Vec<String> {
    let used = orderings_used(source);
    let none = BTreeSet::new();
    let listed = table.get(&source.listed()).unwrap_or(&none);
    let both = used.symmetric_difference(listed);
    let told = |ordering: &&str| {
        format!("{}: {ordering} stands in one of source and memory-ordering table only", source.name())
    };
    both.map(told).collect()
}

/// The rules that need nothing but the file.
const RULES: [Rule; 7] = [
    is_too_long,
    has_long_functions,
    is_unsafe,
    prints,
    advances_anothers_watermark,
    is_sequentially_consistent,
    unwraps,
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// Every source file of the package.
fn sources(package: &'static str) -> Vec<Source> {
    let top = root().join(package).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        // The command may not be there yet.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.expect("readable").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&top).expect("below").to_string_lossy().replace('\\', "/");
                sources.push(Source::new(package, &below, &fs::read_to_string(&path).expect("readable")));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("readable")
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "{} rules broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn the_sources_keep_the_rules() {
    let sources: Vec<Source> = ["core", "ffi", "cli", "bindings/python"].into_iter().flat_map(sources).collect();
    assert!(sources.iter().any(|source| source.path == "ring.rs"), "the sources are found");
    assert_none(&RULES.iter().flat_map(|rule| sources.iter().flat_map(rule)).collect::<Vec<_>>());
}

#[test]
fn modules_import_lower_layers_only() {
    let exports = re_exports(&read("core/src/lib.rs"));
    let broken: Vec<_> = sources("core").iter().flat_map(|source| breaks_layers(source, &exports)).collect();
    assert_none(&broken);
}

#[test]
fn every_memory_ordering_is_in_the_table() {
    let table = ordering_table(&read("ARCHITECTURE.md"));
    let sources: Vec<Source> = ["core", "ffi"].into_iter().flat_map(sources).collect();
    for file in table.keys() {
        assert!(sources.iter().any(|source| source.listed() == *file), "the table names {file}, which is not there");
    }
    assert_none(&sources.iter().flat_map(|source| has_unlisted_orderings(source, &table)).collect::<Vec<_>>());
}

// What follows shows that each rule fires.

fn fires(rule: Rule, path: &str, planted: &str) {
    assert!(!rule(&Source::core(path, planted)).is_empty(), "silent on {planted:?} in {path}");
}

fn is_silent(rule: Rule, path: &str, harmless: &str) {
    assert_eq!(rule(&Source::core(path, harmless)), [""; 0], "on {harmless:?} in {path}");
}

#[test]
fn the_layer_rule_fires() {
    let exports = re_exports("pub use wal::Wal;\npub use reader::{Iter, Record};\n#[cfg(test)] pub use lsn::Lsn;");
    let broken = |path: &str, text: &str| breaks_layers(&Source::core(path, text), &exports).len();
    assert_eq!(broken("format/record.rs", "use crate::storage::Storage;"), 1);
    assert_eq!(broken("storage/mod.rs", "use crate::{lsn::Lsn, format::{Kind, Seal}, error::Error};"), 1);
    assert_eq!(broken("reserve.rs", "fn f() { crate::wal::Wal::open() }"), 1);
    assert_eq!(broken("reserve.rs", "fn f(iter: crate::Iter) {}"), 1);
    assert_eq!(broken("flush.rs", "use crate::sync::Sync;"), 1);
    assert_eq!(broken("lsn.rs", "use super::format::Kind;"), 1);
    assert_eq!(broken("storage/file/unix.rs", "use super::super::super::format::Kind;"), 1);
    assert_eq!(broken("brand_new.rs", ""), 1);
    assert_eq!(broken("sync.rs", "use crate::flush::Flush; use crate::stats::{count, read};"), 0);
    assert_eq!(broken("storage/file/unix.rs", "use super::super::Mode; use crate::lsn::Lsn;"), 0);
    assert_eq!(broken("lsn.rs", "/// See [`Wal`](crate::Wal).\n#[cfg(test)]\nmod tests { use crate::Wal; }"), 0);
}

#[test]
fn the_size_rules_fire() {
    fires(is_too_long, "a.rs", &"\n".repeat(501));
    is_silent(is_too_long, "a.rs", &"\n".repeat(500));
    let function = |lines: usize| format!("impl A {{ fn long(a: [u8; 4]) -> u8 {{\n{}0 }} }}", "a();\n".repeat(lines));
    fires(has_long_functions, "a.rs", &function(70));
    is_silent(has_long_functions, "a.rs", &function(69));
    is_silent(has_long_functions, "a.rs", &format!("fn f() {{\n{}}}", "// a comment\n\n".repeat(90)));
    is_silent(
        has_long_functions,
        "a.rs",
        &format!("trait T {{ fn f(&self); }}\nmod m {{\n{}}}", "use a;\n".repeat(90)),
    );
}

#[test]
fn the_unsafe_rule_fires() {
    fires(is_unsafe, "flush.rs", "fn f() { unsafe { g() } }");
    fires(is_unsafe, "storage/mod.rs", "unsafe impl Send for A {}");
    fires(is_unsafe, "segment.rs", "#[cfg(test)]\nmod tests { fn f() { unsafe { g() } } }");
    assert!(!is_unsafe(&Source::new("cli", "ring.rs", "unsafe fn f() {}")).is_empty());
    is_silent(is_unsafe, "ring.rs", "unsafe fn f() {}");
    is_silent(is_unsafe, "storage/file/unix.rs", "unsafe fn f() {}");
    is_silent(is_unsafe, "lib.rs", "#[allow(unsafe_code)] // unsafe\nconst A: &str = \"unsafe\";");
}

#[test]
fn the_printing_rule_fires() {
    fires(prints, "a.rs", "fn f() { println!(\"{}\", 1) }");
    fires(prints, "a.rs", "fn f() { std::eprintln ! () }");
    fires(prints, "a.rs", "fn f() { dbg!(1); }");
    is_silent(
        prints,
        "a.rs",
        "/// println!()\nfn print() { writeln!(out, \"dbg!\") }\n#[cfg(test)]\nmod t { fn f() { print!() } }",
    );
}

#[test]
fn the_watermark_rule_fires() {
    fires(advances_anothers_watermark, "flush.rs", "self.watermarks.durable\n    .advance(end);");
    fires(advances_anothers_watermark, "wal/writer.rs", "w.published.advance(1)");
    fires(advances_anothers_watermark, "sync.rs", "let mark = &self.durable; mark.advance(1)");
    fires(advances_anothers_watermark, "sync.rs", "Watermark::advance(&self.durable, 1)");
    is_silent(advances_anothers_watermark, "sync.rs", "flush.watermarks.durable.advance(upto);");
    is_silent(advances_anothers_watermark, "reader/iter.rs", "match self.advance() {}");
}

#[test]
fn the_rules_on_orderings_fire() {
    fires(is_sequentially_consistent, "publish.rs", "fence(Ordering::SeqCst)");
    fires(is_sequentially_consistent, "flush.rs", "a.load(Ordering::SeqCst)");
    is_silent(is_sequentially_consistent, "flush.rs", "fence(Ordering::SeqCst); // SeqCst");

    let table = ordering_table(
        "# A\n\n## Memory ordering\n\n| file | access | ordering |\n|---|---|---|\n| `a/b.rs` | x.load | Acquire |\n\n## B\n| `c.rs` | | Relaxed |",
    );
    let unlisted = |path: &str, text: &str| has_unlisted_orderings(&Source::core(path, text), &table).len();
    assert_eq!(unlisted("a/b.rs", "x.load(Ordering::Acquire)"), 0);
    assert_eq!(unlisted("a/b.rs", "x.load(Ordering::Acquire); x.store(1, Ordering::Release)"), 1);
    assert_eq!(unlisted("a/b.rs", ""), 1);
    assert_eq!(unlisted("c.rs", "x.load(Ordering::Relaxed)"), 1);
    assert_eq!(unlisted("c.rs", "a.cmp(&b) == Ordering::Less // Ordering::Relaxed"), 0);
}

#[test]
fn the_unwrap_rule_fires() {
    fires(unwraps, "a.rs", "fn f() { a()\n    .unwrap(); }");
    is_silent(
        unwraps,
        "a.rs",
        "fn f() { a.unwrap_or(1) } // .unwrap()\n#[cfg(test)]\nmod tests { fn f() { a.unwrap() } }",
    );
    is_silent(unwraps, "storage/file/tests.rs", "fn f() { a.unwrap() }");
    fires(unwraps, "a.rs", "#[cfg(test)]\npub(crate) fn f() {}\nfn g() { a.unwrap() }");
    fires(unwraps, "a.rs", "#[cfg(test)]\nmod tests;\nfn g() { a.unwrap() }");
}

#[test]
fn literals_and_comments_are_no_code() {
    let text = "let a = \"x // \\\" y\"; let b = '\"'; let c: &'static str = r#\"unsafe \"q\" \"#; /* a /* b */ c */ let d = b'\\'';";
    let code = without_comments_and_literals(text);
    assert_eq!(dense(&code), "let a=\"\";let b=\"\";let c:&'static str=\"\";let d=b\"\";");
}
