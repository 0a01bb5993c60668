//! libwal for C and C++. Everything that C sees is documented where C reads it: `include/wal.h` is made from this crate.
//!
//! One file for each C object. `handle` and `in_call` decide whether what C passes is an object, and keep it alive while a
//! call uses it; `arguments` turns pointers into what Rust may use; `error` is the boundary that every call passes, `message`
//! what it leaves for the thread. There is no other logic here: each call is one call of the core.

#![allow(unsafe_code)] // Pointers from C. Each block argues from what a call's comment asks of its caller, from H1 to H3, T1 or T2.
#![allow(non_camel_case_types)] // The types have the names that C gives them.
#![allow(clippy::missing_safety_doc)] // The comments of the calls are those of the header, and say what C must keep to.

mod arguments;
mod event;
mod handle;
mod in_call;
mod message;

mod version;

mod error;

mod options;

mod log;

mod completion;

mod record;

mod iter;

mod stats;

mod report;

pub use completion::*;
pub use error::*;
pub use iter::*;
pub use log::*;
pub use options::*;
pub use record::*;
pub use report::*;
pub use stats::*;
pub use version::*;
