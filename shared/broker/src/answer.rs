//! Answering questions over core NATS, with one answer of any size or with a stream of them. Asking is in `ask.rs`.

use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use futures::StreamExt;
use tokio::runtime::Handle;
use tracing::debug;

use crate::Broker;
use crate::frames::{Mark, frame_headers};
use crate::request::{ANSWER_WAIT, RequestError};

/// Those who serve one subject share its questions.
const GROUP: &str = "millstream";
/// Bytes that may be on their way before the asker must have taken them.
const WINDOW: usize = 4 * 1024 * 1024;
/// How long an asker may take for that before it is taken for gone.
const ASKER_WAIT: Duration = Duration::from_secs(10);

/// Receives the questions on one subject, across reconnects.
///
/// When it is dropped, whoever asked and was not heard learns that at once.
pub struct Questions {
    broker: Broker,
    /// There until it is dropped.
    subscriber: Option<Subscriber>,
    /// Received, but not handed over yet.
    received: Option<Question>,
}

/// A question. When it is dropped without an answer, the asker learns that at once.
pub struct Question {
    /// What it was asked on.
    pub subject: String,
    pub body: Bytes,
    frames: Frames,
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Question")
            .field("subject", &self.subject)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Sends a stream of answers. When it is dropped before its end, the asker learns that at once.
pub struct AnswerSender {
    frames: Frames,
}

/// What is sent to one asker.
struct Frames {
    broker: Broker,
    reply: String,
    /// Number of the next frame.
    next: u64,
    /// Bytes sent since the asker last confirmed.
    unconfirmed: usize,
    /// A part of an item was sent, and the rest not yet.
    within_item: bool,
    over: bool,
}

impl Broker {
    /// Serves a subject, which may have wildcards. Each question goes to one of those who serve the subject.
    ///
    /// Whoever asks by the same server afterwards is heard; the other servers of a cluster learn of it a moment later.
    pub async fn serve(&self, subject: &str) -> Result<Questions, RequestError> {
        let subscriber = self.client().queue_subscribe(subject.to_owned(), GROUP.to_owned()).await;
        let subscriber = subscriber.map_err(|_| RequestError::Offline)?;
        // The server takes what a connection sends in order: when this came back, who asks next is heard. If it is
        // lost with the connection, so is the subscription, and the next connection begins with it.
        drop(self.request(&self.client().new_inbox(), None, Bytes::new(), ANSWER_WAIT).await);
        Ok(Questions { broker: self.clone(), subscriber: Some(subscriber), received: None })
    }
}

impl Questions {
    /// The next question; `None` when the connection was closed for good. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Question> {
        if self.received.is_none() {
            let message = loop {
                let message = self.subscriber.as_mut()?.next().await?;
                if message.reply.is_some() {
                    break message;
                }
                debug!(subject = %message.subject, "a question that wants no answer");
            };
            let frames = Frames::new(self.broker.clone(), message.reply?.to_string());
            self.received = Some(Question { subject: message.subject.to_string(), body: message.payload, frames });
        }
        if let Some(question) = &mut self.received {
            // Whoever asked knows that it was heard. If this cannot be sent, the answer cannot either, and says so.
            drop(question.frames.hand_over(Mark::Alive, Bytes::new()).await);
        }
        self.received.take()
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        let (Some(mut subscriber), Ok(runtime)) = (self.subscriber.take(), Handle::try_current()) else { return };
        let broker = self.broker.clone();
        let received = self.received.take();
        drop(runtime.spawn(async move {
            if let Some(mut question) = received {
                question.frames.unheard().await;
            }
            if subscriber.drain().await.is_err() {
                return;
            }
            while let Some(message) = subscriber.next().await {
                if let Some(reply) = message.reply {
                    Frames::new(broker.clone(), reply.to_string()).unheard().await;
                }
            }
        }));
    }
}

impl Question {
    /// Answers. An error means that the answer did not get there; without one it was sent.
    pub async fn answer(mut self, answer: Bytes) -> Result<(), RequestError> {
        self.frames.item(answer, Mark::Last).await
    }

    /// Answers by a stream.
    pub fn stream(self) -> AnswerSender {
        AnswerSender { frames: self.frames }
    }
}

impl AnswerSender {
    /// Sends an item, and waits while the asker takes less than is sent to it. An error means that the asker is gone
    /// or cannot be reached.
    ///
    /// Dropping the future leaves open whether the item was sent; within a large item it breaks the stream.
    pub async fn send(&mut self, item: Bytes) -> Result<(), RequestError> {
        self.frames.item(item, Mark::Item).await
    }

    /// Says that the stream goes on although there is nothing to send, and makes sure that the asker is there.
    pub async fn keep_alive(&mut self) -> Result<(), RequestError> {
        self.frames.check_whole()?;
        self.frames.confirmed(Mark::Alive, Bytes::new()).await
    }

    /// Says that there is no more.
    pub async fn end(mut self) -> Result<(), RequestError> {
        self.frames.check_whole()?;
        self.frames.hand_over(Mark::End, Bytes::new()).await?;
        self.frames.over = true;
        Ok(())
    }
}

impl Frames {
    fn new(broker: Broker, reply: String) -> Self {
        Self { broker, reply, next: 0, unconfirmed: 0, within_item: false, over: false }
    }

    /// Sends an item whose final frame has the mark `mark`.
    async fn item(&mut self, mut item: Bytes, mark: Mark) -> Result<(), RequestError> {
        self.check_whole()?;
        let size = (self.broker.max_payload() / 2).max(1);
        while item.len() > size {
            let part = item.split_to(size);
            self.within_item = true;
            self.bounded(Mark::Part, part).await?;
        }
        if mark == Mark::Last {
            self.hand_over(mark, item).await?;
            self.over = true;
        } else {
            self.within_item = false;
            self.bounded(mark, item).await?;
        }
        Ok(())
    }

    /// Refuses to go on after an item that was sent in part.
    fn check_whole(&self) -> Result<(), RequestError> {
        if self.within_item {
            return Err(RequestError::NoAnswer { subject: self.reply.clone(), reason: "an item was sent in part" });
        }
        Ok(())
    }

    /// Sends a frame, and when enough is on its way waits until the asker has taken it.
    async fn bounded(&mut self, mark: Mark, payload: Bytes) -> Result<(), RequestError> {
        self.unconfirmed += payload.len();
        if self.unconfirmed < WINDOW {
            return self.hand_over(mark, payload).await;
        }
        self.confirmed(mark, payload).await
    }

    /// Sends a frame and waits until the asker has taken it.
    async fn confirmed(&mut self, mark: Mark, payload: Bytes) -> Result<(), RequestError> {
        let headers = frame_headers(self.next, mark);
        let ticket = self.broker.send(self.reply.clone(), Some(headers), payload, ASKER_WAIT).await?;
        self.next += 1;
        ticket.await.message(&self.reply)?;
        self.unconfirmed = 0;
        Ok(())
    }

    /// Sends a frame. Dropping the future sends it or not, and numbers it accordingly.
    async fn hand_over(&mut self, mark: Mark, payload: Bytes) -> Result<(), RequestError> {
        let headers = frame_headers(self.next, mark);
        let sent = self.broker.client().publish_with_headers(self.reply.clone(), headers, payload).await;
        sent.map_err(|_| RequestError::Offline)?;
        self.next += 1;
        Ok(())
    }

    async fn unheard(&mut self) {
        // Without a connection the asker learns it from its own silence.
        drop(self.hand_over(Mark::Unheard, Bytes::new()).await);
        self.over = true;
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let (false, Ok(runtime)) = (self.over, Handle::try_current()) else { return };
        let (client, reply) = (self.broker.client().clone(), std::mem::take(&mut self.reply));
        let headers = frame_headers(self.next, Mark::Broken);
        drop(runtime.spawn(async move {
            // Without a connection the asker learns it from its own silence.
            drop(client.publish_with_headers(reply, headers, Bytes::new()).await);
        }));
    }
}
