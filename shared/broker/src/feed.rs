//! One ordered, ack-less push consumer: a subscription to a stream from some point on.
//!
//! A feed delivers without gaps and in order or it breaks, and says so; who uses it opens the next one where it
//! stopped. It breaks with the connection, when the consumer is gone (its heartbeats stay away), and when a
//! message was lost on the way (the consumer's sequence jumps).

use std::pin::Pin;
use std::time::Duration;

use async_nats::header::NATS_LAST_CONSUMER;
use async_nats::jetstream::consumer::{AckPolicy, Config, DeliverPolicy};
use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::Broker;
use crate::connection::Link;
use crate::message::{DeliveryInfo, header_value};
use crate::request::RequestError;

/// What the server sends when there is nothing else to send.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Silence after which the consumer is taken for gone.
const SILENCE_MAX: Duration = Duration::from_secs(8);
/// The server forgets a consumer that nobody listens to after this time.
const ABANDONED: Duration = Duration::from_secs(30);
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Answered by the server's flow control, so that it does not send faster than we read.
const STALLED: &str = "Nats-Consumer-Stalled";

/// A feed that is being opened; kept by its owner so that a dropped `next` does not lose the work.
pub(crate) type Opening<T, E> = BoxFuture<'static, Result<T, E>>;

/// See the module.
pub(crate) struct Feed {
    broker: Broker,
    subscriber: Subscriber,
    link: watch::Receiver<Link>,
    /// Number of the connection it was opened on.
    connection: u64,
    consumer_sequence: u64,
    /// Messages that waited when it was opened.
    pub(crate) pending: u64,
    heard: Instant,
    alarm: Pin<Box<Sleep>>,
}

/// The feed is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

impl Feed {
    /// Opens a feed; `filter` is a subject, or empty for the whole stream.
    pub(crate) async fn open(
        broker: &Broker,
        stream: &str,
        filter: &str,
        from: DeliverPolicy,
    ) -> Result<Self, RequestError> {
        #[derive(Serialize)]
        struct Create<'a> {
            stream_name: &'a str,
            config: Config,
        }
        #[derive(Deserialize)]
        struct Created {
            #[serde(default)]
            num_pending: u64,
        }
        let link = broker.link();
        let connection = link.borrow().connects;
        let inbox = broker.client().new_inbox();
        let subscriber = broker.client().subscribe(inbox.clone()).await.map_err(|_| RequestError::Offline)?;
        let config = Config {
            deliver_subject: Some(inbox),
            deliver_policy: from,
            ack_policy: AckPolicy::None,
            max_deliver: 1,
            filter_subject: filter.to_owned(),
            flow_control: true,
            idle_heartbeat: HEARTBEAT,
            inactive_threshold: ABANDONED,
            num_replicas: 1,
            memory_storage: true,
            ..Config::default()
        };
        let created: Created =
            broker.api(&format!("CONSUMER.CREATE.{stream}"), &Create { stream_name: stream, config }).await?;
        Ok(Self {
            broker: broker.clone(),
            subscriber,
            link,
            connection,
            consumer_sequence: 0,
            pending: created.num_pending,
            heard: Instant::now(),
            alarm: Box::pin(tokio::time::sleep(SILENCE_MAX)),
        })
    }

    /// The next message, or `None` when there has been nothing to deliver for a while. Dropping the future loses
    /// nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<(Message, DeliveryInfo)>, Broken> {
        loop {
            let connection = self.connection;
            let message = tokio::select! {
                biased;
                message = self.subscriber.next() => message.ok_or(Broken("the subscription ended"))?,
                _ = self.link.wait_for(|link| link.connects != connection) => {
                    return Err(Broken("the connection was lost"));
                }
                () = &mut self.alarm => {
                    let due = self.heard + SILENCE_MAX;
                    if due <= Instant::now() {
                        return Err(Broken("the consumer is silent"));
                    }
                    self.alarm.as_mut().reset(due);
                    continue;
                }
            };
            self.heard = Instant::now();
            if let Some(status) = message.status {
                if self.control(status, &message).await? {
                    return Ok(None);
                }
                continue;
            }
            let info = message.reply.as_deref().and_then(DeliveryInfo::parse);
            let info = info.ok_or(Broken("a message without its position"))?;
            if info.consumer_sequence != self.consumer_sequence + 1 {
                return Err(Broken("a message was lost on the way"));
            }
            self.consumer_sequence = info.consumer_sequence;
            return Ok(Some((message, info)));
        }
    }

    /// Takes what is no message; whether it says that the consumer is idle.
    async fn control(&self, status: StatusCode, message: &Message) -> Result<bool, Broken> {
        if status != StatusCode::IDLE_HEARTBEAT {
            return match status.as_u16() {
                409 => Err(Broken("the consumer was deleted")),
                _ => Ok(false),
            };
        }
        let stalled = header_value(message, STALLED);
        if let Some(flow_control) = message.reply.as_deref().or(stalled) {
            let answer = self.broker.client().publish(flow_control.to_owned(), Bytes::new()).await;
            answer.map_err(|_| Broken("the connection was closed"))?;
        }
        let last = header_value(message, NATS_LAST_CONSUMER.as_ref()).and_then(|text| text.parse::<u64>().ok());
        if last.is_some_and(|last| last != self.consumer_sequence) {
            return Err(Broken("a message was lost on the way"));
        }
        Ok(last.is_some())
    }
}

/// The pause before attempt number `attempt` (from 1) to open a feed again.
pub(crate) async fn back_off(attempt: u32) {
    let pause = BACKOFF.saturating_mul(2_u32.saturating_pow(attempt.min(10))).min(BACKOFF_MAX);
    tokio::time::sleep(pause).await;
}
