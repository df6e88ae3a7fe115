//! What a user is promised, seen from outside: real processes, a real nats-server, the REST API.

mod agents;
mod commands;
mod documents;
mod ends;
mod events;
mod fan;
mod flow;
mod outages;
mod payloads;
mod refusals;
mod retries;
mod traces;

use std::time::Duration;

/// More than any of these executions takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
