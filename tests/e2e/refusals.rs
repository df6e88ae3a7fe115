//! What cannot run is refused before anything is journaled, with all that is wrong and where.

use millstream_tests::api::{Answer, Api, text};
use millstream_tests::cluster::Cluster;
use reqwest::Method;
use serde_json::{Value, json};

/// A problem as RFC 9457 wants it.
fn problem<'a>(answer: &'a Answer, status: u16, slug: &str) -> &'a Value {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.body["type"], format!("urn:millstream:problem:{slug}"));
    assert_eq!(answer.body["status"], status);
    assert!(!text(&answer.body, "/title").is_empty() && !text(&answer.body, "/detail").is_empty());
    &answer.body
}

/// Path, line, column and what is said of every problem of a definition.
async fn problems(api: &Api, definition: &str) -> Vec<(String, u64, u64, String)> {
    let answer = api.post_text("/workflows", definition).await.expect("an answer");
    let body = problem(&answer, 422, "invalid-definition");
    let list = body["problems"].as_array().expect("a list of problems");
    list.iter()
        .map(|problem| {
            let number = |name: &str| problem[name].as_u64().expect("a number");
            (
                text(problem, "/path"),
                number("line"),
                number("column"),
                text(problem, "/message") + &text(problem, "/help"),
            )
        })
        .collect()
}

#[tokio::test]
async fn yaml_that_is_none_is_refused_with_its_place() {
    let cluster = Cluster::shared().await;
    let found = problems(cluster.api(), "id: broken\nsteps:\n  - id: [a\n").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].1 >= 3, "{found:?}");
}

#[tokio::test]
async fn a_cycle_is_refused_edge_by_edge() {
    let cluster = Cluster::shared().await;
    let definition = "
id: circle
steps:
  - {id: a, agent_id: builtin-echo, depends_on: [c]}
  - {id: b, agent_id: builtin-echo, depends_on: [a]}
  - {id: c, agent_id: builtin-echo, depends_on: [b]}
";
    let found = problems(cluster.api(), definition).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let message = &found[0].3;
    assert!(message.contains("wait for each other"), "{message}");
    let edges = ["a -> c", "c -> b", "b -> a"];
    assert!(edges.iter().filter(|edge| message.contains(*edge)).count() >= 2, "{message}");
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let cluster = Cluster::shared().await;
    let definition = "
id: many
steps:
  - id: a
    agent_id: builtin-echo
    depends_on: [nobody]
  - id: a
    agent_id: builtin-echo
    input_map: {x: '$.input[?'}
  - id: b.c
    agent_id: builtin-echo
    condition: $.input.x ===
";
    let found = problems(cluster.api(), definition).await;
    let places: Vec<(&str, u64)> = found.iter().map(|(path, line, _, _)| (path.as_str(), *line)).collect();
    for expected in [
        ("steps[0].depends_on[0]", 6),
        ("steps[1].id", 7),
        ("steps[1].input_map.x", 9),
        ("steps[2].id", 10),
        ("steps[2].condition", 12),
    ] {
        assert!(places.contains(&expected), "{expected:?} is not in {found:#?}");
    }
}

#[tokio::test]
async fn a_path_that_is_none_or_reads_what_is_not_upstream_is_refused() {
    let cluster = Cluster::shared().await;
    let definition = "
id: paths
steps:
  - {id: a, agent_id: builtin-echo, input_map: {x: $.steps.b.output}}
  - {id: b, agent_id: builtin-echo, input_map: {x: $.nowhere.y}}
output_map: {x: '$..['}
";
    let found = problems(cluster.api(), definition).await;
    let paths: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(paths, ["steps[0].input_map.x", "steps[1].input_map.x", "output_map.x"], "{found:#?}");
}

#[tokio::test]
async fn an_agent_that_nobody_registered_is_refused_at_submission() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define("id: ghosts\nsteps:\n  - {id: a, agent_id: ghost}\n  - {id: b, capability: haunting}\n").await;
    let answer = api.post("/workflows/ghosts/execute", &json!({})).await.expect("an answer");
    let body = problem(&answer, 422, "unresolved-agents");
    let said = body["problems"].to_string();
    assert!(said.contains("ghost") && said.contains("haunting"), "{body}");
}

#[tokio::test]
async fn an_agent_that_is_switched_off_is_refused_at_submission() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let agent = json!({
        "id": "asleep", "framework": "http", "capabilities": ["http"], "status": "INACTIVE",
        "config": {"url": "http://127.0.0.1:9/"}
    });
    api.register(&agent).await;
    api.define("id: asleep\nsteps:\n  - {id: a, agent_id: asleep}\n").await;
    let answer = api.post("/workflows/asleep/execute", &json!({})).await.expect("an answer");
    problem(&answer, 422, "unresolved-agents");
}

#[tokio::test]
async fn an_input_that_breaks_its_schema_is_refused_with_every_place() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: typed
input_schema:
  type: object
  required: [day]
  properties: {day: {type: string}, count: {type: integer, minimum: 1}}
steps:
  - {id: a, agent_id: builtin-echo}
",
    )
    .await;
    let answer = api.post("/workflows/typed/execute", &json!({"input": {"count": 0}})).await.expect("an answer");
    let body = problem(&answer, 422, "invalid-input");
    let said = body["problems"].to_string();
    assert!(said.contains("day") && said.contains("/input/count"), "{body}");
}

#[tokio::test]
async fn requests_that_make_no_sense_get_a_problem() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define("id: sense\nsteps:\n  - {id: a, agent_id: builtin-echo}\n").await;
    let nowhere = "/executions/00000000-0000-7000-8000-000000000000";
    let get = |path: &'static str| api.request(Method::GET, path);
    let execute = |body: &'static str| {
        api.request(Method::POST, "/workflows/sense/execute").header("content-type", "application/json").body(body)
    };
    for (request, status, slug) in [
        (get("/nothing/here"), 404, "route-not-found"),
        (get("/workflows/unknown"), 404, "workflow-not-found"),
        (get("/agents/unknown"), 404, "agent-not-found"),
        (get(nowhere), 404, "execution-not-found"),
        (get("/executions/not-an-id"), 400, "invalid-id"),
        (api.request(Method::PATCH, "/workflows"), 405, "method-not-allowed"),
        (execute("{\"input\": "), 400, "invalid-json"),
        (execute("{\"inputs\": 1}"), 422, "invalid-body"),
        (execute("{}").header("idempotency-key", ""), 400, "invalid-request"),
        (api.request(Method::POST, "/workflows/sense/execute?wait=soon"), 400, "invalid-request"),
        (
            api.request(Method::POST, "/workflows").body("id: sense\nsteps: [{id: a, agent_id: builtin-echo}]"),
            409,
            "workflow-exists",
        ),
        (api.request(Method::POST, "/workflows").body("#".repeat(17 * 1024 * 1024)), 413, "body-too-large"),
    ] {
        let answer = api.send(request).await.expect("an answer");
        problem(&answer, status, slug);
    }
}
