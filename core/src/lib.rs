//! A write-ahead log for storage engines: many threads append records, a crash at any instant loses nothing that was
//! acknowledged as durable, and a restart replays exactly that.
//!
//! ```
//! use libwal::prelude::*;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("log");
//! let log = Wal::open(&path)?;
//! let lsn = log.append(b"set x = 1")?; // ordered, in memory
//! log.append_batch(&["set y = 2", "set z = 3"])?; // all or nothing across a crash
//! log.sync()?; // durable, together with whatever other threads appended
//! log.close()?;
//!
//! let log = Wal::open(&path)?;
//! for record in log.iter()? {
//!     let record = record?;
//!     println!("{}: {}", record.lsn, String::from_utf8_lossy(&record.data));
//! }
//! assert_eq!(log.read(lsn)?.data, b"set x = 1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Wal`] is the handle: its table says which call survives which crash.
//! - [`Options`] lists every option with its default and its domain.
//! - [`Error`] lists what can go wrong; each kind has a stable numeric code.
//! - [`verify`] checks every byte of a log, and [`repair`] mends one that is damaged.
//! - [`storage`] is what a log needs of a file system, a real one, and a simulated one that cuts the power on demand.
//! - [`format`](mod@format) reads and writes single records from any source of bytes.
//!
//! How it works inside is in `ARCHITECTURE.md`, every byte on disk in `docs/format.md`, and what is assumed of disks and
//! file systems in `docs/durability.md`.

mod error;
mod flush;
pub mod format;
mod lsn;
mod options;
mod poison;
pub mod prelude;
mod primitive;
mod publish;
mod reader;
mod recovery;
mod reserve;
#[allow(unsafe_code)]
mod ring;
mod salvage;
mod segment;
mod stats;
pub mod storage;
mod stream;
mod sync;
mod wal;
mod watermark;

pub use error::{Error, Result};
pub use lsn::Lsn;
pub use options::{Options, Recovery, Retention};
pub use reader::{Iter, Record, RecordRef};
pub use recovery::Damage;
pub use salvage::{FileDamage, Progress, Report, repair, repair_on, verify, verify_on};
pub use stats::{Latency, Stats};
pub use wal::Wal;

/// The examples of the README, compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The log's own concurrency, model-checked.
#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, loom))]
extern crate self as libwal;
