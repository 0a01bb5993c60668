//! Scanning a log that may be written meanwhile: what a scan found wrong is looked at again.

use std::sync::Arc;

use super::Progress;
use super::files::{Files, files};
use super::scan::{Scan, input};
use crate::error::Result;
use crate::format::Kind;
use crate::reader::{Cursor, Step, Want};
use crate::storage::Storage;

/// How often a log that changes while it is scanned is scanned again.
const TRIES: u32 = 5;

impl Scan {
    /// Scans; and again where a log that is being written changed under the scan.
    pub(super) fn settled(
        storage: &Arc<dyn Storage>,
        threads: usize,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Scan> {
        let mut tries = 1;
        loop {
            let mut scan = Scan::once(storage, threads, progress)?;
            let sound = scan.bad.is_empty() && scan.files.damage.is_empty() && scan.without_entry.is_empty();
            if sound || !scan.changed(storage)? {
                return Ok(scan);
            }
            if tries == TRIES {
                scan.forget_what_was_truncated(files(&**storage)?);
                return Ok(scan);
            }
            tries += 1;
        }
    }

    /// What was found in segments that have been truncated away since is no damage; `now` are the files that are left.
    fn forget_what_was_truncated(&mut self, now: Files) {
        let Some(oldest) = now.segments.first().filter(|oldest| oldest.index > self.files.control.head) else { return };
        let base = oldest.index << now.control.shift;
        let head = oldest.entry.map_or((base, self.head.1), |entry| (entry.first_record, entry.epoch));
        self.bad.retain(|bad| bad.hole.to > head.0);
        self.without_entry.retain(|&index| index >= oldest.index);
        (self.head, self.files) = (head, now);
    }

    /// Whether the head has moved, a segment was entered, or a hole has been filled, since the scan.
    fn changed(&self, storage: &Arc<dyn Storage>) -> Result<bool> {
        if files(&**storage)?.control.head != self.files.control.head {
            return Ok(true);
        }
        let control = &self.files.control;
        for &index in &self.without_entry {
            let header = input(storage, &self.files).header(index << control.shift)?;
            let entry = header.and_then(|header| header.entry.ok().flatten());
            if entry != self.files.segments[(index - control.head) as usize].entry {
                return Ok(true);
            }
        }
        for bad in &self.bad {
            let input = input(storage, &self.files);
            let mut cursor = Cursor::new(input, bad.hole.from, bad.epoch_before);
            // A dropped batch begins with a good record, so look at what follows as well.
            let mut batch = true;
            while batch && cursor.position() < bad.hole.to {
                match cursor.step(self.end.max(bad.hole.to), Want::Check)? {
                    Step::Record(found) => batch = found.kind == Kind::Batch,
                    _ => break,
                }
            }
            if !batch {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
