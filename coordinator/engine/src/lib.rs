//! The engine: a pure, deterministic fold.
//!
//! Floor 1: entries in, effects out. It owns the state of the executions of one partition and
//! nothing else: no clock, no randomness, no IO. The coordinator feeds it the journal in order and
//! performs the effects it returns; recovery is the same fold as normal running.
//!
//! ```text
//!   journal ──entry──▶ Partition::apply ──┬─▶ Outcome   (what became of the entry)
//!                        │                └─▶ Effects   (what is owed to the world)
//!                        ▼
//!                    Execution ── Step ── Attempt
//! ```
//!
//! - [`partition`]: `decide`, `wants`, `apply`; idempotency keys; deadlines
//! - [`execution`]: one run, from its submission to its end
//! - `schedule`, `fan_out`, `fan_in`, `attempt`, `activation`, `fallback`, `clocks`: how steps move
//! - `outstanding`: what it waits for
//! - `ending`, `saga`, `resume`, `fork`: how an execution ends, what is undone, and how it goes on
//! - `partition/absent`, `partition/snapshot`, `refold`, `state`: what leaves memory, and how it comes back
//! - [`scope`], [`input`]: what expressions see
//! - [`event`], [`view`], `partial`, [`render`]: what people see

mod activation;
mod attempt;
mod backoff;
mod clocks;
pub mod effect;
mod ending;
pub mod event;
pub mod execution;
mod fallback;
mod fan_in;
mod fan_out;
mod fork;
mod idempotency;
pub mod input;
pub mod outcome;
mod outstanding;
mod partial;
pub mod partition;
mod record;
pub mod refold;
pub mod render;
mod result;
mod resume;
mod saga;
mod schedule;
pub mod scope;
mod state;
mod step;
mod timer;
pub mod view;

pub use effect::{Effect, Evaluate, TaskRef};
pub use execution::Execution;
pub use fork::KeptOutput;
pub use outcome::{Applied, Halt, Ignored, Outcome};
pub use partition::{Origin, Partition, Rejection, Request, Want};
