//! Cancels in three phases: requested, acknowledged by the workers, forced; and what the answer says of them.

use std::time::Duration;

use millstream_tests::api::{Answer, Api, step, text};
use millstream_tests::cluster::Cluster;
use millstream_tests::process::is_alive;
use millstream_tests::temp_dir::TempDir;
use millstream_tests::wait::eventually;
use millstream_tests::witness::Witness;
use serde_json::{Value, json};

use crate::{PATIENCE, callers, witnessed};

async fn cancel(api: &Api, id: &str, query: &str) -> Answer {
    api.delete(&format!("/executions/{id}{query}")).await.expect("an answer")
}

async fn called(witness: &Witness, times: usize) {
    eventually(PATIENCE, "the witness is called", || async { (witness.calls().len() >= times).then_some(()) }).await;
}

fn numbers(cancel: &Value) -> (String, [u64; 3]) {
    let number = |name: &str| cancel[name].as_u64().expect("a number");
    (text(cancel, "/phase"), [number("outstanding"), number("acknowledged"), number("forced")])
}

#[tokio::test]
async fn a_cancel_is_requested_first_and_acknowledged_when_every_worker_stopped() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|_| (200, json!("late"))).await;
    witness.hold();
    witnessed(api, &witness, "cn-slow").await;
    api.define("id: cn_three\nsteps:\n  - {id: each, agent_id: cn-slow, fan_out: {items: $.input}}\n").await;
    let id = api.execute("cn_three", json!([1, 2, 3])).await;
    called(&witness, 3).await;

    let first = cancel(api, &id, "?by=ada&reason=wrong%20day").await;
    assert_eq!(first.status, 202, "{}", first.body);
    assert_eq!((&first.body["status"], &first.body["phase"]), (&json!("RUNNING"), &json!("STOPPING")));
    assert_eq!(numbers(&first.body["cancel"]), ("requested".to_owned(), [3, 0, 0]), "{}", first.body);
    let waited = cancel(api, &id, "?wait=60s&by=bob").await;
    // The workers may be faster than the second request.
    if waited.status != 409 {
        assert_eq!((waited.status, &waited.body["status"]), (200, &json!("CANCELLED")), "{}", waited.body);
    }

    let execution = api.execution(&id).await;
    assert_eq!(numbers(&execution["cancel"]), ("acknowledged".to_owned(), [0, 3, 0]), "{execution}");
    assert_eq!(execution["cancel"]["by"], "ada", "the first request counts: {}", execution["cancel"]);
    assert_eq!(execution["cancel"]["reason"], "wrong day");
    let events = api.events(&id).await;
    let requested = events.iter().find(|event| event["type"] == "workflow.cancel_requested").expect("an event");
    assert_eq!(requested["data"]["by"], "ada");
    let acknowledged = |event: &&Value| event["type"] == "step.cancelled" && event["data"]["cancel"] == "acknowledged";
    assert_eq!(events.iter().filter(acknowledged).count(), 3, "{events:?}");
    let ended = cancel(api, &id, "").await;
    assert_eq!((ended.status, &ended.body["type"]), (409, &json!("urn:millstream:problem:execution-ended")));
    witness.release();
}

#[tokio::test]
async fn a_cancel_of_something_that_only_waits_ends_it_at_once() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: cn_waits
steps:
  - {id: a, agent_id: builtin-fail, retry: {max_attempts: 3, backoff_ms: 600000, max_backoff_ms: 600000}}
",
    )
    .await;
    let id = api.execute("cn_waits", json!({})).await;
    eventually(PATIENCE, "the step waits for its second attempt", || async {
        (step(&api.execution(&id).await, "a")["status"] == "RETRYING").then_some(())
    })
    .await;
    let answer = cancel(api, &id, "").await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("CANCELLED")), "{}", answer.body);
    assert_eq!(numbers(&answer.body["cancel"]), ("acknowledged".to_owned(), [0, 0, 0]), "{}", answer.body);
}

#[tokio::test]
async fn a_worker_that_does_not_answer_within_the_grace_is_forced_and_counted() {
    let cluster = Cluster::start(1).await;
    let api = cluster.api();
    let witness = Witness::start(|_| (200, json!("late"))).await;
    witness.hold();
    witnessed(api, &witness, "cn-deaf").await;
    api.define(
        "id: cn_forced\nsteps:\n  - {id: a, agent_id: cn-deaf}\n  - {id: b, agent_id: cn-deaf, depends_on: [a]}\n",
    )
    .await;
    let id = api.execute("cn_forced", json!({})).await;
    called(&witness, 1).await;
    cluster.workers[0].pause();
    let answer = cancel(api, &id, "?wait=60s").await;
    cluster.workers[0].resume();
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("CANCELLED")), "{}", answer.body);
    assert_eq!(numbers(&answer.body["cancel"]), ("forced".to_owned(), [0, 0, 1]), "{}", answer.body);
    let events = api.events(&id).await;
    let cancelled = events.iter().find(|event| event["type"] == "step.cancelled").expect("an event");
    assert_eq!(cancelled["data"]["cancel"], "forced", "{cancelled}");
    witness.release();
    assert_eq!(callers(&witness), ["cn-deaf"]);
}

#[tokio::test]
async fn a_process_that_ignores_sigterm_is_killed_before_the_cancel_is_acknowledged() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let directory = TempDir::new("stubborn");
    let pid_file = directory.join("pid");
    let script = "trap '' TERM; echo $$ > \"$0\"; while :; do read -t 1 < /dev/zero || :; done";
    api.register(&json!({
        "id": "cn-stubborn", "framework": "process", "capabilities": ["process"],
        "config": {"argv": ["bash", "-c", script, pid_file.to_str().expect("a plain path")]}
    }))
    .await;
    api.define("id: cn_stubborn\nsteps:\n  - {id: a, agent_id: cn-stubborn}\n").await;
    let id = api.execute("cn_stubborn", json!({})).await;
    let pid: u32 = eventually(PATIENCE, "the process runs", || async {
        std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok())
    })
    .await;
    assert!(is_alive(pid));
    let answer = cancel(api, &id, "?wait=60s").await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("CANCELLED")), "{}", answer.body);
    let (phase, [outstanding, acknowledged, forced]) = numbers(&answer.body["cancel"]);
    assert_eq!((phase.as_str(), outstanding, acknowledged, forced), ("acknowledged", 0, 1, 0), "{}", answer.body);
    // The kill was sent before the acknowledgement; the kernel carries it out when it comes to it.
    eventually(PATIENCE, "the process is gone", || async { (!is_alive(pid)).then_some(()) }).await;
}

#[tokio::test]
async fn a_cancel_that_asks_for_it_undoes_what_was_completed() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let quick = Witness::start(|_| (200, json!("done"))).await;
    let slow = Witness::start(|_| (200, json!("late"))).await;
    slow.hold();
    witnessed(api, &quick, "cn-do").await;
    witnessed(api, &quick, "cn-undo").await;
    witnessed(api, &slow, "cn-held").await;
    api.define(
        "
id: cn_undo
steps:
  - {id: a, agent_id: cn-do, compensate: {agent_id: cn-undo}}
  - {id: b, agent_id: cn-held, depends_on: [a]}
finally:
  - {id: tell, agent_id: builtin-echo, input_map: {status: $.outcome.status}}
",
    )
    .await;
    let id = api.execute("cn_undo", json!({})).await;
    called(&slow, 1).await;
    let answer = cancel(api, &id, "?compensate=true&wait=60s").await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("CANCELLED")), "{}", answer.body);
    assert_eq!(answer.body["cancel"]["compensate"], true);
    assert_eq!(callers(&quick), ["cn-do", "cn-undo"]);
    let execution = api.execution(&id).await;
    assert_eq!(step(&execution, "a")["status"], "COMPENSATED", "{execution}");
    assert_eq!(step(&execution, "tell")["output"], json!({"status": "CANCELLED"}));
    slow.release();
}

#[tokio::test]
async fn what_is_being_undone_cannot_be_cancelled_and_says_so() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let quick = Witness::start(|call| (if call.path == "/cn-fail" { 400 } else { 200 }, json!("done"))).await;
    let slow = Witness::start(|_| (200, json!("undone"))).await;
    slow.hold();
    witnessed(api, &quick, "cn-book").await;
    witnessed(api, &quick, "cn-fail").await;
    witnessed(api, &slow, "cn-unbook").await;
    api.define(
        "
id: cn_decided
on_failure: compensate
steps:
  - {id: a, agent_id: cn-book, compensate: {agent_id: cn-unbook}}
  - {id: b, agent_id: cn-fail, depends_on: [a]}
",
    )
    .await;
    let id = api.execute("cn_decided", json!({})).await;
    called(&slow, 1).await;
    let running = api.execution(&id).await;
    assert_eq!((&running["status"], &running["phase"]), (&json!("RUNNING"), &json!("COMPENSATING")), "{running}");
    let answer = cancel(api, &id, "").await;
    assert_eq!((answer.status, &answer.body["type"]), (409, &json!("urn:millstream:problem:outcome-decided")));
    assert!(text(&answer.body, "/detail").contains("COMPENSATING"), "{}", answer.body);
    slow.release();
    let execution = api.ended(&id, Duration::from_secs(60)).await;
    assert_eq!((&execution["status"], &execution["cancel_requested"]), (&json!("FAILED"), &json!(false)));
    assert_eq!(step(&execution, "a")["status"], "COMPENSATED");
}
