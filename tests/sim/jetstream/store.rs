//! What a stream holds: messages by sequence and by subject, their bytes, the ends of their lifetimes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use millstream_model::time::Timestamp;

use super::message::StoredMessage;
use super::retained::{Moment, Removed, View};
use super::subject::{is_literal, literal_prefix, matches};

/// See the module. Invariant: both indexes name exactly the messages that are there.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    last_sequence: u64,
    bytes: u64,
    messages: BTreeMap<u64, StoredMessage>,
    subjects: BTreeMap<Arc<str>, BTreeSet<u64>>,
    lifetimes: BTreeSet<(Timestamp, u64)>,
    removed: Removed,
}

impl Store {
    pub(crate) fn new(first_sequence: u64, removed_kept: usize) -> Self {
        Self {
            last_sequence: first_sequence.max(1) - 1,
            bytes: 0,
            messages: BTreeMap::new(),
            subjects: BTreeMap::new(),
            lifetimes: BTreeSet::new(),
            removed: Removed::new(removed_kept),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.messages.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn first_sequence(&self) -> u64 {
        self.messages.keys().next().copied().unwrap_or(self.last_sequence + 1)
    }

    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// The message whose lifetime ends first, and when.
    pub(crate) fn next_to_expire(&self) -> Option<(Timestamp, &StoredMessage)> {
        self.lifetimes.first().map(|(expires, sequence)| (*expires, &self.messages[sequence]))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &StoredMessage> {
        self.messages.values()
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&StoredMessage> {
        self.messages.get(&sequence)
    }

    /// The sequences of a subject, if it has messages.
    pub(crate) fn of_subject(&self, subject: &str) -> Option<&BTreeSet<u64>> {
        self.subjects.get(subject)
    }

    /// The same text, shared when the subject has messages.
    pub(crate) fn interned(&self, subject: &str) -> Arc<str> {
        self.subjects.get_key_value(subject).map_or_else(|| subject.into(), |(subject, _)| Arc::clone(subject))
    }

    /// Stores a message under the next sequence, which is returned.
    pub(crate) fn push(&mut self, mut message: StoredMessage, changes: &mut u64) -> u64 {
        *changes += 1;
        let sequence = self.last_sequence + 1;
        message.sequence = sequence;
        message.stored = Moment(*changes);
        self.last_sequence = sequence;
        self.bytes += message.size;
        if let Some(expires) = message.expires {
            self.lifetimes.insert((expires, sequence));
        }
        self.subjects.entry(Arc::clone(&message.subject)).or_default().insert(sequence);
        self.messages.insert(sequence, message);
        sequence
    }

    /// Removes a message; whether it was there.
    pub(crate) fn remove(&mut self, sequence: u64, changes: &mut u64) -> bool {
        let Some(message) = self.messages.remove(&sequence) else { return false };
        *changes += 1;
        self.bytes -= message.size;
        if let Some(expires) = message.expires {
            self.lifetimes.remove(&(expires, sequence));
        }
        let of_subject = self.subjects.get_mut(&message.subject).expect("each stored message is in the index");
        of_subject.remove(&sequence);
        if of_subject.is_empty() {
            self.subjects.remove(&message.subject);
        }
        self.removed.keep(Moment(*changes), message);
        true
    }

    /// Sequences below `before` are never given again.
    pub(crate) fn skip_to(&mut self, before: u64) {
        self.last_sequence = self.last_sequence.max(before - 1);
    }

    /// Forgets what came after `last`, as if it never was.
    pub(crate) fn truncate(&mut self, last: u64, changes: &mut u64) {
        let lost: Vec<u64> = self.messages.range(last + 1..).map(|(sequence, _)| *sequence).collect();
        for sequence in lost {
            self.remove(sequence, changes);
        }
        self.last_sequence = self.last_sequence.min(last);
    }

    /// Sequences of the messages below `before`.
    pub(crate) fn sequences_below(&self, before: u64) -> Vec<u64> {
        self.messages.range(..before).map(|(sequence, _)| *sequence).collect()
    }

    pub(crate) fn matching(&self, filter: &str, view: View) -> Vec<&StoredMessage> {
        let mut found: Vec<&StoredMessage> = if is_literal(filter) {
            let sequences = self.subjects.get(filter).into_iter().flatten();
            sequences.map(|sequence| &self.messages[sequence]).filter(|message| view.sees(message)).collect()
        } else {
            let all = self.messages.values();
            all.filter(|message| view.sees(message) && matches(filter, &message.subject)).collect()
        };
        let stored = found.len();
        found.extend(self.removed.seen(view).filter(|message| matches(filter, &message.subject)));
        if found.len() > stored {
            found.sort_unstable_by_key(|message| message.sequence);
        }
        found
    }

    pub(crate) fn newest(&self, subject: &str, view: View) -> Option<&StoredMessage> {
        let sequences = self.subjects.get(subject).into_iter().flat_map(|sequences| sequences.iter().rev());
        let stored = sequences.map(|sequence| &self.messages[sequence]).find(|message| view.sees(message));
        let removed = self.removed.seen(view).filter(|message| *message.subject == *subject);
        stored.into_iter().chain(removed).max_by_key(|message| message.sequence)
    }

    /// The first message from a sequence on whose subject matches; no filter matches all.
    pub(crate) fn next(&self, from: u64, filter: Option<&str>) -> Option<&StoredMessage> {
        let mut messages = self.messages.range(from..).map(|(_, message)| message);
        match filter {
            None => messages.next(),
            Some(filter) => messages.find(|message| matches(filter, &message.subject)),
        }
    }

    /// The same by way of the subjects, which are few in a work queue, instead of the messages, which are many.
    pub(crate) fn next_by_subject(&self, from: u64, filter: &str) -> Option<u64> {
        self.matching_subjects(filter).filter_map(|sequences| sequences.range(from..).next().copied()).min()
    }

    /// Messages from a sequence on whose subject matches.
    pub(crate) fn count_from(&self, from: u64, filter: &str) -> u64 {
        self.matching_subjects(filter).map(|sequences| sequences.range(from..).count() as u64).sum()
    }

    /// The newest message of each subject that matches.
    pub(crate) fn newest_of_each(&self, filter: &str) -> BTreeSet<u64> {
        self.matching_subjects(filter).filter_map(|sequences| sequences.last().copied()).collect()
    }

    fn matching_subjects<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = &'a BTreeSet<u64>> {
        let prefix = literal_prefix(filter);
        let from = self.subjects.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let near = from.take_while(move |(subject, _)| subject.starts_with(prefix));
        near.filter(move |(subject, _)| matches(filter, subject)).map(|(_, sequences)| sequences)
    }
}
