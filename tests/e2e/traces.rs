//! One trace per execution, across processes.

use std::collections::BTreeSet;

use millstream_tests::api::text;
use millstream_tests::cluster::{Cluster, Extra};
use millstream_tests::collector::{Collector, Span};
use millstream_tests::wait::eventually;
use millstream_tests::witness::Witness;
use reqwest::Method;
use serde_json::json;

use crate::PATIENCE;

const CALLER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN: &str = "b7ad6b7169203331";

// Kinds of spans as OTLP numbers them.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn an_execution_is_one_tree_of_spans_over_coordinator_and_worker() {
    let collector = Collector::start().await;
    let cluster = Cluster::start_with(1, &Extra::environment(collector.environment())).await;
    let api = cluster.api();
    let witness = Witness::start(|_| (200, json!("seen"))).await;
    api.register(
        &json!({"id": "traced", "framework": "http", "capabilities": ["http"], "config": {"url": witness.url("/")}}),
    )
    .await;
    api.define(
        "
id: traced
steps:
  - {id: flaky, agent_id: builtin-fail, input_map: {times: 1}, retry: {backoff_ms: 50}}
  - {id: call, agent_id: traced, depends_on: [flaky]}
",
    )
    .await;
    let request = api
        .request(Method::POST, "/workflows/traced/execute?wait=30s")
        .header("traceparent", format!("00-{CALLER_TRACE}-{CALLER_SPAN}-01"));
    let execution = api.send(request.json(&json!({}))).await.expect("an answer").body;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    assert_eq!(text(&execution, "/trace_id"), CALLER_TRACE);

    // The request, the root, a send and a process for each of three attempts, and the call of the http agent.
    let spans = eventually(PATIENCE, "nine spans of the execution arrive", || async {
        let mut spans = collector.spans();
        // Other requests than the one that started the execution have traces of their own.
        spans.retain(|span| !(span.kind == SERVER && hex(&span.trace) != CALLER_TRACE));
        (spans.len() >= 9).then_some(spans)
    })
    .await;
    assert_eq!(spans.len(), 9, "{spans:#?}");
    let traces: BTreeSet<String> = spans.iter().map(|span| hex(&span.trace)).collect();
    assert_eq!(traces, BTreeSet::from([CALLER_TRACE.to_owned()]));
    let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["millstream-coordinator", "millstream-worker"]));

    let parent = |span: &Span| spans.iter().find(|other| other.id == span.parent).cloned();
    let root = spans.iter().find(|span| span.name == "execute_workflow traced").expect("the execution's span");
    let request = spans.iter().find(|span| span.kind == SERVER).expect("the request's span");
    assert_eq!((hex(&request.parent), &root.parent), (CALLER_SPAN.to_owned(), &request.id));
    assert_eq!(request.name, "POST /workflows/{id}/execute");
    for span in spans.iter().filter(|span| *span != root && *span != request) {
        let parent = parent(span).unwrap_or_else(|| panic!("{} has no parent among {spans:#?}", span.name));
        let expected = match span.kind {
            PRODUCER => root.name.clone(),
            CONSUMER => span.name.replace("process", "send"),
            _ => "process http".to_owned(),
        };
        assert_eq!(parent.name, expected, "the parent of {}", span.name);
        assert!(parent.start <= span.start + 1_000_000, "{} began before {}", span.name, parent.name);
    }
    let names = |kind: i32| {
        let mut names: Vec<&str> =
            spans.iter().filter(|span| span.kind == kind).map(|span| span.name.as_str()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(PRODUCER), ["send builtin", "send builtin", "send http"]);
    assert_eq!(names(CONSUMER), ["process builtin", "process builtin", "process http"]);

    let client = spans.iter().find(|span| span.kind == CLIENT).expect("the call of the http agent");
    let told = witness.calls()[0].traceparent.clone().expect("the agent is told the trace");
    assert_eq!(told, format!("00-{CALLER_TRACE}-{}-01", hex(&client.id)));
}
