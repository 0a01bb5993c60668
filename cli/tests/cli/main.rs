//! Runs the built `wal` in directories of its own.

mod append;
mod damage;
mod dump;
#[cfg(unix)]
mod live;
mod stat;
mod tools;
mod usage;
