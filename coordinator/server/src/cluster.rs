//! The cluster: what the API asks of the owners of partitions.

mod kept;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::{Broker, PayloadError};
use millstream_engine::Request;
use millstream_engine::partition::EXPR_REV;
use millstream_model::batch::encode_entry;
use millstream_model::entry::{Defaults, Entry, Fork, Idempotency, Resumed, Submitted};
use millstream_model::event::Event;
use millstream_model::hash::{ContentHash, canonical_json};
use millstream_model::ids::{ExecutionId, Namespace, Partition, StepId};
use millstream_model::limits::INLINE_MAX;
use millstream_model::payload::Payload;
use millstream_model::plan::{Plan, StepIndex};
use millstream_model::position::EventId;
use millstream_model::token::Secret;
use millstream_model::trace::TraceParent;
use millstream_model::view::{CancelView, ExecutionPhase, ExecutionStatus, ExecutionView, Held};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::catalog::Routing;
use crate::owner::ask::{Ask, KeptSteps, RETRY_AFTER, Ticket};
use crate::owner::machine::Counts;
use crate::owner::{self, Handle, Surroundings};

/// How long an owner may take to answer; an entry may be in the journal all the same.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a journal message around a single entry.
const ENVELOPE: usize = 1_024;

/// Asks the owners of partitions, wherever they are.
#[derive(Clone)]
pub struct Cluster {
    broker: Broker,
    owners: Arc<[Handle]>,
    defaults: Defaults,
}

/// A request for an execution; everything that a later change could touch is resolved.
#[derive(Debug)]
pub struct Submission {
    pub plan: Arc<Plan>,
    pub input: Box<RawValue>,
    pub context: Option<Box<RawValue>>,
    pub idempotency_key: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub trace: Option<TraceParent>,
    pub routing: Routing,
    pub fork: Option<Forking>,
}

/// What a submission takes over of another execution.
#[derive(Debug)]
pub struct Forking {
    pub of: ExecutionId,
    /// The first step that runs anew; `None` when all do.
    pub from: Option<StepId>,
    pub by: Option<String>,
    pub reason: Option<String>,
    /// What [`Cluster::kept_for_fork`] answered.
    pub kept: KeptSteps,
}

/// The journal has the submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub execution: ExecutionId,
    /// The idempotency key was known: this is the execution of the first request.
    pub repeated: bool,
}

/// Why there is no execution.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the idempotency key belongs to execution {execution}, which was asked for with another body")]
    Conflict { execution: ExecutionId },
    #[error("the submission has {size} bytes, and NATS takes at most {max} (its max_payload)")]
    TooLarge { size: usize, max: usize },
    #[error("the fork would keep {size} bytes of step {step}, which no value may have (at most {max}); fork from it")]
    KeptTooLarge { step: StepId, size: usize, max: usize },
    #[error("what the fork keeps cannot be read: {source}")]
    Kept {
        #[source]
        source: PayloadError,
    },
    #[error("{reason}")]
    Unavailable { reason: String, retry_after: Duration },
}

/// A request for the end of an execution.
#[derive(Debug, Default)]
pub struct CancelOrder {
    pub by: Option<String>,
    pub reason: Option<String>,
    /// Whether what was completed is undone.
    pub compensate: bool,
}

/// How far a cancel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelling {
    pub status: ExecutionStatus,
    pub phase: ExecutionPhase,
    pub cancel: CancelView,
}

/// Why nothing was cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    #[error("there is no such execution")]
    NotFound,
    #[error("the execution has ended, it is {}", .status.as_str())]
    Ended { status: ExecutionStatus },
    /// Its outcome cannot change any more: it is stopping, compensating or finalizing.
    #[error("the outcome of the execution is decided, it is {}", .phase.as_str())]
    Decided { phase: ExecutionPhase },
    #[error("{reason}")]
    Unavailable { reason: String, retry_after: Duration },
}

/// Why an execution does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error("there is no such execution")]
    NotFound,
    #[error("only executions that are FAILED or TIMEOUT can be resumed, this one is {}", .status.as_str())]
    NotResumable { status: ExecutionStatus },
    #[error("{reason}")]
    Unavailable { reason: String, retry_after: Duration },
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{reason}")]
    Unavailable { reason: String, retry_after: Duration },
}

/// The events of an execution.
#[derive(Debug)]
pub struct EventFeed {
    /// What happened so far, after the event that was asked for.
    pub backlog: Vec<Event>,
    /// What happens from here on; closed after the terminal event, or when the reader is too slow.
    pub live: mpsc::Receiver<Event>,
}

/// Whether the cluster can take requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The connection to NATS is up.
    pub connected: bool,
    /// Partitions of the cluster.
    pub partitions: u16,
    /// Partitions that this coordinator owns and has caught up with.
    pub caught_up: u16,
    /// What else keeps it from being ready, such as a halted partition.
    pub reason: Option<String>,
    /// What was ignored or repaired since the start.
    pub counts: Counts,
}

impl Readiness {
    /// Whether requests will be answered.
    pub fn is_ready(&self) -> bool {
        self.connected && self.caught_up == self.partitions && self.reason.is_none()
    }
}

impl Cluster {
    /// Takes all partitions.
    pub fn start(surroundings: &Surroundings, defaults: Defaults) -> Self {
        let broker = surroundings.broker.clone();
        let partitions = 0..=u8::try_from(surroundings.topology.partitions.max(1) - 1).unwrap_or(u8::MAX);
        let owners = partitions.map(|p| owner::start(Partition(p), surroundings.clone())).collect();
        Self { broker, owners, defaults }
    }

    /// Journals a submission and answers with the fold's outcome of it.
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, SubmitError> {
        let unavailable = |reason: String| SubmitError::Unavailable { reason, retry_after: RETRY_AFTER };
        if !self.broker.is_connected() {
            return Err(unavailable("the coordinator is not connected to NATS".to_owned()));
        }
        let idempotency = submission
            .idempotency_key
            .as_deref()
            .map(|key| Idempotency { key: ContentHash::of(key.as_bytes()), body: body_hash(&submission) });
        let partition = self.partition_of(idempotency.as_ref());
        let execution = ExecutionId::new(Uuid::now_v7(), partition);
        let input = self.payload(execution, submission.input).await.map_err(unavailable)?;
        let context = match submission.context {
            Some(context) => Some(self.payload(execution, context).await.map_err(unavailable)?),
            None => None,
        };
        let Routing { agents, routes, fallbacks, compensations } = submission.routing;
        let mut submitted = Box::new(Submitted {
            execution,
            ns: Namespace::default(),
            workflow: submission.plan.definition.id.clone(),
            definition: submission.plan.hash,
            input,
            context,
            labels: submission.labels,
            idempotency,
            secret: new_secret(),
            agents,
            routes,
            fallbacks,
            compensations,
            defaults: self.defaults,
            expr_rev: EXPR_REV,
            trace: submission.trace,
            fork: None,
        });
        if let Some(forking) = submission.fork {
            submitted = self.with_fork(submitted, forking).await?;
        }
        let request = Request::Submit(submitted);
        self.ask(partition, |reply| Ask::Request(request, Ticket::Submit(execution, reply)))
            .await
            .map_err(unavailable)?
    }

    /// Completes the submission of a fork. What it keeps goes to the payload store where the entry would become large.
    async fn with_fork(&self, mut submitted: Box<Submitted>, forking: Forking) -> Result<Box<Submitted>, SubmitError> {
        let Forking { of, from, by, reason, kept } = forking;
        submitted.fork = Some(Box::new(Fork { of, from, by, reason, kept: Vec::new() }));
        let (size, max) = (entry_size(&submitted), self.broker.max_payload() - ENVELOPE);
        let room = (max / 4).saturating_sub(size);
        let kept = kept::store(&self.broker, of, submitted.execution, kept, room).await?;
        if let Some(fork) = &mut submitted.fork {
            fork.kept = kept;
        }
        let size = entry_size(&submitted);
        if size > max { Err(SubmitError::TooLarge { size, max }) } else { Ok(submitted) }
    }

    /// What a fork of the execution keeps under `plan` when it begins at `from`; `None` when there is no such execution.
    pub async fn kept_for_fork(
        &self,
        of: ExecutionId,
        plan: Arc<Plan>,
        from: Option<StepIndex>,
    ) -> Result<Option<KeptSteps>, QueryError> {
        if self.owner(of.partition()).is_none() {
            return Ok(None);
        }
        self.query(of, |reply| Ask::Kept(of, plan, from, reply)).await
    }

    /// Asks for the end of an execution and answers with how far that is, as the fold sees it.
    pub async fn cancel(&self, execution: ExecutionId, order: CancelOrder) -> Result<Cancelling, CancelError> {
        if self.owner(execution.partition()).is_none() {
            return Err(CancelError::NotFound);
        }
        let CancelOrder { by, reason, compensate } = order;
        let request = Request::Cancel { execution, reason, by, compensate };
        let ask = |reply| Ask::Request(request, Ticket::Cancel(execution, reply));
        let answer = self.ask(execution.partition(), ask).await;
        answer.unwrap_or_else(|reason| Err(CancelError::Unavailable { reason, retry_after: RETRY_AFTER }))
    }

    /// Lets a failed execution go on from where it stopped, with agents that were resolved anew.
    pub async fn resume(
        &self,
        execution: ExecutionId,
        by: Option<String>,
        reason: Option<String>,
        routing: Routing,
    ) -> Result<(), ResumeError> {
        if self.owner(execution.partition()).is_none() {
            return Err(ResumeError::NotFound);
        }
        let Routing { agents, routes, fallbacks, compensations } = routing;
        let resumed = Resumed { execution, by, reason, agents, routes, fallbacks, compensations };
        let request = Request::Resume(Box::new(resumed));
        let ask = |reply| Ask::Request(request, Ticket::Resume(execution, reply));
        let answer = self.ask(execution.partition(), ask).await;
        answer.unwrap_or_else(|reason| Err(ResumeError::Unavailable { reason, retry_after: RETRY_AFTER }))
    }

    /// The execution as its owner knows it.
    pub async fn execution(&self, execution: ExecutionId) -> Result<Option<ExecutionView<Held>>, QueryError> {
        if self.owner(execution.partition()).is_none() {
            return Ok(None);
        }
        self.query(execution, |reply| Ask::View(execution, reply)).await
    }

    /// The events of an execution, after `after`.
    pub async fn events(
        &self,
        execution: ExecutionId,
        after: Option<EventId>,
    ) -> Result<Option<EventFeed>, QueryError> {
        if self.owner(execution.partition()).is_none() {
            return Ok(None);
        }
        self.query(execution, |reply| Ask::Events(execution, after, reply)).await
    }

    /// Passes a worker's notice to whoever follows the execution.
    pub fn notify(&self, notice: Event) {
        if let Some(owner) = self.owner(notice.execution_id.partition()) {
            // A notice is best effort: a busy owner has better things to do.
            drop(owner.asks.try_send(Ask::Notice(Box::new(notice))));
        }
    }

    /// Returns once every partition is caught up or has stopped.
    pub async fn caught_up(&self) {
        for owner in self.owners.iter() {
            let mut status = owner.status.clone();
            // The owner's task keeps the sender until it stops, and then says why.
            drop(status.wait_for(|status| status.caught_up || status.stopped.is_some()).await);
        }
    }

    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Whether requests will be answered.
    pub fn ready(&self) -> Readiness {
        let mut readiness = Readiness {
            connected: self.broker.is_connected(),
            partitions: u16::try_from(self.owners.len()).unwrap_or(u16::MAX),
            caught_up: 0,
            reason: None,
            counts: Counts::default(),
        };
        for owner in self.owners.iter() {
            let status = owner.status.borrow();
            readiness.caught_up += u16::from(status.caught_up);
            readiness.counts.add(&status.counts);
            if readiness.reason.is_none() {
                readiness.reason.clone_from(&status.stopped);
            }
        }
        readiness
    }

    /// A random partition, or the one that the idempotency key belongs to.
    fn partition_of(&self, idempotency: Option<&Idempotency>) -> Partition {
        let draw = match idempotency {
            Some(idempotency) => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&idempotency.key.as_bytes()[..8]);
                u64::from_le_bytes(bytes)
            }
            None => Uuid::new_v4().as_u64_pair().0,
        };
        let index = draw % self.owners.len() as u64;
        Partition(u8::try_from(index).expect("a cluster has at most 256 partitions"))
    }

    fn owner(&self, partition: Partition) -> Option<&Handle> {
        self.owners.get(usize::from(partition.0))
    }

    /// A value as it travels: stored when it is large.
    async fn payload(&self, execution: ExecutionId, text: Box<RawValue>) -> Result<Payload, String> {
        if text.get().len() <= INLINE_MAX {
            return Ok(Payload::inline(text));
        }
        let stored = self.broker.put_payload(execution, text.get()).await;
        stored.map(Payload::stored).map_err(|error| format!("the input cannot be stored: {error}"))
    }

    async fn query<T>(
        &self,
        execution: ExecutionId,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, QueryError> {
        let answer = self.ask(execution.partition(), ask).await;
        answer.map_err(|reason| QueryError::Unavailable { reason, retry_after: RETRY_AFTER })
    }

    async fn ask<T>(&self, partition: Partition, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, String> {
        let (reply, answer) = oneshot::channel();
        let stopped = || format!("partition {partition} has no owner");
        let exchange = async {
            let owner = self.owner(partition).ok_or_else(stopped)?;
            owner.asks.send(ask(reply)).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| {
            Err("the journal does not answer; whether the request is in it is not known: repeat it with the same \
                 Idempotency-Key"
                .to_owned())
        })
    }
}

/// Hash of workflow id and canonical JSON of input and context, and for a fork of what it begins from.
fn body_hash(submission: &Submission) -> ContentHash {
    let parsed = |text: &RawValue| serde_json::from_str::<Value>(text.get()).unwrap_or(Value::Null);
    let mut body = json!({
        "workflow": submission.plan.definition.id,
        "input": parsed(&submission.input),
        "context": submission.context.as_deref().map(parsed),
    });
    if let Some(fork) = &submission.fork {
        body["fork"] = json!({"of": fork.of, "from": fork.from, "definition": submission.plan.hash});
    }
    ContentHash::of(canonical_json(&body).as_bytes())
}

fn entry_size(submitted: &Submitted) -> usize {
    encode_entry(&Entry::Submitted(Box::new(submitted.clone()))).len()
}

/// 16 bytes of the system's random source, by way of two UUIDv4, which leave 122 random bits each.
fn new_secret() -> Secret {
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    seed[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    let hash = ContentHash::of(&seed);
    let mut secret = [0; 16];
    secret.copy_from_slice(&hash.as_bytes()[..16]);
    Secret::new(secret)
}
