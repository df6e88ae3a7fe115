//! Reading a stream in order: the broker crate's ordered, ack-less consumer, as its journal reader and its watches
//! use it.
//!
//! A feed ends with what it hangs on: the stream it was opened on, and the run of the server (its consumer is in
//! memory only). A message that is gone before it was delivered is skipped in silence (DESIGN section 5).

use std::collections::VecDeque;
use std::sync::Arc;

use super::Server;
use super::message::StoredMessage;
use super::refusal::Refusal;

/// Where a feed begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// With this sequence or the next that is there.
    Sequence(u64),
    /// With the newest message of each subject, in the order of their sequences; then all that comes after.
    NewestPerSubject,
}

/// A reader's place in a stream. It belongs to the reader; the server changes nothing about it.
#[derive(Debug, Clone)]
pub struct Feed {
    stream: Arc<str>,
    filter: Option<Arc<str>>,
    stream_number: u64,
    run: u64,
    listed: VecDeque<u64>,
    next: u64,
    waiting: u64,
}

impl Feed {
    /// Messages that waited when it was opened: a watch knows by it when it has seen all that was there.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }
}

/// The feed brings no more; whoever reads opens the next one where it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedBroken;

impl Server {
    /// Opens a feed; `filter` is a subject with or without wildcards, `None` is the whole stream.
    pub fn open_feed(&self, stream: &str, filter: Option<&str>, from: ReadFrom) -> Result<Feed, Refusal> {
        let found = self.stream(stream)?;
        let store = found.store();
        let all = filter.unwrap_or(">");
        let (listed, next, waiting) = match from {
            ReadFrom::Sequence(sequence) => (VecDeque::new(), sequence.max(1), store.count_from(sequence, all)),
            ReadFrom::NewestPerSubject => {
                let listed: VecDeque<u64> = store.newest_of_each(all).into_iter().collect();
                let waiting = listed.len() as u64;
                (listed, store.last_sequence() + 1, waiting)
            }
        };
        Ok(Feed {
            stream: stream.into(),
            filter: filter.map(Into::into),
            stream_number: found.number(),
            run: self.run,
            listed,
            next,
            waiting,
        })
    }

    /// The feed's next message, or `None` when there is none yet.
    pub fn feed_next(&self, feed: &mut Feed) -> Result<Option<&StoredMessage>, FeedBroken> {
        let stream = self.streams.get(&feed.stream).filter(|stream| stream.number() == feed.stream_number);
        let stream = stream.filter(|_| feed.run == self.run).ok_or(FeedBroken)?;
        while let Some(sequence) = feed.listed.pop_front() {
            if let Some(message) = stream.store().get(sequence) {
                return Ok(Some(message));
            }
        }
        let message = stream.store().next(feed.next, feed.filter.as_deref());
        feed.next = message.map_or(stream.store().last_sequence() + 1, |message| message.sequence + 1).max(feed.next);
        Ok(message)
    }
}
