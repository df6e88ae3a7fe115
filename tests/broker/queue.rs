//! The task queue from the coordinator's side.

use bytes::Bytes;
use millstream_broker::{PublishError, Topology};
use millstream_model::ids::Partition;
use millstream_tests::nats;
use millstream_tests::wait::eventually;
use serde_json::json;

use crate::fixture::{P0, SOON, cluster, cluster_with, connect, execution, http, publish, soon, task, topology};
use crate::raw_nats::RawNats;

#[tokio::test]
async fn a_full_queue_a_full_stream_and_a_missing_stream_are_three_things() {
    let (server, broker) = cluster_with(&Topology { tasks_per_subject_max: 2, ..topology() }).await;
    let mut raw = RawNats::connect(&server.url()).await;
    publish(&broker, 1).await;
    publish(&broker, 2).await;

    let refused = broker.publish_task(&http(), P0, task(3), None).await.expect("sent").await;
    let error = refused.expect_err("the queue is full");
    assert!(matches!(&error, PublishError::QueueFull { subject } if subject == "ms.task.http.0"), "{error}");
    assert!(error.is_retryable() && !error.is_unknown());

    let mut config = raw.api("STREAM.INFO.MS_TASKS", &json!({})).await["config"].clone();
    config["max_msgs"] = json!(2);
    assert_eq!(raw.api("STREAM.UPDATE.MS_TASKS", &config).await["error"], json!(null));
    let refused = broker.publish_task(&http(), Partition(1), task(3), None).await.expect("sent").await;
    let error = refused.expect_err("the stream is full");
    assert!(matches!(error, PublishError::StreamFull { .. }) && error.is_retryable(), "{error}");

    raw.api("STREAM.DELETE.MS_TASKS", &json!({})).await;
    let refused = broker.publish_task(&http(), P0, task(3), None).await.expect("sent").await;
    let error = refused.expect_err("there is no stream");
    assert!(matches!(error, PublishError::NoStream { .. }) && error.is_retryable(), "{error}");

    let huge = Bytes::from(vec![b'x'; broker.max_payload() + 1]);
    let error = broker.publish_task(&http(), P0, huge, None).await.expect_err("too large");
    assert!(matches!(error, PublishError::TooLarge { .. }) && !error.is_retryable(), "{error}");
}

#[tokio::test]
async fn ten_thousand_tasks_are_on_their_way_at_once() {
    let (_server, broker) = cluster().await;
    let mut sent = Vec::new();
    for number in 0..10_000 {
        sent.push(soon("a task to be sent", broker.publish_task(&http(), P0, task(number), None)).await.expect("sent"));
    }
    for published in sent {
        soon("a PubAck", published).await.expect("stored");
    }
    assert_eq!(broker.scan_tasks(P0).await.expect("a list").len(), 10_000);
}

#[tokio::test]
async fn a_scan_lists_what_is_not_acked_delivered_or_not() {
    let (_server, broker) = cluster().await;
    assert_eq!(broker.scan_tasks(P0).await.expect("an empty list"), vec![]);
    for number in 0..2_500 {
        publish(&broker, number).await;
    }
    let other = broker.publish_task(&http(), Partition(1), task(9_999), None).await.expect("sent");
    other.await.expect("stored");

    let mut puller = broker.task_puller(&http()).await.expect("a queue");
    let mut acked = Vec::new();
    while acked.len() < 50 {
        for delivery in puller.pull(100, SOON).await.expect("pulled") {
            let text = String::from_utf8(delivery.payload.to_vec()).expect("JSON");
            if acked.len() < 50 && !text.contains(&execution(9_999).to_string()) {
                delivery.acker().ack_confirmed().await.expect("confirmed");
                acked.push(text);
            }
        }
    }
    let expected: Vec<_> =
        (0..2_500).map(execution).filter(|id| !acked.iter().any(|t| t.contains(&id.to_string()))).collect();
    let listed = eventually(SOON, "the acks are visible", || async {
        let keys = broker.scan_tasks(P0).await.expect("a list");
        (keys.len() == 2_450).then_some(keys)
    })
    .await;
    let mut listed: Vec<_> = listed.into_iter().map(|key| key.execution).collect();
    listed.sort_unstable();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn a_scan_of_large_tasks_is_complete() {
    let server = nats::start_with("max_payload: 16MB").await;
    let broker = connect(&server).await;
    broker.provision(&topology()).await.expect("provisioned");
    for (number, size) in [500_000; 30].into_iter().chain([10_000_000, 3, 12_000_000]).enumerate() {
        let mut task = task(u32::try_from(number).expect("small")).to_vec();
        task.resize(task.len() + size, b' ');
        let sent = broker.publish_task(&http(), P0, task.into(), None).await.expect("sent");
        sent.await.expect("stored");
    }
    let keys = soon("a scan", broker.scan_tasks(P0)).await.expect("a list");
    assert_eq!(keys.iter().map(|key| key.execution).collect::<Vec<_>>(), (0..33).map(execution).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_task_does_not_spoil_a_scan() {
    let (server, broker) = cluster().await;
    publish(&broker, 1).await;
    RawNats::connect(&server.url()).await.publish("ms.task.http.0", b"nonsense").await;
    assert_eq!(broker.scan_tasks(P0).await.expect("a list").len(), 1);
}

#[tokio::test]
async fn a_task_published_while_the_server_is_away_is_never_taken_for_stored() {
    let (mut server, broker) = cluster().await;
    let mut sent = Vec::new();
    for number in 0..100 {
        sent.push(broker.publish_task(&http(), P0, task(number), None).await.expect("sent"));
    }
    server.kill9();
    let mut stored = 0;
    for published in sent {
        match soon("an outcome", published).await {
            Ok(()) => stored += 1,
            Err(error) => assert!(error.is_unknown(), "{error}"),
        }
    }
    server.restart().await;
    soon("a new connection", broker.connected()).await;
    let listed = eventually(SOON, "a list", || async { broker.scan_tasks(P0).await.ok() }).await;
    assert!(listed.len() >= stored, "{stored} were acknowledged, {} are there", listed.len());
}
