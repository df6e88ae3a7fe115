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
//! - `schedule`, `fan_out`, `fan_in`, `attempt`, `ending`: how steps move
//! - [`scope`], [`input`]: what expressions see
//! - [`event`], [`view`], [`render`]: what people see

mod attempt;
mod backoff;
pub mod effect;
mod ending;
pub mod event;
pub mod execution;
mod fan_in;
mod fan_out;
mod idempotency;
pub mod input;
pub mod outcome;
pub mod partition;
mod record;
pub mod render;
mod result;
mod schedule;
pub mod scope;
mod step;
mod timer;
pub mod view;

pub use effect::{Effect, Evaluate, TaskRef};
pub use execution::Execution;
pub use outcome::{Applied, Halt, Ignored, Outcome};
pub use partition::{Origin, Partition, Rejection, Request};
