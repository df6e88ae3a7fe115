//! The audit trail: what was decided is recorded with its reasons, and whoever touches the record is found out.

use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use millstream_broker::{Broker, BrokerConfig};
use millstream_model::audit::{self, AuditKind, AuditRecord, Decision, Head};
use millstream_model::time::Timestamp;
use millstream_tests::api::{Api, text};
use millstream_tests::binaries::binaries;
use millstream_tests::cluster::{Cluster, Coordinator, Extra};
use millstream_tests::temp_dir::TempDir;
use millstream_tests::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::PATIENCE;

/// Runs `millstream audit verify` on the trail of the cluster.
async fn verify(cluster: &Cluster, more: &[&str]) -> Output {
    let url = cluster.nats.url();
    millstream(&[&["audit", "verify", "--nats-url", url.as_str()], more].concat()).await
}

async fn millstream(arguments: &[&str]) -> Output {
    let mut command = Command::new(&binaries().millstream);
    command.args(arguments).env("NO_COLOR", "1");
    tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Checks that a command found the trail whole, and gives what it said.
#[track_caller]
fn whole(output: &Output) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("is whole"), "{said}");
    said
}

/// The records that fit `query`, the newest first.
async fn records(api: &Api, query: &str) -> Vec<Value> {
    let answer = api.get(&format!("/audit?{query}")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["records"].as_array().expect("a list").clone()
}

async fn put(api: &Api, workflow: &str, query: &str) -> u16 {
    let body = format!("id: {workflow}\nsteps:\n  - {{id: only, agent_id: builtin-echo}}\n");
    let request = api.request(Method::PUT, &format!("/workflows/{workflow}?{query}")).body(body);
    api.send(request).await.map_or(0, |answer| answer.status)
}

/// A client of the same NATS, for what nobody else does.
async fn intruder(cluster: &Cluster) -> Broker {
    let config = BrokerConfig { url: cluster.nats.url(), ..BrokerConfig::default() };
    Broker::connect(config).await.expect("NATS listens")
}

async fn end(broker: &Broker) -> (u64, AuditRecord) {
    let (sequence, message) = broker.audit_last().await.expect("a trail").expect("records");
    let line = audit::lines(&message).next_back().expect("a line");
    (sequence, AuditRecord::of_line(line).expect("a record"))
}

fn forged() -> Decision {
    Decision {
        at: Timestamp::from_millis(1_763_648_712_000),
        trace_id: None,
        execution: None,
        kind: AuditKind::Approval,
        actor: Some("nobody".to_owned()),
        target: "everything".to_owned(),
        reasoning: "so it be".to_owned(),
        alternatives: Vec::new(),
        context: json!({}),
    }
}

#[tokio::test]
async fn a_submission_records_which_definition_and_which_agents_were_chosen_and_why() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    for id in ["audited-a", "audited-b"] {
        api.register(&json!({"id": id, "framework": "http", "capabilities": ["audited"], "config": {"url": "http://127.0.0.1:9"}}))
            .await;
    }
    api.define(
        "
id: audited
version: 2.0.0
steps:
  - {id: named, agent_id: builtin-echo}
  - {id: open, capability: audited, depends_on: [named]}
",
    )
    .await;
    let id = api.execute("audited", json!({})).await;
    let found = records(api, &format!("execution={id}")).await;
    let kinds: Vec<&str> = found.iter().filter_map(|record| record["kind"].as_str()).collect();
    assert_eq!(kinds, ["routing", "plan"], "{found:?}");

    let plan = &found[1];
    assert_eq!(plan["target"], "workflow audited");
    assert_eq!(plan["reasoning"], "the definition in force of the workflow that was asked for");
    assert_eq!(plan["context"]["steps"], json!(["named", "open"]));
    assert_eq!(plan["context"]["version"], "2.0.0");
    let execution = api.execution(&id).await;
    assert_eq!(plan["trace_id"], execution["trace_id"]);

    let routing = &found[0];
    assert_eq!(routing["target"], "audited-a, builtin-echo");
    assert_eq!(routing["alternatives"], json!(["audited-b"]));
    assert!(text(routing, "/reasoning").contains("first active agent with the capability"), "{routing}");
    let steps = routing["context"]["steps"].as_array().expect("a list");
    assert_eq!(steps[1]["step"], "open");
    assert_eq!(steps[1]["target"], "audited-a");
    assert_eq!(steps[1]["alternatives"], json!(["audited-b"]));
    assert_eq!(steps[0]["reason"], "the step names the agent");
    assert_eq!(routing["seq"].as_u64(), plan["seq"].as_u64().map(|seq| seq + 1));
    assert_eq!(routing["previous"], plan["hash"]);

    let traced = records(api, &format!("trace={}", text(&execution, "/trace_id"))).await;
    assert_eq!(traced, found, "the trace has the same records");
}

#[tokio::test]
async fn a_key_that_is_used_again_records_nothing_more() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define("id: keyed\nsteps:\n  - {id: only, agent_id: builtin-echo}\n").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = api.request(Method::POST, "/workflows/keyed/execute").header("idempotency-key", "audit-1");
        let answer = api.send(request.json(&json!({}))).await.expect("an answer");
        ids.push(text(&answer.body, "/execution_id"));
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(records(api, &format!("execution={}", ids[0])).await.len(), 2, "one plan, one routing");
}

#[tokio::test]
async fn what_people_do_is_recorded_with_who_and_why() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    assert_eq!(put(api, "owned", "by=ada&reason=first%20version").await, 201);
    let slow = "id: owned\nsteps:\n  - {id: only, agent_id: builtin-sleep, input_map: {ms: 60000}}\n";
    let answer = api.send(api.request(Method::PUT, "/workflows/owned?by=ada").body(slow)).await.expect("an answer");
    assert_eq!(answer.status, 200);
    let id = api.execute("owned", json!({})).await;
    let answer = api.delete(&format!("/executions/{id}?by=ada&reason=enough")).await.expect("an answer");
    assert!(matches!(answer.status, 200 | 202), "{}", answer.body);
    api.ended(&id, PATIENCE).await;
    let answer = api.post(&format!("/executions/{id}/fork"), &json!({"by": "ada"})).await.expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.body);
    let fork = text(&answer.body, "/execution_id");
    assert_eq!(api.delete("/workflows/owned?by=ada").await.expect("an answer").status, 204);

    let done = records(api, "actor=ada&kind=admin").await;
    let actions: Vec<&str> = done.iter().rev().filter_map(|record| record["context"]["action"].as_str()).collect();
    assert_eq!(
        actions,
        ["workflow.put", "workflow.put", "execution.cancel", "execution.fork", "workflow.delete"],
        "{done:?}"
    );
    let cancel = &done[2];
    assert_eq!(
        (cancel["target"].as_str(), cancel["reasoning"].as_str()),
        (Some(format!("execution {id}").as_str()), Some("enough"))
    );
    assert_eq!(done[4]["reasoning"], "first version");
    let of_fork: Vec<Value> = records(api, &format!("execution={fork}")).await;
    assert_eq!(
        of_fork.iter().map(|record| record["kind"].as_str().unwrap_or_default()).collect::<Vec<_>>(),
        ["routing", "plan", "admin"]
    );
    let of_old = records(api, &format!("trace={}", text(&api.execution(&id).await, "/trace_id"))).await;
    assert!(of_old.iter().any(|record| record["context"]["action"] == "execution.cancel"), "{of_old:?}");
}

#[tokio::test]
async fn a_resume_is_recorded_with_the_agents_that_were_chosen_anew() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define("id: relapsing\nsteps:\n  - {id: only, agent_id: builtin-fail, retry: {max_attempts: 1}}\n").await;
    let id = text(&api.run("relapsing", json!({}), PATIENCE).await, "/id");
    let body = json!({"by": "grace", "reason": "once more"});
    let answer = api.post(&format!("/executions/{id}/resume"), &body).await.expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.body);
    let done = records(api, &format!("execution={id}")).await;
    assert_eq!(
        done.iter().rev().map(|record| text(record, "/kind")).collect::<Vec<_>>(),
        ["plan", "routing", "admin", "plan", "routing"]
    );
    assert_eq!((done[2]["actor"].as_str(), done[2]["reasoning"].as_str()), (Some("grace"), Some("once more")));
}

#[tokio::test]
async fn what_a_rule_refuses_is_recorded() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define("id: unroutable\nsteps:\n  - {id: only, agent_id: nobody-at-all}\n").await;
    let answer = api.post("/workflows/unroutable/execute", &json!({})).await.expect("an answer");
    assert_eq!(answer.status, 422, "{}", answer.body);
    let refused = records(api, "kind=policy&limit=1000").await;
    let found = refused.iter().find(|record| record["target"] == "POST /workflows/unroutable/execute");
    let record = found.unwrap_or_else(|| panic!("no such record in {refused:?}"));
    assert_eq!(record["context"]["rule"], "unresolved-agents");
    assert!(text(record, "/reasoning").contains("nobody-at-all"), "{record}");
}

#[tokio::test]
async fn the_trail_is_read_page_by_page_and_by_time() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    for n in 0..5 {
        assert_eq!(put(api, &format!("paged-{n}"), "by=pager").await, 201);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = api.get(&format!("/audit?actor=pager&limit=2{cursor}")).await.expect("an answer").body;
        seen.extend(answer["records"].as_array().expect("a list").iter().map(|record| text(record, "/target")));
        let Some(next) = answer["next"].as_u64() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, (0..5).rev().map(|n| format!("workflow paged-{n}")).collect::<Vec<_>>());

    let all = records(api, "actor=pager").await;
    let middle = text(&all[2], "/at");
    assert_eq!(records(api, &format!("actor=pager&after={middle}")).await, all[..2]);
    assert_eq!(records(api, &format!("actor=pager&before={middle}")).await, all[3..]);
    for bad in ["limit=0", "kind=gossip", "after=yesterday", "trace=7"] {
        assert_eq!(api.get(&format!("/audit?{bad}")).await.expect("an answer").status, 400, "{bad}");
    }
}

#[tokio::test]
async fn several_coordinators_write_one_chain() {
    let cluster = Cluster::start(0).await;
    let mut other = Coordinator::launch(&cluster.nats.url(), &cluster.directory, Extra::default());
    other.ready().await;
    let write = |api: Api, name: &'static str| async move {
        for n in 0..60 {
            assert_eq!(put(&api, &format!("{name}-{n}"), "by=both").await, 201);
        }
    };
    tokio::join!(write(cluster.api().clone(), "here"), write(other.api().clone(), "there"));
    for api in [cluster.api(), other.api()] {
        eventually(PATIENCE, "both coordinators see all records", || async {
            (records(api, "actor=both&limit=1000").await.len() == 120).then_some(())
        })
        .await;
    }
    let said = whole(&verify(&cluster, &[]).await);
    let head = said.lines().find_map(|line| line.strip_prefix("head ")).expect("a head").to_owned();
    assert!(put(cluster.api(), "later", "by=both").await < 300);
    eventually(PATIENCE, "a head that was noted stays in the chain", || async {
        let output = verify(&cluster, &["--expect-head", &head]).await;
        (output.status.code() == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_nats_is_killed_meanwhile() {
    let mut cluster = Cluster::start(0).await;
    let api = cluster.api().clone();
    let writing = tokio::spawn(async move {
        let mut stored = Vec::new();
        for n in 0..200 {
            if matches!(put(&api, &format!("tough-{n}"), "by=tough").await, 200 | 201) {
                stored.push(format!("workflow tough-{n}"));
            }
        }
        stored
    });
    for _ in 0..2 {
        let api = cluster.api().clone();
        let before = records(&api, "actor=tough&limit=1000").await.len();
        eventually(PATIENCE, "more is written", || async {
            let answer = api.get("/audit?actor=tough&limit=1000").await.ok().filter(|answer| answer.status == 200)?;
            (answer.body["records"].as_array()?.len() > before).then_some(())
        })
        .await;
        cluster.nats.restart().await;
    }
    let stored = writing.await.expect("no panic");
    assert!(stored.len() > 20, "{}", stored.len());
    cluster.coordinator.ready().await;
    eventually(PATIENCE, "everything that was stored is recorded", || async {
        let found = records(cluster.api(), "actor=tough&limit=1000").await;
        let certain: Vec<String> = found
            .iter()
            .filter(|record| record["context"]["outcome"].is_null())
            .map(|record| text(record, "/target"))
            .collect();
        stored.iter().all(|target| certain.iter().filter(|found| *found == target).count() == 1).then_some(())
    })
    .await;
    whole(&verify(&cluster, &[]).await);
}

#[tokio::test]
async fn a_forged_record_is_named_and_the_trail_goes_on() {
    let cluster = Cluster::start(0).await;
    assert_eq!(put(cluster.api(), "before", "by=ada").await, 201);
    records(cluster.api(), "actor=ada").await;
    let broker = intruder(&cluster).await;
    let (sequence, newest) = end(&broker).await;
    // It claims the next place, and does not know what it stands on.
    let line = Head { seq: newest.seq, ..Head::default() }.append(&forged());
    broker.append_audit(Bytes::from(audit::join(&[line])), sequence).await.expect("NATS takes it");
    assert_eq!(put(cluster.api(), "after", "by=ada").await, 201);
    eventually(PATIENCE, "the trail goes on", || async {
        (records(cluster.api(), "actor=ada").await.len() == 2).then_some(())
    })
    .await;
    let output = verify(&cluster, &[]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let expected = format!("record {} ", newest.seq + 1);
    assert!(said(&output).contains(&expected) && said(&output).contains("does not follow"), "{}", said(&output));
    let answer = cluster.api().get("/audit").await.expect("an answer");
    assert!(text(&answer.body, "/broken").starts_with(expected.trim_end()), "{}", answer.body);
}

#[tokio::test]
async fn garbage_in_the_trail_is_named_and_does_not_stop_it() {
    let cluster = Cluster::start(0).await;
    assert_eq!(put(cluster.api(), "before", "by=ada").await, 201);
    records(cluster.api(), "actor=ada").await;
    let broker = intruder(&cluster).await;
    let (sequence, newest) = end(&broker).await;
    broker.append_audit(Bytes::from_static(b"garbage"), sequence).await.expect("NATS takes it");
    assert_eq!(put(cluster.api(), "after", "by=ada").await, 201);
    eventually(PATIENCE, "the trail goes on", || async {
        (records(cluster.api(), "actor=ada").await.len() == 2).then_some(())
    })
    .await;
    let output = verify(&cluster, &["--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["seq"].as_u64(), Some(newest.seq + 1));
    assert!(text(&found, "/why").contains("no record here"), "{found}");
}

#[tokio::test]
async fn a_cut_off_end_is_seen_by_who_noted_the_head() {
    let cluster = Cluster::start(0).await;
    assert_eq!(put(cluster.api(), "only", "by=ada").await, 201);
    records(cluster.api(), "actor=ada").await;
    let (_, newest) = end(&intruder(&cluster).await).await;
    let mut longer = newest.head();
    longer.append(&forged());
    let output = verify(&cluster, &["--expect-head", &longer.to_string()]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("and was longer"), "{}", said(&output));
}

#[tokio::test]
async fn files_and_sqlite_keep_chains_of_their_own() {
    let directory = TempDir::new("audit");
    let cluster = Cluster::start_with(
        1,
        &settings(&[("BACKENDS", "jsonl,sqlite"), ("PATH", &directory.path().display().to_string())]),
    )
    .await;
    let api = cluster.api();
    api.define("id: kept\nsteps:\n  - {id: only, agent_id: builtin-echo}\n").await;
    let execution = api.run("kept", json!({}), PATIENCE).await;
    let id = text(&execution, "/id");
    assert_eq!(records(api, &format!("execution={id}")).await.len(), 2);
    let file = directory.join(format!("{}.jsonl", text(&execution, "/trace_id")));
    eventually(PATIENCE, "the file of the trace is written", || async { file.exists().then_some(()) }).await;
    let database = directory.join("audit.sqlite");
    for path in [&file, &database] {
        whole(&verify_file(path).await);
    }

    let lines = std::fs::read_to_string(&file).expect("a file");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    std::fs::write(&file, lines.replacen("kept", "swept", 1)).expect("a writable file");
    let output = verify_file(&file).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("record 1 (line 1): it was changed"), "{}", said(&output));

    let second = lines.lines().nth(1).expect("two lines");
    std::fs::write(&file, second).expect("a writable file");
    let output = verify_file(&file).await;
    assert!(said(&output).contains("record 1 (line 1): it was removed"), "{}", said(&output));
}

#[tokio::test]
async fn what_is_switched_off_is_not_recorded() {
    let cluster = Cluster::start_with(0, &settings(&[("ROUTING", "false")])).await;
    let api = cluster.api();
    api.define("id: quiet\nsteps:\n  - {id: only, agent_id: builtin-echo}\n").await;
    let id = api.execute("quiet", json!({})).await;
    assert_eq!(records(api, &format!("execution={id}")).await, Vec::<Value>::new());
    assert_eq!(records(api, "kind=admin").await.len(), 1, "the workflow that was stored");

    let cluster = Cluster::start_with(0, &settings(&[("BACKENDS", "none")])).await;
    assert_eq!(put(cluster.api(), "silent", "").await, 201);
    assert_eq!(records(cluster.api(), "").await, Vec::<Value>::new());
}

async fn verify_file(path: &Path) -> Output {
    millstream(&["audit", "verify", &path.display().to_string()]).await
}

fn settings(given: &[(&str, &str)]) -> Extra {
    let variable = |(name, value): &(&str, &str)| (format!("MILLSTREAM__AUDIT__{name}"), (*value).to_owned());
    Extra::environment(given.iter().map(variable).collect())
}
