//! Values of every size.

use millstream_tests::api::{Api, step};
use millstream_tests::cluster::Cluster;
use serde_json::{Value, json};

use crate::PATIENCE;

const MIB: usize = 1024 * 1024;

/// Registers a program that answers a string of `bytes` letters.
async fn talker(api: &Api, id: &str, bytes: usize) {
    let script = r#"printf '"'; head -c "$0" /dev/zero | tr '\0' a; printf '"'"#;
    let argv = json!(["sh", "-c", script, bytes.to_string()]);
    api.register(&json!({"id": id, "framework": "process", "capabilities": ["process"], "config": {"argv": argv}}))
        .await;
}

fn length(value: &Value) -> Option<usize> {
    value.as_str().map(str::len)
}

#[tokio::test]
async fn two_mebibytes_simply_work_on_every_path() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    talker(api, "two_mebibytes", 2 * MIB).await;
    api.define(
        "
id: large
steps:
  - id: talk
    agent_id: two_mebibytes
  - id: pass
    agent_id: builtin-echo
    depends_on: [talk]
    condition: size($.steps.talk.output) > 2000000
    input_map: {text: $.steps.talk.output, given: $.input.text}
  - id: each
    agent_id: builtin-echo
    depends_on: [pass]
    fan_out: {items: $.input.list}
    input_map: {item: $.item}
  - id: joined
    depends_on: [each]
    fan_in: {from: [each], aggregate: list}
output_map: {talk: $.steps.talk.output, pass: $.steps.pass.output, joined: $.steps.joined.output}
",
    )
    .await;
    let long = "b".repeat(2 * MIB);
    let input = json!({"text": long, "list": ["c".repeat(MIB), "d".repeat(MIB)]});
    let execution = api.run("large", input, PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{}", execution["error"]);
    let output = &execution["output"];
    assert_eq!(length(&output["talk"]), Some(2 * MIB));
    assert_eq!(length(&output["pass"]["text"]), Some(2 * MIB));
    assert_eq!(output["pass"]["given"], json!(long));
    assert_eq!(output["joined"], json!([{"item": "c".repeat(MIB)}, {"item": "d".repeat(MIB)}]));
    assert_eq!(length(&execution["input"]["text"]), Some(2 * MIB));
}

#[tokio::test]
async fn sixty_five_mebibytes_are_too_large_and_are_not_tried_again() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    talker(api, "flood", 65 * MIB).await;
    api.define("id: flood\nsteps:\n  - {id: talk, agent_id: flood}\n").await;
    let execution = api.run("flood", json!({}), PATIENCE).await;
    assert_eq!(execution["status"], "FAILED", "{}", execution["error"]);
    let talk = step(&execution, "talk");
    assert_eq!((&talk["error"]["code"], &talk["attempts"]), (&json!("RESULT_TOO_LARGE"), &json!(1)), "{talk}");
}
