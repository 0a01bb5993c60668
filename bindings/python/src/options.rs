//! The options of `wal.open`, as the core wants them.

use std::time::Duration;

use libwal::{Lsn, Options, Recovery, Retention};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What `wal.open` was given; what was left out has the core's default.
#[derive(Default)]
pub(crate) struct Given<'a> {
    pub(crate) segment_size: Option<u64>,
    pub(crate) buffer_size: Option<u64>,
    pub(crate) shared_buffer: bool,
    pub(crate) max_record_size: Option<u64>,
    pub(crate) recycle: Option<usize>,
    pub(crate) retain_bytes: Option<u64>,
    pub(crate) retain_segments: Option<u64>,
    pub(crate) retain_checkpoint: bool,
    pub(crate) sync_interval: Option<f64>,
    pub(crate) background: bool,
    pub(crate) read_only: bool,
    pub(crate) create: bool,
    pub(crate) recovery: &'a str,
    pub(crate) first_lsn: u64,
}

impl Given<'_> {
    pub(crate) fn options(&self) -> PyResult<Options> {
        let defaults = Options::new()
            .shared_buffer(self.shared_buffer)
            .retain_checkpoint(self.retain_checkpoint)
            .background(self.background)
            .read_only(self.read_only)
            .create(self.create)
            .first_lsn(Lsn::new(self.first_lsn));
        let mut options = match self.recovery {
            "strict" => defaults,
            "salvage" => defaults.recovery(Recovery::Salvage),
            other => {
                return Err(PyValueError::new_err(format!("recovery is '{other}': it must be 'strict' or 'salvage'")));
            }
        };
        if let Some(bytes) = self.segment_size {
            options = options.segment_size(bytes);
        }
        if let Some(bytes) = self.buffer_size {
            options = options.buffer_size(bytes);
        }
        if let Some(bytes) = self.max_record_size {
            options = options.max_record_size(bytes);
        }
        if let Some(segments) = self.recycle {
            options = options.recycle(segments);
        }
        let options = match (self.retain_bytes, self.retain_segments) {
            (None, None) => options,
            (Some(bytes), None) => options.retention(Retention::Bytes(bytes)),
            (None, Some(segments)) => options.retention(Retention::Segments(segments)),
            (Some(_), Some(_)) => {
                return Err(PyValueError::new_err("retain_bytes and retain_segments exclude each other"));
            }
        };
        Ok(options.sync_interval(self.sync_interval.map(seconds).transpose()?))
    }
}

/// A duration in seconds, as Python gives it.
pub(crate) fn seconds(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds.max(0.0))
        .map_err(|_| PyValueError::new_err(format!("{seconds} is no number of seconds")))
}

/// A time to wait: `None` is for ever, and so is what no clock can reach.
pub(crate) fn patience(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    match timeout {
        Some(timeout) if timeout.is_nan() => Err(PyValueError::new_err("the timeout is not a number")),
        Some(timeout) => Ok(Duration::try_from_secs_f64(timeout.max(0.0)).ok()),
        None => Ok(None),
    }
}
