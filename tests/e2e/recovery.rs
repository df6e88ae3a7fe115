//! Resume and fork: what completed is not done again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_tests::api::{Api, step, text};
use millstream_tests::cluster::Cluster;
use millstream_tests::wait::eventually;
use millstream_tests::witness::Witness;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{PATIENCE, callers, witnessed};

async fn resume(api: &Api, id: &str, body: &Value) -> (u16, Value) {
    let answer = api.post(&format!("/executions/{id}/resume"), body).await.expect("an answer");
    (answer.status, answer.body)
}

async fn fork(api: &Api, id: &str, body: &Value) -> (u16, Value) {
    let answer = api.post(&format!("/executions/{id}/fork"), body).await.expect("an answer");
    (answer.status, answer.body)
}

/// A witness that answers with the body it got, and 400 at `path` until it is mended.
async fn mendable(path: &'static str) -> (Witness, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&mended);
    let witness = Witness::start(move |call| {
        let broken = call.path == path && !seen.load(Ordering::SeqCst);
        let echo = serde_json::from_str(&call.body).unwrap_or(Value::Null);
        if broken { (400, json!({"error": {"message": "broken"}})) } else { (200, echo) }
    })
    .await;
    (witness, mended)
}

#[tokio::test]
async fn a_resumed_execution_keeps_what_completed_and_goes_on_from_where_it_stopped() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let (witness, mended) = mendable("/rs-b").await;
    for agent in ["rs-a", "rs-b", "rs-c"] {
        witnessed(api, &witness, agent).await;
    }
    api.define(
        "
id: resumed
steps:
  - {id: a, agent_id: rs-a}
  - {id: b, agent_id: rs-b, depends_on: [a], input_map: {from_a: $.steps.a.output}}
  - {id: c, agent_id: rs-c, depends_on: [b], input_map: $.steps.b.output}
",
    )
    .await;
    let failed = api.run("resumed", json!({"n": 1}), PATIENCE).await;
    assert_eq!(failed["status"], "FAILED", "{failed}");
    let plan = &failed["partial_result"]["recovery_plan"];
    assert_eq!((&plan["keeps"], &plan["runs"]), (&json!(["a"]), &json!(["b", "c"])), "{plan}");
    let id = text(&failed, "/id");
    assert_eq!(failed["links"]["resume"], format!("/executions/{id}/resume"));
    let before = api.events(&id).await;
    let last_seen = text(before.last().expect("there are events"), "/id");

    mended.store(true, Ordering::SeqCst);
    let (status, answer) = resume(api, &id, &json!({"by": "ada", "reason": "b is mended"})).await;
    assert_eq!((status, &answer["status"]), (202, &json!("RUNNING")), "{answer}");
    assert_eq!(answer["links"]["self"], format!("/executions/{id}"));
    let completed = api.ended(&id, PATIENCE).await;
    assert_eq!(completed["status"], "COMPLETED", "{completed}");
    assert_eq!(completed["output"], json!({"from_a": {"n": 1}}));
    assert_eq!(callers(&witness), ["rs-a", "rs-b", "rs-b", "rs-c"]);
    let resumes = &completed["resumes"];
    assert_eq!((&resumes[0]["by"], &resumes[0]["reason"]), (&json!("ada"), &json!("b is mended")), "{resumes}");
    assert!(text(&completed, "/deadline") > text(&failed, "/deadline"), "the deadline is a fresh one");

    let kinds = |messages: &[millstream_tests::sse::Message]| -> Vec<String> {
        messages.iter().filter_map(|message| message.event.clone()).collect()
    };
    let rest = kinds(&api.follow(&id, Some(&last_seen)).await.expect("a stream"));
    assert_eq!(rest.first().map(String::as_str), Some("workflow.resumed"), "{rest:?}");
    assert_eq!(rest.last().map(String::as_str), Some("workflow.completed"), "{rest:?}");
    let whole = kinds(&api.follow(&id, None).await.expect("a stream"));
    assert_eq!(whole.len(), before.len() + rest.len(), "{whole:?}");

    let (status, refused) = resume(api, &id, &json!({})).await;
    assert_eq!((status, &refused["type"]), (409, &json!("urn:millstream:problem:not-resumable")), "{refused}");
    assert!(text(&refused, "/detail").contains("COMPLETED") && text(&refused, "/detail").contains("/fork"));
}

#[tokio::test]
async fn a_resume_runs_again_what_was_undone_and_keeps_the_items_that_completed() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let (witness, mended) = mendable("/ri-late").await;
    for agent in ["ri-item", "ri-late", "ri-do", "ri-undo"] {
        witnessed(api, &witness, agent).await;
    }
    api.define(
        "
id: resumed_items
on_failure: compensate
steps:
  - {id: each, agent_id: ri-item, fan_out: {items: $.input.items}}
  - {id: book, agent_id: ri-do, depends_on: [each], compensate: {agent_id: ri-undo}}
  - {id: late, agent_id: ri-late, depends_on: [book]}
",
    )
    .await;
    let failed = api.run("resumed_items", json!({"items": [1, 2, 3]}), PATIENCE).await;
    assert_eq!(failed["status"], "FAILED", "{failed}");
    mended.store(true, Ordering::SeqCst);
    let id = text(&failed, "/id");
    let answer = api.post(&format!("/executions/{id}/resume?wait=60s"), &json!({})).await.expect("an answer");
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("COMPLETED")), "{}", answer.body);
    let count = |agent: &str| callers(&witness).iter().filter(|caller| *caller == agent).count();
    assert_eq!([count("ri-item"), count("ri-do"), count("ri-undo"), count("ri-late")], [3, 2, 1, 2]);
}

#[tokio::test]
async fn an_execution_that_ran_out_of_time_gets_fresh_time_when_it_is_resumed() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|_| (200, json!("done"))).await;
    let slow = Witness::start(|_| (200, json!("in time"))).await;
    slow.hold();
    witnessed(api, &witness, "rt-quick").await;
    witnessed(api, &slow, "rt-slow").await;
    api.define(
        "
id: out_of_time
timeout_ms: 2000
steps:
  - {id: quick, agent_id: rt-quick}
  - {id: slow, agent_id: rt-slow, depends_on: [quick]}
",
    )
    .await;
    let late = api.run("out_of_time", json!({}), PATIENCE).await;
    assert_eq!(late["status"], "TIMEOUT", "{late}");
    assert_eq!(late["partial_result"]["completed_steps"], json!(["quick"]), "{late}");
    slow.release();
    let id = text(&late, "/id");
    let (status, answer) = resume(api, &id, &json!({})).await;
    assert_eq!(status, 202, "{answer}");
    let completed = api.ended(&id, PATIENCE).await;
    assert_eq!((&completed["status"], &completed["output"]), (&json!("COMPLETED"), &json!("in time")), "{completed}");
    assert_eq!(witness.calls().len(), 1);
    assert_eq!(slow.calls().len(), 2);
}

#[tokio::test]
async fn a_resume_uses_the_agents_as_they_are_and_is_refused_without_them() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let agent = |status: &str, url: &str| json!({"id": "rg-moved", "framework": "http", "capabilities": ["http"], "status": status, "config": {"url": url}});
    let put = |agent: Value| api.send(api.request(Method::PUT, "/agents/rg-moved").json(&agent));
    let witness = Witness::start(|call| (if call.path == "/old" { 400 } else { 200 }, json!("moved"))).await;
    put(agent("ACTIVE", &witness.url("/old"))).await.expect("an answer");
    api.define("id: moved\nsteps: [{id: a, agent_id: rg-moved}]").await;
    let failed = api.run("moved", json!({}), PATIENCE).await;
    assert_eq!(failed["status"], "FAILED", "{failed}");
    let id = text(&failed, "/id");

    put(agent("INACTIVE", &witness.url("/new"))).await.expect("an answer");
    let (status, refused) = resume(api, &id, &json!({})).await;
    assert_eq!((status, &refused["type"]), (422, &json!("urn:millstream:problem:unresolved-agents")), "{refused}");
    assert_eq!(refused["problems"][0]["path"], "steps[0].agent_id");
    put(agent("ACTIVE", &witness.url("/new"))).await.expect("an answer");
    let (status, answer) = resume(api, &id, &json!({})).await;
    assert_eq!(status, 202, "{answer}");
    let completed = api.ended(&id, PATIENCE).await;
    assert_eq!((&completed["status"], &completed["output"]), (&json!("COMPLETED"), &json!("moved")), "{completed}");
    assert_eq!(callers(&witness), ["old", "new"]);
}

#[tokio::test]
async fn a_running_execution_is_not_resumed() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define("id: busy\nsteps: [{id: a, agent_id: builtin-sleep, input_map: {seconds: 300}, timeout_ms: 400000}]")
        .await;
    let id = api.execute("busy", json!({})).await;
    let (status, refused) = resume(api, &id, &json!({})).await;
    assert_eq!((status, &refused["type"]), (409, &json!("urn:millstream:problem:not-resumable")), "{refused}");
    assert!(text(&refused, "/detail").contains("RUNNING"), "{refused}");
    let answer = api.delete(&format!("/executions/{id}?wait=60s")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let (status, refused) = resume(api, &id, &json!({})).await;
    assert_eq!(status, 409, "{refused}");
    assert!(text(&refused, "/detail").contains("CANCELLED"), "{refused}");
}

#[tokio::test]
async fn a_fork_runs_a_step_and_what_depends_on_it_with_another_input() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let (witness, _) = mendable("/fk-b").await;
    for agent in ["fk-a", "fk-b", "fk-side"] {
        witnessed(api, &witness, agent).await;
    }
    let large = "x".repeat(300_000);
    api.define(
        "
id: forked
input_schema: {type: object, required: [n], properties: {n: {type: integer}}}
steps:
  - {id: a, agent_id: fk-a}
  - {id: list, agent_id: builtin-echo, fan_out: {items: $.input.items}, depends_on: [a]}
  - {id: side, agent_id: fk-side, depends_on: [a]}
  - {id: b, agent_id: fk-b, depends_on: [a, list, side], input_map: {n: $.input.n, mended: true}}
  - {id: c, agent_id: builtin-echo, depends_on: [b, list], input_map: {n: $.steps.b.output.n, list: $.steps.list.output}}
",
    )
    .await;
    let input = json!({"n": 1, "items": [1, 2], "large": large});
    let failed = api.run("forked", input, PATIENCE).await;
    assert_eq!(failed["status"], "FAILED", "{}", failed["error"]);
    let old = text(&failed, "/id");

    let (status, refused) = fork(api, &old, &json!({"from": "bb"})).await;
    assert_eq!((status, &refused["type"]), (422, &json!("urn:millstream:problem:unknown-step")), "{refused}");
    assert!(text(&refused, "/detail").contains("did you mean b"), "{refused}");
    let (status, refused) = fork(api, &old, &json!({"from": "b", "input": {"n": "two"}})).await;
    assert_eq!((status, &refused["type"]), (422, &json!("urn:millstream:problem:invalid-input")), "{refused}");

    let definition = "
id: forked
steps:
  - {id: a, agent_id: fk-a}
  - {id: list, agent_id: builtin-echo, fan_out: {items: $.input.items}, depends_on: [a]}
  - {id: side, agent_id: fk-side, depends_on: [a]}
  - {id: b, agent_id: builtin-echo, depends_on: [a, list, side], input_map: {n: $.input.n}}
  - {id: c, agent_id: builtin-echo, depends_on: [b, list], input_map: {n: $.steps.b.output.n, list: $.steps.list.output}}
";
    let body = json!({
        "from": "b", "input": {"n": 2, "items": []}, "definition": definition, "by": "ada", "reason": "b is broken",
    });
    let (status, answer) = fork(api, &old, &body).await;
    assert_eq!((status, &answer["forked_from"]), (202, &json!(old)), "{answer}");
    assert_eq!(answer["kept"], json!(["a", "list", "side"]), "{answer}");
    let new = text(&answer, "/execution_id");
    let completed = api.ended(&new, PATIENCE).await;
    assert_eq!(completed["status"], "COMPLETED", "{}", completed["error"]);
    assert_eq!(completed["output"], json!({"n": 2, "list": [1, 2]}));
    let kept = step(&completed, "a");
    assert_eq!((&kept["status"], &kept["attempts"]), (&json!("COMPLETED"), &json!(0)));
    assert_eq!(kept["output"]["large"], json!(large), "a large output is copied to the fork's own place");
    assert_eq!(callers(&witness).iter().filter(|caller| *caller == "fk-a").count(), 1);
    let origin = &completed["fork"];
    assert_eq!((&origin["of"], &origin["from"], &origin["by"]), (&json!(old), &json!("b"), &json!("ada")), "{origin}");

    let stored = api.get("/workflows/forked").await.expect("an answer");
    assert_eq!(stored.body["hash"], failed["definition"], "a fork's own definition does not become the workflow's");
    assert_eq!(api.execution(&old).await, failed, "the old execution is as it was");
}

#[tokio::test]
async fn a_fork_without_a_step_runs_everything_and_one_of_a_running_execution_takes_over_what_is_done() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let quick = Witness::start(|_| (200, json!("done"))).await;
    let slow = Witness::start(|_| (200, json!("late"))).await;
    slow.hold();
    witnessed(api, &quick, "fr-quick").await;
    witnessed(api, &slow, "fr-slow").await;
    api.define(
        "
id: fork_running
steps:
  - {id: a, agent_id: fr-quick}
  - {id: b, agent_id: fr-slow, depends_on: [a]}
",
    )
    .await;
    let old = api.execute("fork_running", json!({})).await;
    eventually(PATIENCE, "b runs", || async { (!slow.calls().is_empty()).then_some(()) }).await;
    let request = || {
        let request = api.request(Method::POST, &format!("/executions/{old}/fork")).json(&json!({"from": "b"}));
        api.send(request.header("idempotency-key", "fork-1"))
    };
    let first = request().await.expect("an answer");
    assert_eq!((first.status, &first.body["kept"]), (202, &json!(["a"])), "{}", first.body);
    let again = request().await.expect("an answer");
    assert_eq!(again.body["execution_id"], first.body["execution_id"], "the same key is the same fork");
    slow.release();
    let new = text(&first.body, "/execution_id");
    for id in [&old, &new] {
        assert_eq!(api.ended(id, PATIENCE).await["status"], "COMPLETED");
    }
    assert_eq!((quick.calls().len(), slow.calls().len()), (1, 2));

    let (status, whole) = fork(api, &old, &json!({})).await;
    assert_eq!((status, &whole["kept"]), (202, &json!([])), "{whole}");
    let whole = api.ended(&text(&whole, "/execution_id"), PATIENCE).await;
    assert_eq!(whole["status"], "COMPLETED", "{whole}");
    assert_eq!((quick.calls().len(), slow.calls().len()), (2, 3));
}
