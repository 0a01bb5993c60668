//! The names of a log's files.

/// The file that holds the lock and the control slots.
pub(crate) const LOCK_NAME: &str = "LOCK";
/// The name of the memory for records that are appended and not flushed, where it is a file of the directory.
pub(crate) const BUFFER_NAME: &str = "BUFFER";
const SEGMENT_SUFFIX: &str = ".wal";
const SPARE_SUFFIX: &str = ".spare";
const NEW_SUFFIX: &str = ".new";
/// What a repair appends to the name of a damaged segment, until what it built of it has that name.
const ASIDE_SUFFIX: &str = ".damaged";
/// How many of the smallest segments the longest stream has.
const MOST_SEGMENTS: u64 = crate::lsn::Lsn::MAX.get() >> 12;

/// What a file name in a log's directory means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    Lock,
    Segment(u64),
    /// A freed segment that waits for reuse.
    Spare,
    /// A segment that a crash left unfinished.
    Unfinished,
    /// A damaged segment that a repair has put aside.
    Aside(u64),
    Buffer,
    Other,
}

/// The name of segment `index`: zero-padded, so that names sort as indexes do.
pub(crate) fn segment_name(index: u64) -> String {
    format!("{index:020}{SEGMENT_SUFFIX}")
}

/// The name of a segment that is being made.
pub(crate) fn unfinished_name(index: u64) -> String {
    format!("{index:020}{NEW_SUFFIX}")
}

/// The name of a freed segment that waits for reuse.
pub(crate) fn spare_name(index: u64) -> String {
    format!("{index:020}{SPARE_SUFFIX}")
}

/// The name of segment `index` when a repair has put it aside.
pub(crate) fn aside_name(index: u64) -> String {
    segment_name(index) + ASIDE_SUFFIX
}

impl Name {
    pub(crate) fn parse(name: &str) -> Name {
        let number = |suffix: &str| {
            let digits = name.strip_suffix(suffix)?;
            let numeric = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
            numeric.then(|| digits.parse().ok()).flatten()
        };
        match (number(SEGMENT_SUFFIX), number(SPARE_SUFFIX), number(NEW_SUFFIX)) {
            // No stream reaches further, so nothing that a log wrote has such a name.
            (Some(index), _, _) if index >= MOST_SEGMENTS => Name::Other,
            (Some(index), _, _) => Name::Segment(index),
            (_, Some(_), _) => Name::Spare,
            (_, _, Some(_)) => Name::Unfinished,
            _ if name.ends_with(ASIDE_SUFFIX) => match Name::parse(name.trim_end_matches(ASIDE_SUFFIX)) {
                Name::Segment(index) if aside_name(index) == name => Name::Aside(index),
                _ => Name::Other,
            },
            _ if name == LOCK_NAME => Name::Lock,
            _ if name == BUFFER_NAME => Name::Buffer,
            _ => Name::Other,
        }
    }
}
