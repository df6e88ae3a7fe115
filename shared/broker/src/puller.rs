//! The task queue from the worker's side.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use millstream_model::ids::{Capability, Partition};
use millstream_model::time::Timestamp;
use millstream_model::trace::TraceParent;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use crate::Broker;
use crate::acks::Acker;
use crate::connection::Link;
use crate::feed::back_off;
use crate::message::{DeliveryInfo, header_value};
use crate::request::{ANSWER_WAIT, RequestError, code};
use crate::tasks::TRACEPARENT;

/// What a pull's end may come late by.
const GRACE: Duration = Duration::from_secs(2);
/// A long pull shows this often that it is still known to the server.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Why there are no tasks.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("capability {capability} has no queue: no coordinator has created it yet")]
    NoConsumer { capability: Capability },
    #[error("tasks of capability {capability} cannot be pulled: {source}")]
    Request {
        capability: Capability,
        #[source]
        source: RequestError,
    },
}

impl PullError {
    /// Whether the same call may succeed later without anybody changing anything here.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoConsumer { .. } => true,
            Self::Request { source, .. } => source.is_retryable(),
        }
    }
}

/// A task as it was delivered.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub payload: Bytes,
    pub traceparent: Option<TraceParent>,
    /// Deliveries of this message, this one included.
    pub delivered: u64,
    pub stream_sequence: u64,
    /// When the stream stored the task, by the clock of its leader.
    pub published_at: Timestamp,
    acker: Acker,
}

impl Delivery {
    /// What answers this delivery.
    pub fn acker(&self) -> Acker {
        self.acker.clone()
    }
}

/// Pulls the tasks of one capability.
///
/// Invariant: the server may deliver only what the pull under way asked for, so a worker that asks for no more than
/// it can start never holds a task that waits.
pub struct TaskPuller {
    broker: Broker,
    capability: Capability,
    stream: String,
    consumer: String,
    inbox: String,
    subscriber: Subscriber,
    link: watch::Receiver<Link>,
    /// Pulls so far; numbers them.
    pulls: u64,
    under_way: Option<Pull>,
    received: Vec<Delivery>,
}

/// A pull that the server has not ended.
#[derive(Debug, Clone, Copy)]
struct Pull {
    number: u64,
    /// Messages it may still bring.
    open: usize,
    /// Without a sign of life until then it is given up.
    silent_until: Instant,
    ends: Instant,
    /// Number of the connection it was sent on.
    connection: u64,
}

/// A pull request (ADR-13). With both `no_wait` and `expires` it ends as soon as nothing more is there, but waits
/// for the first.
#[derive(Debug, Serialize)]
struct Request {
    batch: usize,
    no_wait: bool,
    #[serde(skip_serializing_if = "is_zero")]
    expires: u64,
    #[serde(skip_serializing_if = "is_zero")]
    idle_heartbeat: u64,
}

impl Broker {
    /// Pulls tasks of a capability.
    pub async fn task_puller(&self, capability: &Capability) -> Result<TaskPuller, PullError> {
        let failed = |source| PullError::Request { capability: capability.clone(), source };
        let inbox = self.client().new_inbox();
        let subscriber =
            self.client().subscribe(format!("{inbox}.*")).await.map_err(|_| failed(RequestError::Offline))?;
        let puller = TaskPuller {
            broker: self.clone(),
            capability: capability.clone(),
            stream: self.names().tasks_stream(capability, Partition(0)),
            consumer: self.names().task_consumer(capability),
            inbox,
            subscriber,
            link: self.link(),
            pulls: 0,
            under_way: None,
            received: Vec::new(),
        };
        puller.check_consumer().await?;
        Ok(puller)
    }
}

impl TaskPuller {
    /// Waits up to `expires` for tasks and returns all that are there, at most `max`; none when none came.
    ///
    /// Dropping the future loses nothing: what it had received comes with the next call.
    pub async fn pull(&mut self, max: usize, expires: Duration) -> Result<Vec<Delivery>, PullError> {
        if self.under_way.is_none() && self.received.is_empty() && max > 0 {
            self.start(max, expires).await?;
        }
        while let Some(pull) = self.under_way {
            let connection = pull.connection;
            let message = tokio::select! {
                biased;
                message = self.subscriber.next() => message,
                _ = self.link.wait_for(|link| !link.connected || link.connects != connection) => {
                    // The server forgot the pull, or will; what it delivered is redelivered to somebody.
                    self.under_way = None;
                    break;
                }
                () = tokio::time::sleep_until(pull.silent_until.min(pull.ends)) => {
                    debug!(capability = %self.capability, "a pull was not ended by the server");
                    self.under_way = None;
                    break;
                }
            };
            let Some(message) = message else {
                return Err(self.failed(RequestError::Offline));
            };
            match message.status {
                None => self.receive(message),
                Some(status) => self.control(status, &message).await?,
            }
        }
        let rest = self.received.split_off(self.received.len().min(max.max(1)));
        Ok(std::mem::replace(&mut self.received, rest))
    }

    async fn start(&mut self, max: usize, expires: Duration) -> Result<(), PullError> {
        let wait = expires.max(ANSWER_WAIT);
        let link = &mut self.link;
        let connects = async { link.wait_for(|link| link.connected).await.map(|link| link.connects) };
        let Ok(Ok(connection)) = tokio::time::timeout(wait, connects).await else {
            return Err(self.failed(RequestError::Offline));
        };
        self.pulls += 1;
        let heartbeat = if expires >= 2 * HEARTBEAT { HEARTBEAT } else { Duration::ZERO };
        let request = Request { batch: max, no_wait: true, expires: nanos(expires), idle_heartbeat: nanos(heartbeat) };
        let body = serde_json::to_vec(&request).expect("a pull request always has a JSON form");
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.consumer);
        let reply = format!("{}.{}", self.inbox, self.pulls);
        let sent = self.broker.client().publish_with_reply(subject, reply, body.into()).await;
        sent.map_err(|_| self.failed(RequestError::Offline))?;
        let ends = Instant::now() + expires + GRACE;
        let silent_until = if heartbeat.is_zero() { ends } else { Instant::now() + 2 * HEARTBEAT + GRACE };
        self.under_way = Some(Pull { number: self.pulls, open: max, silent_until, ends, connection });
        Ok(())
    }

    fn receive(&mut self, message: Message) {
        if let Some(pull) = &mut self.under_way {
            pull.open = pull.open.saturating_sub(1);
            if pull.open == 0 {
                self.under_way = None;
            }
        }
        let Some(reply) = message.reply.as_deref() else { return };
        let Some(info) = DeliveryInfo::parse(reply) else { return };
        self.received.push(Delivery {
            traceparent: header_value(&message, TRACEPARENT).and_then(|text| text.parse().ok()),
            delivered: info.delivered,
            stream_sequence: info.stream_sequence,
            published_at: info.time,
            acker: Acker::new(self.broker.clone(), reply),
            payload: message.payload,
        });
    }

    /// A status of the pull under way, or of one that was given up.
    async fn control(&mut self, status: StatusCode, message: &Message) -> Result<(), PullError> {
        let number = message.subject.rsplit('.').next().and_then(|text| text.parse::<u64>().ok());
        let Some(pull) = self.under_way.as_mut().filter(|pull| Some(pull.number) == number) else { return Ok(()) };
        if status == StatusCode::IDLE_HEARTBEAT {
            pull.silent_until = Instant::now() + 2 * HEARTBEAT + GRACE;
            return Ok(());
        }
        self.under_way = None;
        match status.as_u16() {
            // Nothing (more) is there, or time is up.
            404 | 408 => Ok(()),
            code => {
                let words = message.description.as_deref().unwrap_or_default();
                debug!(capability = %self.capability, code, words, "a pull was ended");
                if words.contains("Consumer Deleted") {
                    return Err(PullError::NoConsumer { capability: self.capability.clone() });
                }
                // It is missing, or it is there but not ready: then another pull at once would be no better.
                self.check_consumer().await?;
                back_off(1).await;
                Ok(())
            }
        }
    }

    /// Tells a missing consumer from one that is not ready.
    async fn check_consumer(&self) -> Result<(), PullError> {
        let method = format!("CONSUMER.INFO.{}.{}", self.stream, self.consumer);
        match self.broker.api::<Value>(&method, &Map::new()).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code(), Some(code::CONSUMER_NOT_FOUND | code::STREAM_NOT_FOUND)) => {
                Err(PullError::NoConsumer { capability: self.capability.clone() })
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, source: RequestError) -> PullError {
        PullError::Request { capability: self.capability.clone(), source }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
