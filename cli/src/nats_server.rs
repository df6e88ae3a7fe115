//! A nats-server of one's own: found or fetched once, started, and stopped with its owner.
//!
//! `dev`, `demo` and the test suites run on it. Everything here blocks; async callers use `spawn_blocking`.

mod fetch;
mod find;
mod process;
mod ready;

pub use find::{NotFound, VERSION_MIN, find, find_or_fetch};
pub use process::{Server, ServerOptions, StartError, Storage};
