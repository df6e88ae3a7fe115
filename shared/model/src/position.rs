//! Where an entry stands in its journal, and what events are numbered by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Place of an entry in a journal: `<stream sequence>.<index in batch>`, both counted as the stream does
/// (sequences from 1, indices from 0).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub sequence: u64,
    pub index: u16,
}

impl Position {
    /// The place of the first entry of message `sequence`.
    pub const fn start_of(sequence: u64) -> Self {
        Self { sequence, index: 0 }
    }
}

/// Id of an event: `<position>.<n>`, where `n` counts the events of one entry from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    pub position: Position,
    pub n: u32,
}

/// The text is not a position or an event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected numbers joined by dots: <sequence>.<index> for a position, <sequence>.<index>.<n> for an event")]
pub struct InvalidPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.sequence, self.index)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (sequence, index) = text.split_once('.').ok_or(InvalidPosition)?;
        Ok(Self { sequence: number(sequence)?, index: number(index)? })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.position, self.n)
    }
}

impl FromStr for EventId {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (position, n) = text.rsplit_once('.').ok_or(InvalidPosition)?;
        Ok(Self { position: position.parse()?, n: number(n)? })
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, InvalidPosition> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidPosition);
    }
    text.parse().map_err(|_| InvalidPosition)
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(Position);
serde_as_text!(EventId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_reads_back_and_orders_as_the_journal_does() {
        let early: EventId = "9.255.3".parse().expect("an event id");
        let late: EventId = "10.0.0".parse().expect("an event id");
        assert!(early < late);
        assert_eq!(late.to_string(), "10.0.0");
        for bad in ["", "1", "1.2", "1.2.3.4", "a.b.c", "-1.0.0", "1..0", "+1.0.0"] {
            assert_eq!(bad.parse::<EventId>(), Err(InvalidPosition), "{bad}");
        }
    }
}
