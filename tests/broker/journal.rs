//! The journal: appended once, read in order.

use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{AppendError, Broker, JournalReader, ReadError, Topology};
use millstream_model::names::JournalSubject;
use millstream_model::time::Timestamp;
use millstream_model::trace::TraceParent;
use millstream_tests::wait::eventually;
use serde_json::json;

use crate::fixture::{P0, SOON, cluster, cluster_with, http, soon, topology};
use crate::raw_nats::RawNats;

async fn append(broker: &Broker, text: &str) -> u64 {
    let batch = Bytes::copy_from_slice(text.as_bytes());
    broker.append_results(P0, &http(), batch, None).await.expect("appended").sequence
}

async fn read(reader: &mut JournalReader) -> (u64, String) {
    let message = soon("a message of the journal", reader.next()).await.expect("readable");
    (message.sequence, String::from_utf8(message.payload.to_vec()).expect("text"))
}

#[tokio::test]
async fn messages_are_read_in_the_order_they_were_appended() {
    let (_server, broker) = cluster().await;
    let mut reader = broker.read_journal(P0, 1).await.expect("a journal");
    let trace: TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().expect("a trace");
    broker.append_control(P0, "id-1", Bytes::from_static(b"one")).await.expect("appended");
    broker.append_results(P0, &http(), Bytes::from_static(b"two"), Some(&trace)).await.expect("appended");

    let one = soon("the first", reader.next()).await.expect("readable");
    let two = soon("the second", reader.next()).await.expect("readable");
    assert_eq!((one.sequence, two.sequence), (1, 2));
    assert_eq!((&one.payload[..], &two.payload[..]), (&b"one"[..], &b"two"[..]));
    assert_eq!(one.subject, Some(JournalSubject::Control));
    assert_eq!(two.subject, Some(JournalSubject::Result(http())));
    assert_eq!((one.msg_id.as_deref(), two.msg_id), (Some("id-1"), None));
    let state = broker.journal_state(P0).await.expect("a journal");
    assert!(state.created <= one.time && one.time <= two.time, "{state:?} {} {}", one.time, two.time);
    assert!(one.time > Timestamp::from_millis(1_600_000_000_000));
    assert_eq!((state.first_sequence, state.last_sequence, state.messages, state.bytes_max), (1, 2, 2, None));
}

#[tokio::test]
async fn a_thousand_messages_come_once_each_from_any_place() {
    let (_server, broker) = cluster().await;
    for number in 1..=1_000 {
        assert_eq!(append(&broker, &number.to_string()).await, number);
    }
    let mut reader = broker.read_journal(P0, 400).await.expect("a journal");
    for number in 400..=1_000 {
        assert_eq!(read(&mut reader).await, (number, number.to_string()));
    }
    assert_eq!(reader.position(), 1_001);
}

#[tokio::test]
async fn a_repeated_control_batch_is_stored_once() {
    let (_server, broker) = cluster().await;
    let first = broker.append_control(P0, "same", Bytes::from_static(b"a")).await.expect("appended");
    let second = broker.append_control(P0, "same", Bytes::from_static(b"a")).await.expect("recognised");
    assert_eq!((first.sequence, first.duplicate), (1, false));
    assert_eq!((second.sequence, second.duplicate), (1, true));
    assert_eq!(broker.journal_state(P0).await.expect("a journal").messages, 1);
}

#[tokio::test]
async fn the_reader_survives_a_crash_of_the_server() {
    let (mut server, broker) = cluster().await;
    let mut reader = broker.read_journal(P0, 1).await.expect("a journal");
    for number in 1..=50 {
        append(&broker, &number.to_string()).await;
    }
    for number in 1..=20 {
        assert_eq!(read(&mut reader).await.0, number);
    }
    server.kill9();
    eventually(SOON, "the loss is noticed", || async { (!broker.is_connected()).then_some(()) }).await;
    server.restart().await;
    soon("a new connection", broker.connected()).await;
    for number in 51..=60 {
        eventually(SOON, "an append after the crash", || async {
            broker.append_control(P0, &format!("after-{number}"), Bytes::from(number.to_string())).await.ok()
        })
        .await;
    }
    for number in 21..=60 {
        assert_eq!(read(&mut reader).await, (number, number.to_string()));
    }
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing_not_even_while_reconnecting() {
    let (mut server, broker) = cluster().await;
    let mut reader = broker.read_journal(P0, 1).await.expect("a journal");
    let mut seen = Vec::new();
    for round in 1..=3_u64 {
        for number in 1..=20_u64 {
            let id = format!("{round}-{number}");
            eventually(SOON, "an append", || async {
                broker.append_control(P0, &id, Bytes::from_static(b"x")).await.ok()
            })
            .await;
            while let Ok(message) = tokio::time::timeout(Duration::from_micros(200), reader.next()).await {
                seen.push(message.expect("readable").sequence);
            }
        }
        server.restart().await;
    }
    let rest = async {
        while seen.len() < 60 {
            if let Ok(message) = tokio::time::timeout(Duration::from_millis(2), reader.next()).await {
                seen.push(message.expect("readable").sequence);
            }
        }
    };
    soon("the rest is read", rest).await;
    assert_eq!(seen, (1..=60).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_idle_reader_notices_that_its_consumer_is_gone() {
    let (server, broker) = cluster().await;
    let mut reader = broker.read_journal(P0, 1).await.expect("a journal");
    append(&broker, "one").await;
    assert_eq!(read(&mut reader).await.0, 1);

    let mut raw = RawNats::connect(&server.url()).await;
    let names = raw.api("CONSUMER.NAMES.MS_JOURNAL_0", &json!({})).await;
    for name in names["consumers"].as_array().expect("a list") {
        let method = format!("CONSUMER.DELETE.MS_JOURNAL_0.{}", name.as_str().expect("a name"));
        assert_eq!(raw.api(&method, &json!({})).await["success"], true);
    }
    append(&broker, "two").await;
    assert_eq!(read(&mut reader).await, (2, "two".to_owned()));
}

#[tokio::test]
async fn what_was_purged_shows_as_a_gap() {
    let (server, broker) = cluster().await;
    for number in 1..=10 {
        append(&broker, &number.to_string()).await;
    }
    RawNats::connect(&server.url()).await.api("STREAM.PURGE.MS_JOURNAL_0", &json!({"seq": 6})).await;
    let mut reader = broker.read_journal(P0, 1).await.expect("a journal");
    assert_eq!(read(&mut reader).await.0, 6);
    assert_eq!(broker.journal_state(P0).await.expect("a journal").first_sequence, 6);
}

#[tokio::test]
async fn a_journal_that_ends_before_its_reader_is_an_error() {
    let (_server, broker) = cluster().await;
    append(&broker, "one").await;
    assert!(broker.read_journal(P0, 2).await.is_ok());
    let Err(error) = broker.read_journal(P0, 3).await else { panic!("sequence 2 was never there") };
    assert!(matches!(error, ReadError::WentBackwards { expected: 3, last: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_journal_that_was_replaced_is_an_error() {
    let (server, broker) = cluster_with(&Topology { partitions: 1, ..topology() }).await;
    append(&broker, "one").await;
    let mut reader = broker.read_journal(P0, 1).await.expect("a journal");
    assert_eq!(read(&mut reader).await.0, 1);
    RawNats::connect(&server.url()).await.api("STREAM.DELETE.MS_JOURNAL_0", &json!({})).await;
    broker.provision(&Topology { partitions: 1, ..topology() }).await.expect("a new cluster");
    append(&broker, "another").await;
    let error = soon("the reader's error", reader.next()).await.expect_err("it is another journal");
    assert!(matches!(error, ReadError::Replaced { .. } | ReadError::NoStream { .. }), "{error}");
}

#[tokio::test]
async fn a_full_journal_is_told_from_everything_else() {
    let (_server, broker) = cluster_with(&Topology { journal_bytes_max: Some(4_096), ..topology() }).await;
    let batch = Bytes::from(vec![b'x'; 1_500]);
    let mut outcome = broker.append_results(P0, &http(), batch.clone(), None).await;
    for _ in 0..3 {
        if outcome.is_ok() {
            outcome = broker.append_results(P0, &http(), batch.clone(), None).await;
        }
    }
    let error = outcome.expect_err("it is full");
    assert!(matches!(error, AppendError::Full { .. }) && error.is_retryable() && !error.is_unknown(), "{error}");
    assert_eq!(broker.journal_state(P0).await.expect("a journal").bytes_max, Some(4_096));

    let huge = Bytes::from(vec![b'x'; broker.max_payload() + 1]);
    let error = broker.append_control(P0, "huge", huge).await.expect_err("too large");
    assert!(matches!(error, AppendError::TooLarge { .. }) && !error.is_retryable(), "{error}");
}

#[tokio::test]
async fn an_append_that_a_silent_server_does_not_answer_is_unknown() {
    let (server, broker) = cluster().await;
    server.pause();
    // The last messages before it stands still may yet be answered.
    let mut number = 0;
    let (id, error) = loop {
        number += 1;
        let id = format!("id-{number}");
        match broker.append_control(P0, &id, Bytes::from_static(b"x")).await {
            Ok(appended) => assert!(!appended.duplicate && number < 1_000_000),
            Err(error) => break (id, error),
        }
    };
    assert!(error.is_unknown() && error.is_retryable(), "{error}");
    server.resume();
    let again = broker.append_control(P0, &id, Bytes::from_static(b"x")).await.expect("answered");
    assert_eq!((again.sequence, again.duplicate), (number, true), "it was carried out after all");
}
