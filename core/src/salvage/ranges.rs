//! Where in the stream a scan can begin: the parts that are scanned independently.

use super::files::Files;

/// A part of the stream between two known record boundaries.
pub(super) struct Range {
    pub(super) from: u64,
    /// `None`: it is not known in which epoch, or whether a record begins at `from`.
    pub(super) epoch: Option<u32>,
    pub(super) to: u64,
    /// Whether a record is known to begin at `to`, and in which epoch.
    pub(super) next: Option<u32>,
    /// The end of the last segment.
    pub(super) limit: u64,
}

/// The parts of the stream between the record boundaries that the entry sectors name.
pub(super) fn ranges(files: &Files) -> Vec<Range> {
    let control = &files.control;
    let prepared = control.end << control.shift;
    let claims = files.segments.iter().filter_map(|state| state.entry.map(|entry| entry.durable));
    let durable = claims.fold(control.durable.max(control.clean_end.unwrap_or(0)), u64::max);
    let mut starts: Vec<(u64, Option<u32>)> = Vec::new();
    for state in &files.segments {
        // It is as durable as the first byte of its segment; before that, one of a tail that was shut out may stand there, and
        // name an earlier record, or one beyond everything.
        let believed = state.index == control.head || state.index << control.shift < durable;
        let Some(entry) = state.entry.filter(|entry| believed && entry.first_record < prepared) else {
            if starts.is_empty() {
                let base = (state.index << control.shift).max(control.first_lsn);
                // A log begins in epoch zero; otherwise the head's entry sector is damaged, and the first record unknown.
                starts.push((base, (base == control.first_lsn).then_some(0)));
            }
            continue;
        };
        // A record that spans segments makes several of them name the same boundary.
        if starts.last().is_none_or(|&(last, _)| last < entry.first_record) {
            starts.push((entry.first_record, Some(entry.epoch)));
        }
    }
    let ends = starts.iter().skip(1).map(|&(next, epoch)| (next, epoch)).chain([(prepared, None)]);
    let range =
        |(&(from, epoch), (to, next)): (&(u64, Option<u32>), _)| Range { from, epoch, to, next, limit: prepared };
    starts.iter().zip(ends).map(range).collect()
}

impl Range {
    /// What is left of the range behind padding that reaches into it from the ranges before, or an epoch record.
    ///
    /// `before` is where those end, and in which epoch.
    pub(super) fn behind(&self, before: Option<(u64, u32)>) -> Range {
        match before {
            Some((end, epoch)) if end > self.from => {
                Range { from: end, epoch: Some(epoch), to: self.to.max(end), ..*self }
            }
            _ => Range { ..*self },
        }
    }
}
