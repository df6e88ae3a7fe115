//! Which messages are tasks that this build may run.

use millstream_model::task::{PROTOCOL, PROTOCOL_OLDEST, Task};
use serde::Deserialize;

/// Why a message is left to others. It goes back to the queue, never away: what this build
/// cannot read, another one may.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the task speaks protocol version {version}; this worker speaks {PROTOCOL_OLDEST} to {PROTOCOL}")]
    Version { version: u16 },
    #[error("the message is not a task: {source}")]
    Unreadable {
        #[source]
        source: serde_json::Error,
    },
}

impl Refusal {
    /// How long the message rests before it is offered again.
    pub const fn delay_ms(&self) -> u64 {
        match self {
            Self::Version { .. } => 5_000,
            Self::Unreadable { .. } => 60_000,
        }
    }
}

/// Reads a task.
pub fn read(message: &[u8]) -> Result<Task, Refusal> {
    let unreadable = match serde_json::from_slice::<Task>(message) {
        Ok(task) if (PROTOCOL_OLDEST..=PROTOCOL).contains(&task.v) => return Ok(task),
        Ok(task) => return Err(Refusal::Version { version: task.v }),
        Err(source) => source,
    };
    /// What every version has.
    #[derive(Deserialize)]
    struct Versioned {
        v: u16,
    }
    match serde_json::from_slice::<Versioned>(message) {
        Ok(Versioned { v }) if !(PROTOCOL_OLDEST..=PROTOCOL).contains(&v) => Err(Refusal::Version { version: v }),
        Ok(_) | Err(_) => Err(Refusal::Unreadable { source: unreadable }),
    }
}
