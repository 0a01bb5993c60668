//! The process that writes: many threads, each making its lines durable one by one and acknowledging each on standard
//! output. One sync serves all threads that wait for one.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use libwal::prelude::*;

use crate::{Outcome, input};

/// Writer threads: as many as eight processes with eight threads each would have.
pub(crate) const THREADS: usize = 64;

/// A record is the line's index in the input (u32, little-endian) and the line.
pub(crate) fn record(index: usize, line: &[u8]) -> Vec<u8> {
    let mut record = u32::try_from(index).expect("an input of fewer than 2^32 lines").to_le_bytes().to_vec();
    record.extend_from_slice(line);
    record
}

/// The index of the line that a record holds.
pub(crate) fn index_of(record: &[u8]) -> Option<usize> {
    record.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize)
}

/// Writes all lines that are not in the log yet.
pub(crate) fn write(dir: &Path, root: &Path) -> Outcome<()> {
    let lines = input::lines(root)?;
    // Small segments, so that the demo crosses into many and is killed there as well.
    let log = Options::new().segment_size(1 << 16).buffer_size(1 << 16).open(dir)?;
    let mut done = HashSet::new();
    for record in log.iter()? {
        done.extend(index_of(&record?.data));
    }
    let next = AtomicUsize::new(0);
    let write_some = || -> Result<(), Error> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(line) = lines.get(index) else { return Ok(()) };
            if !done.contains(&index) {
                let lsn = log.append_and_sync(&record(index, line))?;
                // One write for each acknowledgement, so that none is kept back in a buffer, or torn.
                let said = std::io::stdout().lock().write_all(format!("{index} {lsn}\n").as_bytes());
                said.map_err(|error| Error::InvalidArgument(error.to_string()))?;
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(write_some)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a writer thread"))
    })?;
    println!("records_per_sync {}", log.stats()?.records_per_sync());
    Ok(log.close()?)
}
