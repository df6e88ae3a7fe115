//! The task queue from the coordinator's side.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_nats::HeaderMap;
use bytes::Bytes;
use millstream_model::ids::{Capability, Partition};
use millstream_model::task::TaskKey;
use millstream_model::trace::TraceParent;
use serde::Deserialize;
use tracing::warn;

use crate::Broker;
use crate::replies::Ticket;
use crate::request::{ANSWER_WAIT, RequestError, code};
use crate::stored::{RefusedStore, stored};

/// Header that carries the trace context (W3C Trace Context).
pub(crate) const TRACEPARENT: &str = "traceparent";

/// Tasks of one page of a scan.
const SCAN_PAGE: usize = 1_000;

/// Why a task may not be in the queue.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the queue {subject} is full")]
    QueueFull { subject: String },
    #[error("the task stream is full: {description}")]
    StreamFull { description: String },
    #[error("a task of {size} bytes is larger than the server takes")]
    TooLarge { size: usize },
    #[error("NATS refuses this connection to publish to {subject}")]
    Denied { subject: String },
    #[error("no stream takes {subject}")]
    NoStream { subject: String },
    #[error("not connected to NATS; the task was not sent")]
    Offline,
    #[error("it is unknown whether the task on {subject} is stored: {reason}")]
    Unknown { subject: String, reason: String },
    #[error("NATS refused the task with error {code}: {description}")]
    Rejected { code: u64, description: String },
}

impl PublishError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::QueueFull { .. }
            | Self::StreamFull { .. }
            | Self::NoStream { .. }
            | Self::Offline
            | Self::Unknown { .. } => true,
            Self::TooLarge { .. } | Self::Denied { .. } | Self::Rejected { .. } => false,
        }
    }

    /// Whether the task may be in the queue all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    fn of(error: RequestError) -> Self {
        match error {
            RequestError::Offline => Self::Offline,
            RequestError::NoAnswer { subject, reason } => Self::Unknown { subject, reason: reason.to_owned() },
            RequestError::Denied { subject } => Self::Denied { subject },
            RequestError::NoResponders { subject } => Self::NoStream { subject },
            RequestError::TooLarge { size, .. } => Self::TooLarge { size },
            RequestError::Unreadable { subject, source } => Self::Unknown { subject, reason: source.to_string() },
            RequestError::Refused { subject, code, description } => match RefusedStore::of(code, &description) {
                RefusedStore::SubjectFull => Self::QueueFull { subject },
                RefusedStore::StreamFull => Self::StreamFull { description },
                RefusedStore::NoStream => Self::NoStream { subject },
                RefusedStore::Unknown => Self::Unknown { subject, reason: description },
                RefusedStore::TooLarge | RefusedStore::Other => Self::Rejected { code, description },
            },
        }
    }
}

/// A task that was sent; as a future, whether it is in the queue.
#[derive(Debug)]
#[must_use = "the task may not have been stored"]
pub struct PublishedTask {
    subject: String,
    ticket: Ticket,
}

impl Future for PublishedTask {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(reply) = Pin::new(&mut self.ticket).poll(cx) else { return Poll::Pending };
        let subject = std::mem::take(&mut self.subject);
        let result = reply.message(&subject).and_then(|answer| stored(subject, &answer.payload));
        Poll::Ready(result.map(drop).map_err(PublishError::of))
    }
}

/// Why the tasks of a partition could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("the task stream {stream} is missing")]
    NoStream { stream: String },
    #[error("the tasks in {stream} cannot be listed: {source}")]
    Request {
        stream: String,
        #[source]
        source: RequestError,
    },
}

impl ScanError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoStream { .. } => false,
            Self::Request { source, .. } => source.is_retryable(),
        }
    }
}

impl Broker {
    /// Sends a task to its queue. Tasks leave in the order of the calls; whether they arrived is told by what is
    /// returned, so that thousands can be on their way.
    pub async fn publish_task(
        &self,
        capability: &Capability,
        partition: Partition,
        task: Bytes,
        traceparent: Option<TraceParent>,
    ) -> Result<PublishedTask, PublishError> {
        let subject = self.names().task(capability, partition);
        let headers = traceparent.as_ref().map(trace_headers);
        let ticket = self.send(subject.clone(), headers, task, ANSWER_WAIT).await.map_err(PublishError::of)?;
        Ok(PublishedTask { subject, ticket })
    }

    /// The tasks of a partition that are not acked, delivered or not.
    ///
    /// Acks become visible late, and in a replicated stream a follower may answer.
    pub async fn scan_tasks(&self, partition: Partition) -> Result<Vec<TaskKey>, ScanError> {
        /// All that a scan wants of a task.
        #[derive(Deserialize)]
        struct Head {
            key: TaskKey,
        }
        let filter = self.names().tasks_of_partition(partition);
        let mut keys = Vec::new();
        for stream in self.names().tasks_streams() {
            let visited = self
                .visit_stored(&stream, &filter, SCAN_PAGE, |message| {
                    match serde_json::from_slice::<Head>(&message.payload) {
                        Ok(head) => keys.push(head.key),
                        // What is no task of ours cannot be what an owner misses.
                        Err(error) => warn!(stream, sequence = message.sequence, %error, "not a task"),
                    }
                })
                .await;
            if let Err(source) = visited {
                return Err(self.scan_error(stream, source).await);
            }
        }
        Ok(keys)
    }

    /// A direct get from a stream that is missing has no responders, like one from a server that is starting.
    async fn scan_error(&self, stream: String, source: RequestError) -> ScanError {
        if matches!(source, RequestError::NoResponders { .. })
            && let Err(error) = self.stream_info(&stream).await
            && error.code() == Some(code::STREAM_NOT_FOUND)
        {
            return ScanError::NoStream { stream };
        }
        ScanError::Request { stream, source }
    }
}

/// Headers with nothing but the trace context.
pub(crate) fn trace_headers(traceparent: &TraceParent) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TRACEPARENT, traceparent.to_string().as_str());
    headers
}
