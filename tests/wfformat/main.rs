//! Recorded scientific workflows, run for real: every task once, none before its parents, through kills.

mod history;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millstream_tests::api::{Api, text};
use millstream_tests::binaries::binaries;
use millstream_tests::cluster::Cluster;
use millstream_tests::temp_dir::TempDir;
use millstream_tests::wait::eventually;
use millstream_tests::workspace;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(240);

/// A recorded instance and the workflow made of it.
struct Recorded {
    workflow: String,
    document: Value,
}

/// Every instance of the outside test data.
fn instances() -> Option<Vec<PathBuf>> {
    let folder = workspace::testdata("wfinstances")?;
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    Some(paths)
}

/// Imports an instance with the command line and registers what comes out.
async fn import(api: &Api, path: &Path, time_scale: &str) -> Recorded {
    let directory = TempDir::new("import");
    let out = directory.join("workflow.yaml");
    let output = Command::new(&binaries().millstream)
        .args(["import", "wfformat", "--time-scale", time_scale, "-o"])
        .arg(&out)
        .arg(path)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    let definition = std::fs::read_to_string(&out).expect("it wrote the workflow");
    let answer = api.post_text("/workflows", definition).await.expect("an answer");
    assert_eq!(answer.status, 201, "{}: {}", path.display(), answer.body);
    let document = std::fs::read_to_string(path).expect("a readable instance");
    Recorded {
        workflow: text(&answer.body, "/id"),
        document: serde_json::from_str(&document).expect("an instance is JSON"),
    }
}

/// Waits for the end and reads what the API tells against the recorded graph. Gives the highest attempt of any task.
async fn check(api: &Api, recorded: &Recorded, id: &str) -> u64 {
    let name = &recorded.workflow;
    let execution = api.ended(id, PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{name}: {}", execution["error"]);
    let events = api.events(id).await;
    let violations = history::violations(&recorded.document, &execution, &events);
    assert!(violations.is_empty(), "{name}:\n{}", violations.join("\n"));
    events.iter().filter_map(|event| event["attempt"].as_u64()).max().unwrap_or_default()
}

/// Waits until `count` steps of the execution have completed.
async fn completed(api: &Api, id: &str, count: usize) {
    eventually(PATIENCE, "the execution is in the middle", || async {
        let execution = api.execution(id).await;
        let steps = execution["steps"].as_array().expect("an execution has steps");
        assert_eq!(execution["status"], "RUNNING", "it ended too early to be disturbed");
        (steps.iter().filter(|step| step["status"] == "COMPLETED").count() >= count).then_some(())
    })
    .await;
}

fn named<'a>(paths: &'a [PathBuf], name: &str) -> &'a Path {
    let path = paths.iter().find(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)));
    path.expect("the instance is there")
}

#[tokio::test]
async fn every_recorded_workflow_runs_each_task_once_and_in_order() {
    let Some(paths) = instances() else { return };
    assert_eq!(paths.len(), 12);
    let cluster = Cluster::start(2).await;
    let api = cluster.api();
    let mut running = Vec::new();
    for path in &paths {
        let recorded = import(api, path, "0.001").await;
        let id = api.execute(&recorded.workflow, json!({})).await;
        running.push((recorded, id));
    }
    for (recorded, id) in &running {
        check(api, recorded, id).await;
    }
}

#[tokio::test]
async fn a_recorded_workflow_survives_a_worker_that_is_killed() {
    let Some(paths) = instances() else { return };
    let mut cluster = Cluster::start(2).await;
    let recorded = import(cluster.api(), named(&paths, "montage-chameleon-2mass-005d"), "0.1").await;
    let id = cluster.api().execute(&recorded.workflow, json!({})).await;
    completed(cluster.api(), &id, 10).await;
    cluster.workers[0].kill9();
    let attempt = check(cluster.api(), &recorded, &id).await;
    assert!(attempt > 1, "the worker had nothing to lose");
}

#[tokio::test]
async fn a_recorded_workflow_survives_a_coordinator_that_is_killed() {
    let Some(paths) = instances() else { return };
    let mut cluster = Cluster::start(2).await;
    let recorded = import(cluster.api(), named(&paths, "1000genome-chameleon-2ch"), "0.02").await;
    let id = cluster.api().execute(&recorded.workflow, json!({})).await;
    completed(cluster.api(), &id, 10).await;
    cluster.coordinator.kill9();
    cluster.coordinator.restart().await;
    check(cluster.api(), &recorded, &id).await;
}
