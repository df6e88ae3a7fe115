//! Attempts: how many, how far apart, and what they are told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use millstream_tests::api::{step, text};
use millstream_tests::cluster::Cluster;
use millstream_tests::witness::Witness;
use serde_json::json;

use crate::PATIENCE;
use crate::flow::micros;

#[tokio::test]
async fn a_step_that_fails_twice_succeeds_after_two_growing_delays() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: third_time
steps:
  - id: flaky
    agent_id: builtin-fail
    input_map: {times: 2, code: EXTERNAL_SERVICE_ERROR}
    retry: {max_attempts: 3, backoff_ms: 300, backoff_multiplier: 2, jitter: false}
",
    )
    .await;
    let id = api.execute("third_time", json!({})).await;
    let execution = api.ended(&id, PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    assert_eq!(step(&execution, "flaky")["attempts"], 3);

    let events = api.events(&id).await;
    let of_step: Vec<(&str, u64)> = events
        .iter()
        .filter(|event| event["step_id"] == "flaky" && event["type"] != "step.scheduled")
        .map(|event| (event["type"].as_str().expect("a type"), event["attempt"].as_u64().expect("an attempt")))
        .collect();
    assert_eq!(
        of_step,
        [
            ("step.started", 1),
            ("step.retrying", 1),
            ("step.started", 2),
            ("step.retrying", 2),
            ("step.started", 3),
            ("step.completed", 3),
        ]
    );
    let started = |attempt: u64| {
        let event = events.iter().find(|event| event["type"] == "step.started" && event["attempt"] == attempt);
        micros(&text(event.expect("each attempt started"), "/time"))
    };
    assert!(started(2) - started(1) >= 300_000, "{events:?}");
    assert!(started(3) - started(2) >= 600_000, "{events:?}");
}

#[tokio::test]
async fn the_last_attempt_fails_the_execution_and_later_steps_never_start() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|_| (503, json!({"error": {"message": "down for repairs"}}))).await;
    api.register(
        &json!({"id": "down", "framework": "http", "capabilities": ["http"], "config": {"url": witness.url("/")}}),
    )
    .await;
    api.define(
        "
id: gives_up
steps:
  - {id: call, agent_id: down, retry: {max_attempts: 2, backoff_ms: 50}}
  - {id: after, agent_id: down, depends_on: [call]}
",
    )
    .await;
    let execution = api.run("gives_up", json!({}), PATIENCE).await;
    assert_eq!(execution["status"], "FAILED", "{execution}");
    assert_eq!(execution["error"]["step"], "call");
    assert_eq!(execution["error"]["code"], "EXTERNAL_SERVICE_ERROR");
    assert!(text(&execution, "/error/message").contains("down for repairs"), "{execution}");
    assert_eq!(step(&execution, "after")["attempts"], 0);

    let calls = witness.calls();
    let attempts: Vec<&str> = calls.iter().map(|call| call.attempt.as_str()).collect();
    assert_eq!(attempts, ["1", "2"]);
    let keys: BTreeSet<&str> = calls.iter().map(|call| call.idempotency_key.as_str()).collect();
    assert_eq!(keys.len(), 1, "the idempotency key is the same for every attempt: {keys:?}");
    assert!(calls.iter().all(|call| call.step == "call"));
}

#[tokio::test]
async fn an_error_that_cannot_be_mended_is_not_retried() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: hopeless
steps:
  - {id: call, agent_id: builtin-fail, input_map: {code: INVALID_INPUT, retryable: true}, retry: {max_attempts: 5, backoff_ms: 10}}
",
    )
    .await;
    let execution = api.run("hopeless", json!({}), PATIENCE).await;
    assert_eq!(execution["status"], "FAILED", "{execution}");
    assert_eq!(step(&execution, "call")["attempts"], 1);
}

#[tokio::test]
async fn every_item_of_a_fan_out_has_attempts_and_a_key_of_its_own() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let failures = AtomicU32::new(0);
    let witness = Witness::start(move |call| {
        let first_of_odd =
            call.attempt == "1" && call.item.as_deref().is_some_and(|item| item.ends_with(['1', '3', '5']));
        if first_of_odd && failures.fetch_add(1, Ordering::Relaxed) < 100 {
            (500, json!(null))
        } else {
            (200, json!("done"))
        }
    })
    .await;
    api.register(
        &json!({"id": "odd", "framework": "http", "capabilities": ["http"], "config": {"url": witness.url("/")}}),
    )
    .await;
    api.define(
        "
id: items_retry
steps:
  - {id: each, agent_id: odd, fan_out: {items: $.input.items}, retry: {backoff_ms: 50}}
",
    )
    .await;
    let execution = api.run("items_retry", json!({"items": [0, 1, 2, 3, 4, 5]}), PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    let counts = witness.counts();
    assert!(counts.values().all(|count| *count == 1), "an attempt ran twice: {counts:?}");
    assert_eq!(counts.len(), 9, "six items and three second attempts: {counts:?}");
    let keys: BTreeSet<&String> = counts.keys().map(|(_, _, _, _, key)| key).collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
}
