//! Names and ids. Parsed once at the edge, trusted afterwards.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::limits::NAME_LENGTH_MAX;

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("a name must not be empty")]
    Empty,
    #[error("a name has at most {NAME_LENGTH_MAX} characters, this one has {length}")]
    TooLong { length: usize },
    #[error("a name starts with a letter or '_', this one starts with '{first}'")]
    Start { first: char },
    #[error("a name has only letters, digits, '_' and '-', this one has '{character}'")]
    Character { character: char },
}

fn check_name(text: &str) -> Result<(), InvalidName> {
    let first = text.chars().next().ok_or(InvalidName::Empty)?;
    if let Some(character) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '_' || *c == '-')) {
        return Err(InvalidName::Character { character });
    }
    if !(first.is_ascii_alphabetic() || first == '_') {
        return Err(InvalidName::Start { first });
    }
    if text.len() > NAME_LENGTH_MAX {
        return Err(InvalidName::TooLong { length: text.len() });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Invariant: `[A-Za-z_][A-Za-z0-9_-]{0,63}`, so it can stand unescaped in a NATS
        /// subject, a KV key and a URL.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "Box<str>", into = "Box<str>")]
        pub struct $name(Box<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check_name(text).map(|()| Self(text.into()))
            }
        }

        impl TryFrom<Box<str>> for $name {
            type Error = InvalidName;

            fn try_from(text: Box<str>) -> Result<Self, InvalidName> {
                check_name(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for Box<str> {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
                })
            }
        }
    };
}

name!(
    /// Names a workflow (a definition).
    WorkflowId
);
name!(
    /// Names a step within its workflow.
    StepId
);
name!(
    /// Names an agent: who does a step.
    AgentId
);
name!(
    /// Names a pool of work; task and result subjects are named after it.
    Capability
);
name!(
    /// Names one running worker process.
    WorkerId
);
name!(
    /// Names one running coordinator process.
    NodeId
);
name!(
    /// Separates the executions of one user from those of another in every message.
    Namespace
);

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

/// A partition of the journal.
///
/// Invariant of a cluster: smaller than its number of partitions, which is fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u8);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of a workflow: a UUIDv7 (RFC 9562) whose last byte is the partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecutionId(Uuid);

impl ExecutionId {
    /// Marks `uuid` with its partition.
    pub fn new(uuid: Uuid, partition: Partition) -> Self {
        let mut bytes = uuid.into_bytes();
        bytes[15] = partition.0;
        Self(Uuid::from_bytes(bytes))
    }

    /// The partition whose journal holds this execution.
    pub fn partition(self) -> Partition {
        Partition(self.0.as_bytes()[15])
    }

    /// The 16 bytes of the UUID.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl FromStr for ExecutionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_subject_token() {
        assert_eq!("get-data_2".parse::<StepId>().map(|n| n.to_string()), Ok("get-data_2".into()));
        assert_eq!("".parse::<StepId>(), Err(InvalidName::Empty));
        assert_eq!("2nd".parse::<StepId>(), Err(InvalidName::Start { first: '2' }));
        for bad in ["a.b", "a*", "a>", "a b", "ä"] {
            assert!(matches!(bad.parse::<StepId>(), Err(InvalidName::Character { .. })), "{bad}");
        }
        let long = "a".repeat(65);
        assert_eq!(long.parse::<StepId>(), Err(InvalidName::TooLong { length: 65 }));
    }

    #[test]
    fn an_execution_id_carries_its_partition() {
        let id = ExecutionId::new(Uuid::from_u128(u128::MAX), Partition(5));
        assert_eq!(id.partition(), Partition(5));
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
