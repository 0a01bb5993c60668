//! Compares what was acknowledged with what the recovered log holds.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use libwal::prelude::*;

use crate::{Outcome, writer};

/// Where each acknowledged line is, as the writer said.
#[derive(Default)]
pub(crate) struct Acknowledged(HashMap<usize, u64>);

impl Acknowledged {
    pub(crate) fn add(&mut self, index: usize, lsn: u64) {
        self.0.insert(index, lsn);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What the log holds, in records.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    /// Different lines that are in the log.
    pub(crate) recovered: usize,
    /// Acknowledged lines that are not at their LSN.
    pub(crate) missing: usize,
    /// Records that hold other bytes than the line they name.
    pub(crate) different: usize,
    /// Records that name no line of the input, or one that another record holds already.
    pub(crate) unknown: usize,
}

/// Recovers the log, reads all of it, and judges.
pub(crate) fn judge(dir: &Path, lines: &[Vec<u8>], acknowledged: &Acknowledged) -> Outcome<Verdict> {
    let log = Wal::open(dir)?;
    let mut found: HashMap<u64, usize> = HashMap::new();
    let mut seen = HashSet::new();
    let mut verdict = Verdict { recovered: 0, missing: 0, different: 0, unknown: 0 };
    let mut records = log.iter()?;
    while let Some(RecordRef { lsn, data, .. }) = records.next_ref()? {
        match writer::index_of(data).and_then(|index| Some((index, lines.get(index)?))) {
            Some((index, line)) if seen.insert(index) => {
                verdict.different += usize::from(data != writer::record(index, line));
                found.insert(lsn.get(), index);
            }
            _ => verdict.unknown += 1,
        }
    }
    verdict.recovered = seen.len();
    verdict.missing = acknowledged.0.iter().filter(|(index, lsn)| found.get(lsn) != Some(index)).count();
    log.close()?;
    Ok(verdict)
}
