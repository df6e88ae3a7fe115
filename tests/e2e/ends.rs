//! How executions end before their time, and how a repeated request does not start another.

use std::time::Duration;

use millstream_tests::api::{step, text};
use millstream_tests::cluster::Cluster;
use millstream_tests::wait::eventually;
use millstream_tests::witness::Witness;
use reqwest::Method;
use serde_json::json;

use crate::PATIENCE;
use crate::flow::micros;

#[tokio::test]
async fn a_cancelled_execution_stops_what_runs_and_starts_nothing_new() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|_| (200, json!("too late"))).await;
    witness.hold();
    api.register(
        &json!({"id": "slow", "framework": "http", "capabilities": ["http"], "config": {"url": witness.url("/")}}),
    )
    .await;
    api.define(
        "
id: to_cancel
steps:
  - {id: wait, agent_id: slow}
  - {id: after, agent_id: slow, depends_on: [wait]}
",
    )
    .await;
    let id = api.execute("to_cancel", json!({})).await;
    eventually(PATIENCE, "the agent is called", || async { (!witness.calls().is_empty()).then_some(()) }).await;
    let answer = api.delete(&format!("/executions/{id}")).await.expect("an answer");
    assert_eq!((answer.status, &answer.body["cancel"]["phase"]), (202, &json!("requested")), "{}", answer.body);

    let execution = api.ended(&id, PATIENCE).await;
    assert_eq!(execution["status"], "CANCELLED", "{execution}");
    assert_eq!(execution["cancel_requested"], true);
    assert_eq!(step(&execution, "wait")["status"], "CANCELLED");
    witness.release();
    assert_eq!(witness.calls().len(), 1);
    let events = api.events(&id).await;
    assert_eq!(events.last().expect("there are events")["type"], "workflow.cancelled");

    let again = api.delete(&format!("/executions/{id}")).await.expect("an answer");
    assert_eq!((again.status, &again.body["type"]), (409, &json!("urn:millstream:problem:execution-ended")));
}

#[tokio::test]
async fn an_execution_ends_at_its_deadline() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: deadline
timeout_ms: 1500
steps:
  - {id: nap, agent_id: builtin-sleep, input_map: {seconds: 600}, timeout_ms: 900000}
",
    )
    .await;
    let id = api.execute("deadline", json!({})).await;
    let execution = api.ended(&id, PATIENCE).await;
    assert_eq!(execution["status"], "TIMEOUT", "{execution}");
    let took = micros(&text(&execution, "/ended_at")) - micros(&text(&execution, "/started_at"));
    assert!((1_500_000..12_000_000).contains(&took), "it took {took} µs");
    assert_eq!(api.events(&id).await.last().expect("there are events")["type"], "workflow.timeout");
}

#[tokio::test]
async fn a_deadline_passes_also_when_no_worker_lives() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.register(&json!({
        "id": "unheard", "framework": "process", "capabilities": ["nobody_serves_this"], "config": {"argv": ["true"]}
    }))
    .await;
    api.define("id: unheard\ntimeout_ms: 800\nsteps:\n  - {id: a, agent_id: unheard}\n").await;
    let execution = api.run("unheard", json!({}), PATIENCE).await;
    assert_eq!(execution["status"], "TIMEOUT", "{execution}");
}

#[tokio::test]
async fn the_same_key_and_body_are_the_same_execution_and_another_body_is_a_conflict() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|_| (200, json!("booked"))).await;
    api.register(
        &json!({"id": "book", "framework": "http", "capabilities": ["http"], "config": {"url": witness.url("/")}}),
    )
    .await;
    api.define("id: once\nsteps:\n  - {id: a, agent_id: book}\n").await;
    let execute = |body: serde_json::Value| {
        let request = api.request(Method::POST, "/workflows/once/execute").header("idempotency-key", "order-17");
        api.send(request.json(&body))
    };
    let first = execute(json!({"input": {"a": 1, "b": 2}})).await.expect("an answer");
    assert_eq!(first.status, 202, "{}", first.body);
    let id = text(&first.body, "/execution_id");
    assert_eq!(first.headers["location"], format!("/executions/{id}"));

    let racing = (0..8).map(|_| execute(json!({"input": {"b": 2, "a": 1}})));
    for again in futures::future::join_all(racing).await {
        let again = again.expect("an answer");
        assert_eq!((again.status, text(&again.body, "/execution_id")), (202, id.clone()), "{}", again.body);
    }
    api.ended(&id, PATIENCE).await;
    let other = execute(json!({"input": {"a": 2}})).await.expect("an answer");
    assert_eq!(other.status, 409, "{}", other.body);
    assert_eq!(other.body["type"], "urn:millstream:problem:idempotency-conflict");
    assert!(other.body.to_string().contains(&id), "it names the execution: {}", other.body);
    assert_eq!(witness.calls().len(), 1);
}

#[tokio::test]
async fn a_caller_who_waits_too_short_gets_the_id_and_can_come_back() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define("id: later\nsteps:\n  - {id: a, agent_id: builtin-sleep, input_map: {ms: 1500}}\n").await;
    let answer = api.post("/workflows/later/execute?wait=100ms", &json!({})).await.expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.body);
    let execution = api.ended(&text(&answer.body, "/execution_id"), Duration::from_secs(30)).await;
    assert_eq!(execution["status"], "COMPLETED");
}
