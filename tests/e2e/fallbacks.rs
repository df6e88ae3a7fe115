//! Fallbacks: what takes the place of a step whose attempts are used up.

use millstream_tests::api::step;
use millstream_tests::cluster::Cluster;
use millstream_tests::witness::Witness;
use serde_json::json;

use crate::{PATIENCE, callers, witnessed};

#[tokio::test]
async fn a_step_that_is_flaky_twice_and_then_succeeds_is_called_exactly_three_times() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness =
        Witness::start(|call| if call.attempt == "3" { (200, json!("ok")) } else { (503, json!("no")) }).await;
    witnessed(api, &witness, "fb-flaky").await;
    api.define(
        "
id: flaky_thrice
steps:
  - {id: a, agent_id: fb-flaky, retry: {max_attempts: 5, backoff_ms: 50}, fallback: {static_value: never}}
",
    )
    .await;
    let execution = api.run("flaky_thrice", json!({}), PATIENCE).await;
    assert_eq!((&execution["status"], &execution["output"]), (&json!("COMPLETED"), &json!("ok")), "{execution}");
    assert_eq!(witness.calls().len(), 3);
    assert_eq!(execution["counts"]["retries"], 2, "{}", execution["counts"]);
    assert_eq!(execution["counts"]["fallbacks"], 0, "{}", execution["counts"]);
}

#[tokio::test]
async fn another_agent_gets_the_same_input_and_attempts_of_its_own_after_the_last_one() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|call| match (call.path.as_str(), call.attempt.as_str()) {
        ("/fb-spare", "2") => (200, json!({"by": "spare"})),
        _ => (503, json!("no")),
    })
    .await;
    witnessed(api, &witness, "fb-first").await;
    witnessed(api, &witness, "fb-spare").await;
    api.define(
        "
id: spare
steps:
  - id: a
    agent_id: fb-first
    input_map: {order: $.input.order}
    retry: {max_attempts: 2, backoff_ms: 50}
    fallback: {agent_id: fb-spare, retry: {max_attempts: 3, backoff_ms: 50}}
",
    )
    .await;
    let execution = api.run("spare", json!({"order": 17}), PATIENCE).await;
    assert_eq!((&execution["status"], &execution["output"]["by"]), (&json!("COMPLETED"), &json!("spare")));
    assert_eq!(callers(&witness), ["fb-first", "fb-first", "fb-spare", "fb-spare"]);
    assert!(witness.calls().iter().all(|call| call.body == r#"{"order":17}"#), "{:?}", witness.calls());
    assert_eq!(execution["counts"]["fallbacks"], 1, "{}", execution["counts"]);
    assert_eq!(step(&execution, "a")["fallbacks"], 1);
    let events = api.events(execution["id"].as_str().expect("an id")).await;
    let fallback = events.iter().find(|event| event["type"] == "step.fallback").expect("an event");
    assert_eq!((&fallback["step_id"], &fallback["data"]["fallback"]), (&json!("a"), &json!("agent")), "{fallback}");
}

#[tokio::test]
async fn a_static_value_is_the_output_and_a_skip_lets_the_dependents_run() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: stand_ins
default_retry: {max_attempts: 1}
steps:
  - {id: rate, agent_id: builtin-fail, fallback: {static_value: {rate: 1.0}}}
  - {id: photo, agent_id: builtin-fail, fallback: {skip: true}}
  - {id: each, agent_id: builtin-fail, fan_out: {items: $.input.items}, fallback: {static_value: 0}}
  - id: sum
    agent_id: builtin-echo
    depends_on: [rate, photo, each]
    input_map: {rate: $.steps.rate.output.rate, photo: $.steps.photo.output, each: $.steps.each.output}
",
    )
    .await;
    let execution = api.run("stand_ins", json!({"items": [{"times": 0}, {}, {}]}), PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    assert_eq!(step(&execution, "rate")["status"], "COMPLETED");
    assert_eq!(step(&execution, "photo")["status"], "SKIPPED");
    let output = &execution["output"];
    assert_eq!((&output["rate"], &output["photo"]), (&json!(1.0), &json!(null)), "{output}");
    assert_eq!(output["each"].as_array().map(|each| each[1..].to_vec()), Some(vec![json!(0), json!(0)]), "{output}");
    assert_eq!(execution["counts"]["fallbacks"], 4, "{}", execution["counts"]);
}

#[tokio::test]
async fn an_open_circuit_spares_the_agent_and_feeds_the_fallback() {
    let cluster = Cluster::start(1).await;
    let api = cluster.api();
    let witness = Witness::start(|_| (503, json!("no"))).await;
    let config = json!({"url": witness.url("/broken")});
    let limits = json!({"circuit_breaker": {"failures": 2, "open_ms": 600_000}});
    api.register(
        &json!({"id": "broken", "framework": "http", "capabilities": ["http"], "config": config, "limits": limits}),
    )
    .await;
    api.define(
        "
id: spared
steps:
  - id: a
    agent_id: broken
    retry: {max_attempts: 2, backoff_ms: 50}
    fallback: {static_value: spared}
",
    )
    .await;
    for _ in 0..3 {
        let execution = api.run("spared", json!({}), PATIENCE).await;
        assert_eq!((&execution["status"], &execution["output"]), (&json!("COMPLETED"), &json!("spared")));
    }
    assert_eq!(witness.calls().len(), 2, "the circuit is open after two failures");
    let last = api.run("spared", json!({}), PATIENCE).await;
    let events = api.events(last["id"].as_str().expect("an id")).await;
    let fallback = events.iter().find(|event| event["type"] == "step.fallback").expect("an event");
    assert_eq!(fallback["data"]["error"]["code"], "CIRCUIT_OPEN", "{fallback}");
}
