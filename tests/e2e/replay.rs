//! Executions entry by entry, into files and out of them.

use millstream_model::position::Position;
use millstream_tests::api::{Api, text};
use millstream_tests::cluster::Cluster;
use millstream_tests::temp_dir::TempDir;
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::commands::{millstream, told};

const DEFINITION: &str = "
id: retold
searchable: {who: $.input.who}
steps:
  - {id: first, agent_id: builtin-echo, input_map: {hello: $.input.who}}
  - {id: second, agent_id: builtin-echo, depends_on: [first], input_map: {again: $.steps.first.output.hello}}
output_map: {said: $.steps.second.output.again}
";

async fn retold(api: &Api) -> String {
    api.define(DEFINITION).await;
    let execution = api.run("retold", json!({"who": "Ada Lovelace"}), PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    text(&execution, "/id")
}

/// The execution without what only a server adds.
fn plain(execution: &Value) -> Value {
    let mut execution = execution.clone();
    execution.as_object_mut().expect("an object").remove("links");
    execution
}

fn json_of(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(output)))
}

#[tokio::test]
async fn an_execution_is_told_entry_by_entry_and_shown_as_it_was_at_each() {
    let cluster = Cluster::start(1).await;
    let (api, server) = (cluster.api(), cluster.api().base());
    let id = retold(api).await;
    let replayed = millstream(&["replay", &id, "--effects"], server).await;
    let said = told(&replayed);
    assert_eq!(replayed.status.code(), Some(0), "{said}");
    for words in ["submitted retold", "→ publish first #1", "succeeded second", "= COMPLETED, 2 of 2 settled"] {
        assert!(said.contains(words), "{words} is not in:\n{said}");
    }
    let entries = told(&millstream(&["replay", &id, "--json"], server).await);
    let entries: Vec<Value> = entries.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(entries.len(), 3, "{entries:?}");
    for (entry, settled) in entries.iter().zip(["0 of 2", "1 of 2", "2 of 2"]) {
        let position = text(entry, "/position");
        assert!(text(entry, "/state").contains(settled), "{entry}");
        position.parse::<Position>().expect("a position");
        let shown = json_of(&millstream(&["executions", "show", &id, "--at", &position, "--json"], server).await);
        let steps = shown["steps"].as_array().expect("steps");
        let done = steps.iter().filter(|step| step["status"] == "COMPLETED").count();
        assert_eq!(format!("{done} of 2"), settled, "{shown}");
        let until = told(&millstream(&["replay", &id, "--until", &position, "--json"], server).await);
        assert_eq!(until.lines().last().map(|line| serde_json::from_str(line).expect("JSON")), Some(entry.clone()));
    }
}

#[tokio::test]
async fn an_exported_execution_is_the_same_offline_and_in_another_cluster() {
    let (one, other) = tokio::join!(Cluster::start(1), Cluster::start(0));
    let server = one.api().base();
    let id = retold(one.api()).await;
    let directory = TempDir::new("export");
    let path = directory.join("e.millstream");
    let file = path.to_str().expect("a plain path");
    let nats = one.nats.url();
    let exported = millstream(&["executions", "export", &id, "-o", file, "--nats-url", &nats], server).await;
    assert_eq!(exported.status.code(), Some(0), "{}", told(&exported));

    let nowhere = "http://127.0.0.1:1";
    let online = millstream(&["replay", &id, "--effects"], server).await;
    let offline = millstream(&["replay", file, "--effects"], nowhere).await;
    assert_eq!(offline.stdout, online.stdout, "{}", told(&offline));
    let shown = json_of(&millstream(&["executions", "show", "--file", file, "--json"], nowhere).await);
    assert_eq!(shown, plain(&one.api().execution(&id).await));

    let import = |server: String, nats: String| async move {
        millstream(&["executions", "import", file, "--server", &server, "--nats-url", &nats], nowhere).await
    };
    let again = import(server.to_owned(), nats.clone()).await;
    assert_eq!(again.status.code(), Some(2), "{}", told(&again));
    assert!(told(&again).contains("already"), "{}", told(&again));
    let imported = import(other.api().base().to_owned(), other.nats.url()).await;
    assert_eq!(imported.status.code(), Some(0), "{}", told(&imported));
    assert_eq!(plain(&other.api().execution(&id).await), shown);
    let found = ["executions", "list", "--attribute", "who:Ada Lovelace", "--status", "completed"];
    let listed = told(&millstream(&found, other.api().base()).await);
    assert!(listed.contains(&id), "{listed}");
    let verified = millstream(&["verify", "--nats-url", &other.nats.url()], nowhere).await;
    assert_eq!(verified.status.code(), Some(0), "{}", told(&verified));

    let redacted = ["executions", "export", &id, "-o", file, "--nats-url", &nats, "--redact"];
    let redacted = millstream(&redacted, server).await;
    assert_eq!(redacted.status.code(), Some(0), "{}", told(&redacted));
    let text = std::fs::read_to_string(&path).expect("the file");
    assert!(!text.contains("Lovelace"), "{text}");
    let replayed = told(&millstream(&["replay", file], nowhere).await);
    assert!(replayed.contains("COMPLETED, 2 of 2 settled"), "{replayed}");
}

#[tokio::test]
async fn an_execution_that_runs_can_be_exported_and_not_imported() {
    let (one, other) = tokio::join!(Cluster::start(0), Cluster::start(0));
    one.api().define("id: waiting\nsteps: [{id: a, agent_id: builtin-echo}]").await;
    let id = one.api().execute("waiting", json!({"large": "x".repeat(200_000)})).await;
    let directory = TempDir::new("running");
    let path = directory.join("e.millstream");
    let file = path.to_str().expect("a plain path");
    let export = ["executions", "export", &id, "-o", file, "--nats-url", &one.nats.url()];
    let exported = millstream(&export, one.api().base()).await;
    assert_eq!(exported.status.code(), Some(0), "{}", told(&exported));
    let shown = json_of(&millstream(&["executions", "show", "--file", file, "--json"], "http://127.0.0.1:1").await);
    assert_eq!((&shown["status"], shown["input"]["large"].as_str().map(str::len)), (&json!("RUNNING"), Some(200_000)));
    let import = ["executions", "import", file, "--nats-url", &other.nats.url()];
    let imported = millstream(&import, other.api().base()).await;
    assert_eq!(imported.status.code(), Some(2), "{}", told(&imported));
    assert!(told(&imported).contains("only one that has ended"), "{}", told(&imported));
}
