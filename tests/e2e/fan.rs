//! One step over a list, and lists into one.

use millstream_tests::api::{step, text};
use millstream_tests::cluster::Cluster;
use millstream_tests::witness::Witness;
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::flow::{micros, most_at_once};

#[tokio::test]
async fn a_thousand_items_fan_out_and_come_back_in_order() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: thousand
steps:
  - id: each
    agent_id: builtin-echo
    fan_out: {items: $.input.items}
    input_map: {item: $.item, n: $.index}
  - id: total
    depends_on: [each]
    fan_in: {from: [each], aggregate: list}
  - id: count
    agent_id: builtin-echo
    depends_on: [total]
    condition: size($.steps.total.output) == 1000
    input_map: {first: '$.steps.total.output[0]', last: '$.steps.total.output[-1]'}
output_map: {rows: $.steps.total.output, count: $.steps.count.output}
",
    )
    .await;
    let items: Vec<Value> = (0..1_000).map(|n| json!({"id": format!("i{n}")})).collect();
    let execution = api.run("thousand", json!({"items": items}), PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{}", execution["error"]);
    let each = step(&execution, "each");
    assert_eq!(each["fan_out"], json!({"total": 1000, "completed": 1000, "failed": 0, "outstanding": 0}));
    let expected: Vec<Value> = items.iter().enumerate().map(|(n, item)| json!({"item": item, "n": n})).collect();
    assert_eq!(execution["output"]["rows"], Value::Array(expected.clone()));
    assert_eq!(execution["output"]["count"], json!({"first": expected[0], "last": expected[999]}));
}

#[tokio::test]
async fn an_empty_list_completes_and_what_is_no_list_is_an_invalid_input() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: lists
steps:
  - id: each
    agent_id: builtin-echo
    fan_out: {items: $.input.items}
",
    )
    .await;
    let empty = api.run("lists", json!({"items": []}), PATIENCE).await;
    assert_eq!((&empty["status"], &empty["output"]), (&json!("COMPLETED"), &json!([])), "{empty}");
    for items in [json!(null), json!("text"), json!({"a": 1})] {
        let execution = api.run("lists", json!({"items": items}), PATIENCE).await;
        assert_eq!(execution["status"], "FAILED", "{items}: {execution}");
        assert_eq!(step(&execution, "each")["error"]["code"], "INVALID_INPUT", "{execution}");
    }
}

#[tokio::test]
async fn a_fan_out_goes_on_without_the_items_that_fail_as_long_as_enough_succeed() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|call| {
        let n: u64 = call.body.parse().expect("the item is the body");
        if n.is_multiple_of(5) {
            (422, json!({"error": {"message": "a multiple of five"}}))
        } else {
            (200, json!(n * 10))
        }
    })
    .await;
    api.register(
        &json!({"id": "fives", "framework": "http", "capabilities": ["http"], "config": {"url": witness.url("/")}}),
    )
    .await;
    for (id, share) in [("enough", 0.8), ("too_few", 0.9)] {
        api.define(format!(
            "
id: {id}
steps:
  - id: each
    agent_id: fives
    fan_out: {{items: $.input.items, on_item_failure: continue, min_success: {share}}}
  - id: merged
    depends_on: [each]
    fan_in: {{from: [each], aggregate: list}}
"
        ))
        .await;
    }
    let input = json!({"items": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]});
    let enough = api.run("enough", input.clone(), PATIENCE).await;
    assert_eq!(enough["status"], "COMPLETED", "{enough}");
    let each = step(&enough, "each");
    assert_eq!(each["output"], json!([10, 20, 30, 40, null, 60, 70, 80, 90, null]));
    assert_eq!(each["fan_out"], json!({"total": 10, "completed": 8, "failed": 2, "outstanding": 0}));

    let too_few = api.run("too_few", input, PATIENCE).await;
    assert_eq!(too_few["status"], "FAILED", "{too_few}");
    assert_eq!(step(&too_few, "each")["status"], "FAILED");
}

#[tokio::test]
async fn objects_merge_and_the_first_success_wins() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: joins
steps:
  - {id: a, agent_id: builtin-echo, input_map: {x: 1, y: 1}}
  - {id: b, agent_id: builtin-echo, input_map: {y: 2, z: 2}}
  - {id: c, agent_id: builtin-fail, critical: false, retry: {max_attempts: 1}, input_map: {code: PERMISSION_DENIED}}
  - {id: merged, depends_on: [a, b], fan_in: {from: [b, a], aggregate: merge}}
  - {id: first, depends_on: [a, b, c], fan_in: {from: [c, b, a], aggregate: first}}
output_map: {merged: $.steps.merged.output, first: $.steps.first.output, why: $.steps.c.error.code}
",
    )
    .await;
    let execution = api.run("joins", json!({}), PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    assert_eq!(execution["partial"], true, "a step that is not critical failed");
    assert_eq!(
        execution["output"],
        json!({"merged": {"x": 1, "y": 1, "z": 2}, "first": {"y": 2, "z": 2}, "why": "PERMISSION_DENIED"})
    );
}

#[tokio::test]
async fn no_more_items_run_at_once_than_the_fan_out_allows() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: three_items
steps:
  - id: each
    agent_id: builtin-sleep
    fan_out: {items: $.input.items, concurrency: 3}
    input_map: {ms: 100}
",
    )
    .await;
    let id = api.execute("three_items", json!({"items": [0, 1, 2, 3, 4, 5, 6, 7, 8]})).await;
    let execution = api.ended(&id, PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    let events = api.events(&id).await;
    let time = |kind: &str, item: usize| {
        let event = events.iter().find(|event| event["type"] == kind && event["item"] == item);
        micros(&text(event.unwrap_or_else(|| panic!("no {kind} of item {item}")), "/time"))
    };
    let spans: Vec<(i64, i64)> =
        (0..9).map(|item| (time("step.started", item), time("step.started", item) + 100_000)).collect();
    assert_eq!(most_at_once(&spans), 3, "{spans:?}");
}
