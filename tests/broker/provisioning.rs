//! What is created, and what is refused.

use bytes::Bytes;
use millstream_broker::{Broker, BrokerConfig, ConnectError, ProvisionError, Topology};
use millstream_tests::nats;
use serde_json::json;

use crate::fixture::{P0, cluster, config, connect, http, publish, topology};
use crate::raw_nats::RawNats;

#[tokio::test]
async fn provisioning_twice_changes_nothing() {
    let (_server, broker) = cluster().await;
    publish(&broker, 1).await;
    broker.append_control(P0, "one", Bytes::from_static(b"batch")).await.expect("appended");
    let before = broker.journal_state(P0).await.expect("a journal");

    broker.provision(&topology()).await.expect("everything is there");
    broker.ensure_task_consumer(&http()).await.expect("it is there");

    assert_eq!(broker.journal_state(P0).await.expect("a journal"), before);
    assert_eq!(broker.scan_tasks(P0).await.expect("a list").len(), 1);
    assert_eq!(broker.partitions().await.expect("discovered"), Some(2));
    assert!(!broker.ensure_task_stream(&topology()).await.expect("it is there"));
}

#[tokio::test]
async fn a_cluster_of_an_older_version_gets_what_it_lacks() {
    let (server, broker) = cluster().await;
    broker.append_control(P0, "one", Bytes::from_static(b"batch")).await.expect("appended");
    let before = broker.journal_state(P0).await.expect("a journal");
    let mut raw = RawNats::connect(&server.url()).await;
    for stream in ["MS_HISTORY", "MS_AUDIT", "KV_MS_LEASES", "OBJ_MS_SNAPSHOTS"] {
        assert_eq!(raw.api(&format!("STREAM.DELETE.{stream}"), &json!({})).await["success"], true, "{stream}");
    }
    broker.provision(&topology()).await.expect("the rest is added");
    for facts in broker.stream_facts(&topology()).await.expect("described") {
        assert!(facts.found.is_some_and(|found| found.differences.is_empty()), "{}", facts.name);
    }
    assert_eq!(broker.journal_state(P0).await.expect("a journal"), before);
}

#[tokio::test]
async fn a_server_without_a_cluster_has_no_partitions() {
    let server = nats::start().await;
    assert_eq!(connect(&server).await.partitions().await.expect("asked"), None);
}

#[tokio::test]
async fn a_stream_with_another_configuration_is_reported_and_kept() {
    let (_server, broker) = cluster().await;
    publish(&broker, 1).await;

    let wanted = Topology { tasks_per_subject_max: 7, ..topology() };
    let error = broker.provision(&wanted).await.expect_err("another limit");

    let text = error.to_string();
    assert!(text.contains("MS_TASKS") && text.contains("max_msgs_per_subject: wanted 7, found 100000"), "{text}");
    assert!(!error.is_retryable());
    let ProvisionError::Drift { differences, .. } = error else { panic!("{text}") };
    assert_eq!(differences.len(), 1);
    assert_eq!(broker.scan_tasks(P0).await.expect("a list").len(), 1);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let (_server, broker) = cluster().await;
    let wanted = Topology { partitions: 3, ..topology() };
    let error = broker.provision(&wanted).await.expect_err("another number");
    assert!(matches!(error, ProvisionError::Partitions { wanted: 3, found: 2 }), "{error}");
    assert_eq!(broker.partitions().await.expect("discovered"), Some(2));
}

#[tokio::test]
async fn a_half_created_cluster_is_completed_and_a_lost_journal_is_not_replaced() {
    let (server, broker) = cluster().await;
    let mut raw = RawNats::connect(&server.url()).await;
    raw.api("STREAM.DELETE.MS_JOURNAL_0", &json!({})).await;
    broker.provision(&topology()).await.expect("partition 0 is created last, so it was not finished");

    raw.api("STREAM.DELETE.MS_JOURNAL_1", &json!({})).await;
    let wanted = Topology { partitions: 1, ..topology() };
    broker.provision(&wanted).await.expect("it cannot be told from a cluster of one");

    let (server, broker) = {
        let server = nats::start().await;
        let broker = connect(&server).await;
        broker.provision(&Topology { partitions: 3, ..topology() }).await.expect("provisioned");
        (server, broker)
    };
    RawNats::connect(&server.url()).await.api("STREAM.DELETE.MS_JOURNAL_1", &json!({})).await;
    let error = broker.provision(&Topology { partitions: 3, ..topology() }).await.expect_err("it is lost");
    assert!(matches!(&error, ProvisionError::JournalLost { stream } if stream == "MS_JOURNAL_1"), "{error}");
}

#[tokio::test]
async fn a_task_stream_that_is_created_anew_is_safe_from_old_acks() {
    let (server, broker) = cluster().await;
    publish(&broker, 1).await;
    let mut puller = broker.task_puller(&http()).await.expect("a queue");
    let old = puller.pull(1, crate::fixture::SOON).await.expect("pulled").remove(0);

    RawNats::connect(&server.url()).await.api("STREAM.DELETE.MS_TASKS", &json!({})).await;
    assert!(broker.ensure_task_stream(&topology()).await.expect("created"));
    broker.ensure_task_consumer(&http()).await.expect("a consumer");
    publish(&broker, 2).await;
    drop(old.acker().ack_confirmed().await);

    let keys = broker.scan_tasks(P0).await.expect("a list");
    assert_eq!(keys.len(), 1, "the new task is still there: {keys:?}");
}

#[tokio::test]
async fn without_jetstream_the_error_says_what_to_do() {
    let server = nats::start_with(
        "accounts { WITHOUT { users: [{user: without, password: it}] }, WITH { jetstream: enabled, \
         users: [{user: with, password: it}] } }\nno_auth_user: with",
    )
    .await;
    let config = BrokerConfig { user: Some("without".into()), password: Some("it".into()), ..config(&server) };
    let broker = Broker::connect(config).await.expect("connected");
    let error = broker.provision(&topology()).await.expect_err("no JetStream");
    assert!(matches!(error, ProvisionError::NoJetStream { .. }), "{error}");
    assert!(error.to_string().contains("--jetstream"), "{error}");
}

#[tokio::test]
async fn what_can_never_connect_is_an_error() {
    let config = BrokerConfig { url: "no url".into(), ..BrokerConfig::default() };
    assert!(matches!(Broker::connect(config).await, Err(ConnectError::Url { .. })));
}
