//! Statistics: the core's as a dictionary, of which the Python half makes a `Stats`.

use libwal::{Lsn, Stats};
use pyo3::prelude::*;
use pyo3::types::PyDict;

pub(crate) fn to_dict<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, lsn) in [
        ("durable", stats.durable),
        ("flushed", stats.flushed),
        ("published", stats.published),
        ("reserved", stats.reserved),
        ("head", stats.head),
    ] {
        dict.set_item(name, lsn.get())?;
    }
    for (name, count) in [
        ("segments", stats.segments),
        ("segment_size", stats.segment_size),
        ("buffer_size", stats.buffer_size),
        ("records", stats.records),
        ("bytes", stats.bytes),
        ("flushes", stats.flushes),
        ("direct_writes", stats.direct_writes),
        ("syncs", stats.syncs),
        ("records_synced", stats.records_synced),
        ("waits", stats.waits),
    ] {
        dict.set_item(name, count)?;
    }
    dict.set_item("checkpoint", stats.checkpoint.map(Lsn::get))?;
    dict.set_item("closed_cleanly", stats.closed_cleanly)?;
    dict.set_item("shared_buffer", stats.shared_buffer)?;
    let buckets = stats.sync_latency.buckets.iter().map(|(bound, count)| (bound.as_secs_f64(), *count));
    dict.set_item("sync_latency", buckets.collect::<Vec<_>>())?;
    Ok(dict)
}
