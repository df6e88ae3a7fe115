//! A message of the journal, as it is folded.

use bytes::Bytes;
use millstream_model::batch::{Batch, Written};
use millstream_model::names::JournalSubject;
use millstream_model::time::Timestamp;

use super::Stop;

/// A journal message, decoded.
#[derive(Debug)]
pub struct Message {
    pub sequence: u64,
    pub time: Timestamp,
    pub subject: Option<JournalSubject>,
    /// Entries in order; what could not be read is `None`, which only results may be.
    pub entries: Vec<Option<Written>>,
    /// The message as it was stored.
    pub payload: Bytes,
}

impl Message {
    /// Decodes a journal message. What is unreadable on a result subject spoils only itself.
    pub fn decode(
        sequence: u64,
        time: Timestamp,
        subject: Option<JournalSubject>,
        payload: &Bytes,
    ) -> Result<Self, Stop> {
        let is_control = subject == Some(JournalSubject::Control);
        let unreadable = |reason: String| Stop::Unreadable { sequence, reason };
        let entries = match Batch::decode_written(payload) {
            Ok(entries) => entries
                .into_iter()
                .map(|entry| match entry {
                    Ok(entry) => Ok(Some(entry)),
                    Err(error) if is_control => Err(unreadable(error.to_string())),
                    Err(_) => Ok(None),
                })
                .collect::<Result<_, Stop>>()?,
            Err(error) if is_control => return Err(unreadable(error.to_string())),
            Err(_) => vec![None],
        };
        Ok(Self { sequence, time, subject, entries, payload: payload.clone() })
    }
}
