//! libwal
mod error;
mod flush;
pub mod format;
mod lsn;
mod options;
mod poison;
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
