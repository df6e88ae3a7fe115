//! Snapshots, the pointers to them, and what of a journal may go when there is one.

use bytes::Bytes;
use millstream_broker::{Broker, LeaseError, PayloadError, Storage, Topology};
use millstream_model::hash::ContentHash;
use millstream_model::ids::Partition;
use millstream_model::names::JournalSubject;
use millstream_model::snapshot::SnapshotPointer;
use millstream_model::time::Timestamp;

use crate::fixture::{P0, cluster, cluster_with, http, topology};

const OBJECT: &str = "0/17";

/// Bytes that no compression and no repetition hides a mistake in.
fn noise(length: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn pointer(object: &str, bytes: &Bytes) -> SnapshotPointer {
    SnapshotPointer {
        object: object.to_owned(),
        hash: ContentHash::of(bytes),
        size: bytes.len() as u64,
        sequence: 17,
        time: Timestamp::from_micros(5),
        message: ContentHash::of(b"message"),
        stream_created: Timestamp::from_micros(1),
        state: ContentHash::of(b"state"),
        taken_by: "one".parse().expect("a name"),
        fold_rev: 2,
        executions: 3,
        entries: 4,
    }
}

async fn missing(broker: &Broker, pointer: &SnapshotPointer) {
    let error = broker.get_snapshot(pointer).await.expect_err("it is not there");
    assert!(matches!(error, PayloadError::Missing { .. }), "{error}");
}

#[tokio::test]
async fn a_large_snapshot_comes_back_as_it_was() {
    for storage in [Storage::File, Storage::Memory] {
        let (_server, broker) = cluster_with(&Topology { storage, ..topology() }).await;
        let bytes = noise(5 * 1024 * 1024 + 7);
        broker.put_snapshot(OBJECT, bytes.clone()).await.expect("stored");
        assert_eq!(broker.get_snapshot(&pointer(OBJECT, &bytes)).await.expect("loaded"), bytes);
        let other = SnapshotPointer { hash: ContentHash::of(b"other"), ..pointer(OBJECT, &bytes) };
        let error = broker.get_snapshot(&other).await.expect_err("another hash");
        assert!(matches!(error, PayloadError::Corrupt { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_snapshot_is_written_once_and_removed_without_a_trace() {
    let (_server, broker) = cluster().await;
    let (bytes, others) = (noise(200_000), noise(100_000));
    broker.put_snapshot(OBJECT, bytes.clone()).await.expect("stored");
    broker.put_snapshot(OBJECT, bytes.clone()).await.expect("the same again");
    let error = broker.put_snapshot(OBJECT, others.clone()).await.expect_err("another of the name");
    assert!(matches!(error, PayloadError::Exists { .. }) && !error.is_retryable(), "{error}");
    assert_eq!(broker.get_snapshot(&pointer(OBJECT, &bytes)).await.expect("untouched"), bytes);
    broker.put_snapshot("1/4", others.clone()).await.expect("stored");
    let mut objects = broker.snapshot_objects().await.expect("a list");
    objects.sort();
    assert_eq!(objects, [OBJECT, "1/4"]);

    broker.delete_snapshot(OBJECT).await.expect("removed");
    broker.delete_snapshot(OBJECT).await.expect("nothing to do");
    missing(&broker, &pointer(OBJECT, &bytes)).await;
    assert_eq!(broker.snapshot_objects().await.expect("a list"), ["1/4"]);
    broker.put_snapshot(OBJECT, others.clone()).await.expect("the name is free");
    assert_eq!(broker.get_snapshot(&pointer(OBJECT, &others)).await.expect("loaded"), others);
}

#[tokio::test]
async fn of_writers_of_one_name_one_is_kept_whole() {
    let (_server, broker) = cluster().await;
    let contents: Vec<Bytes> = (1..=6).map(|number| noise(300_000 + number)).collect();
    let writers = contents.iter().map(|bytes| broker.put_snapshot(OBJECT, bytes.clone()));
    let outcomes = futures::future::join_all(writers).await;
    let winners: Vec<_> = contents.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let kept = winners[0].0;
    assert_eq!(&broker.get_snapshot(&pointer(OBJECT, kept)).await.expect("loaded"), kept);
}

#[tokio::test]
async fn a_pointer_is_replaced_only_by_who_knows_it() {
    let (mut server, broker) = cluster().await;
    let one = pointer("0/1", &noise(10));
    let two = pointer("0/2", &noise(20));
    assert_eq!(broker.snapshot_pointer(P0).await.expect("read"), None);
    let first = broker.put_snapshot_pointer(P0, &one, None).await.expect("the first");
    let taken = |outcome: Result<u64, LeaseError>| matches!(outcome, Err(LeaseError::Taken));
    assert!(taken(broker.put_snapshot_pointer(P0, &two, None).await));
    let second = broker.put_snapshot_pointer(P0, &two, Some(first)).await.expect("the next");
    assert!(taken(broker.put_snapshot_pointer(P0, &one, Some(first)).await));
    server.restart().await;
    broker.connected().await;
    assert_eq!(broker.snapshot_pointer(P0).await.expect("read"), Some((two, second)));
    assert_eq!(broker.snapshot_pointer(Partition(1)).await.expect("read"), None);
}

#[tokio::test]
async fn a_purge_keeps_the_message_it_names_and_all_after_it() {
    let (_server, broker) = cluster().await;
    for number in 1..=10 {
        let batch = Bytes::from(format!("batch {number}"));
        broker.append_control(P0, &format!("id-{number}"), batch).await.expect("appended");
    }
    assert_eq!(broker.purge_journal(P0, 7).await.expect("purged"), 6);
    let state = broker.journal_state(P0).await.expect("a journal");
    assert_eq!((state.first_sequence, state.last_sequence, state.messages), (7, 10, 4));
    assert!(broker.journal_message(P0, 6).await.expect("read").is_none());
    let kept = broker.journal_message(P0, 7).await.expect("read").expect("the message itself stays");
    assert_eq!((kept.sequence, &kept.payload[..]), (7, &b"batch 7"[..]));
    assert_eq!((kept.subject, kept.msg_id.as_deref()), (Some(JournalSubject::Control), Some("id-7")));
    let read = broker.read_journal(P0, 1).await.expect("a journal").next().await.expect("readable");
    assert_eq!((read.sequence, read.time), (7, kept.time));

    let appended = broker.append_results(P0, &http(), Bytes::from_static(b"result"), None).await.expect("appended");
    assert_eq!(appended.sequence, 11, "sequences go on");
    let again = broker.append_control(P0, "id-10", Bytes::new()).await.expect("recognised");
    assert!(again.duplicate, "a purge forgets no message id");
}

#[tokio::test]
async fn a_purge_below_a_message_that_is_not_there_purges_nothing() {
    let (_server, broker) = cluster().await;
    for number in 1..=3 {
        broker.append_control(P0, &format!("id-{number}"), Bytes::from_static(b"x")).await.expect("appended");
    }
    for below in [0, 4, 1_000] {
        assert_eq!(broker.purge_journal(P0, below).await.expect("nothing to do"), 0, "below {below}");
    }
    let state = broker.journal_state(P0).await.expect("a journal");
    assert_eq!((state.first_sequence, state.last_sequence, state.messages), (1, 3, 3));
    assert_eq!(broker.purge_journal(P0, 3).await.expect("purged"), 2);
    assert_eq!(broker.purge_journal(P0, 2).await.expect("nothing to do"), 0, "it was purged already");
}
