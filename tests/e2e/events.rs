//! Events: one shape, one order, and a stream that can be taken up again.

use millstream_tests::api::{place, text};
use millstream_tests::cluster::Cluster;
use millstream_tests::witness::Witness;
use serde_json::{Value, json};

use crate::PATIENCE;

const WORKFLOW: &str = "
steps:
  - {id: a, agent_id: builtin-echo, input_map: {n: 1}}
  - {id: b, agent_id: builtin-echo, depends_on: [a], fan_out: {items: $.input.items}}
  - {id: c, depends_on: [b], fan_in: {from: [b]}}
";

#[tokio::test]
async fn stages_come_in_their_order_and_every_event_says_where_it_belongs() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(format!("id: stages{WORKFLOW}")).await;
    let id = api.execute("stages", json!({"items": [1, 2, 3]})).await;
    let execution = api.ended(&id, PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    let events = api.events(&id).await;

    let mut stages: Vec<String> = Vec::new();
    for event in &events {
        let stage = text(event, "/stage");
        if !stages.contains(&stage) {
            stages.push(stage);
        }
    }
    assert_eq!(stages, ["INITIALIZE", "PLAN", "ROUTE", "EXECUTE", "AGGREGATE", "COMPLETE"]);

    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds.first(), Some(&"workflow.started"));
    assert_eq!(kinds.last(), Some(&"workflow.completed"));
    for (kind, count) in [
        ("workflow.planned", 1),
        ("step.completed", 1 + 3 + 2),
        ("fan_out.started", 1),
        ("fan_out.completed", 1),
        ("workflow.aggregated", 1),
    ] {
        assert_eq!(kinds.iter().filter(|k| **k == kind).count(), count, "{kind} in {kinds:?}");
    }
    for event in &events {
        assert_eq!(event["execution_id"], json!(id), "{event}");
        assert_eq!(event["workflow_id"], "stages", "{event}");
        assert_eq!(event["trace_id"], execution["trace_id"], "{event}");
        assert_eq!(text(event, "/span_id").len(), 16, "{event}");
    }
    let places: Vec<Vec<u64>> = events.iter().map(place).collect();
    assert!(places.is_sorted() && places.windows(2).all(|pair| pair[0] != pair[1]), "{places:?}");
}

#[tokio::test]
async fn a_stream_that_broke_off_goes_on_after_the_last_event_that_was_seen() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|_| (200, json!("done"))).await;
    witness.hold();
    api.register(
        &json!({"id": "held", "framework": "http", "capabilities": ["http"], "config": {"url": witness.url("/")}}),
    )
    .await;
    api.define(
        "id: stream\nsteps:\n  - {id: a, agent_id: builtin-echo}\n  - {id: b, agent_id: held, depends_on: [a]}\n",
    )
    .await;
    let id = api.execute("stream", json!({})).await;
    let live = tokio::spawn({
        let (api, id) = (api.clone(), id.clone());
        async move { api.follow(&id, None).await }
    });
    witness.release();
    let live = live.await.expect("no panic").expect("the stream ends by itself");
    let list = api.events(&id).await;

    // Notices that a step runs have no id and are in no list.
    let numbered: Vec<_> = live.iter().filter(|message| message.id.is_some()).collect();
    assert_eq!(numbered.len(), list.len(), "{live:#?}");
    for (message, event) in numbered.iter().zip(&list) {
        assert_eq!(message.id.as_deref(), event["id"].as_str());
        assert_eq!(message.event.as_deref(), event["type"].as_str());
        let data: Value = serde_json::from_str(&message.data).expect("data is JSON");
        assert_eq!(&data, event, "the stream and the list show the same event");
    }
    for seen in 0..list.len() - 1 {
        let rest = api.follow(&id, list[seen]["id"].as_str()).await.expect("the stream ends by itself");
        let ids: Vec<Option<&str>> = rest.iter().map(|message| message.id.as_deref()).collect();
        let expected: Vec<Option<&str>> = list[seen + 1..].iter().map(|event| event["id"].as_str()).collect();
        assert_eq!(ids, expected, "after {}", list[seen]["id"]);
    }
}
