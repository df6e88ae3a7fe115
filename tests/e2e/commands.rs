//! The command line against a cluster: what it prints, and the exit code that tells how it went.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream_tests::api::{Api, text};
use millstream_tests::binaries::binaries;
use millstream_tests::cluster::Cluster;
use millstream_tests::process::{Process, free_port};
use millstream_tests::temp_dir::TempDir;
use millstream_tests::wait::eventually;
use millstream_tests::witness::Witness;
use millstream_tests::workspace;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{PATIENCE, witnessed};

/// Runs `millstream` without blocking the test's own servers.
pub(crate) async fn millstream(arguments: &[&str], server: &str) -> Output {
    let mut command = Command::new(&binaries().millstream);
    command.args(arguments).env("MILLSTREAM_SERVER", server).env("NO_COLOR", "1").current_dir(workspace::root());
    tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs")
}

fn file(directory: &TempDir, definition: &str) -> PathBuf {
    let path = directory.join("workflow.yaml");
    std::fs::write(&path, definition).expect("a writable directory");
    path
}

/// All that it said.
pub(crate) fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn run_follows_a_workflow_to_its_end_and_prints_the_events_as_json_when_asked() {
    let cluster = Cluster::shared().await;
    let server = cluster.api().base();
    let arguments = ["run", "examples/hello.yaml", "--input", "{\"name\":\"Ada\"}"];
    let output = millstream(&arguments, server).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let said = told(&output);
    assert!(["greet", "rest", "sign", "COMPLETED"].iter().all(|word| said.contains(word)), "{said}");

    let output = millstream(&[&arguments[..], &["--json"]].concat(), server).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let events: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let id = text(&events[0], "/execution_id");
    let numbered: Vec<&Value> = events.iter().filter(|event| event["id"].is_string()).collect();
    let list = cluster.api().events(&id).await;
    assert_eq!(numbered, list.iter().collect::<Vec<_>>(), "the command line shows the API's events");
}

#[tokio::test]
async fn the_exit_code_tells_the_outcome() {
    let cluster = Cluster::shared().await;
    let server = cluster.api().base();
    let directory = TempDir::new("exit-codes");
    for (definition, code) in [
        ("id: exit_ok\nsteps: [{id: a, agent_id: builtin-echo}]", 0),
        ("id: exit_failed\nsteps: [{id: a, agent_id: builtin-fail, retry: {max_attempts: 1}}]", 1),
        ("id: exit_invalid\nsteps: [{id: a, agent_id: builtin-echo, depends_on: [b]}]", 2),
        ("id: exit_late\ntimeout_ms: 300\nsteps: [{id: a, agent_id: builtin-sleep, input_map: {seconds: 50}}]", 4),
    ] {
        let path = file(&directory, definition);
        let output = millstream(&["run", path.to_str().expect("a plain path")], server).await;
        assert_eq!(output.status.code(), Some(code), "{definition}\n{}", told(&output));
    }
    let path = file(&directory, "id: exit_nobody\nsteps: [{id: a, agent_id: builtin-echo}]");
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let output = millstream(&["run", path.to_str().expect("a plain path")], &nobody).await;
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
}

#[tokio::test]
async fn an_execution_that_is_cancelled_elsewhere_ends_the_watch() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define("id: watched\nsteps: [{id: a, agent_id: builtin-sleep, input_map: {seconds: 300}, timeout_ms: 400000}]")
        .await;
    let id = api.execute("watched", json!({})).await;
    let watch = tokio::spawn({
        let (id, server) = (id.clone(), api.base().to_owned());
        async move { millstream(&["executions", "watch", &id], &server).await }
    });
    let output = millstream(&["executions", "cancel", &id], api.base()).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let watched = watch.await.expect("no panic");
    assert_eq!(watched.status.code(), Some(3), "{}", told(&watched));
    let shown = millstream(&["executions", "get", &id, "--json"], api.base()).await;
    let execution: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(execution, api.execution(&id).await);
}

#[tokio::test]
async fn a_failure_is_told_with_what_can_be_done_and_resume_and_fork_do_it() {
    let cluster = Cluster::shared().await;
    let (api, server) = (cluster.api(), cluster.api().base());
    let mended = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&mended);
    let witness = Witness::start(move |_| (if seen.load(Ordering::SeqCst) { 200 } else { 400 }, json!("ok"))).await;
    witnessed(api, &witness, "cli-b").await;
    let directory = TempDir::new("recovery");
    let path = file(
        &directory,
        "
id: cli_recovery
on_failure: compensate
steps:
  - {id: first, agent_id: builtin-echo, compensate: {agent_id: builtin-echo}}
  - {id: second, agent_id: cli-b, depends_on: [first]}
  - {id: third, agent_id: builtin-echo, depends_on: [second], irreversible: true}
",
    );
    let path = path.to_str().expect("a plain path");
    let output = millstream(&["run", path], server).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["FAILED", "step second: ", "undone", "compensated", "executions resume ", "undoing"] {
        assert!(said.contains(word), "{word} is not in:\n{said}");
    }
    let id = said.split("executions resume ").nth(1).expect("the advice").split_whitespace().next().expect("an id");

    let shown = told(&millstream(&["executions", "get", id], server).await);
    assert!(
        ["COMPENSATED", "failed     second", "advice", "1 compensation"].iter().all(|w| shown.contains(w)),
        "{shown}"
    );
    let forked = ["executions", "fork", id, "--from", "scond"];
    let refused = millstream(&forked, server).await;
    assert_eq!(refused.status.code(), Some(2), "{}", told(&refused));
    assert!(told(&refused).contains("did you mean second"), "{}", told(&refused));

    mended.store(true, Ordering::SeqCst);
    let resume = ["executions", "resume", id, "--reason", "mended", "--by", "ada", "--follow"];
    let output = millstream(&resume, server).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(["resumed", "ada: mended", "COMPLETED"].iter().all(|word| said.contains(word)), "{said}");
    assert!(!said.contains("FAILED"), "what happened before the resume is told again:\n{said}");
    let again = millstream(&["executions", "resume", id], server).await;
    assert_eq!(again.status.code(), Some(2), "{}", told(&again));

    let fork = ["executions", "fork", id, "--from", "third", "--file", path, "--by", "ada", "--follow"];
    let output = millstream(&fork, server).await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("it keeps first, second") && said.contains("COMPLETED"), "{said}");
}

#[tokio::test]
async fn cancel_tells_how_far_it_is_and_waits_when_asked() {
    let cluster = Cluster::shared().await;
    let (api, server) = (cluster.api(), cluster.api().base());
    api.define(
        "id: cli_cancel\nsteps: [{id: a, agent_id: builtin-sleep, input_map: {seconds: 300}, timeout_ms: 400000}]",
    )
    .await;
    let id = api.execute("cli_cancel", json!({})).await;
    let cancel = ["executions", "cancel", &id, "--wait", "--reason", "enough", "--by", "ada", "--json"];
    let output = millstream(&cancel, server).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&answer["status"], &answer["phase"]), (&json!("CANCELLED"), &json!("ENDED")), "{answer}");
    assert_eq!((&answer["cancel"]["by"], &answer["cancel"]["reason"]), (&json!("ada"), &json!("enough")), "{answer}");
    let shown = told(&millstream(&["executions", "get", &id], server).await);
    assert!(shown.contains("cancel     acknowledged") && shown.contains("ada: enough"), "{shown}");
    let again = millstream(&["executions", "cancel", &id], server).await;
    assert_eq!(again.status.code(), Some(2), "{}", told(&again));
}

#[tokio::test]
async fn dev_serves_until_it_is_interrupted_and_keeps_its_data() {
    let directory = TempDir::new("dev");
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let data = directory.join("data");
    let arguments = ["dev", "--listen", &listen, "--nats-port", "0", "--data", data.to_str().expect("a plain path")];
    let arguments: Vec<String> = arguments.map(ToOwned::to_owned).into();
    let mut dev =
        Process::start("dev", &binaries().millstream, arguments, Vec::new(), directory.path()).expect("it starts");
    let api = Api::new(format!("http://{listen}"));
    let ready = || async { api.get("/healthz/ready").await.ok().filter(|answer| answer.status == 200).map(drop) };
    eventually(PATIENCE, "dev serves", ready).await;
    api.define("id: kept\nsteps: [{id: a, agent_id: builtin-echo, input_map: {n: 1}}]").await;
    let execution = api.run("kept", json!({}), PATIENCE).await;
    assert_eq!(execution["output"], json!({"n": 1}), "{execution}");

    dev.signal(Signal::INT);
    eventually(Duration::from_secs(30), "dev stops", || {
        let ended = dev.has_ended();
        async move { ended.then_some(()) }
    })
    .await;
    dev.kill9();
    dev.start_again().expect("it starts");
    eventually(PATIENCE, "dev serves again", ready).await;
    assert_eq!(api.execution(&text(&execution, "/id")).await, execution);
}

#[tokio::test]
async fn dev_in_memory_runs_lists_and_remembers_until_it_stops_and_then_forgets_everything() {
    let directory = TempDir::new("dev-memory");
    let listen = format!("127.0.0.1:{}", free_port());
    let arguments = ["dev", "--memory", "--listen", &listen, "--nats-port", "0"];
    let arguments: Vec<String> = arguments.map(ToOwned::to_owned).into();
    let mut dev =
        Process::start("dev", &binaries().millstream, arguments, Vec::new(), directory.path()).expect("it starts");
    let api = Api::new(format!("http://{listen}"));
    let ready = || async { api.get("/healthz/ready").await.ok().filter(|answer| answer.status == 200).map(drop) };
    eventually(PATIENCE, "dev serves", ready).await;
    let path = file(&directory, "id: fleeting\nsteps: [{id: a, agent_id: builtin-echo, input_map: {n: 1}}]");
    let output = millstream(&["run", path.to_str().expect("a plain path")], api.base()).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let list = ["executions", "list", "--workflow", "fleeting", "--json"];
    let listed: Value = eventually(PATIENCE, "it is listed as ended", || async {
        let output = millstream(&list, api.base()).await;
        let listed: Value = serde_json::from_slice(&output.stdout).ok()?;
        (listed["executions"][0]["status"] == "COMPLETED").then_some(listed)
    })
    .await;
    let id = text(&listed, "/executions/0/id");
    let replayed = told(&millstream(&["replay", &id], api.base()).await);
    assert!(replayed.contains("submitted fleeting") && replayed.contains("COMPLETED"), "{replayed}");

    dev.signal(Signal::INT);
    eventually(Duration::from_secs(30), "dev stops", || {
        let ended = dev.has_ended();
        async move { ended.then_some(()) }
    })
    .await;
    assert!(dev.log().contains("in memory and is gone"), "{}", dev.log());
    dev.kill9();
    dev.start_again().expect("it starts");
    eventually(PATIENCE, "dev serves again", ready).await;
    assert_eq!(api.get(&format!("/executions/{id}")).await.expect("an answer").status, 404);
    let listed = millstream(&list, api.base()).await;
    assert_eq!(serde_json::from_slice::<Value>(&listed.stdout).expect("JSON")["executions"], json!([]));
}

#[tokio::test]
async fn the_demo_runs_its_examples_and_leaves_nothing_behind() {
    let output = millstream(&["demo"], "http://127.0.0.1:1").await;
    let said = told(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for word in ["incident", "1,000", "http://127.0.0.1:"] {
        assert!(said.contains(word), "{word} is not in:\n{said}");
    }
    let api = said.split("http://127.0.0.1:").nth(1).expect("it says where the API was");
    let port: String = api.chars().take_while(char::is_ascii_digit).collect();
    let gone = std::net::TcpStream::connect(format!("127.0.0.1:{port}"));
    assert!(gone.is_err(), "something still listens on {port}");
}
