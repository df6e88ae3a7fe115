//! Objects: bytes of any size under a name, written once.
//!
//! They are laid out as NATS lays out objects (ADR-20), so that its tools show them. The client library's own
//! object store is not used: two writers of the same object would purge each other's chunks, which content-addressed
//! values of retried tasks do, and reading an object whose chunks are gone waits for ever.

use std::collections::VecDeque;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_ROLLUP};
use bytes::Bytes;
use millstream_model::hash::ContentHash;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::base64;
use crate::feed::back_off;
use crate::request::{ANSWER_WAIT, RequestError, code};
use crate::stored::stored;
use crate::{Broker, PayloadError};

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

impl Object {
    /// Whether it holds the same bytes as another.
    fn is_same(&self, other: &Self) -> bool {
        let digests = self.digest.as_ref().zip(other.digest.as_ref());
        self.size == other.size && digests.is_none_or(|(one, another)| one == another)
    }
}

impl Broker {
    /// Stores an object whose content has this hash. When there is the same object already nothing changes, and when
    /// there is another of the name that is an error.
    pub(crate) async fn put_object(
        &self,
        store: &str,
        name: &str,
        hash: ContentHash,
        bytes: Bytes,
    ) -> Result<(), PayloadError> {
        let failed = |source| PayloadError::Store { name: name.to_owned(), source };
        let inbox = self.client().new_inbox();
        let object = Object {
            name: name.to_owned(),
            bucket: store.to_owned(),
            nuid: inbox.rsplit('.').next().unwrap_or_default().to_owned(),
            size: bytes.len() as u64,
            chunks: bytes.len().div_ceil(CHUNK),
            digest: Some(format!("SHA-256={}", base64::encode_url_safe(hash.as_bytes()))),
            deleted: false,
            options: Some(Options { max_chunk_size: CHUNK }),
            mtime: UNKNOWN_TIME.to_owned(),
        };
        let revision = match self.object(store, name).await.map_err(failed)? {
            Some((found, _)) if !found.deleted => return written_once(&object, &found),
            Some((deleted, revision)) => {
                self.purge_subject(store, &chunks_subject(store, &deleted.nuid)).await.map_err(failed)?;
                revision
            }
            None => 0,
        };
        let chunks = chunks_subject(store, &object.nuid);
        self.send_chunks(&chunks, bytes).await.map_err(failed)?;
        match self.describe(&object, revision).await {
            Err(error) if error.code() == Some(code::WRONG_LAST_SEQUENCE) => {
                // Somebody else has stored an object of this name meanwhile; our chunks are of no use.
                if let Err(error) = self.purge_subject(store, &chunks).await {
                    warn!(name, %error, "chunks of an object that was stored twice stay behind");
                }
                match self.object(store, name).await.map_err(failed)? {
                    Some((found, _)) if !found.deleted => written_once(&object, &found),
                    Some(_) | None => Err(PayloadError::Missing { name: name.to_owned() }),
                }
            }
            outcome => outcome.map_err(failed),
        }
    }

    /// The bytes of an object, checked against their hash.
    pub(crate) async fn get_object(
        &self,
        store: &str,
        name: &str,
        hash: ContentHash,
        size: u64,
    ) -> Result<Vec<u8>, PayloadError> {
        let name = || name.to_owned();
        let bytes = match self.load(store, &name(), size).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(PayloadError::Missing { name: name() }),
            Err(Unloadable::Damaged(reason)) => return Err(PayloadError::Corrupt { name: name(), reason }),
            Err(Unloadable::Request(source)) => return Err(PayloadError::Store { name: name(), source }),
        };
        if ContentHash::of(&bytes) != hash {
            return Err(PayloadError::Corrupt { name: name(), reason: "its hash is another" });
        }
        Ok(bytes)
    }

    /// Removes an object without a trace. One that is not there is removed already.
    pub(crate) async fn delete_object(&self, store: &str, name: &str) -> Result<(), PayloadError> {
        let failed = |source| PayloadError::Store { name: name.to_owned(), source };
        let Some((object, revision)) = self.object(store, name).await.map_err(failed)? else { return Ok(()) };
        let chunks = chunks_subject(store, &object.nuid);
        if !object.deleted {
            // A reader learns first that it is gone, and whoever was interrupted here can begin again.
            match self.describe(&Object { deleted: true, ..object }, revision).await {
                Err(error) if error.code() == Some(code::WRONG_LAST_SEQUENCE) => return Ok(()),
                outcome => outcome.map_err(failed)?,
            }
        }
        self.purge_subject(store, &chunks).await.map_err(failed)?;
        self.purge_subject(store, &description_subject(store, name)).await.map_err(failed)
    }

    /// The names of the objects of a store, those included whose removal was interrupted.
    pub(crate) async fn object_names(&self, store: &str) -> Result<Vec<String>, RequestError> {
        let filter = description_filter(store);
        let descriptions = self.stored_messages(&store_stream(store), &filter, PAGE).await?;
        let name = |payload: &Bytes| match serde_json::from_slice::<Object>(payload) {
            Ok(object) => Ok(object.name),
            Err(source) => Err(RequestError::Unreadable { subject: filter.clone(), source }),
        };
        descriptions.iter().map(|description| name(&description.payload)).collect()
    }

    async fn send_chunks(&self, subject: &str, mut bytes: Bytes) -> Result<(), RequestError> {
        let mut under_way = VecDeque::with_capacity(WINDOW);
        loop {
            if !bytes.is_empty() {
                let chunk = bytes.split_to(CHUNK.min(bytes.len()));
                under_way.push_back(self.send(subject.to_owned(), None, chunk, ANSWER_WAIT).await?);
                if under_way.len() < WINDOW {
                    continue;
                }
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

    async fn purge_subject(&self, store: &str, subject: &str) -> Result<(), RequestError> {
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
    async fn load(&self, store: &str, name: &str, size: u64) -> Result<Option<Vec<u8>>, Unloadable> {
        let found = self.object(store, name).await.map_err(Unloadable::Request)?;
        let Some((object, _)) = found.filter(|(object, _)| !object.deleted) else { return Ok(None) };
        if object.size != size {
            return Err(Unloadable::Damaged("its size is another"));
        }
        let (stream, subject) = (store_stream(store), chunks_subject(store, &object.nuid));
        for attempt in 1..=ATTEMPTS {
            let (mut bytes, mut chunks) = (Vec::new(), 0);
            if object.chunks > 0 {
                let visited = self.visit_stored(&stream, &subject, PAGE, |chunk| {
                    bytes.extend_from_slice(&chunk.payload);
                    chunks += 1;
                });
                visited.await.map_err(Unloadable::Request)?;
            }
            if chunks == object.chunks {
                return Ok(Some(bytes));
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

fn written_once(wanted: &Object, found: &Object) -> Result<(), PayloadError> {
    if found.is_same(wanted) { Ok(()) } else { Err(PayloadError::Exists { name: wanted.name.clone() }) }
}

/// The stream of an object store.
pub(crate) fn store_stream(store: &str) -> String {
    format!("OBJ_{store}")
}

fn description_subject(store: &str, name: &str) -> String {
    format!("$O.{store}.M.{}", base64::encode_url_safe(name.as_bytes()))
}

/// Filter: the descriptions of every object.
pub(crate) fn description_filter(store: &str) -> String {
    format!("$O.{store}.M.>")
}

/// The chunks of an object, or with a wildcard of all.
pub(crate) fn chunks_subject(store: &str, nuid: &str) -> String {
    format!("$O.{store}.C.{nuid}")
}
