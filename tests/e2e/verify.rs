//! `millstream verify` and `verify-upgrade`: clean on a clean cluster, and what was tampered with is found.

use std::process::Output;

use millstream_broker::{Broker, BrokerConfig};
use millstream_model::hash::ContentHash;
use millstream_model::history::Record;
use millstream_model::ids::Partition;
use millstream_model::position::Position;
use millstream_model::snapshot::{Snapshot, SnapshotPointer};
use millstream_tests::cluster::Cluster;
use millstream_tests::wait::eventually;
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::commands::{millstream, told};
use crate::raw_nats::RawNats;

async fn look(command: &str, cluster: &Cluster) -> (Option<i32>, Value) {
    let url = cluster.nats.url();
    let mut arguments = vec![command, "--json", "--nats-url", &url];
    if command == "verify" {
        arguments.extend(["--pause", "1s"]);
    }
    let output: Output = millstream(&arguments, "http://127.0.0.1:1").await;
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", told(&output)));
    (output.status.code(), report)
}

async fn connect(cluster: &Cluster) -> Broker {
    let config = BrokerConfig { url: cluster.nats.url(), name: "test".into(), ..BrokerConfig::default() };
    Broker::connect(config).await.expect("a good configuration")
}

/// The record of an ended execution, as soon as the history has one.
async fn ended_record(broker: &Broker) -> (Partition, Record) {
    let mut reader = broker.read_history(1).await.expect("the history");
    loop {
        let message = tokio::time::timeout(PATIENCE, reader.next()).await.expect("a record").expect("the history");
        let record = Record::decode(&message.payload).expect("a record");
        if matches!(record, Record::Ended(_)) {
            return (message.partition, record);
        }
    }
}

async fn run_some(cluster: &Cluster) {
    let api = cluster.api();
    api.define("id: good\nsteps: [{id: a, agent_id: builtin-echo}, {id: b, agent_id: builtin-echo, depends_on: [a]}]")
        .await;
    api.define("id: bad\nsteps: [{id: a, agent_id: builtin-fail, retry: {max_attempts: 1}}]").await;
    for _ in 0..5 {
        api.run("good", json!({"n": 1}), PATIENCE).await;
        api.run("bad", json!({}), PATIENCE).await;
    }
}

#[tokio::test]
async fn a_cluster_that_nobody_touched_is_clean_and_a_record_with_another_hash_is_found() {
    let cluster = Cluster::start(1).await;
    run_some(&cluster).await;
    let broker = connect(&cluster).await;
    let (partition, record) = ended_record(&broker).await;
    eventually(PATIENCE, "all records are there", || async {
        let (code, report) = look("verify", &cluster).await;
        assert_eq!((code, &report["ok"]), (Some(0), &json!(true)), "{report}");
        (report["counts"]["records"].as_u64() >= Some(10)).then_some(())
    })
    .await;
    let (code, report) = look("verify-upgrade", &cluster).await;
    assert_eq!(code, Some(0), "{report}");

    let Record::Ended(mut kept) = record else { unreachable!("it was found as such") };
    kept.state = ContentHash::of(b"another state");
    let id = kept.summary.execution.to_string();
    broker.append_history(partition, None, Record::Ended(kept).encode(), None).await.expect("appended");
    for command in ["verify", "verify-upgrade"] {
        let (code, report) = look(command, &cluster).await;
        assert_eq!(code, Some(1), "{report}");
        let finding = &report["findings"][0];
        assert_eq!((&finding["kind"], &finding["execution"]), (&json!("record-state"), &json!(id)), "{report}");
        assert_eq!(report["findings"].as_array().map(Vec::len), Some(1), "{report}");
    }
}

#[tokio::test]
async fn a_task_that_vanished_from_the_queue_is_found() {
    let mut cluster = Cluster::start(0).await;
    cluster.api().define("id: stolen\nsteps: [{id: a, agent_id: builtin-echo}]").await;
    let id = cluster.api().execute("stolen", json!({})).await;
    let broker = connect(&cluster).await;
    let partition = id.parse::<millstream_model::ids::ExecutionId>().expect("an id").partition();
    let queued = || async { (!broker.scan_tasks(partition).await.expect("the queue").is_empty()).then_some(()) };
    eventually(PATIENCE, "the task is queued", queued).await;
    let (code, report) = look("verify", &cluster).await;
    assert_eq!((code, &report["counts"]["tasks_owed"]), (Some(0), &json!(1)), "{report}");

    // Its owner would publish it again.
    cluster.coordinator.kill9();
    RawNats::connect(&cluster.nats.url()).await.api("STREAM.PURGE.MS_TASKS", &json!({})).await;
    let (code, report) = look("verify", &cluster).await;
    assert_eq!(code, Some(1), "{report}");
    let finding = &report["findings"][0];
    assert_eq!((&finding["kind"], &finding["execution"]), (&json!("task-missing"), &json!(id)), "{report}");
    let (code, report) = look("verify-upgrade", &cluster).await;
    assert_eq!(code, Some(0), "the queue is no matter of the fold: {report}");
}

#[tokio::test]
async fn a_snapshot_that_the_journal_does_not_continue_or_with_another_hash_is_found() {
    let mut cluster = Cluster::start(0).await;
    cluster.coordinator.kill9();
    let broker = connect(&cluster).await;
    let partition = Partition(0);
    let journal = broker.journal_state(partition).await.expect("the journal");
    let message = broker.journal_message(partition, 1).await.expect("read").expect("its epoch");
    let snapshot = Snapshot::new(Position::start_of(1), 1, None, Vec::new(), Vec::new(), Vec::new());
    let object = snapshot.encode();
    let pointer = |object: &[u8], message: ContentHash| SnapshotPointer {
        object: "0/1".to_owned(),
        hash: ContentHash::of(object),
        size: object.len() as u64,
        sequence: 1,
        time: journal.created,
        message,
        stream_created: journal.created,
        state: ContentHash::of(b"another state"),
        taken_by: "test".parse().expect("a name"),
        fold_rev: 1,
        executions: 0,
        entries: 0,
    };
    let right = pointer(&object, ContentHash::of(&message.payload));
    broker.put_snapshot(&right.object, object.clone().into()).await.expect("stored");
    let found = |report: &Value| report["findings"][0]["kind"].clone();
    let revision = broker.put_snapshot_pointer(partition, &right, None).await.expect("written");
    for command in ["verify", "verify-upgrade"] {
        let (code, report) = look(command, &cluster).await;
        assert_eq!((code, found(&report)), (Some(1), json!("snapshot-state")), "{report}");
    }
    let wrong = pointer(&object, ContentHash::of(b"another message"));
    broker.put_snapshot_pointer(partition, &wrong, Some(revision)).await.expect("written");
    let (code, report) = look("verify", &cluster).await;
    assert_eq!((code, found(&report)), (Some(1), json!("journal-regressed")), "{report}");
}
