//! What remains of executions: lists, and each of them as it was, after its owner has forgotten it.

use std::time::Duration;

use millstream_broker::{Broker, BrokerConfig};
use millstream_model::ids::ExecutionId;
use millstream_tests::api::{Api, text};
use millstream_tests::cluster::{Cluster, Extra};
use millstream_tests::wait::eventually;
use millstream_tests::witness::Witness;
use reqwest::Method;
use reqwest::header::ACCEPT;
use serde_json::{Value, json};

use crate::{PATIENCE, witnessed};

#[tokio::test]
async fn executions_are_found_by_what_they_were_given_and_what_they_gave() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define(
        "
id: ledger
searchable: {order: $.input.order, total: $.output.total, day: $.input.day}
labels: {team: billing}
steps:
  - {id: sum, agent_id: builtin-echo, input_map: {total: $.input.amount}}
",
    )
    .await;
    let mut ids = Vec::new();
    for n in 1..=5 {
        let input = json!({"order": format!("o-{n}"), "amount": n * 10, "day": {"not": "one value"}});
        let execution = api.run("ledger", input, PATIENCE).await;
        assert_eq!(execution["status"], "COMPLETED", "{}", execution["error"]);
        ids.push(text(&execution, "/id"));
    }
    listed(api, "workflow=ledger&status=COMPLETED", 5).await;

    let found = |query: &'static str| async move { found(&list(api, query).await) };
    assert_eq!(found("workflow=ledger&attribute=order:o-3").await, [ids[2].clone()]);
    assert_eq!(found("workflow=ledger&attribute=total>=40&sort=started_at").await, ids[3..]);
    assert_eq!(found("workflow=ledger&attribute=total>10&attribute=total<30").await, [ids[1].clone()]);
    assert_eq!(found("workflow=ledger&label=team:billing&sort=started_at").await, ids);
    assert_eq!(found("workflow=ledger&label=team:sales").await, [""; 0]);
    assert_eq!(found("workflow=ledger&status=FAILED&status=RUNNING").await, [""; 0]);
    assert_eq!(found("workflow=ledger&started_after=2100-01-01T00:00:00Z").await, [""; 0]);

    let mut paged = Vec::new();
    let mut next = Some("/executions?workflow=ledger&sort=-started_at&limit=2&summary=true".to_owned());
    while let Some(path) = next {
        let page = api.get(&path).await.expect("the API answers");
        assert_eq!(page.status, 200, "{}", page.body);
        assert_eq!(page.body.pointer("/summary/by_status"), Some(&json!({"COMPLETED": 5})));
        assert_eq!(page.body.pointer("/summary/success_rate"), Some(&json!(1.0)));
        paged.extend(self::found(&page.body));
        next = page.body.pointer("/links/next").and_then(Value::as_str).map(str::to_owned);
    }
    paged.reverse();
    assert_eq!(paged, ids);

    let row = &list(api, "attribute=order:o-3").await["executions"][0];
    assert_eq!(row["attributes"], json!({"order": "o-3", "total": 30}), "{row}");
    assert_eq!((&row["labels"], &row["steps_total"]), (&json!({"team": "billing"}), &json!(1)), "{row}");
    let refused = api.get("/executions?state=DONE&limit=-1").await.expect("the API answers");
    assert_eq!(refused.status, 400);
    let wrong: Vec<String> =
        refused.body["problems"].as_array().into_iter().flatten().map(|p| text(p, "/parameter")).collect();
    assert_eq!(wrong, ["state", "limit"]);
}

#[tokio::test]
async fn an_execution_that_its_owner_has_forgotten_is_what_it_was() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    let witness = Witness::start(|_| (200, json!({"paid": true}))).await;
    witness.hold();
    witnessed(api, &witness, "history_bank").await;
    api.define(
        "
id: remembered
steps:
  - {id: first, agent_id: builtin-echo, input_map: {n: 1}}
  - {id: pay, agent_id: history_bank, depends_on: [first]}
",
    )
    .await;
    let id = api.execute("remembered", json!({"day": 1})).await;
    eventually(PATIENCE, "the bank is called", || async { (!witness.calls().is_empty()).then_some(()) }).await;
    let (at, live) = settled_view(api, &id).await;
    assert_eq!(live["status"], "RUNNING");
    let past = api.execution(&format!("{id}?at={at}")).await;
    assert_eq!(without_links(past), without_links(live.clone()), "at {at}, while it runs");

    witness.release();
    let ended = api.ended(&id, PATIENCE).await;
    let events = api.events(&id).await;
    forgotten(&cluster, &id).await;

    assert_eq!(api.execution(&id).await, ended);
    assert_eq!(api.events(&id).await, events);
    let streamed = api.follow(&id, None).await.expect("the stream ends by itself");
    let ids: Vec<Option<&str>> = streamed.iter().map(|message| message.id.as_deref()).collect();
    assert_eq!(ids, events.iter().map(|event| event["id"].as_str()).collect::<Vec<_>>());
    let past = api.execution(&format!("{id}?at={at}")).await;
    assert_eq!(without_links(past), without_links(live), "at {at}, after its end");
    let before = api.get(&format!("/executions/{id}?at=0.0")).await.expect("the API answers");
    assert_eq!(before.status, 400, "{}", before.body);

    let entries = api.get(&format!("/executions/{id}/entries")).await.expect("the API answers").body;
    let lines = entries["entries"].as_array().expect("entries");
    assert_eq!(entries["total"], json!(lines.len()));
    assert!(text(&lines[0], "/line").starts_with("submitted remembered"), "{}", lines[0]);
    assert_eq!(lines[0].pointer("/entry/submitted/secret"), Some(&json!("")));
    let request = api.request(Method::GET, &format!("/executions/{id}/entries"));
    let request = request.header(ACCEPT, "application/x-millstream-transcript");
    let exported = api.send(request).await.expect("the API answers").body;
    let exported = exported.as_str().expect("a text");
    assert_eq!(exported.lines().count(), 1 + lines.len());
    assert!(exported.starts_with("transcript 1 fold "), "{}", exported.lines().next().unwrap_or_default());
}

#[tokio::test]
async fn the_index_is_built_anew_when_it_is_deleted_or_damaged() {
    let path = std::env::temp_dir().join(format!("millstream-test-index-{}.sqlite", std::process::id()));
    let environment = vec![("MILLSTREAM__INDEX__PATH".to_owned(), path.display().to_string())];
    let mut cluster = Cluster::start_with(1, &Extra::environment(environment)).await;
    cluster.api().define("id: kept\nsteps:\n  - {id: a, agent_id: builtin-echo}\n").await;
    for _ in 0..3 {
        cluster.api().run("kept", json!({}), PATIENCE).await;
    }
    let before = listed(cluster.api(), "workflow=kept&status=COMPLETED", 3).await;
    for damage in ["none", "deleted", "damaged"] {
        cluster.coordinator.kill9();
        match damage {
            "deleted" => std::fs::remove_file(&path).expect("the index is there"),
            "damaged" => std::fs::write(&path, "this is no database").expect("the index is there"),
            _ => {}
        }
        cluster.coordinator.restart().await;
        let after = listed(cluster.api(), "workflow=kept&status=COMPLETED", 3).await;
        assert_eq!(found(&after), found(&before), "{damage}");
    }
    drop(cluster);
    for suffix in ["", "-wal", "-shm"] {
        // The coordinator may have taken its files with it.
        drop(std::fs::remove_file(format!("{}{suffix}", path.display())));
    }
}

#[tokio::test]
async fn what_has_run_out_is_gone_from_lists_and_by_its_id() {
    let cluster = Cluster::shared().await;
    let api = cluster.api();
    api.define("id: fleeting\nretention_ms: 2000\nsteps:\n  - {id: a, agent_id: builtin-echo}\n").await;
    let id = api.execute("fleeting", json!({})).await;
    api.ended(&id, PATIENCE).await;
    let (id, path) = (&id, &format!("/executions/{id}"));
    eventually(PATIENCE, "nobody knows it any more", || async move {
        let answer = api.get(path).await.ok()?;
        (answer.status == 404 && found(&list(api, "workflow=fleeting").await).is_empty()).then_some(())
    })
    .await;
    let events = api.get(&format!("/executions/{id}/events")).await.expect("the API answers");
    assert_eq!(events.status, 404, "{}", events.body);
}

async fn list(api: &Api, query: &str) -> Value {
    let answer = api.get(&format!("/executions?{query}")).await.expect("the API answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// The list, once it has so many executions.
async fn listed(api: &Api, query: &str, count: usize) -> Value {
    eventually(PATIENCE, &format!("{query} finds {count}"), || async move {
        let answer = api.get(&format!("/executions?{query}")).await.ok().filter(|answer| answer.status == 200)?;
        (found(&answer.body).len() == count).then_some(answer.body)
    })
    .await
}

fn found(list: &Value) -> Vec<String> {
    list["executions"].as_array().expect("a list").iter().map(|row| text(row, "/id")).collect()
}

/// An execution in which nothing happens for a moment, and its last entry.
async fn settled_view(api: &Api, id: &str) -> (String, Value) {
    let last = || async {
        let entries = api.get(&format!("/executions/{id}/entries")).await.ok()?.body;
        entries["entries"].as_array()?.last().map(|entry| text(entry, "/position"))
    };
    let last = &last;
    eventually(PATIENCE, "nothing happens for a moment", || async move {
        let before = last().await?;
        let view = api.execution(id).await;
        (last().await? == before).then_some((before, view))
    })
    .await
}

fn without_links(mut view: Value) -> Value {
    view.as_object_mut().expect("an object").remove("links");
    view
}

/// Waits until the journal says that the execution is in the history.
async fn forgotten(cluster: &Cluster, id: &str) {
    let url = cluster.nats.url();
    let broker = Broker::connect(BrokerConfig { url, ..BrokerConfig::default() }).await.expect("connected");
    let partition = id.parse::<ExecutionId>().expect("an id").partition();
    let mut journal = broker.read_journal(partition, 1).await.expect("a journal");
    let archived = async {
        loop {
            let message = journal.next().await.expect("readable");
            let text = String::from_utf8_lossy(&message.payload);
            if text.contains("\"archived\"") && text.contains(id) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, archived).await.expect("it is archived");
    // The entry is folded a moment after it is stored.
    eventually(Duration::from_secs(5), "it is folded", || async { cluster.api().get("/healthz/ready").await.ok() })
        .await;
}
