//! Payloads: values too large for messages, by execution and content hash.
//!
//! They are laid out as NATS lays out objects (ADR-20), so that its tools show them. The client library's own
//! object store is not used: two writers of the same object would purge each other's chunks, which content-addressed
//! values of retried tasks do, and reading an object whose chunks are gone waits for ever.

use std::collections::VecDeque;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_ROLLUP};
use bytes::Bytes;
use millstream_model::hash::ContentHash;
use millstream_model::ids::ExecutionId;
use millstream_model::payload::PayloadRef;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::warn;

use crate::Broker;
use crate::base64;
use crate::feed::back_off;
use crate::message::StoredMessage;
use crate::request::{ANSWER_WAIT, RequestError, code};
use crate::stored::stored;

/// Bytes of a chunk, as NATS' own tools cut objects.
const CHUNK: usize = 128 * 1024;
/// Chunks that are on their way to the store at the same time.
const WINDOW: usize = 16;
/// Chunks of one page when reading: 4 MiB, far below what makes the server drop a slow reader.
const PAGE: usize = 32;
/// Times a replica is asked for chunks that it does not have yet.
const ATTEMPTS: u32 = 4;
/// Go's zero time.
const UNKNOWN_TIME: &str = "0001-01-01T00:00:00Z";

/// Why a payload cannot be had or stored.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    #[error("payload {name} is not in the store")]
    Missing { name: String },
    #[error("payload {name} is damaged in the store: {reason}")]
    Corrupt { name: String, reason: &'static str },
    #[error("payload {name} cannot be exchanged with the store: {source}")]
    Store {
        name: String,
        #[source]
        source: RequestError,
    },
}

impl PayloadError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Corrupt { .. } => false,
            Self::Store { source, .. } => source.is_retryable(),
        }
    }
}

/// An object's description, as NATS stores it.
#[derive(Debug, Serialize, Deserialize)]
struct Object {
    name: String,
    bucket: String,
    /// Names the chunks' subject.
    nuid: String,
    size: u64,
    chunks: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
    /// NATS' tools want the field, and show the time of the message instead.
    #[serde(default)]
    mtime: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Options {
    max_chunk_size: usize,
}

impl Broker {
    /// Stores the JSON text of a value; storing it again changes nothing.
    pub async fn put_payload(&self, execution: ExecutionId, text: &str) -> Result<PayloadRef, PayloadError> {
        let reference = PayloadRef::to(text);
        let name = reference.object_name(execution);
        self.put_object(name, reference, text).await.map(|()| reference)
    }

    /// The JSON text of a stored value, checked against its hash.
    pub async fn get_payload(
        &self,
        execution: ExecutionId,
        reference: PayloadRef,
    ) -> Result<Box<RawValue>, PayloadError> {
        let name = reference.object_name(execution);
        let text = self.get_object(name.clone(), reference).await?;
        RawValue::from_string(text).map_err(|_| PayloadError::Corrupt { name, reason: "it is not JSON" })
    }

    /// Stores text under its own hash; storing it again changes nothing.
    pub(crate) async fn put_object(&self, name: String, reference: PayloadRef, text: &str) -> Result<(), PayloadError> {
        let stored = self.store(&name, reference, text.as_bytes()).await;
        stored.map_err(|source| PayloadError::Store { name, source })
    }

    /// Stored text, checked against its hash.
    pub(crate) async fn get_object(&self, name: String, reference: PayloadRef) -> Result<String, PayloadError> {
        let bytes = match self.load(&name, reference).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(PayloadError::Missing { name }),
            Err(Unloadable::Damaged(reason)) => return Err(PayloadError::Corrupt { name, reason }),
            Err(Unloadable::Request(source)) => return Err(PayloadError::Store { name, source }),
        };
        if ContentHash::of(&bytes) != reference.hash {
            return Err(PayloadError::Corrupt { name, reason: "its hash is another" });
        }
        String::from_utf8(bytes).map_err(|_| PayloadError::Corrupt { name, reason: "it is not UTF-8" })
    }

    async fn store(&self, name: &str, reference: PayloadRef, bytes: &[u8]) -> Result<(), RequestError> {
        let store = self.names().payloads();
        let found = self.object(&store, name).await?;
        if found.as_ref().is_some_and(|(object, _)| !object.deleted && object.size == reference.size) {
            return Ok(());
        }
        let inbox = self.client().new_inbox();
        let nuid = inbox.rsplit('.').next().unwrap_or_default();
        let chunks_subject = chunks_subject(&store, nuid);
        self.send_chunks(&chunks_subject, bytes).await?;
        let object = Object {
            name: name.to_owned(),
            bucket: store.clone(),
            nuid: nuid.to_owned(),
            size: reference.size,
            chunks: bytes.len().div_ceil(CHUNK),
            digest: Some(format!("SHA-256={}", base64::encode_url_safe(reference.hash.as_bytes()))),
            deleted: false,
            options: Some(Options { max_chunk_size: CHUNK }),
            mtime: UNKNOWN_TIME.to_owned(),
        };
        let revision = found.map_or(0, |(_, revision)| revision);
        match self.describe(&object, revision).await {
            Err(error) if error.code() == Some(code::WRONG_LAST_SEQUENCE) => {
                // Somebody else has stored the same value meanwhile; ours is of no use.
                if let Err(error) = self.purge(&store, &chunks_subject).await {
                    warn!(name, %error, "chunks of a payload that was stored twice stay behind");
                }
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn send_chunks(&self, subject: &str, bytes: &[u8]) -> Result<(), RequestError> {
        let mut under_way = VecDeque::with_capacity(WINDOW);
        let mut chunks = bytes.chunks(CHUNK);
        loop {
            match chunks.next() {
                Some(chunk) => {
                    let chunk = Bytes::copy_from_slice(chunk);
                    under_way.push_back(self.send(subject.to_owned(), None, chunk, ANSWER_WAIT).await?);
                    if under_way.len() < WINDOW {
                        continue;
                    }
                }
                None if under_way.is_empty() => return Ok(()),
                None => {}
            }
            let Some(ticket) = under_way.pop_front() else { return Ok(()) };
            let answer = ticket.await.message(subject)?;
            stored(subject.to_owned(), &answer.payload)?;
        }
    }

    /// Writes an object's description over revision `revision` of it.
    async fn describe(&self, object: &Object, revision: u64) -> Result<(), RequestError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_ROLLUP, "sub");
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string().as_str());
        let subject = description_subject(&object.bucket, &object.name);
        let text = serde_json::to_vec(object).expect("a description always has a JSON form");
        let answer = self.request(&subject, Some(headers), text.into(), ANSWER_WAIT).await?;
        stored(subject, &answer.payload).map(drop)
    }

    async fn purge(&self, store: &str, subject: &str) -> Result<(), RequestError> {
        let method = format!("STREAM.PURGE.{}", store_stream(store));
        self.api::<serde_json::Value>(&method, &serde_json::json!({ "filter": subject })).await.map(drop)
    }

    /// An object's description and revision, as the store's leader knows it.
    async fn object(&self, store: &str, name: &str) -> Result<Option<(Object, u64)>, RequestError> {
        let subject = description_subject(store, name);
        let Some(message) = self.newest_message(&store_stream(store), &subject).await? else { return Ok(None) };
        match serde_json::from_slice(&message.payload) {
            Ok(object) => Ok(Some((object, message.sequence))),
            Err(source) => Err(RequestError::Unreadable { subject, source }),
        }
    }

    /// The bytes of an object; `None` when there is no such object.
    async fn load(&self, name: &str, reference: PayloadRef) -> Result<Option<Vec<u8>>, Unloadable> {
        let store = self.names().payloads();
        let found = self.object(&store, name).await.map_err(Unloadable::Request)?;
        let Some((object, _)) = found.filter(|(object, _)| !object.deleted) else { return Ok(None) };
        if object.size != reference.size {
            return Err(Unloadable::Damaged("its size is another"));
        }
        let subject = chunks_subject(&store, &object.nuid);
        for attempt in 1..=ATTEMPTS {
            let chunks: Vec<StoredMessage> = if object.chunks == 0 {
                Vec::new()
            } else {
                self.stored_messages(&store_stream(&store), &subject, PAGE).await.map_err(Unloadable::Request)?
            };
            if chunks.len() == object.chunks {
                return Ok(Some(chunks.iter().flat_map(|chunk| chunk.payload.iter().copied()).collect()));
            }
            // A follower may not have them all yet.
            back_off(attempt).await;
        }
        Err(Unloadable::Damaged("parts of it are missing"))
    }
}

/// Why an object has no bytes.
enum Unloadable {
    Request(RequestError),
    Damaged(&'static str),
}

fn store_stream(store: &str) -> String {
    format!("OBJ_{store}")
}

fn description_subject(store: &str, name: &str) -> String {
    format!("$O.{store}.M.{}", base64::encode_url_safe(name.as_bytes()))
}

fn chunks_subject(store: &str, nuid: &str) -> String {
    format!("$O.{store}.C.{nuid}")
}
