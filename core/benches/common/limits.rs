//! What the machine allows: the least that any log of this kind has to do, without everything that makes it a log.
//!
//! - [`Ring`]: an append that only claims its position, copies, and takes a checksum, while one other thread writes what
//!   is complete to a file.
//! - [`commits`]: one thread that writes a record and syncs it.
//! - [`replay`]: reading a log's files and taking the checksum of each payload.

#![allow(unsafe_code)] // The ring is shared memory; each block says why it is sound.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{record_size, timed};

const RING: u64 = 4 << 20;
const BATCH: u64 = 1 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes all of `bytes` at `offset`.
#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset).expect("a write");
}

/// Writes all of `bytes` at `offset`. The file's position moves; only one thread at a time uses it here.
#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], offset: u64) {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(offset)).expect("a seek");
    file.write_all(bytes).expect("a write");
}

/// A file of `len` zeros, written and synced: what is written into it later needs no new blocks.
pub(crate) fn zeroed_file(path: &Path, len: u64) -> File {
    let file = File::options().read(true).write(true).create_new(true).open(path).expect("a new file");
    for offset in (0..len).step_by(ZEROS.len()) {
        write_at(&file, &ZEROS[..(len - offset).min(ZEROS.len() as u64) as usize], offset);
    }
    file.sync_all().expect("a sync");
    file
}

/// A value on cache lines of its own.
#[repr(align(128))]
struct Padded<T>(T);

/// A shared ring of 4 MiB with a link table, as bare as it can be.
pub(crate) struct Ring {
    /// 8-byte words, so that the header words are aligned.
    words: Box<[std::cell::UnsafeCell<u64>]>,
    links: Box<[AtomicU32]>,
    reserved: Padded<AtomicU64>,
    flushed: Padded<AtomicU64>,
    stop: AtomicBool,
}

// SAFETY: writers touch disjoint parts (each claims its own by `fetch_add`, and waits until the flusher is done with what
// was there before); the flusher reads a part only after its link was stored (release) and loaded (acquire).
unsafe impl Sync for Ring {}

impl Ring {
    fn new() -> Ring {
        Ring {
            words: (0..RING / 8).map(|_| std::cell::UnsafeCell::new(0)).collect(),
            links: (0..RING / 8).map(|_| AtomicU32::new(0)).collect(),
            reserved: Padded(AtomicU64::new(0)),
            flushed: Padded(AtomicU64::new(0)),
            stop: AtomicBool::new(false),
        }
    }

    /// Appends `records` records of `payload` in `threads` threads, each its share, into a fresh ring that one more thread
    /// writes to `file`, which must be long enough. Returns how long the appending took.
    pub(crate) fn append(file: &File, threads: usize, records: usize, payload: &[u8]) -> Duration {
        let ring = Ring::new();
        std::thread::scope(|scope| {
            scope.spawn(|| ring.flush(file));
            let elapsed = timed(threads, |_| {
                for _ in 0..records / threads {
                    ring.append_one(payload);
                }
            });
            ring.stop.store(true, Ordering::Release);
            elapsed
        })
    }

    fn base(&self) -> *mut u8 {
        std::cell::UnsafeCell::raw_get(self.words.as_ptr()).cast()
    }

    #[inline]
    fn append_one(&self, payload: &[u8]) {
        let size = record_size(payload.len()) as u64;
        let position = self.reserved.0.fetch_add(size, Ordering::Relaxed);
        while position + size > self.flushed.0.load(Ordering::Acquire) + RING {
            std::thread::yield_now();
        }
        let at = (position % RING) as usize;
        let first = payload.len().min((RING as usize).saturating_sub(at + 8));
        // SAFETY: `at + 8 <= RING` (positions are multiples of 8), `at + 8 + first <= RING` and `payload.len() - first <=
        // RING`: inside the ring. This thread alone has claimed these bytes, and the flusher is done with what stood there.
        // The slices are made of what was just written.
        let crc = unsafe {
            let body = self.base().add(at + 8);
            std::ptr::copy_nonoverlapping(payload.as_ptr(), body, first);
            let crc = crc32c::crc32c(std::slice::from_raw_parts(body, first));
            let rest = payload.len() - first;
            std::ptr::copy_nonoverlapping(payload.as_ptr().add(first), self.base(), rest);
            if rest == 0 { crc } else { crc32c::crc32c_append(crc, std::slice::from_raw_parts(self.base(), rest)) }
        };
        let word = (payload.len() as u64) << 32 | u64::from(crc);
        // SAFETY: as above; `at` is a multiple of 8, and the base is aligned to 8.
        unsafe { self.base().add(at).cast::<u64>().write(word) };
        self.links[at / 8].store(size as u32, Ordering::Release);
    }

    /// Follows the links and writes what is complete, about 1 MiB at a time.
    fn flush(&self, file: &File) {
        let (mut walked, mut flushed) = (0, 0);
        loop {
            let stop = self.stop.load(Ordering::Acquire);
            // Looking at every link just as it is stored would only take the line from the writer.
            if !stop && self.reserved.0.load(Ordering::Relaxed) < flushed + BATCH {
                std::thread::yield_now();
                continue;
            }
            while walked < flushed + BATCH {
                let link = &self.links[(walked % RING / 8) as usize];
                let size = link.load(Ordering::Acquire);
                if size == 0 {
                    break;
                }
                link.store(0, Ordering::Relaxed);
                walked += u64::from(size);
            }
            if walked - flushed < BATCH && !stop {
                std::thread::yield_now();
                continue;
            }
            if walked == flushed {
                return;
            }
            let (from, len) = (flushed % RING, walked - flushed);
            let first = len.min(RING - from);
            for (at, offset, len) in [(from, flushed, first), (0, flushed + first, len - first)] {
                // SAFETY: inside the ring, by the two lines above. Complete (the links were loaded), and not written again
                // before `flushed` moves.
                let bytes = unsafe { std::slice::from_raw_parts(self.base().add(at as usize), len as usize) };
                write_at(file, bytes, offset);
            }
            flushed = walked;
            self.flushed.0.store(flushed, Ordering::Release);
        }
    }
}

/// Writes and syncs `count` records of `payload` into a file of zeros, one after the other.
pub(crate) fn commits(file: &File, offset: &mut u64, count: usize, payload: &[u8]) -> Duration {
    let mut record = vec![0; record_size(payload.len())];
    let begun = Instant::now();
    for _ in 0..count {
        record[..4].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        record[8..8 + payload.len()].copy_from_slice(payload);
        write_at(file, &record, *offset);
        file.sync_data().expect("a sync");
        *offset += record.len() as u64;
    }
    begun.elapsed()
}

/// The segment files of the log in `dir`, in order.
pub(crate) fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("the log").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == "wal")).collect();
    files.sort();
    files
}

/// Reads the files of a log in pieces of 1 MiB and takes the checksum of each payload, until `records` were found, the
/// log's own included.
pub(crate) fn replay(files: &[PathBuf], records: usize) -> Duration {
    const PIECE: usize = 1 << 20;
    let begun = Instant::now();
    let mut buffer = vec![0; 2 * PIECE];
    let (mut from, mut to, mut found) = (0, 0, 0);
    'files: for path in files {
        let mut file = File::open(path).expect("a segment");
        file.read_exact(&mut buffer[to..to + 4096]).expect("a header page");
        loop {
            buffer.copy_within(from..to, 0);
            to -= from;
            from = 0;
            let read = file.read(&mut buffer[to..to + PIECE]).expect("a read");
            if read == 0 {
                break;
            }
            to += read;
            while to - from >= 8 {
                let meta = u32::from_le_bytes(buffer[from + 4..from + 8].try_into().expect("4 bytes"));
                let len = (meta & ((1 << 28) - 1)) as usize;
                let size = record_size(len);
                if meta == 0 {
                    break 'files; // Nothing was written from here on.
                }
                if to - from < size {
                    break;
                }
                std::hint::black_box(crc32c::crc32c(&buffer[from + 8..from + 8 + len]));
                from += size;
                found += 1;
            }
        }
    }
    assert!(found >= records, "{found} of {records} records were found");
    begun.elapsed()
}
