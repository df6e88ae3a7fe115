//! Watching a bucket: what is there, and then every change, across every kind of interruption.

use std::collections::{BTreeMap, VecDeque};

use async_nats::jetstream::consumer::DeliverPolicy;
use bytes::Bytes;
use tracing::{debug, warn};

use crate::Broker;
use crate::bucket::{bucket_stream, is_marker, key_subject};
use crate::feed::{Feed, Opening, back_off};
use crate::request::{RequestError, code};

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put {
        key: String,
        value: Bytes,
        revision: u64,
    },
    Deleted {
        key: String,
    },
    /// Everything that was there when watching began was told; comes once.
    InitialDone,
}

/// Watches the keys of a bucket that match a filter.
///
/// After an interruption it reads the bucket again and tells only what has changed meanwhile, deletions included,
/// even when the store has forgotten them or was replaced.
pub(crate) struct Watch {
    broker: Broker,
    bucket: String,
    filter: String,
    state: State,
    /// The revision of each key that exists, as it was told.
    known: BTreeMap<String, u64>,
    told: VecDeque<Change>,
    initial_done: bool,
}

enum State {
    Opening(Opening<Feed, RequestError>),
    /// Reads what is there; `left` messages are to come, `seen` are the keys that came.
    Listing {
        feed: Box<Feed>,
        left: u64,
        seen: BTreeMap<String, u64>,
    },
    Following(Box<Feed>),
}

impl Watch {
    pub(crate) fn new(broker: Broker, bucket: String, filter: String) -> Self {
        let state = State::Opening(opening(&broker, &bucket, &filter));
        Self { broker, bucket, filter, state, known: BTreeMap::new(), told: VecDeque::new(), initial_done: false }
    }

    /// The next change. Dropping the future loses nothing; after an error it goes on trying with the next call.
    pub(crate) async fn next(&mut self) -> Result<Change, RequestError> {
        loop {
            if let Some(change) = self.told.pop_front() {
                return Ok(change);
            }
            self.advance().await?;
        }
    }

    async fn advance(&mut self) -> Result<(), RequestError> {
        let feed = match &mut self.state {
            State::Opening(opening) => {
                match opening.await {
                    Ok(feed) => {
                        let left = feed.pending;
                        self.state = State::Listing { feed: Box::new(feed), left, seen: BTreeMap::new() };
                        self.end_listing();
                    }
                    Err(error) => {
                        self.reopen();
                        return Err(error);
                    }
                }
                return Ok(());
            }
            State::Listing { feed, .. } | State::Following(feed) => feed,
        };
        match feed.next().await {
            Ok(Some((message, info))) => {
                let deleted = message.headers.as_ref().is_some_and(is_marker);
                let key = message.subject.strip_prefix(&key_subject(&self.bucket, "")).map(str::to_owned);
                if let Some(key) = key {
                    self.take(key, info.stream_sequence, (!deleted).then_some(message.payload));
                }
                if let State::Listing { left, .. } = &mut self.state {
                    // What changes while the list is read comes after it; the list is as long as it was, or
                    // shorter when something of it was replaced.
                    *left = left.saturating_sub(1).min(info.pending);
                }
                self.end_listing();
            }
            Ok(None) => {
                // Something of the list ran out before it was delivered.
                if let State::Listing { left, .. } = &mut self.state {
                    *left = 0;
                }
                self.end_listing();
            }
            Err(broken) => {
                debug!(bucket = self.bucket, reason = broken.0, "watching the bucket anew");
                self.reopen();
            }
        }
        Ok(())
    }

    fn take(&mut self, key: String, revision: u64, value: Option<Bytes>) {
        let Some(value) = value else {
            if let State::Listing { seen, .. } = &mut self.state {
                seen.remove(&key);
            }
            if self.known.remove(&key).is_some() {
                self.told.push_back(Change::Deleted { key });
            }
            return;
        };
        if let State::Listing { seen, .. } = &mut self.state {
            seen.insert(key.clone(), revision);
        }
        if self.known.insert(key.clone(), revision) != Some(revision) {
            self.told.push_back(Change::Put { key, value, revision });
        }
    }

    /// When the list was read, tells what is gone, and follows.
    fn end_listing(&mut self) {
        if !matches!(self.state, State::Listing { left: 0, .. }) {
            return;
        }
        let opening = State::Opening(Box::pin(std::future::pending()));
        let State::Listing { feed, seen, .. } = std::mem::replace(&mut self.state, opening) else { return };
        self.state = State::Following(feed);
        let gone: Vec<String> = self.known.keys().filter(|key| !seen.contains_key(*key)).cloned().collect();
        for key in gone {
            self.known.remove(&key);
            self.told.push_back(Change::Deleted { key });
        }
        if !self.initial_done {
            self.initial_done = true;
            self.told.push_back(Change::InitialDone);
        }
    }

    fn reopen(&mut self) {
        self.state = State::Opening(opening(&self.broker, &self.bucket, &self.filter));
    }
}

fn opening(broker: &Broker, bucket: &str, filter: &str) -> Opening<Feed, RequestError> {
    Box::pin(open(broker.clone(), bucket.to_owned(), key_subject(bucket, filter)))
}

/// Opens a feed of the newest message of each key, and tries again as long as that may help. A bucket that is
/// missing is waited for: a worker may start before the first coordinator.
async fn open(broker: Broker, bucket: String, filter: String) -> Result<Feed, RequestError> {
    let stream = bucket_stream(&bucket);
    let mut attempt = 0;
    loop {
        broker.connected().await;
        match Feed::open(&broker, &stream, &filter, DeliverPolicy::LastPerSubject).await {
            Err(error) if error.is_retryable() || error.code() == Some(code::STREAM_NOT_FOUND) => {
                if attempt == 3 {
                    warn!(bucket, %error, "cannot watch the bucket; trying again");
                }
                attempt += 1;
                back_off(attempt).await;
            }
            outcome => return outcome,
        }
    }
}
