//! What can be found out about a server and our streams, without changing them.

use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{Action, Broker, BrokerConfig, Permission, Storage, StreamFacts, Topology, Verdict};
use millstream_tests::nats;
use serde_json::json;

use crate::fixture::{P0, cluster, config, connect, http, publish, topology};
use crate::raw_nats::RawNats;

fn fact<'a>(facts: &'a [StreamFacts], name: &str) -> &'a StreamFacts {
    facts.iter().find(|facts| facts.name == name).unwrap_or_else(|| panic!("{name} is among {facts:?}"))
}

#[tokio::test]
async fn the_server_and_its_account_are_described() {
    let server = nats::start_with("max_payload: 2097152").await;
    let broker = connect(&server).await;
    broker.provision(&topology()).await.expect("provisioned");
    let facts = broker.server_facts().await.expect("described");
    assert!(facts.version_suffices && facts.version.starts_with("2."), "{facts:?}");
    assert_eq!((facts.max_payload, facts.lame_duck, facts.cluster), (2_097_152, false, None));
    assert!(facts.round_trip > Duration::ZERO && facts.round_trip < Duration::from_secs(5));
    let account = facts.account.expect("JetStream is on");
    assert!(account.streams.used >= 10 && account.streams.max.is_none(), "{account:?}");
    assert!(account.api_level > 0);

    let without = nats::start_with(
        "accounts { WITHOUT { users: [{user: without, password: it}] }, WITH { jetstream: enabled, \
         users: [{user: with, password: it}] } }\nno_auth_user: without",
    )
    .await;
    let facts = connect(&without).await.server_facts().await.expect("described");
    assert_eq!(facts.account, None);
}

#[tokio::test]
async fn every_stream_is_described_and_a_missing_or_changed_one_is_seen() {
    let (server, broker) = cluster().await;
    broker.append_control(P0, "id", Bytes::from_static(b"batch")).await.expect("appended");
    publish(&broker, 1).await;
    let facts = broker.stream_facts(&topology()).await.expect("described");
    let names =
        ["MS_JOURNAL_0", "MS_JOURNAL_1", "MS_TASKS", "MS_HISTORY", "MS_AUDIT", "KV_MS_LEASES", "OBJ_MS_SNAPSHOTS"];
    for name in names {
        let found = fact(&facts, name).found.as_ref().expect("it is there");
        assert_eq!((&found.differences[..], found.replicas, found.current_copies()), (&[][..], 1, 1), "{name}");
        let clock = found.clock.expect("the server tells its time");
        assert!(clock.ahead_us.unsigned_abs() < 1_000_000 + clock.uncertain_us, "one machine has one clock: {clock:?}");
    }
    let journal = fact(&facts, "MS_JOURNAL_0").found.as_ref().expect("it is there");
    assert_eq!((journal.messages, journal.first_sequence, journal.last_sequence), (1, 1, 1));
    assert_eq!(fact(&facts, "MS_TASKS").found.as_ref().map(|tasks| tasks.consumers), Some(1));

    RawNats::connect(&server.url()).await.api("STREAM.DELETE.MS_AUDIT", &json!({})).await;
    let wanted = Topology { journal_bytes_max: Some(9), storage: Storage::Memory, ..topology() };
    let facts = broker.stream_facts(&wanted).await.expect("described");
    assert_eq!(fact(&facts, "MS_AUDIT").found, None);
    let differences: Vec<String> = fact(&facts, "MS_JOURNAL_1")
        .found
        .iter()
        .flat_map(|found| found.differences.iter().map(ToString::to_string))
        .collect();
    assert_eq!(differences, ["storage: wanted \"memory\", found \"file\"", "max_bytes: wanted 9, found unlimited"]);
}

#[tokio::test]
async fn permissions_are_tried_out_without_changing_anything() {
    let (_server, broker) = cluster().await;
    broker.append_control(P0, "id", Bytes::from_static(b"batch")).await.expect("appended");
    broker.append_history(P0, None, Bytes::from_static(b"record"), None).await.expect("appended");
    publish(&broker, 1).await;
    let without_clock = |facts: Vec<StreamFacts>| -> Vec<StreamFacts> {
        let clear = |facts: StreamFacts| StreamFacts {
            found: facts.found.map(|found| millstream_broker::FoundStream { clock: None, ..found }),
            ..facts
        };
        facts.into_iter().map(clear).collect()
    };
    let before = without_clock(broker.stream_facts(&topology()).await.expect("described"));
    let permissions = broker.probe_permissions(&topology()).await.expect("tried out");
    let refused: Vec<&Permission> =
        permissions.iter().filter(|permission| permission.verdict != Verdict::Allowed).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert!(permissions.iter().any(|permission| permission.action == Action::Subscribe));
    assert_eq!(without_clock(broker.stream_facts(&topology()).await.expect("described")), before);
    broker.ensure_task_consumer(&http()).await.expect("it is there");
}

#[tokio::test]
async fn what_a_user_may_not_do_is_found() {
    let server = nats::start_with(
        "authorization { users: [ {user: all, password: a}, {user: some, password: s, permissions: \
         {publish: {deny: [\"ms.journal.1.control\", \"$JS.API.STREAM.PURGE.>\"]}, subscribe: {deny: [\"ms.query.>\"]}}} ] }\n\
         no_auth_user: all",
    )
    .await;
    connect(&server).await.provision(&topology()).await.expect("provisioned");
    let config = BrokerConfig { user: Some("some".into()), password: Some("s".into()), ..config(&server) };
    let broker = Broker::connect(config).await.expect("connected");
    let mut found: Vec<String> = broker
        .probe_permissions(&topology())
        .await
        .expect("tried out")
        .into_iter()
        .filter(|permission| permission.verdict != Verdict::Allowed)
        .map(|permission| format!("{:?} {:?} {}", permission.verdict, permission.action, permission.subject))
        .collect();
    found.sort();
    assert_eq!(
        found,
        [
            "Denied Publish $JS.API.STREAM.PURGE.MS_JOURNAL_0",
            "Denied Publish $JS.API.STREAM.PURGE.OBJ_MS_SNAPSHOTS",
            "Denied Publish ms.journal.1.control",
            "Unanswered Subscribe ms.query.0.permission-probe",
        ]
    );
}
