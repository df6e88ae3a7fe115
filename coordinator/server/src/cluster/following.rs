//! Follows the events of an execution wherever it is, over changes of its owner: each event comes once, in order.
//!
//! ```text
//!   owner here ─ feed ──┐
//!   owner there ─ stream┼─▶ relay ─▶ reader
//!   history (parked) ───┘     ▲
//!   workers ─ notices ────────┘
//! ```
//!
//! When its source ends without the end of the execution, the relay asks for what followed the last event that it
//! passed on.

use std::time::Duration;

use millstream_broker::Answers;
use millstream_model::event::Event;
use millstream_model::ids::{ExecutionId, NodeId, Partition};
use millstream_model::position::EventId;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::asking::{ANSWER_TIMEOUT, Place, RETRY};
use super::serving::{self, Opened};
use super::wire::{Followed, Question};
use super::{Cluster, EventFeed, QueryError};
use crate::leases::View;
use crate::owner::ask::RETRY_AFTER;

/// Events that wait for a reader before its source waits.
const BEHIND_MAX: usize = 256;
/// A stream that is silent for so long is broken.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often a parked execution is looked for again.
const PARKED_PERIOD: Duration = Duration::from_secs(1);

/// What is known of the events so far, and where more come from.
struct Source {
    past: Vec<Event>,
    /// `None` when the execution has ended.
    live: Option<Live>,
}

enum Live {
    Here(mpsc::Receiver<Event>),
    There {
        node: NodeId,
        answers: Box<Answers>,
    },
    /// It is parked: its owner knows when it goes on.
    Later(Instant),
}

/// Why a source cannot be opened at the moment.
enum Shut {
    Retry,
    Failed(QueryError),
}

impl Cluster {
    /// The events of an execution after `after`, and those to come; `None` when there is no such execution.
    pub async fn events(
        &self,
        execution: ExecutionId,
        after: Option<EventId>,
    ) -> Result<Option<EventFeed>, QueryError> {
        if !self.has(execution.partition()) {
            return Ok(None);
        }
        // Notices that come while the past is read belong to what is to come.
        let notices = self.notices.follow(execution);
        let Some(source) = self.source(execution, after).await? else { return Ok(None) };
        let backlog = source.past;
        let (events, live) = mpsc::channel(BEHIND_MAX);
        if let Some(source) = source.live {
            let last = backlog.iter().rev().find_map(|event| event.id).or(after);
            let relay = Relay { cluster: self.clone(), execution, last, ended: false, events };
            tokio::spawn(relay.run(source, notices));
        }
        Ok(Some(EventFeed { backlog, live }))
    }

    /// Opens a source, and waits for an owner while there is none.
    async fn source(&self, execution: ExecutionId, after: Option<EventId>) -> Result<Option<Source>, QueryError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            match timeout_at(deadline, self.try_source(execution, after)).await {
                Ok(Ok(source)) => return Ok(source),
                Ok(Err(Shut::Failed(error))) => return Err(error),
                Ok(Err(Shut::Retry)) if Instant::now() + RETRY < deadline => sleep(RETRY).await,
                Ok(Err(Shut::Retry)) | Err(_) => break,
            }
        }
        // What has ended can be told without its owner.
        let unavailable = || QueryError::Unavailable {
            reason: format!("partition {} has no owner at the moment", execution.partition()),
            retry_after: RETRY_AFTER,
        };
        match self.past(execution, after).await? {
            Some(past) => Ok(Some(Source { past, live: None })),
            None => Err(unavailable()),
        }
    }

    async fn try_source(&self, execution: ExecutionId, after: Option<EventId>) -> Result<Option<Source>, Shut> {
        let opened = match self.place_of(execution.partition()) {
            None => Opened::NotOwner,
            Some(Place::Here(owned)) => serving::open(&owned, execution, after).await,
            Some(Place::There(node)) => match self.open_there(&node, execution, after).await? {
                Ok(source) => return Ok(Some(source)),
                Err(opened) => opened,
            },
        };
        match opened {
            Opened::NotOwner => Err(Shut::Retry),
            Opened::Feed(EventFeed { backlog, live }) => {
                let live = (!live.is_closed()).then_some(Live::Here(live));
                Ok(Some(Source { past: backlog, live }))
            }
            Opened::NotFound => {
                let past = self.past(execution, after).await.map_err(Shut::Failed)?;
                Ok(past.map(|past| Source { past, live: None }))
            }
            Opened::Parked { record } => {
                let past = self.past_of_record(record, after).await.map_err(Shut::Failed)?;
                let past = past.ok_or(Shut::Retry)?;
                Ok(Some(Source { past, live: Some(Live::Later(Instant::now() + PARKED_PERIOD)) }))
            }
        }
    }

    async fn open_there(
        &self,
        node: &NodeId,
        execution: ExecutionId,
        after: Option<EventId>,
    ) -> Result<Result<Source, Opened>, Shut> {
        let subject = self.broker.names().query_of(execution.partition(), node);
        let question = Question::Follow { execution, after };
        let asked = self.broker.ask_stream(&subject, question.encode(), SILENCE_MAX).await;
        let mut answers = asked.map_err(|error| {
            tracing::debug!(%execution, %node, %error, "events cannot be followed yet");
            Shut::Retry
        })?;
        let mut past = Vec::new();
        loop {
            match part(&mut answers).await {
                Ok(Some(Followed::Past(events))) => past.extend(events),
                Ok(Some(Followed::Live)) => {
                    let live = Live::There { node: node.clone(), answers: Box::new(answers) };
                    return Ok(Ok(Source { past, live: Some(live) }));
                }
                Ok(Some(Followed::NotFound)) => return Ok(Err(Opened::NotFound)),
                Ok(Some(Followed::Parked { record })) => return Ok(Err(Opened::Parked { record })),
                // The stream came to its end before anything was to come: so did the execution.
                Ok(None) => return Ok(Ok(Source { past, live: None })),
                Ok(Some(Followed::NotOwner | Followed::Event(_))) | Err(Broken) => return Err(Shut::Retry),
            }
        }
    }
}

/// A stream of answers broke off.
struct Broken;

/// The next part of an answer; `None` at its end. Dropping the future loses nothing.
async fn part(answers: &mut Answers) -> Result<Option<Followed>, Broken> {
    let Some(answer) = answers.next().await else { return Ok(None) };
    let answer = answer.map_err(|error| {
        tracing::debug!(%error, "the stream of events broke off");
        Broken
    })?;
    serde_json::from_slice(&answer).map(Some).map_err(|error| {
        tracing::debug!(%error, "a part of the stream of events cannot be read");
        Broken
    })
}

struct Relay {
    cluster: Cluster,
    execution: ExecutionId,
    /// The last event that was passed on.
    last: Option<EventId>,
    /// It was the end of the execution.
    ended: bool,
    events: mpsc::Sender<Event>,
}

/// The reader is gone.
struct Gone;

impl Relay {
    /// Ends with the execution, or when nobody reads.
    async fn run(mut self, mut live: Live, mut notices: mpsc::Receiver<Event>) {
        while self.pass(live, &mut notices).await.is_ok() && !self.ended {
            match self.again().await {
                Some(next) => live = next,
                None => return,
            }
        }
    }

    /// Passes on what a source gives, to its end.
    async fn pass(&mut self, mut live: Live, notices: &mut mpsc::Receiver<Event>) -> Result<(), Gone> {
        let mut view = self.cluster.view.clone();
        let (partition, node) = (self.execution.partition(), live.node().cloned());
        loop {
            tokio::select! {
                biased;
                () = self.events.closed() => return Err(Gone),
                Some(notice) = notices.recv() => {
                    // Who reads slowly has no use for what is not kept.
                    drop(self.events.try_send(notice));
                }
                event = live.next() => match event {
                    Some(event) => self.tell(event).await?,
                    None => return Ok(()),
                },
                // Who died does not say that no more comes.
                () = moved(&mut view, partition, node.as_ref()) => return Ok(()),
            }
        }
    }

    async fn tell(&mut self, event: Event) -> Result<(), Gone> {
        if event.id.is_some() && event.id <= self.last {
            return Ok(());
        }
        self.last = event.id.or(self.last);
        self.ended = event.kind.is_terminal();
        self.events.send(event).await.map_err(|_| Gone)
    }

    /// Opens the next source, and passes on its past.
    async fn again(&mut self) -> Option<Live> {
        loop {
            if self.events.is_closed() {
                return None;
            }
            match self.cluster.source(self.execution, self.last).await {
                Ok(Some(source)) => {
                    for event in source.past {
                        self.tell(event).await.ok()?;
                    }
                    return source.live;
                }
                Ok(None) => return None,
                Err(error) => {
                    tracing::debug!(execution = %self.execution, %error, "events cannot be followed yet");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// Waits until another coordinator than `node` holds the lease; for ever when it is none's.
async fn moved(view: &mut watch::Receiver<View>, partition: Partition, node: Option<&NodeId>) {
    if let Some(node) = node
        && view.wait_for(|view| view.holders.get(&partition).is_some_and(|holder| holder != node)).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

impl Live {
    /// The process that it comes from, when that is another.
    fn node(&self) -> Option<&NodeId> {
        match self {
            Self::There { node, .. } => Some(node),
            Self::Here(_) | Self::Later(_) => None,
        }
    }

    /// The next event; `None` when another source is to be opened. Dropping the future loses nothing.
    async fn next(&mut self) -> Option<Event> {
        match self {
            Self::Here(events) => events.recv().await,
            Self::There { answers, .. } => match part(answers).await {
                Ok(Some(Followed::Event(event))) => Some(*event),
                Ok(_) | Err(Broken) => None,
            },
            Self::Later(at) => {
                sleep_until(*at).await;
                None
            }
        }
    }
}
