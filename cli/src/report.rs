//! Facts and findings as text.

use std::fmt::Write as _;

use libwal::{Damage, FileDamage, Report};

/// Lines of a name and a value each, the values below one another.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    facts.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:width$}  {value}");
        text
    })
}

/// A number of bytes, and the same in a larger unit where that is exact enough to be of use.
pub(crate) fn bytes(bytes: u64) -> String {
    if bytes < 1024 { bytes.to_string() } else { format!("{bytes} ({})", indicatif::BinaryBytes(bytes)) }
}

/// `one range`, `2 ranges`.
pub(crate) fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// One line about a range that cannot be read.
pub(crate) fn damage_line(damage: &Damage) -> String {
    let Damage { from, to, path, reason, .. } = damage;
    let length = to.get().saturating_sub(from.get());
    format!("damage: LSN {from} up to {to} ({length} bytes) in {}: {reason}", path.display())
}

/// One line about a file that is not what it should be.
pub(crate) fn file_line(file: &FileDamage) -> String {
    format!("damage: {}: {}", file.path.display(), file.reason)
}

/// A line for each finding; empty for a sound log.
pub(crate) fn findings(report: &Report) -> String {
    let files = report.files.iter().map(file_line);
    let ranges = report.damage.iter().map(damage_line);
    files.chain(ranges).fold(String::new(), |text, line| text + &line + "\n")
}
