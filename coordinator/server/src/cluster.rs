//! The cluster: what the API asks of the owners of partitions, wherever they run.
//!
//! Any coordinator answers for any partition: by its own owner, by asking the coordinator that holds the lease, or from
//! the history.

mod asking;
mod failure;
mod following;
mod kept;
mod lookup;
mod notices;
mod readiness;
pub mod serving;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_broker::Broker;
use millstream_engine::partition::EXPR_REV;
use millstream_model::batch::encode_entry;
use millstream_model::entry::{Defaults, Entry, Fork, Idempotency, Resumed, Submitted};
use millstream_model::event::Event;
use millstream_model::hash::{ContentHash, canonical_json};
use millstream_model::history::KeptIn;
use millstream_model::ids::{ExecutionId, Namespace, Partition, StepId};
use millstream_model::limits::INLINE_MAX;
use millstream_model::payload::Payload;
use millstream_model::plan::Plan;
use millstream_model::token::Secret;
use millstream_model::trace::TraceParent;
use millstream_model::view::{CancelView, ExecutionPhase, ExecutionStatus};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::catalog::{Catalog, Routing};
use crate::history::History;
use crate::leases::{Leases, View};
use crate::owner::Surroundings;
use crate::owner::ask::{KeptSteps, RETRY_AFTER};
use notices::Notices;
use wire::Question;

pub use failure::{CancelError, QueryError, ResumeError, SubmitError};
pub use readiness::{Absence, Readiness};

/// Bytes of a journal message around a single entry.
const ENVELOPE: usize = 1_024;

/// Asks the owners of partitions, wherever they are; cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    broker: Broker,
    catalog: Catalog,
    leases: Leases,
    view: watch::Receiver<View>,
    history: History,
    notices: Notices,
    partitions: u16,
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

/// The events of an execution.
#[derive(Debug)]
pub struct EventFeed {
    /// What happened so far, after the event that was asked for.
    pub backlog: Vec<Event>,
    /// What happens from here on; closed after the terminal event.
    pub live: mpsc::Receiver<Event>,
}

impl Cluster {
    /// Asks the owners of partitions that the leases tell of, and the history what they have forgotten.
    pub fn new(surroundings: &Surroundings, leases: Leases, history: History, defaults: Defaults) -> Self {
        let Surroundings { broker, catalog, topology, stop, .. } = surroundings;
        Self {
            broker: broker.clone(),
            catalog: catalog.clone(),
            partitions: topology.partitions.max(1),
            view: leases.view(),
            leases,
            history,
            notices: Notices::start(broker.clone(), stop.clone()),
            defaults,
        }
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
        self.ask_to_submit(execution, &Question::Submit(submitted)).await.submission()
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

    /// Asks for the end of an execution and answers with how far that is, as the fold sees it.
    pub async fn cancel(&self, execution: ExecutionId, order: CancelOrder) -> Result<Cancelling, CancelError> {
        if !self.has(execution.partition()) {
            return Err(CancelError::NotFound);
        }
        let CancelOrder { by, reason, compensate } = order;
        let question = Question::Cancel { execution, reason, by, compensate };
        let cancelled = self.ask(execution.partition(), &question).await.cancel();
        if !matches!(cancelled, Err(CancelError::NotFound)) {
            return cancelled;
        }
        match self.ended(execution).await {
            Ok(Some(kept)) => Err(CancelError::Ended { status: kept.summary.status }),
            Ok(None) => Err(CancelError::NotFound),
            Err(QueryError::Unavailable { reason, retry_after }) => {
                Err(CancelError::Unavailable { reason, retry_after })
            }
        }
    }

    /// Lets a failed execution go on from where it stopped, with agents that were resolved anew. One that its owner has
    /// forgotten is brought back from the history.
    pub async fn resume(
        &self,
        execution: ExecutionId,
        by: Option<String>,
        reason: Option<String>,
        routing: Routing,
    ) -> Result<(), ResumeError> {
        if !self.has(execution.partition()) {
            return Err(ResumeError::NotFound);
        }
        let Routing { agents, routes, fallbacks, compensations } = routing;
        let resumed = Resumed { execution, by, reason, transcript: None, agents, routes, fallbacks, compensations };
        let mut question = Box::new(resumed);
        let answer = self.ask(execution.partition(), &Question::Resume(question.clone())).await.resume();
        if !matches!(answer, Err(ResumeError::NotFound)) {
            return answer;
        }
        let unavailable =
            |QueryError::Unavailable { reason, retry_after }| ResumeError::Unavailable { reason, retry_after };
        // An older one would take back what was done since.
        let kept = self.ended_last(execution).await.map_err(unavailable)?.ok_or(ResumeError::NotFound)?;
        let status = kept.summary.status;
        if !matches!(status, ExecutionStatus::Failed | ExecutionStatus::Timeout) {
            return Err(ResumeError::NotResumable { status });
        }
        question.transcript = Some(match kept.transcript {
            KeptIn::Stored(reference) => reference,
            KeptIn::Here(transcript) => {
                let stored = self.broker.put_bytes(execution, transcript).await;
                stored.map_err(|error| ResumeError::Unavailable {
                    reason: format!("what the execution did so far cannot be stored: {error}"),
                    retry_after: RETRY_AFTER,
                })?
            }
        });
        self.ask(execution.partition(), &Question::Resume(question)).await.resume()
    }

    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Whether the cluster has this partition.
    fn has(&self, partition: Partition) -> bool {
        u16::from(partition.0) < self.partitions
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
        let index = draw % u64::from(self.partitions);
        Partition(u8::try_from(index).expect("a cluster has at most 256 partitions"))
    }

    /// A value as it travels: stored when it is large.
    async fn payload(&self, execution: ExecutionId, text: Box<RawValue>) -> Result<Payload, String> {
        if text.get().len() <= INLINE_MAX {
            return Ok(Payload::inline(text));
        }
        let stored = self.broker.put_payload(execution, text.get()).await;
        stored.map(Payload::stored).map_err(|error| format!("the input cannot be stored: {error}"))
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
