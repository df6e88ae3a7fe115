//! The history: records with a time to live, read with gaps. And the audit trail, which has none.

use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{
    AppendError, AuditAppendError, Broker, HistoryMessage, HistoryReader, ReadError, Storage, Topology,
};
use millstream_model::ids::Partition;
use millstream_tests::wait::eventually;
use serde_json::json;

use crate::fixture::{P0, SOON, cluster, cluster_with, soon, topology};
use crate::raw_nats::RawNats;

const P1: Partition = Partition(1);
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3_600);

async fn append(broker: &Broker, text: &str, ttl: Option<Duration>) -> u64 {
    broker.append_history(P0, None, Bytes::copy_from_slice(text.as_bytes()), ttl).await.expect("appended")
}

async fn read(reader: &mut HistoryReader) -> (u64, Bytes) {
    let HistoryMessage { sequence, payload, .. } = soon("a record", reader.next()).await.expect("readable");
    (sequence, payload)
}

#[tokio::test]
async fn a_record_is_read_by_its_sequence_until_it_is_deleted() {
    let (_server, broker) = cluster().await;
    let sequence = broker.append_history(P1, Some("id"), Bytes::from_static(b"one"), Some(LONG)).await;
    let sequence = sequence.expect("appended");
    let again = broker.append_history(P1, Some("id"), Bytes::from_static(b"one"), Some(LONG)).await;
    assert_eq!(again.expect("recognised"), sequence);
    let found = broker.history_message(sequence).await.expect("read").expect("it is there");
    assert_eq!((found.sequence, found.partition, &found.payload[..]), (sequence, P1, &b"one"[..]));
    assert!(found.time >= broker.history_state().await.expect("a history").created);

    broker.delete_history(sequence).await.expect("deleted");
    broker.delete_history(sequence).await.expect("nothing to do");
    broker.delete_history(99).await.expect("nothing to do");
    assert_eq!(broker.history_message(sequence).await.expect("read"), None);
    let state = broker.history_state().await.expect("a history");
    assert_eq!((state.first, state.last, state.messages), (sequence + 1, sequence, 0));
}

#[tokio::test]
async fn a_record_runs_out_on_time_and_one_without_a_time_stays() {
    for storage in [Storage::File, Storage::Memory] {
        let (_server, broker) = cluster_with(&Topology { storage, ..topology() }).await;
        let kept = append(&broker, "kept", None).await;
        let short = append(&broker, "short", Some(SHORT)).await;
        let long = append(&broker, "long", Some(LONG)).await;
        eventually(SOON, "the record runs out", || async {
            broker.history_message(short).await.expect("read").is_none().then_some(())
        })
        .await;
        let mut reader = broker.read_history(1).await.expect("a history");
        assert_eq!(read(&mut reader).await, (kept, "kept".into()));
        assert_eq!(read(&mut reader).await, (long, "long".into()), "a gap is normal");
        assert_eq!(reader.position(), long + 1);
    }
}

#[tokio::test]
async fn the_history_is_read_across_a_crash_of_the_server() {
    let (mut server, broker) = cluster().await;
    for number in 1..=30_u64 {
        append(&broker, &number.to_string(), (number % 3 == 0).then_some(SHORT)).await;
    }
    let mut reader = broker.read_history(1).await.expect("a history");
    assert_eq!(read(&mut reader).await, (1, "1".into()));
    eventually(SOON, "some records run out", || async {
        (broker.history_state().await.ok()?.messages == 20).then_some(())
    })
    .await;
    server.restart().await;
    let last = eventually(SOON, "a record after the crash", || async {
        broker.append_history(P0, Some("last"), Bytes::from_static(b"last"), None).await.ok()
    })
    .await;
    let mut seen = vec![1];
    while seen.last() != Some(&last) {
        seen.push(read(&mut reader).await.0);
    }
    // What the reader had before the crash may have run out since.
    seen.retain(|sequence| sequence % 3 != 0 || *sequence == last);
    let expected: Vec<u64> = (1..=30).filter(|number| number % 3 != 0).chain([last]).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_history_that_was_replaced_is_an_error() {
    let (server, broker) = cluster().await;
    append(&broker, "one", None).await;
    let mut reader = broker.read_history(1).await.expect("a history");
    read(&mut reader).await;
    RawNats::connect(&server.url()).await.api("STREAM.DELETE.MS_HISTORY", &json!({})).await;
    let error = broker.append_history(P0, None, Bytes::from_static(b"x"), None).await.expect_err("no stream");
    assert!(matches!(error, AppendError::NoStream { .. }) && error.is_retryable(), "{error}");
    broker.provision(&topology()).await.expect("what is missing is added");
    append(&broker, "another", None).await;
    let error = soon("the reader's error", reader.next()).await.expect_err("it is another history");
    assert!(matches!(error, ReadError::Replaced { .. } | ReadError::NoStream { .. }), "{error}");
}

#[tokio::test]
async fn a_record_is_audited_after_the_one_its_writer_knew() {
    for storage in [Storage::File, Storage::Memory] {
        let (_server, broker) = cluster_with(&Topology { storage, ..topology() }).await;
        assert_eq!(broker.audit_last().await.expect("read"), None);
        let record = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(broker.append_audit(record("one"), 0).await.expect("the first"), 1);
        let error = broker.append_audit(record("late"), 0).await.expect_err("there is one");
        assert!(matches!(error, AuditAppendError::Moved) && !error.is_unknown(), "{error}");
        assert_eq!(broker.append_audit(record("two"), 1).await.expect("the second"), 2);
        let error = broker.append_audit(record("early"), 5).await.expect_err("there is no fifth");
        assert!(matches!(error, AuditAppendError::Moved), "{error}");
        assert_eq!(broker.audit_last().await.expect("read"), Some((2, record("two"))));
        let mut reader = broker.read_audit(1).await.expect("a trail");
        for (sequence, text) in [(1, "one"), (2, "two")] {
            let message = soon("a record", reader.next()).await.expect("readable");
            assert_eq!((message.sequence, message.payload), (sequence, record(text)));
        }
    }
}

#[tokio::test]
async fn of_many_auditors_at_one_place_one_succeeds() {
    let (_server, broker) = cluster().await;
    let auditors = (0..20).map(|number| broker.append_audit(Bytes::from(number.to_string()), 0));
    let outcomes = futures::future::join_all(auditors).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(broker.audit_state().await.expect("a trail").messages, 1);
}

#[tokio::test]
async fn nothing_is_deleted_from_the_audit_trail() {
    let (server, broker) = cluster().await;
    broker.append_audit(Bytes::from_static(b"one"), 0).await.expect("the first");
    let mut raw = RawNats::connect(&server.url()).await;
    for (method, body) in [("STREAM.MSG.DELETE.MS_AUDIT", json!({"seq": 1})), ("STREAM.PURGE.MS_AUDIT", json!({}))] {
        assert!(raw.api(method, &body).await["error"].is_object(), "{method}");
    }
    assert_eq!(broker.audit_last().await.expect("read"), Some((1, Bytes::from_static(b"one"))));
}
