//! What a user is promised, seen from outside: real processes, a real nats-server, the REST API.

mod agents;
mod audit;
mod cancels;
mod clusters;
mod commands;
mod doctor;
mod documents;
mod ends;
mod events;
mod fallbacks;
mod fan;
mod flow;
mod history;
mod outages;
mod payloads;
#[allow(dead_code, reason = "the suite of the broker uses more of it")]
#[path = "../broker/raw_nats.rs"]
mod raw_nats;
mod recovery;
mod refusals;
mod replay;
mod retries;
mod sagas;
mod traces;
mod verify;

use std::time::Duration;

use millstream_tests::api::Api;
use millstream_tests::witness::Witness;
use serde_json::json;

/// More than any of these executions takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Registers an agent that calls the witness at `/<id>`.
async fn witnessed(api: &Api, witness: &Witness, id: &str) {
    let config = json!({"url": witness.url(&format!("/{id}"))});
    api.register(&json!({"id": id, "framework": "http", "capabilities": ["http"], "config": config})).await;
}

/// The agents that called the witness, in order of arrival.
fn callers(witness: &Witness) -> Vec<String> {
    witness.calls().iter().map(|call| call.path.trim_start_matches('/').to_owned()).collect()
}
