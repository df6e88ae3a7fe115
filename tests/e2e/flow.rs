//! Steps in order, side by side, and left out.

use millstream_tests::api::{step, text};
use millstream_tests::cluster::Cluster;
use serde_json::{Value, json};

use crate::PATIENCE;

/// Microseconds since midnight UTC of an RFC 3339 time of ours, which is enough to subtract within a test.
pub(crate) fn micros(time: &str) -> i64 {
    let clock = time.split(['T', 'Z']).nth(1).expect("a time of day");
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let seconds = whole.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().expect("a number"));
    let micros: i64 = format!("{fraction:0<6}")[..6].parse().expect("a fraction");
    seconds * 1_000_000 + micros
}

/// When a step began and ended by the worker's clock.
pub(crate) fn span(step: &Value) -> (i64, i64) {
    (micros(&text(step, "/started_at")), micros(&text(step, "/ended_at")))
}

#[tokio::test]
async fn three_steps_run_one_after_another() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: three_steps
steps:
  - id: first
    agent_id: builtin-echo
    input_map: {n: $.input.n, who: $.context.who}
  - id: second
    agent_id: builtin-echo
    depends_on: [first]
    input_map: {n: $.steps.first.output.n, said: {literal: $not.a.path}}
  - id: third
    agent_id: builtin-echo
    depends_on: [second]
    input_map: {before: $.steps.second.output, missing: $.input.nothing}
output_map: {result: $.steps.third.output, who: $.steps.first.output.who}
",
    )
    .await;
    let body = json!({"input": {"n": 7}, "context": {"who": "ada"}, "labels": {"team": "a"}});
    let answer = api.post("/workflows/three_steps/execute?wait=30s", &body).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let execution = answer.body;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    assert_eq!(execution["partial"], false);
    assert_eq!(execution["labels"], json!({"team": "a"}));
    assert_eq!(
        execution["output"],
        json!({"result": {"before": {"n": 7, "said": "$not.a.path"}, "missing": null}, "who": "ada"})
    );
    let spans: Vec<(i64, i64)> = ["first", "second", "third"].iter().map(|id| span(step(&execution, id))).collect();
    assert!(spans[0].1 <= spans[1].0 && spans[1].1 <= spans[2].0, "{spans:?}");
    for id in ["first", "second", "third"] {
        let step = step(&execution, id);
        assert_eq!((&step["status"], &step["attempts"]), (&json!("COMPLETED"), &json!(1)), "{step}");
    }
}

#[tokio::test]
async fn steps_that_do_not_depend_on_each_other_run_side_by_side() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let steps: String = (0..4)
        .map(|i| format!("  - {{id: s{i}, agent_id: builtin-sleep, input_map: {{ms: 1500, n: {i}}}}}\n"))
        .collect();
    api.define(format!("id: side_by_side\nsteps:\n{steps}")).await;
    let execution = api.run("side_by_side", json!({}), PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    let took = micros(&text(&execution, "/ended_at")) - micros(&text(&execution, "/started_at"));
    assert!(took < 3_000_000, "four steps of 1.5 s took {took} µs together");
    let last = step(&execution, "s3");
    assert_eq!(execution["output"], last["output"], "without output_map the last completed step has the word");
}

#[tokio::test]
async fn no_more_steps_run_at_once_than_the_workflow_allows() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let steps: String =
        (0..6).map(|i| format!("  - {{id: s{i}, agent_id: builtin-sleep, input_map: {{ms: 200}}}}\n")).collect();
    api.define(format!("id: two_at_once\nmax_parallel: 2\nsteps:\n{steps}")).await;
    let execution = api.run("two_at_once", json!({}), PATIENCE).await;
    assert_eq!(execution["status"], "COMPLETED", "{execution}");
    let spans: Vec<(i64, i64)> = (0..6).map(|i| span(step(&execution, &format!("s{i}")))).collect();
    assert_eq!(most_at_once(&spans), 2, "{spans:?}");
}

/// The largest number of intervals that share a moment.
pub(crate) fn most_at_once(spans: &[(i64, i64)]) -> usize {
    let at = |moment: i64| spans.iter().filter(|(start, end)| *start <= moment && moment < *end).count();
    spans.iter().map(|(start, _)| at(*start)).max().unwrap_or(0)
}

#[tokio::test]
async fn a_condition_that_does_not_hold_skips_its_step_and_says_why() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: conditions
steps:
  - id: classify
    agent_id: builtin-echo
    input_map: {severity: $.input.severity}
  - id: page
    agent_id: builtin-echo
    depends_on: [classify]
    condition: $.steps.classify.output.severity == \"high\" && !($.input.dry_run)
  - id: log
    agent_id: builtin-echo
    depends_on: [page]
    input_map: {paged: $.steps.page.output, status: $.steps.page.status}
  - id: follow
    agent_id: builtin-echo
    depends_on: [page]
    require: completed
",
    )
    .await;

    let low = api.run("conditions", json!({"severity": "low", "dry_run": false}), PATIENCE).await;
    assert_eq!(low["status"], "COMPLETED", "{low}");
    let page = step(&low, "page");
    assert_eq!((&page["status"], &page["attempts"]), (&json!("SKIPPED"), &json!(0)), "{page}");
    assert!(text(page, "/reason").contains("condition"), "{page}");
    assert_eq!(step(&low, "log")["output"], json!({"paged": null, "status": "SKIPPED"}));
    let follow = step(&low, "follow");
    assert_eq!(follow["status"], "SKIPPED", "{follow}");
    assert!(text(follow, "/reason").contains("page"), "{follow}");

    let high = api.run("conditions", json!({"severity": "high", "dry_run": false}), PATIENCE).await;
    let states: Vec<&Value> = ["page", "log", "follow"].iter().map(|id| &step(&high, id)["status"]).collect();
    assert_eq!(states, ["COMPLETED", "COMPLETED", "COMPLETED"]);
}
