//! Payloads: values too large for messages, by execution and content hash.

use bytes::Bytes;
use millstream_model::hash::ContentHash;
use millstream_model::ids::ExecutionId;
use millstream_model::payload::PayloadRef;
use serde_json::value::RawValue;

use crate::Broker;
use crate::request::RequestError;

/// Why a payload, or another object, cannot be had or stored.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    #[error("payload {name} is not in the store")]
    Missing { name: String },
    #[error("payload {name} is damaged in the store: {reason}")]
    Corrupt { name: String, reason: &'static str },
    #[error("there is another payload {name} in the store")]
    Exists { name: String },
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
            Self::Missing { .. } | Self::Corrupt { .. } | Self::Exists { .. } => false,
            Self::Store { source, .. } => source.is_retryable(),
        }
    }
}

impl Broker {
    /// Stores the JSON text of a value; storing it again changes nothing.
    pub async fn put_payload(&self, execution: ExecutionId, text: &str) -> Result<PayloadRef, PayloadError> {
        let reference = PayloadRef::to(text);
        let name = reference.object_name(execution);
        self.put_text(name, reference, text).await.map(|()| reference)
    }

    /// The JSON text of a stored value, checked against its hash.
    pub async fn get_payload(
        &self,
        execution: ExecutionId,
        reference: PayloadRef,
    ) -> Result<Box<RawValue>, PayloadError> {
        let name = reference.object_name(execution);
        let text = self.get_text(name.clone(), reference).await?;
        RawValue::from_string(text).map_err(|_| PayloadError::Corrupt { name, reason: "it is not JSON" })
    }

    /// Stores bytes that are no value but belong to an execution; storing them again changes nothing.
    pub async fn put_bytes(&self, execution: ExecutionId, bytes: Bytes) -> Result<PayloadRef, PayloadError> {
        let reference = PayloadRef { hash: ContentHash::of(&bytes), size: bytes.len() as u64 };
        let name = reference.object_name(execution);
        self.put_object(&self.names().payloads(), &name, reference.hash, bytes).await.map(|()| reference)
    }

    /// Bytes of [`Self::put_bytes`], checked against their hash.
    pub async fn get_bytes(&self, execution: ExecutionId, reference: PayloadRef) -> Result<Bytes, PayloadError> {
        let name = reference.object_name(execution);
        let found = self.get_object(&self.names().payloads(), &name, reference.hash, reference.size).await;
        found.map(Bytes::from)
    }

    /// Stores text under its own hash; storing it again changes nothing.
    pub(crate) async fn put_text(&self, name: String, reference: PayloadRef, text: &str) -> Result<(), PayloadError> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.put_object(&self.names().payloads(), &name, reference.hash, bytes).await
    }

    /// Stored text, checked against its hash.
    pub(crate) async fn get_text(&self, name: String, reference: PayloadRef) -> Result<String, PayloadError> {
        let bytes = self.get_object(&self.names().payloads(), &name, reference.hash, reference.size).await?;
        String::from_utf8(bytes).map_err(|_| PayloadError::Corrupt { name, reason: "it is not UTF-8" })
    }
}
