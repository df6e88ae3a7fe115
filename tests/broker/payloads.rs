//! Payloads: large values, checked when they are read.

use millstream_broker::PayloadError;
use millstream_model::payload::PayloadRef;
use serde_json::json;

use crate::fixture::{cluster, execution};
use crate::raw_nats::RawNats;

fn text(size: usize) -> String {
    format!("\"{}\"", "xyz".chars().cycle().take(size.saturating_sub(2)).collect::<String>())
}

#[tokio::test]
async fn values_of_every_size_read_back() {
    let (_server, broker) = cluster().await;
    for size in [2, 131_072, 131_073, 2 * 1024 * 1024, 64 * 1024 * 1024] {
        let text = text(size);
        let reference = broker.put_payload(execution(1), &text).await.expect("stored");
        assert_eq!(reference, PayloadRef::to(&text));
        let back = broker.get_payload(execution(1), reference).await.expect("there");
        assert!(back.get() == text, "{size} bytes read back");
    }
}

#[tokio::test]
async fn storing_a_value_twice_or_at_the_same_time_keeps_one() {
    let (server, broker) = cluster().await;
    let text = text(1_000_000);
    let puts = (0..4).map(|_| broker.put_payload(execution(1), &text));
    let references = futures::future::join_all(puts).await;
    for reference in references {
        let reference = reference.expect("stored");
        assert_eq!(broker.get_payload(execution(1), reference).await.expect("there").get(), text);
    }
    let info = RawNats::connect(&server.url()).await.api("STREAM.INFO.OBJ_MS_PAYLOADS", &json!({})).await;
    assert_eq!(info["state"]["messages"], 8 + 1, "eight chunks and one description");
}

#[tokio::test]
async fn a_missing_value_is_told_from_a_damaged_one() {
    let (server, broker) = cluster().await;
    let mut raw = RawNats::connect(&server.url()).await;
    let text = text(300_000);
    let missing = broker.get_payload(execution(1), PayloadRef::to(&text)).await.expect_err("never stored");
    assert!(matches!(missing, PayloadError::Missing { .. }) && !missing.is_retryable(), "{missing}");

    raw.subscribe("$O.MS_PAYLOADS.C.>").await;
    let reference = broker.put_payload(execution(1), &text).await.expect("stored");
    assert!(matches!(broker.get_payload(execution(2), reference).await, Err(PayloadError::Missing { .. })));

    let (chunks, _) = raw.next().await;
    raw.api("STREAM.PURGE.OBJ_MS_PAYLOADS", &json!({"filter": chunks, "keep": 2})).await;
    let damaged = broker.get_payload(execution(1), reference).await.expect_err("a chunk is gone");
    assert!(matches!(damaged, PayloadError::Corrupt { .. }), "{damaged}");
    raw.publish(&chunks, b"other bytes").await;
    let damaged = broker.get_payload(execution(1), reference).await.expect_err("it is another value");
    assert!(matches!(damaged, PayloadError::Corrupt { .. }) && !damaged.is_retryable(), "{damaged}");
}
