//! Asking questions over core NATS whose answers may have any size, or be streams. Answering is in `answer.rs`.
//!
//! A question nobody serves ends at once, one whose answer is lost in part ends with an error, and one that nobody
//! answers ends when the asker's patience does.

use std::pin::Pin;
use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::Broker;
use crate::connection::Link;
use crate::frames::{Assembled, Assembly, frame_of};
use crate::replies::{Reply, Ticket};
use crate::request::{ANSWER_WAIT, RequestError};

const LATE: &str = "it took too long";

/// A stream of answers to one question. When it is dropped, whoever answers learns that soon.
pub struct Answers {
    broker: Broker,
    subject: String,
    subscriber: Subscriber,
    link: watch::Receiver<Link>,
    /// Number of the connection that the question was sent on.
    connection: u64,
    /// Ends when the server refuses the question.
    refusal: Option<Ticket>,
    silence_max: Duration,
    heard: Instant,
    alarm: Pin<Box<Sleep>>,
    assembly: Assembly,
    /// Where to say that the frames so far were taken.
    to_confirm: Option<String>,
    ready: Option<Answer>,
    over: bool,
}

/// One complete item.
enum Answer {
    /// Of a stream.
    Item(Bytes),
    /// The only one.
    Last(Bytes),
}

impl Broker {
    /// Asks a question and waits for the whole answer, at most `wait`. [`RequestError::NoResponders`],
    /// [`RequestError::Offline`], [`RequestError::Denied`] and [`RequestError::TooLarge`] mean that nobody has heard
    /// the question.
    pub async fn ask(&self, subject: &str, body: Bytes, wait: Duration) -> Result<Bytes, RequestError> {
        let mut answers = self.send_question(subject, body, wait).await?;
        let failed = |reason| RequestError::NoAnswer { subject: subject.to_owned(), reason };
        match tokio::time::timeout(wait, answers.next_answer()).await {
            Ok(Some(Ok(Answer::Last(answer)))) => Ok(answer),
            Ok(Some(Ok(Answer::Item(_))) | None) => Err(failed("a stream came where one answer was wanted")),
            Ok(Some(Err(error))) => Err(error),
            Err(_) => Err(failed(LATE)),
        }
    }

    /// Asks a question that is answered by a stream, and waits until somebody has heard it. One answer that is no
    /// stream counts as a stream of one.
    pub async fn ask_stream(&self, subject: &str, body: Bytes, silence_max: Duration) -> Result<Answers, RequestError> {
        let mut answers = self.send_question(subject, body, silence_max).await?;
        answers.advance().await?;
        Ok(answers)
    }

    async fn send_question(&self, subject: &str, body: Bytes, silence_max: Duration) -> Result<Answers, RequestError> {
        let (size, max) = (body.len(), self.max_payload());
        if size > max {
            return Err(RequestError::TooLarge { subject: subject.to_owned(), size, max });
        }
        let mut link = self.link();
        if !self.is_connected() && tokio::time::timeout(ANSWER_WAIT, self.connected()).await.is_err() {
            return Err(RequestError::Offline);
        }
        let inbox = self.client().new_inbox();
        let subscriber = self.client().subscribe(inbox.clone()).await.map_err(|_| RequestError::Offline)?;
        let connection = link.borrow_and_update().connects;
        let refusal = self.refusal(subject.to_owned());
        let sent = self.client().publish_with_reply(subject.to_owned(), inbox, body).await;
        sent.map_err(|_| RequestError::Offline)?;
        Ok(Answers {
            broker: self.clone(),
            subject: subject.to_owned(),
            subscriber,
            link,
            connection,
            refusal: Some(refusal),
            silence_max,
            heard: Instant::now(),
            alarm: Box::pin(tokio::time::sleep(silence_max)),
            assembly: Assembly::default(),
            to_confirm: None,
            ready: None,
            over: false,
        })
    }
}

impl Answers {
    /// The next item; `None` after the last one, and after an error. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Bytes, RequestError>> {
        Some(self.next_answer().await?.map(|answer| match answer {
            Answer::Item(item) | Answer::Last(item) => item,
        }))
    }

    async fn next_answer(&mut self) -> Option<Result<Answer, RequestError>> {
        loop {
            if let Some(answer) = self.ready.take() {
                return Some(Ok(answer));
            }
            if self.over {
                return None;
            }
            if let Err(error) = self.advance().await {
                return Some(Err(error));
            }
        }
    }

    /// Takes one frame.
    async fn advance(&mut self) -> Result<(), RequestError> {
        let assembled = match self.frame().await {
            Ok(assembled) => assembled,
            Err(error) => {
                self.over = true;
                return Err(error);
            }
        };
        match assembled {
            Assembled::Nothing => {}
            Assembled::Item(item) => self.ready = Some(Answer::Item(item)),
            Assembled::Last(item) => {
                self.ready = Some(Answer::Last(item));
                self.over = true;
            }
            Assembled::End => self.over = true,
            Assembled::Unheard => {
                self.over = true;
                return Err(RequestError::NoResponders { subject: self.subject.clone() });
            }
            Assembled::Broken(reason) => {
                self.over = true;
                return Err(self.no_answer(reason));
            }
        }
        Ok(())
    }

    async fn frame(&mut self) -> Result<Assembled, RequestError> {
        if let Some(reply) = &self.to_confirm {
            let sent = self.broker.client().publish(reply.clone(), Bytes::new()).await;
            sent.map_err(|_| RequestError::Offline)?;
            self.to_confirm = None;
            // Until this moment nothing more could come.
            self.heard = Instant::now();
        }
        let message = self.message().await?;
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(RequestError::NoResponders { subject: self.subject.clone() });
        }
        self.heard = Instant::now();
        let frame = frame_of(&message);
        let (number, mark) = frame.ok_or_else(|| self.no_answer("a frame that this build cannot read"))?;
        self.to_confirm = message.reply.map(|reply| reply.to_string());
        Ok(self.assembly.take(number, mark, message.payload))
    }

    async fn message(&mut self) -> Result<Message, RequestError> {
        loop {
            let connection = self.connection;
            let reason = tokio::select! {
                biased;
                message = self.subscriber.next() => match message {
                    Some(message) => return Ok(message),
                    None => "the connection was closed",
                },
                _ = self.link.wait_for(|link| !link.connected || link.connects != connection) => {
                    "the connection was lost"
                }
                reply = refused(&mut self.refusal) => {
                    self.refusal = None;
                    match reply {
                        Reply::Denied => return Err(RequestError::Denied { subject: self.subject.clone() }),
                        Reply::Message(_) | Reply::None(_) => continue,
                    }
                }
                () = &mut self.alarm => {
                    let due = self.heard + self.silence_max;
                    if due > Instant::now() {
                        self.alarm.as_mut().reset(due);
                        continue;
                    }
                    LATE
                }
            };
            return Err(self.no_answer(reason));
        }
    }

    fn no_answer(&self, reason: &'static str) -> RequestError {
        RequestError::NoAnswer { subject: self.subject.clone(), reason }
    }
}

/// What became of the wait for a refusal; never ends when there is none.
async fn refused(refusal: &mut Option<Ticket>) -> Reply {
    match refusal {
        Some(ticket) => ticket.await,
        None => std::future::pending().await,
    }
}
