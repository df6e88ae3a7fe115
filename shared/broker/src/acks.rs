//! Answers to deliveries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::Broker;
use crate::request::{ANSWER_WAIT, RequestError};

/// Why an answer may not have reached the queue.
#[derive(Debug, thiserror::Error)]
pub enum AckError {
    #[error("not connected to NATS")]
    Offline,
    #[error("the queue did not confirm: {reason}")]
    Unconfirmed { reason: String },
    #[error("NATS refuses this connection to ack on {subject}")]
    Denied { subject: String },
}

impl AckError {
    fn of(error: RequestError) -> Self {
        match error {
            RequestError::Offline => Self::Offline,
            RequestError::Denied { subject } => Self::Denied { subject },
            error @ (RequestError::NoAnswer { .. }
            | RequestError::NoResponders { .. }
            | RequestError::TooLarge { .. }
            | RequestError::Refused { .. }
            | RequestError::Unreadable { .. }) => Self::Unconfirmed { reason: error.to_string() },
        }
    }
}

/// Answers one delivery.
#[derive(Clone)]
pub struct Acker {
    broker: Broker,
    reply: Arc<str>,
}

impl std::fmt::Debug for Acker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Acker").field(&self.reply).finish()
    }
}

impl Acker {
    pub(crate) fn new(broker: Broker, reply: &str) -> Self {
        Self { broker, reply: reply.into() }
    }

    /// Takes the task off the queue. An ack that gets lost shows as a redelivery.
    pub async fn ack(&self) -> Result<(), AckError> {
        self.tell(Bytes::from_static(b"+ACK")).await
    }

    /// Takes the task off the queue and waits until the queue says so.
    pub async fn ack_confirmed(&self) -> Result<(), AckError> {
        self.ask(Bytes::from_static(b"+ACK")).await
    }

    /// Says that the task is still run, and waits until the queue says it heard that; the time until a redelivery
    /// starts anew.
    pub async fn progress(&self) -> Result<(), AckError> {
        self.ask(Bytes::from_static(b"+WPI")).await
    }

    /// Gives the task back, to be delivered again at once or after `delay`.
    pub async fn nak(&self, delay: Option<Duration>) -> Result<(), AckError> {
        let answer = match delay {
            None => Bytes::from_static(b"-NAK"),
            Some(delay) => format!("-NAK {{\"delay\":{}}}", delay.as_nanos()).into(),
        };
        self.tell(answer).await
    }

    async fn tell(&self, answer: Bytes) -> Result<(), AckError> {
        let sent = self.broker.client().publish(self.reply.to_string(), answer).await;
        sent.map_err(|_| AckError::Offline)
    }

    async fn ask(&self, answer: Bytes) -> Result<(), AckError> {
        self.broker.request(&self.reply, None, answer, ANSWER_WAIT).await.map(drop).map_err(AckError::of)
    }
}
