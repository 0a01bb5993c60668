//! `wal_report_t`: what checking or mending a whole log found.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use libwal::{Damage, FileDamage, Lsn, Progress, Report};

use crate::arguments::{path, required};
use crate::error::{Failure, WAL_NO_LSN, WAL_OK, boundary};
use crate::log::{wal_t, with_log};

/// A range of the stream that was once acknowledged and cannot be read.
#[repr(C)]
pub struct wal_damage_t {
    /// Where it begins.
    pub from: u64,
    /// Where reading goes on.
    pub to: u64,
    /// The file in which it begins.
    pub path: *const c_char,
    /// What does not fit there.
    pub reason: *const c_char,
}

/// A file of a log that is not what it should be.
#[repr(C)]
pub struct wal_file_damage_t {
    /// The file.
    pub path: *const c_char,
    /// What is wrong with it.
    pub reason: *const c_char,
}

/// What wal_verify(), wal_repair() or wal_damage() found. It belongs to the caller, who frees it, with all that it points to, by
/// wal_report_free(). Later versions add fields at the end.
#[repr(C)]
pub struct wal_report_t {
    /// The first position of the log.
    pub head: u64,
    /// The end of the log.
    pub tail: u64,
    /// How many segments it has, those prepared ahead included.
    pub segments: u64,
    /// How many valid records it holds, the log's own not counted.
    pub records: u64,
    /// How many bytes their payloads have.
    pub payload_bytes: u64,
    /// 1 if it was closed cleanly, otherwise 0.
    pub closed_cleanly: u64,
    /// The last valid checkpoint record, or WAL_NO_LSN.
    pub checkpoint: u64,
    /// The end of the log if bytes follow it that are no record and were never acknowledged; otherwise WAL_NO_LSN.
    pub torn_tail: u64,
    /// Files that are missing, of another log, of a wrong length, or with a damaged header.
    pub files: *const wal_file_damage_t,
    /// How many.
    pub file_count: usize,
    /// Ranges of acknowledged data that cannot be read. A log is sound if there are none, and no files above.
    pub damage: *const wal_damage_t,
    /// How many.
    pub damage_count: usize,
}

/// Called now and then with how many bytes of the stream were checked, of how many; from any thread of the check, and from
/// several at once. It must return.
pub type wal_progress_fn = Option<unsafe extern "C" fn(context: *mut c_void, done: u64, total: u64)>;

/// A path or a reason, for C. A NUL inside ends it early.
fn text(text: &str) -> CString {
    bytes(text.as_bytes())
}

fn bytes(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

fn path_text(path: &Path) -> CString {
    bytes(path.as_os_str().as_encoded_bytes())
}

/// A report with what it points to. The first field is what C sees.
#[repr(C)]
struct Owned {
    report: wal_report_t,
    files: Vec<wal_file_damage_t>,
    damage: Vec<wal_damage_t>,
    texts: Vec<CString>,
}

/// Adds what a report points to, and hands it to C.
fn give(report: wal_report_t, files: &[FileDamage], damage: &[Damage]) -> *mut wal_report_t {
    let mut owned = Box::new(Owned { report, files: Vec::new(), damage: Vec::new(), texts: Vec::new() });
    // A `CString` that is moved keeps its text where it is.
    let mut keep = |text: CString| {
        let address = text.as_ptr();
        owned.texts.push(text);
        address
    };
    let files = files.iter();
    owned.files = files
        .map(|file| wal_file_damage_t { path: keep(path_text(&file.path)), reason: keep(text(&file.reason)) })
        .collect();
    let damage = damage.iter();
    owned.damage = damage
        .map(|damage| wal_damage_t {
            from: damage.from.get(),
            to: damage.to.get(),
            path: keep(path_text(&damage.path)),
            reason: keep(text(&damage.reason)),
        })
        .collect();
    owned.report.files = owned.files.as_ptr();
    owned.report.file_count = owned.files.len();
    owned.report.damage = owned.damage.as_ptr();
    owned.report.damage_count = owned.damage.len();
    Box::into_raw(owned).cast()
}

fn position(lsn: Option<Lsn>) -> u64 {
    lsn.map_or(WAL_NO_LSN, Lsn::get)
}

fn of_report(found: &Report) -> *mut wal_report_t {
    let report = wal_report_t {
        head: found.head.get(),
        tail: found.tail.get(),
        segments: found.segments,
        records: found.records,
        payload_bytes: found.payload_bytes,
        closed_cleanly: u64::from(found.closed_cleanly),
        checkpoint: position(found.checkpoint),
        torn_tail: position(found.torn_tail),
        files: ptr::null(),
        file_count: 0,
        damage: ptr::null(),
        damage_count: 0,
    };
    give(report, &found.files, &found.damage)
}

/// Stores what a log that was opened with WAL_RECOVERY_SALVAGE passes over: a report whose `damage` lists it, and which says
/// where the log begins and ends; `records`, `payload_bytes`, `torn_tail` and `files` are not filled in. Other logs pass over
/// nothing. The report belongs to the caller (wal_report_free()). Any thread. WAL_ERR_IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_damage(log: *mut wal_t, out: *mut *mut wal_report_t) -> c_int {
    with_log(log, |log| {
        // SAFETY: the caller passes a place for a pointer, or NULL.
        let out = unsafe { required(out, "out") }?;
        let stats = log.wal.stats()?;
        let report = wal_report_t {
            head: stats.head.get(),
            tail: stats.reserved.get(),
            segments: stats.segments,
            records: 0,
            payload_bytes: 0,
            closed_cleanly: u64::from(stats.closed_cleanly),
            checkpoint: position(stats.checkpoint),
            torn_tail: WAL_NO_LSN,
            files: ptr::null(),
            file_count: 0,
            damage: ptr::null(),
            damage_count: 0,
        };
        out.write(give(report, &[], &log.wal.damage()));
        Ok(WAL_OK)
    })
}

/// A progress callback and what it is called with.
struct Observer(wal_progress_fn, *mut c_void);

// SAFETY: the header says that the callback is made from several threads; what the context leads to is the caller's to guard.
unsafe impl Sync for Observer {}

impl Observer {
    fn tell(&self, progress: Progress) {
        if let Some(function) = self.0 {
            // SAFETY: the caller passed this function to be called with this context during this call.
            unsafe { function(self.1, progress.done, progress.total) };
        }
    }
}

/// Checks every byte of the log in the directory `dir` with `threads` threads (0 counts as 1) and changes nothing. A log
/// that is being written can be checked as far as it reaches. `progress` may be NULL. Damage is no error: it is in the
/// report, which belongs to the caller (wal_report_free()). Any thread.
/// WAL_ERR_INVALID_ARGUMENT: the directory holds no log. WAL_ERR_IO: also (ENOENT) if there is no such directory.
/// WAL_ERR_UNSUPPORTED_VERSION.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_verify(
    dir: *const c_char,
    threads: usize,
    progress: wal_progress_fn,
    context: *mut c_void,
    out: *mut *mut wal_report_t,
) -> c_int {
    boundary(|| {
        // SAFETY: the caller passes a text that ends in NUL and a place for a pointer, or NULL.
        let (dir, out) = unsafe { (path(dir)?, required(out, "out")?) };
        let observer = Observer(progress, context);
        let found = libwal::verify(dir, threads, &|progress| observer.tell(progress))?;
        out.write(of_report(&found));
        Ok(WAL_OK)
    })
}

/// Mends the log in the directory `dir`, so that it can be opened strictly again: damaged ranges become padding, damaged
/// files are rebuilt from what can be read of them. The damaged bytes are first copied, durably, to the directory `keep`,
/// which must be empty or not exist. The report (which may be NULL; otherwise the caller's, wal_report_free()) says what
/// was found. A log that is sound is left alone. Durable on return. If it is interrupted, or fails, the log can be opened for
/// salvage only, until it was called again (with another `keep`) and has come to its end. Any thread.
/// As wal_verify(); WAL_ERR_LOCKED: it is open for writing. WAL_ERR_NO_SPACE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_repair(dir: *const c_char, keep: *const c_char, out: *mut *mut wal_report_t) -> c_int {
    boundary(|| {
        // SAFETY: the caller passes two texts that end in NUL.
        let (dir, keep) = unsafe { (path(dir)?, path(keep)?) };
        let found = libwal::repair(dir, keep)?;
        // SAFETY: the caller passes a place for a pointer, or NULL.
        if let Some(out) = unsafe { out.as_mut() } {
            *out = of_report(&found);
        }
        Ok(WAL_OK)
    })
}

/// Frees a report and all that it points to, once. NULL is left alone. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wal_report_free(report: *mut wal_report_t) {
    let _: c_int = boundary(|| -> Result<c_int, Failure> {
        if !report.is_null() {
            // SAFETY: the caller passes what this library gave, once: an `Owned` that came from `Box::into_raw`.
            let Owned { files, damage, texts, .. } = *unsafe { Box::from_raw(report.cast::<Owned>()) };
            drop((files, damage, texts));
        }
        Ok(WAL_OK)
    });
}
