//! Values of users as they travel: JSON text that nobody parses unless an expression reads it,
//! or a reference to such text in the payload store (claim check).

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::hash::ContentHash;
use crate::ids::ExecutionId;

/// A value of a user.
///
/// On the wire an object: `{"json": <value>}` or `{"ref": {"hash": …, "size": …}}`, and in both
/// an optional `enc` that names a coding of the value; without it the value is plain JSON.
#[derive(Debug, Clone)]
pub struct Payload {
    /// Name of the value's coding; `None` is plain JSON.
    pub enc: Option<Box<str>>,
    pub body: Body,
}

/// Where the value is.
#[derive(Debug, Clone)]
pub enum Body {
    Inline(Arc<RawValue>),
    Stored(PayloadRef),
}

/// Names a value in the payload store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PayloadRef {
    /// Hash of the value's JSON text.
    pub hash: ContentHash,
    /// Bytes of that text.
    pub size: u64,
}

impl PayloadRef {
    /// The reference to `text`.
    pub fn to(text: &str) -> Self {
        Self { hash: ContentHash::of(text.as_bytes()), size: text.len() as u64 }
    }

    /// The object's name in the payload store.
    pub fn object_name(&self, execution: ExecutionId) -> String {
        format!("{execution}/{}", self.hash)
    }
}

impl Payload {
    /// An inline value from JSON text that is known to be valid.
    pub fn inline(text: Box<RawValue>) -> Self {
        Self { enc: None, body: Body::Inline(Arc::from(text)) }
    }

    /// A value in the payload store.
    pub fn stored(reference: PayloadRef) -> Self {
        Self { enc: None, body: Body::Stored(reference) }
    }

    /// An inline value.
    pub fn from_value(value: &Value) -> Self {
        Self::inline(serde_json::value::to_raw_value(value).expect("a JSON value always has a text"))
    }

    /// JSON null.
    pub fn null() -> Self {
        Self::from_value(&Value::Null)
    }

    /// The JSON text, when it is inline and plain.
    pub fn text(&self) -> Option<&str> {
        match &self.body {
            Body::Inline(text) if self.enc.is_none() => Some(text.get()),
            Body::Inline(_) | Body::Stored(_) => None,
        }
    }

    /// Where the value is kept, when that is not here.
    pub fn reference(&self) -> Option<PayloadRef> {
        match self.body {
            Body::Inline(_) => None,
            Body::Stored(reference) => Some(reference),
        }
    }

    /// Bytes of the JSON text, wherever it is.
    pub fn size(&self) -> usize {
        match &self.body {
            Body::Inline(text) => text.get().len(),
            Body::Stored(reference) => usize::try_from(reference.size).unwrap_or(usize::MAX),
        }
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.enc == other.enc
            && match (&self.body, &other.body) {
                (Body::Inline(a), Body::Inline(b)) => a.get() == b.get(),
                (Body::Stored(a), Body::Stored(b)) => a == b,
                (Body::Inline(_), Body::Stored(_)) | (Body::Stored(_), Body::Inline(_)) => false,
            }
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            enc: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            json: Option<&'a RawValue>,
            #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
            reference: Option<&'a PayloadRef>,
        }
        let (json, reference) = match &self.body {
            Body::Inline(text) => (Some(&**text), None),
            Body::Stored(reference) => (None, Some(reference)),
        };
        Wire { enc: self.enc.as_deref(), json, reference }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            enc: Option<Box<str>>,
            #[serde(default, deserialize_with = "present")]
            json: Option<Box<RawValue>>,
            #[serde(default, rename = "ref")]
            reference: Option<PayloadRef>,
        }
        /// `Option<Box<RawValue>>` by itself reads a JSON null as absence.
        fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
            Box::<RawValue>::deserialize(deserializer).map(Some)
        }
        let wire = Wire::deserialize(deserializer)?;
        let body = match (wire.json, wire.reference) {
            (Some(text), None) => Body::Inline(Arc::from(text)),
            (None, Some(reference)) => Body::Stored(reference),
            (Some(_), Some(_)) | (None, None) => {
                return Err(serde::de::Error::custom("a payload has either `json` or `ref`"));
            }
        };
        Ok(Self { enc: wire.enc, body })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn payloads_keep_their_wire_form() {
        for text in [r#"{"json":null}"#, r#"{"json":{"b":1,"a":[1.50,"x"]}}"#, r#"{"enc":"aes","json":"b64"}"#] {
            let payload: Payload = serde_json::from_str(text).expect("a payload");
            assert_eq!(serde_json::to_string(&payload).expect("JSON"), text);
        }
        let stored = Payload::stored(PayloadRef::to("[1]"));
        let text = serde_json::to_string(&stored).expect("JSON");
        assert_eq!(serde_json::from_str::<Payload>(&text).expect("a payload"), stored);
        assert_eq!(stored.size(), 3);
    }

    #[test]
    fn a_payload_is_either_here_or_elsewhere() {
        assert!(serde_json::from_str::<Payload>("{}").is_err());
        let both = json!({"json": 1, "ref": {"hash": ContentHash::of(b"1"), "size": 1}});
        assert!(serde_json::from_value::<Payload>(both).is_err());
    }
}
