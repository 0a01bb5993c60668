//! The native half of the Python package `wal`: the handle, the reader, and the channel that completions take to an
//! event loop. Names that begin with an underscore are for the Python half (`python/wal/`) only.
//!
//! Three rules hold throughout. Nothing that can wait for a disk or for another thread is called while attached to the
//! interpreter: it goes through [`pyo3::Python::detach`]. No thread of the log's own ever attaches. And no Python code is
//! called from here, but for signal handlers: when the interpreter ends, a daemon thread that needs it is made to exit, which
//! would unwind from there through the Rust frames above, and abort the process.

#[allow(unsafe_code)]
mod append;
mod channel;
mod data;
mod error;
mod log;
mod options;
mod reader;
mod stats;
mod verify;
#[allow(unsafe_code)]
mod view;

/// The native half of `wal`. Import `wal`, not this.
#[pyo3::pymodule]
mod _wal {
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    #[pymodule_export]
    use crate::append::_with_append;
    #[pymodule_export]
    use crate::channel::Channel;
    #[pymodule_export]
    use crate::data::_bytes;
    #[pymodule_export]
    use crate::log::{_count_fork, Log};
    #[pymodule_export]
    use crate::reader::Reader;
    #[pymodule_export]
    use crate::verify::{_repair, Verification};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let child = PyDict::new(module.py());
        child.set_item("after_in_child", module.getattr("_count_fork")?)?;
        module.py().import("os")?.getattr("register_at_fork")?.call((), Some(&child))?;
        crate::error::needed(module.py())?;
        crate::data::learn_about_the_interpreter(module.py())
    }
}
