//! The audit trail: what was decided here, by whom, why, and what else there was to choose.
//!
//! Deciders say what they are about to do ([`AuditTrail::intend`]) and how it ended ([`Intent::settle`]). Each backend
//! has a queue and one task or thread that puts decisions into its chain. A full queue makes deciders wait before they
//! act, and refuse when it stays full: what was done is on its way to every backend.
//!
//! ```text
//!   handlers ── Intent ──▶ queue ─▶ Stream ── compare-and-set ──▶ MS_AUDIT ──▶ View (SQLite, a copy) ─▶ GET /audit
//!                     ├──▶ queue ─▶ Files     <trace>.jsonl, a chain each
//!                     └──▶ queue ─▶ Database  audit.sqlite, a chain
//! ```

mod config;
mod database;
pub mod decisions;
mod files;
mod intent;
mod stream;
mod view;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_broker::Broker;
use millstream_model::audit::{AuditKind, AuditRecord, Decision, FirstBad, Head};
use millstream_model::ids::ExecutionId;
use millstream_model::time::Timestamp;
use millstream_model::trace::TraceId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use config::{AuditConfig, Backend, BackendsError};
pub use database::{DatabaseError, lines_of as lines_of_database};
pub use intent::{Intent, Outcome};

use view::View;

/// Orders that wait for a backend.
const QUEUE: usize = 1_024;
/// How long a decider waits for a place in the queues.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last records may take when the coordinator stops.
const CLOSE_WAIT: Duration = Duration::from_secs(10);
/// How long a reader waits to see what was decided before.
const SIGHT_WAIT: Duration = Duration::from_secs(2);

/// What a backend is told, in order.
enum Order {
    Append(Arc<[Decision]>),
    /// Records of the stream, for its view.
    Insert(Vec<(AuditRecord, String)>),
    Find(Filter, oneshot::Sender<Result<Vec<String>, FindError>>),
    /// Answered with the head when everything before is written.
    Flush(oneshot::Sender<Head>),
}

type Orders = mpsc::Sender<Order>;

/// Which records are wanted; what is absent does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Records of the trace and of executions that have records of the trace.
    pub trace: Option<TraceId>,
    pub execution: Option<ExecutionId>,
    pub kind: Option<AuditKind>,
    pub actor: Option<String>,
    /// Made later than this.
    pub after: Option<Timestamp>,
    /// Made earlier than this.
    pub before: Option<Timestamp>,
    /// Only records with a smaller number.
    pub cursor: Option<u64>,
    pub limit: usize,
}

/// Records, the newest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// One line of JSON each.
    pub lines: Vec<String>,
    /// The newest record of the chain that was asked; `None` when there is no single chain.
    pub head: Option<Head>,
    /// What is wrong with that chain.
    pub broken: Option<FirstBad>,
}

/// Why no records are found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error("the records are not read yet")]
    NotReady,
    #[error("with audit.backends jsonl alone there is a file for each trace: name one")]
    TraceNeeded,
    #[error("the backend of the audit trail does not answer")]
    Gone,
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("the file of the trace cannot be read: {source}")]
    File {
        #[source]
        source: std::io::Error,
    },
}

/// Why nothing can be recorded; what was to be recorded must not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit trail takes no records at the moment")]
pub struct AuditBusy;

/// Why there is no audit trail.
#[derive(Debug, thiserror::Error)]
pub enum StartAuditError {
    #[error("the directory {path} cannot be made: {source}")]
    Directory {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// The audit trail; cheap to clone.
#[derive(Clone)]
pub struct AuditTrail {
    inner: Arc<Inner>,
}

struct Inner {
    sinks: Vec<Orders>,
    source: Source,
    submissions: bool,
    /// Ends the tasks.
    closed: CancellationToken,
}

/// Where records are read.
enum Source {
    /// A copy of the stream; beside it the stream's writer.
    View(View, Orders),
    Sink(Orders),
    Nothing,
}

impl AuditTrail {
    /// Opens the backends. Nothing waits for NATS here.
    pub fn start(config: &AuditConfig, broker: &Broker) -> Result<Self, StartAuditError> {
        let closed = CancellationToken::new();
        let mut sinks = Vec::new();
        let mut source = Source::Nothing;
        for backend in &config.backends {
            let sink = match backend {
                Backend::Nats => stream::start(broker.clone(), closed.clone()),
                Backend::Sqlite => database::start(Some(&config.directory()?.join("audit.sqlite")))?,
                Backend::Jsonl => files::start(config.directory()?),
            };
            source = match (backend, source) {
                (Backend::Nats, _) => Source::View(View::start(broker.clone(), closed.clone())?, sink.clone()),
                (Backend::Jsonl | Backend::Sqlite, Source::Nothing) => Source::Sink(sink.clone()),
                (Backend::Jsonl | Backend::Sqlite, source) => source,
            };
            sinks.push(sink);
        }
        Ok(Self { inner: Arc::new(Inner { sinks, source, submissions: config.submissions, closed }) })
    }

    /// Whether plans and routes of submissions are recorded.
    pub fn records_submissions(&self) -> bool {
        self.inner.submissions && !self.inner.sinks.is_empty()
    }

    /// Takes the places for what is about to be decided. Waits while a backend's queue is full.
    pub async fn intend(&self, decisions: Vec<Decision>) -> Result<Intent, AuditBusy> {
        if decisions.is_empty() {
            return Ok(Intent::none());
        }
        let mut places = Vec::with_capacity(self.inner.sinks.len());
        for sink in &self.inner.sinks {
            match timeout(PATIENCE, sink.clone().reserve_owned()).await {
                Ok(Ok(place)) => places.push(place),
                Ok(Err(_)) | Err(_) => return Err(AuditBusy),
            }
        }
        Ok(Intent::new(places, decisions))
    }

    /// Records which definition an execution follows, and which agents do its steps.
    pub async fn record_plan(&self, decisions: Vec<Decision>) -> Result<(), AuditBusy> {
        if self.records_submissions() {
            self.intend(decisions).await.map(|intent| intent.settle(Outcome::Done))
        } else {
            Ok(())
        }
    }

    /// Records a decision that was made.
    pub async fn record_decision(&self, decision: Decision) -> Result<(), AuditBusy> {
        self.intend(vec![decision]).await.map(|intent| intent.settle(Outcome::Done))
    }

    /// What was decided in a trace, the oldest first.
    pub async fn get_decisions(&self, trace: TraceId) -> Result<Vec<AuditRecord>, FindError> {
        let filter = Filter { trace: Some(trace), limit: usize::MAX, ..Filter::default() };
        let page = self.find(filter).await?;
        let records = page.lines.iter().rev().filter_map(|line| serde_json::from_str(line).ok());
        Ok(records.collect())
    }

    /// Records that `filter` lets through, the newest first; those of decisions that were settled here before are
    /// among them unless NATS is slow.
    pub async fn find(&self, filter: Filter) -> Result<Page, FindError> {
        match &self.inner.source {
            Source::Nothing => Ok(Page::default()),
            Source::Sink(sink) => Ok(Page { lines: ask(sink, filter).await?, head: None, broken: None }),
            Source::View(view, writer) => {
                if let Ok(Some(head)) = timeout(SIGHT_WAIT, flush(writer)).await {
                    view.reached(head, SIGHT_WAIT).await;
                }
                view.find(filter).await
            }
        }
    }

    /// Waits until what was recorded is stored, for a while, and ends.
    pub async fn close(&self) {
        for sink in &self.inner.sinks {
            if timeout(CLOSE_WAIT, flush(sink)).await.is_err() {
                tracing::error!("the last records of the audit trail are not stored");
            }
        }
        self.inner.closed.cancel();
    }
}

async fn ask(orders: &Orders, filter: Filter) -> Result<Vec<String>, FindError> {
    let (reply, answer) = oneshot::channel();
    orders.send(Order::Find(filter, reply)).await.map_err(|_| FindError::Gone)?;
    answer.await.map_err(|_| FindError::Gone)?
}

async fn flush(orders: &Orders) -> Option<Head> {
    let (reply, answer) = oneshot::channel();
    orders.send(Order::Flush(reply)).await.ok()?;
    answer.await.ok()
}

/// The time by this machine's clock.
fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
