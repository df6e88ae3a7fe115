//! Agents that misbehave: they hang, talk nonsense, exit, are killed.

use std::time::Duration;

use millstream_tests::api::{Api, step, text};
use millstream_tests::cluster::Cluster;
use millstream_tests::process::is_alive;
use millstream_tests::temp_dir::TempDir;
use millstream_tests::wait::eventually;
use serde_json::{Value, json};

use crate::PATIENCE;

/// Registers a shell script as the agent `id` and a workflow of the same name with one step `run`.
async fn script(api: &Api, id: &str, script: &str, arguments: &[&str], step: &str) {
    let mut argv = vec!["sh", "-c", script];
    argv.extend(arguments);
    api.register(&json!({"id": id, "framework": "process", "capabilities": ["process"], "config": {"argv": argv}}))
        .await;
    api.define(format!("id: {id}\nsteps:\n  - {{id: run, agent_id: {id}, {step}}}\n")).await;
}

async fn failed(api: &Api, workflow: &str, code: &str) -> Value {
    let execution = api.run(workflow, json!({"x": 1}), PATIENCE).await;
    assert_eq!(execution["status"], "FAILED", "{execution}");
    let error = step(&execution, "run")["error"].clone();
    assert_eq!(error["code"], code, "{execution}");
    error
}

const ONCE: &str = "retry: {max_attempts: 1}";

#[tokio::test]
async fn a_program_reads_its_input_and_answers_json() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let answer =
        r#"printf '{"input": %s, "step": "%s", "attempt": "%s"}' "$(cat)" "$MILLSTREAM_STEP_ID" "$MILLSTREAM_ATTEMPT""#;
    script(api, "prog_answers", answer, &[], ONCE).await;
    let execution = api.run("prog_answers", json!({"x": 1}), PATIENCE).await;
    assert_eq!(execution["output"], json!({"input": {"x": 1}, "step": "run", "attempt": "1"}), "{execution}");
}

#[tokio::test]
async fn an_agent_that_hangs_is_stopped_with_all_its_children() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let directory = TempDir::new("hang");
    let file = directory.join("pids");
    let hang = r#"sleep 600 & echo "$$ $!" >"$0"; wait"#;
    let path = file.to_str().expect("a plain path");
    script(api, "prog_hangs", hang, &[path], "timeout_ms: 1000, retry: {max_attempts: 1}").await;
    let execution = api.run("prog_hangs", json!({}), PATIENCE).await;
    assert_eq!(execution["status"], "FAILED", "{execution}");
    let step = step(&execution, "run");
    assert_eq!((&step["status"], &step["error"]["code"]), (&json!("TIMEOUT"), &json!("TIMEOUT")), "{step}");
    let pids: Vec<u32> = std::fs::read_to_string(&file)
        .expect("the program wrote its pids")
        .split_whitespace()
        .map(|pid| pid.parse().expect("a pid"))
        .collect();
    assert_eq!(pids.len(), 2);
    eventually(Duration::from_secs(10), "the process group is gone", || async {
        pids.iter().all(|pid| !is_alive(*pid)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn garbage_is_an_error_that_shows_the_garbage() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    script(api, "prog_garbage", "echo '<html>oops'; echo why >&2", &[], ONCE).await;
    let error = failed(api, "prog_garbage", "INTERNAL_ERROR").await;
    assert!(error["details"].to_string().contains("oops"), "{error}");
    assert!(error["details"].to_string().contains("why"), "{error}");
}

#[tokio::test]
async fn an_exit_code_is_an_error_that_shows_stderr() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    script(api, "prog_exits", "echo 'no such table' >&2; exit 1", &[], ONCE).await;
    let error = failed(api, "prog_exits", "INTERNAL_ERROR").await;
    assert!(text(&error, "/message").contains("code 1"), "{error}");
    assert!(error["details"].to_string().contains("no such table"), "{error}");
}

#[tokio::test]
async fn an_agent_that_is_killed_is_an_error_that_names_the_signal() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    script(api, "prog_killed", "kill -9 $$", &[], ONCE).await;
    let error = failed(api, "prog_killed", "INTERNAL_ERROR").await;
    assert!(text(&error, "/message").contains("signal 9"), "{error}");
}

#[tokio::test]
async fn an_agent_that_cannot_be_reached_is_an_external_error() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let url = format!("http://127.0.0.1:{}/", millstream_tests::process::free_port());
    api.register(&json!({"id": "nobody", "framework": "http", "capabilities": ["http"], "config": {"url": url}})).await;
    api.define("id: nobody\nsteps:\n  - {id: run, agent_id: nobody, retry: {max_attempts: 1}}\n").await;
    failed(api, "nobody", "EXTERNAL_SERVICE_ERROR").await;
}
