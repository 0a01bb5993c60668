//! What most users of a log need: `use libwal::prelude::*;`.

pub use crate::format::Kind;
pub use crate::{Error, Iter, Lsn, Options, Record, RecordRef, Recovery, Retention, Wal};
