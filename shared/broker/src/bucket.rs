//! Small records by key, in streams laid out as NATS key-value buckets (ADR-8), so that the tools
//! of NATS show them.
//!
//! The client library's own key-value store is not used for writing: its `update`, and its `create`
//! over a deleted key, drop the time to live and so make a record immortal.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MARKER_REASON, NATS_MESSAGE_TTL};
use bytes::Bytes;
use millstream_model::time::Timestamp;
use serde::Deserialize;

use crate::message::StoredMessage;
use crate::request::{ANSWER_WAIT, RequestError};
use crate::stored::stored;
use crate::{Broker, StoreError};

/// Records of one page of a listing.
const PAGE: usize = 1_000;

const OPERATION: &str = "KV-Operation";

/// A record as the store holds it.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) revision: u64,
    pub(crate) time: Timestamp,
    pub(crate) value: Bytes,
}

/// The newest thing the store knows of a key.
#[derive(Debug, Clone)]
pub(crate) enum Newest {
    /// Nothing was ever written, or nothing of it is left.
    Nothing,
    /// It was deleted or ran out, and the store still has a marker that says so.
    Marker {
        revision: u64,
    },
    Record(Record),
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Anything,
    /// The key's newest revision; 0 is none.
    Revision(u64),
}

/// The stream of a bucket.
pub(crate) fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The subject of a key, or with wildcards of several.
pub(crate) fn key_subject(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// Whether headers are those of a marker and not of a record.
pub(crate) fn is_marker(headers: &HeaderMap) -> bool {
    headers.get_last(NATS_MARKER_REASON).is_some()
        || headers.get_last(OPERATION).is_some_and(|operation| matches!(operation.as_str(), "DEL" | "PURGE"))
}

/// A time to live as JetStream takes it: whole seconds, at least one.
pub(crate) fn ttl_text(ttl: Duration) -> String {
    let seconds = ttl.as_millis().div_ceil(1_000).max(1);
    format!("{seconds}s")
}

impl Broker {
    /// Writes a record and answers with its revision.
    pub(crate) async fn put_record(
        &self,
        bucket: &str,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> Result<u64, RequestError> {
        self.write(bucket, key, value, expected, ttl, false).await
    }

    /// Replaces a record by a marker that says it was deleted.
    pub(crate) async fn delete_record(
        &self,
        bucket: &str,
        key: &str,
        expected: Expected,
        marker_ttl: Option<Duration>,
    ) -> Result<(), RequestError> {
        self.write(bucket, key, Bytes::new(), expected, marker_ttl, true).await.map(drop)
    }

    async fn write(
        &self,
        bucket: &str,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Option<Duration>,
        delete: bool,
    ) -> Result<u64, RequestError> {
        let mut headers = HeaderMap::new();
        if let Expected::Revision(revision) = expected {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string().as_str());
        }
        if let Some(ttl) = ttl {
            headers.insert(NATS_MESSAGE_TTL, ttl_text(ttl).as_str());
        }
        if delete {
            headers.insert(OPERATION, "DEL");
        }
        let headers = (!headers.is_empty()).then_some(headers);
        let subject = key_subject(bucket, key);
        let answer = self.request(&subject, headers, value, ANSWER_WAIT).await?;
        stored(subject, &answer.payload).map(|stored| stored.seq)
    }

    /// A record that never changes once it is there: any replica may answer that it is.
    pub(crate) async fn immutable_record(&self, bucket: &str, key: &str) -> Result<Option<Record>, RequestError> {
        let found = self.replica_message(&bucket_stream(bucket), &key_subject(bucket, key)).await?;
        if let Some(record) = found.and_then(|message| record(bucket, message)) {
            return Ok(Some(record));
        }
        self.record(bucket, key).await
    }

    /// A record as the bucket's leader knows it.
    pub(crate) async fn record(&self, bucket: &str, key: &str) -> Result<Option<Record>, RequestError> {
        Ok(match self.newest(bucket, key).await? {
            Newest::Record(record) => Some(record),
            Newest::Marker { .. } | Newest::Nothing => None,
        })
    }

    /// What the bucket's leader knows of a key.
    pub(crate) async fn newest(&self, bucket: &str, key: &str) -> Result<Newest, RequestError> {
        let message = self.newest_message(&bucket_stream(bucket), &key_subject(bucket, key)).await?;
        let Some(message) = message else { return Ok(Newest::Nothing) };
        let revision = message.sequence;
        Ok(record(bucket, message).map_or(Newest::Marker { revision }, Newest::Record))
    }

    /// The records whose keys match a filter.
    pub(crate) async fn records(&self, bucket: &str, filter: &str) -> Result<Vec<Record>, RequestError> {
        let messages = self.stored_messages(&bucket_stream(bucket), &key_subject(bucket, filter), PAGE).await?;
        Ok(messages.into_iter().filter_map(|message| record(bucket, message)).collect())
    }
}

/// The record in a message, unless it is a marker.
fn record(bucket: &str, message: StoredMessage) -> Option<Record> {
    if is_marker(&message.headers) {
        return None;
    }
    let key = message.subject.strip_prefix(&key_subject(bucket, ""))?.to_owned();
    Some(Record { key, revision: message.sequence, time: message.time, value: message.payload })
}

/// Names the bucket in an error.
pub(crate) fn in_bucket(bucket: &str) -> impl Fn(RequestError) -> StoreError {
    move |source| StoreError::Request { bucket: bucket.to_owned(), source }
}

/// Reads a record's value.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bucket: &str, record: &'a Record) -> Result<T, StoreError> {
    serde_json::from_slice(&record.value).map_err(|source| StoreError::Unreadable {
        bucket: bucket.to_owned(),
        key: record.key.clone(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_is_whole_seconds_and_never_shorter_than_asked() {
        assert_eq!(ttl_text(Duration::from_millis(10)), "1s");
        assert_eq!(ttl_text(Duration::from_millis(1_001)), "2s");
        assert_eq!(ttl_text(Duration::from_secs(15)), "15s");
    }

    #[test]
    fn markers_are_not_records() {
        let headers = |name: &str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value);
            headers
        };
        assert!(is_marker(&headers("KV-Operation", "DEL")));
        assert!(is_marker(&headers("Nats-Marker-Reason", "MaxAge")));
        assert!(!is_marker(&headers("Nats-TTL", "5s")));
    }
}
