//! What is claimed to be durable.

use super::survey::Files;
use crate::error::Result;
use crate::format::{Durability, MARKER_RECORD_SIZE};
use crate::lsn::Lsn;
use crate::primitive::Arc;
use crate::reader::Input;
use crate::storage::Storage;

/// The highest claim of durability that stands in a control slot or an entry sector.
pub(super) fn claimed(files: &Files) -> u64 {
    let entries = files.entries.iter().flatten().map(|entry| entry.durable);
    entries.fold(files.control.durable, u64::max)
}

/// The highest claim of durability that any marker behind `position` makes: each position is looked at, since the chain is
/// broken. So are segments that do not seem to have been entered: a write that was lost can have held the entry sector and the
/// first records. And segments that no control slot names, since the newest slot may be damaged.
pub(super) fn later_claim(storage: &Arc<dyn Storage>, files: &Files, position: u64) -> Result<u64> {
    const WINDOW: usize = 256 << 10;
    let control = &files.control;
    let end = files.there.min(Lsn::MAX.get() >> control.shift) << control.shift;
    let mut input = Input::new(Arc::clone(storage), control.id, control.shift);
    let mut window = vec![0; WINDOW.min(usize::try_from(end.saturating_sub(position)).unwrap_or(WINDOW))];
    let (mut at, mut kept, mut claim) = (position, 0, 0);
    while at + (kept as u64) < end {
        let wanted = window.len().min(usize::try_from(end - at).unwrap_or(WINDOW));
        match input.read(at + kept as u64, &mut window[kept..wanted])? {
            Some(read) => kept += read,
            None => break,
        }
        let mut offset = 0;
        while offset + MARKER_RECORD_SIZE as usize <= kept {
            if let Some((_, marker)) = Durability::find(&window[offset..kept], control.id, at + offset as u64) {
                claim = claim.max(marker.durable);
            }
            offset += 8;
        }
        window.copy_within(offset..kept, 0);
        at += offset as u64;
        kept -= offset;
    }
    Ok(claim)
}
