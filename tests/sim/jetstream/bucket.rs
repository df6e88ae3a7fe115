//! Buckets: small records by key, in streams laid out as NATS does (ADR-8), with the operations of the broker
//! crate's `bucket.rs`. Changes are watched with a [`Feed`](super::Feed) from
//! [`NewestPerSubject`](super::ReadFrom::NewestPerSubject); a message with a [`Marker`] is a deletion.

use std::time::Duration;

use bytes::Bytes;

use super::message::{Marker, Publish, StoredMessage};
use super::refusal::RequestFailed;
use super::retained::View;
use super::{PubAck, Server};

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Anything,
    /// The key's newest revision, that of a marker too; 0 is none.
    Revision(u64),
}

/// The newest thing the bucket knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newest<'a> {
    /// Nothing was ever written, or nothing of it is left.
    Nothing,
    /// It was deleted or ran out, and there is still a marker that says so.
    Marker {
        revision: u64,
    },
    Record(&'a StoredMessage),
}

/// The stream of a bucket.
pub fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The subject of a key, or with wildcards of several.
pub fn key_subject(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

impl Server {
    /// Writes a record; its sequence is its revision. Without a lifetime it lives for ever, even when the record it
    /// replaces had one.
    pub fn put_record(
        &mut self,
        bucket: &str,
        key: &str,
        value: Bytes,
        expected: Expected,
        lifetime: Option<Duration>,
    ) -> Result<PubAck, RequestFailed> {
        self.write_record(bucket, key, value, expected, lifetime, None)
    }

    /// Replaces a record by a marker that says it was deleted.
    pub fn delete_record(
        &mut self,
        bucket: &str,
        key: &str,
        expected: Expected,
        marker_lifetime: Option<Duration>,
    ) -> Result<PubAck, RequestFailed> {
        self.write_record(bucket, key, Bytes::new(), expected, marker_lifetime, Some(Marker::Deleted))
    }

    fn write_record(
        &mut self,
        bucket: &str,
        key: &str,
        value: Bytes,
        expected: Expected,
        lifetime: Option<Duration>,
        marker: Option<Marker>,
    ) -> Result<PubAck, RequestFailed> {
        let subject = key_subject(bucket, key);
        let mut publish = Publish::new(&subject, value);
        if let Expected::Revision(revision) = expected {
            publish = publish.expected_last_subject_sequence(revision);
        }
        if let Some(lifetime) = lifetime {
            publish = publish.lifetime(lifetime);
        }
        if let Some(marker) = marker {
            publish = publish.marker(marker);
        }
        self.publish(&publish)
    }

    /// What the bucket knows of a key.
    pub fn newest_record(&self, bucket: &str, key: &str, view: View) -> Result<Newest<'_>, RequestFailed> {
        let newest = self.newest(&bucket_stream(bucket), &key_subject(bucket, key), view)?;
        Ok(match newest {
            None => Newest::Nothing,
            Some(message) if message.marker.is_some() => Newest::Marker { revision: message.sequence },
            Some(message) => Newest::Record(message),
        })
    }

    /// The records whose keys match a filter, in the order of their revisions.
    pub fn records(&self, bucket: &str, filter: &str, view: View) -> Result<Vec<&StoredMessage>, RequestFailed> {
        let mut messages = self.messages(&bucket_stream(bucket), &key_subject(bucket, filter), view)?;
        messages.retain(|message| message.marker.is_none());
        Ok(messages)
    }
}
