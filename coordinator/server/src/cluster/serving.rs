//! Puts questions to an owner that runs here: those of this coordinator's API, and those of others.

use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{AnswerSender, Broker, Question as Asked, RequestError};
use millstream_engine::Request;
use millstream_model::event::Event;
use millstream_model::ids::{ExecutionId, NodeId, Partition};
use millstream_model::position::EventId;
use tokio::sync::oneshot;

use super::EventFeed;
use super::wire::{Followed, Question, Told};
use crate::leases::Owned;
use crate::owner::Handle;
use crate::owner::ask::{Ask, Ticket};
use crate::owner::core::Whereabouts;

/// Before a subject that cannot be served is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// Events that travel in one piece.
const PIECE: usize = 64;
/// How often a stream without events says that it goes on.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// The events of an execution that runs here.
pub enum Opened {
    NotOwner,
    NotFound,
    Parked { record: u64 },
    Feed(EventFeed),
}

/// Answers what other coordinators ask the owner, until the connection is closed for good. Dropping the future ends it.
pub async fn serve(broker: &Broker, partition: Partition, node: &NodeId, owned: &Owned) {
    let subject = broker.names().query_of(partition, node);
    let mut questions = loop {
        match broker.serve(&subject).await {
            Ok(questions) => break questions,
            Err(error) => {
                tracing::debug!(%partition, %error, "questions cannot be answered yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    while let Some(asked) = questions.next().await {
        tokio::spawn(answer(owned.clone(), asked));
    }
}

async fn answer(owned: Owned, mut asked: Asked) {
    let body = std::mem::take(&mut asked.body);
    let answered = match serde_json::from_slice(&body) {
        Ok(Question::Follow { execution, after }) => follow(&owned, asked, execution, after).await,
        Ok(question) => asked.answer(settle(&owned, question).await.encode()).await,
        // One of a newer version: whoever asked is told so, and this owner is not the one to answer.
        Err(error) => {
            let reason = format!("the owner cannot read the question: {error}");
            asked.answer(Told::Unavailable { reason }.encode()).await
        }
    };
    if let Err(error) = answered {
        tracing::debug!(%error, "an answer did not arrive");
    }
}

/// Puts a question to the owner and waits for its answer, however long that takes.
pub async fn settle(owned: &Owned, question: Question) -> Told {
    let Some(_request) = owned.begin().await else { return Told::NotOwner };
    let owner = owned.handle();
    match question {
        Question::Submit(submitted) => {
            let execution = submitted.execution;
            put(owner, |reply| Ask::Request(Request::Submit(submitted), Ticket::Submit(execution, reply))).await
        }
        Question::Cancel { execution, reason, by, compensate } => {
            let request = Request::Cancel { execution, reason, by, compensate };
            put(owner, |reply| Ask::Request(request, Ticket::Cancel(execution, reply))).await
        }
        Question::Resume(resumed) => {
            let execution = resumed.execution;
            put(owner, |reply| Ask::Request(Request::Resume(resumed), Ticket::Resume(execution, reply))).await
        }
        Question::Transcript(execution) => match look(owner, |reply| Ask::Transcript(execution, reply)).await {
            None => Told::NotOwner,
            Some(None) => Told::NotFound,
            Some(Some(Whereabouts::Parked { record })) => Told::Parked { record },
            Some(Some(Whereabouts::Here(transcript))) => Told::Here(transcript.finish()),
        },
        Question::Follow { .. } => Told::Unavailable { reason: "a stream has no single answer".to_owned() },
    }
}

/// Asks for something that changes nothing; `None` when the owner has ended or does not own yet.
pub async fn look<T>(owner: &Handle, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
    // What it has folded so far may be long past.
    if !owner.status.borrow().caught_up {
        return None;
    }
    let (reply, answer) = oneshot::channel();
    owner.asks.send(ask(reply)).await.ok()?;
    answer.await.ok()
}

/// Opens the events of an execution.
pub async fn open(owned: &Owned, execution: ExecutionId, after: Option<EventId>) -> Opened {
    let owner = owned.handle();
    match look(owner, |reply| Ask::Events(execution, after, reply)).await {
        None => return Opened::NotOwner,
        Some(Some(feed)) => return Opened::Feed(feed),
        Some(None) => {}
    }
    match look(owner, |reply| Ask::Transcript(execution, reply)).await {
        // It came back in between: asked again, it is there.
        None | Some(Some(Whereabouts::Here(_))) => Opened::NotOwner,
        Some(None) => Opened::NotFound,
        Some(Some(Whereabouts::Parked { record })) => Opened::Parked { record },
    }
}

async fn put<T: Into<Told>>(owner: &Handle, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Told {
    let (reply, answer) = oneshot::channel();
    if owner.asks.send(ask(reply)).await.is_err() {
        return Told::NotOwner;
    }
    match answer.await {
        Ok(answer) => answer.into(),
        Err(_) => Told::Unavailable { reason: "the owner ended before the request was settled".to_owned() },
    }
}

async fn follow(
    owned: &Owned,
    asked: Asked,
    execution: ExecutionId,
    after: Option<EventId>,
) -> Result<(), RequestError> {
    let opened = open(owned, execution, after).await;
    let mut answers = asked.stream();
    match opened {
        Opened::NotOwner => send(&mut answers, &Followed::NotOwner).await?,
        Opened::NotFound => send(&mut answers, &Followed::NotFound).await?,
        Opened::Parked { record } => send(&mut answers, &Followed::Parked { record }).await?,
        Opened::Feed(feed) => pass_on(&mut answers, feed).await?,
    }
    answers.end().await
}

async fn pass_on(answers: &mut AnswerSender, feed: EventFeed) -> Result<(), RequestError> {
    let EventFeed { backlog, mut live } = feed;
    let has_ended = live.is_closed();
    let mut backlog: Vec<Event> = backlog;
    while !backlog.is_empty() {
        let rest = backlog.split_off(backlog.len().min(PIECE));
        send(answers, &Followed::Past(std::mem::replace(&mut backlog, rest))).await?;
    }
    if has_ended {
        return Ok(());
    }
    send(answers, &Followed::Live).await?;
    loop {
        match tokio::time::timeout(KEEP_ALIVE, live.recv()).await {
            Ok(Some(event)) => send(answers, &Followed::Event(Box::new(event))).await?,
            Ok(None) => return Ok(()),
            Err(_) => answers.keep_alive().await?,
        }
    }
}

async fn send(answers: &mut AnswerSender, followed: &Followed) -> Result<(), RequestError> {
    let text = serde_json::to_vec(followed).expect("events always have a JSON form");
    answers.send(Bytes::from(text)).await
}
