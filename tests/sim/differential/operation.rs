//! What is done to both servers.

use std::time::Duration;

use millstream_tests::simulation::jetstream::{Answer, Marker, ReadFrom};

/// A stream of the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Which {
    Journal,
    /// Its messages may have a lifetime and an id.
    History,
    Tasks,
    /// A bucket whose keys may have a lifetime.
    Bucket,
    /// The same with markers of what ran out.
    Workers,
}

/// One operation. Nothing in it depends on a server's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    Publish(Publication),
    Fetch {
        capability: usize,
        max: usize,
    },
    /// Answers a delivery, counted from the first of the sequence.
    Answer {
        delivery: usize,
        answer: Answer,
        ask: bool,
    },
    /// Lets time pass, in slots.
    Wait {
        slots: u32,
    },
    Purge {
        stream: Which,
        before: u64,
    },
    DeleteMessage {
        stream: Which,
        sequence: u64,
    },
    Limit {
        stream: Which,
        max_msgs: Option<u64>,
        max_bytes: Option<u64>,
    },
    Scan {
        stream: Which,
        filter: String,
    },
    Newest {
        stream: Which,
        subject: String,
    },
    /// Gets one message, from the leader or directly.
    Get {
        stream: Which,
        sequence: u64,
        directly: bool,
    },
    StreamInfo {
        stream: Which,
    },
    ConsumerInfo {
        capability: usize,
    },
    DeleteTasks,
    CreateTasks {
        first_sequence: u64,
    },
    CreateConsumer {
        capability: usize,
    },
    DeleteConsumer {
        capability: usize,
    },
    OpenFeed {
        stream: Which,
        filter: Option<String>,
        from: ReadFrom,
    },
    /// Reads all that a feed, counted from the first of the sequence, has.
    ReadFeed {
        feed: usize,
    },
    /// The server was killed and started again, after everything was written.
    Restart,
    /// The same, and a stream is what it was when it was kept.
    Restore {
        stream: Which,
    },
    /// A copy of the stream is kept.
    Keep {
        stream: Which,
    },
}

/// A message to publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) subject: String,
    pub(crate) msg_id: Option<String>,
    pub(crate) expected_subject: Option<u64>,
    pub(crate) expected_stream: Option<u64>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) marker: Option<Marker>,
    pub(crate) payload: String,
}

/// The capabilities of a sequence.
pub(crate) const CAPABILITIES: [&str; 2] = ["http", "mail"];
