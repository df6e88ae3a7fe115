//! The history: what is known of executions that their owners have forgotten, and lists of all of them.
//!
//! Owners write records to the stream `MS_HISTORY`; every coordinator keeps an [`index`] of it. What is asked for one
//! execution comes from its record, which can be folded again; what is asked for many comes from the index.

mod cursor;
mod feeding;
mod filter;
pub mod index;
mod queries;
pub mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{Broker, PayloadError, ReadError};
use millstream_engine::refold::submission;
use millstream_engine::{Execution, Halt};
use millstream_model::history::{Kept, KeptIn, Record, Summary, UnreadableRecord};
use millstream_model::ids::ExecutionId;
use millstream_model::position::Position;
use millstream_model::transcript::{Transcribed, UnreadableTranscript};
use rusqlite::Connection;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, PlanError};
use feeding::{Feeding, Opened, Place};
use index::{Progress, Readers};

pub use cursor::{Cursor, InvalidCursor};
pub use filter::{Comparison, Filter, Is, Range, Relation, Sort, SortBy};
pub use index::IndexError;
pub use queries::{Durations, ForeignCursor, Metrics, Page, Query};

/// How long a question waits for the index to reach what was in the stream before it.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// What is known of an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub summary: Summary,
    /// Sequence of the record that all of it is in; `None` when it had only begun.
    pub record: Option<u64>,
    /// It waits for long, and is in its record until it goes on.
    pub parked: bool,
}

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the index has not read all of the history yet")]
    Behind,
    #[error("record {sequence} of the history cannot be read: {source}")]
    Unreadable {
        sequence: u64,
        #[source]
        source: UnreadableRecord,
    },
}

/// Why a record does not become an execution again.
#[derive(Debug, thiserror::Error)]
pub enum RefoldError {
    #[error("the transcript cannot be had: {0}")]
    Payload(#[from] PayloadError),
    #[error("the transcript cannot be read: {0}")]
    Transcript(#[from] UnreadableTranscript),
    #[error("its definition cannot be had: {0}")]
    Plan(#[from] PlanError),
    #[error("it cannot be folded: {0}")]
    Fold(Halt),
    #[error("it is folded no more: the coordinator stops")]
    Aborted,
}

impl RecordError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Index(_) | Self::Behind => true,
            Self::Read(error) => error.is_retryable(),
            Self::Unreadable { .. } => false,
        }
    }
}

impl RefoldError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Payload(error) => error.is_retryable(),
            Self::Plan(error) => error.is_retryable(),
            Self::Aborted => true,
            Self::Transcript(_) | Self::Fold(_) => false,
        }
    }
}

/// A handle to the history; cheap to clone.
#[derive(Clone)]
pub struct History {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    readers: watch::Receiver<Option<Arc<Readers>>>,
    progress: watch::Receiver<Progress>,
    damaged: Arc<Notify>,
    /// The end of the stream that was waited for in vain: its last records are deleted.
    given_up: AtomicU64,
}

impl History {
    /// Opens the index, in a file that is kept or in one that goes with the process, and keeps it up with the stream until
    /// `stop`.
    pub async fn start(broker: Broker, path: Option<PathBuf>, stop: CancellationToken) -> Result<Self, IndexError> {
        let place = path.map_or(Place::Temporary, Place::Kept);
        let opened = tokio::task::spawn_blocking({
            let place = place.clone();
            move || Opened::open(&place)
        });
        let opened = opened.await.map_err(|_| IndexError::Closed)??;
        let (readers_here, readers) = watch::channel(None);
        let (progress_here, progress) = watch::channel(Progress::default());
        let damaged = Arc::new(Notify::new());
        let feeding = Feeding {
            broker: broker.clone(),
            place,
            readers: readers_here,
            progress: progress_here,
            damaged: Arc::clone(&damaged),
            stop,
        };
        tokio::spawn(feeding.run(opened));
        let given_up = AtomicU64::new(0);
        Ok(Self { inner: Arc::new(Inner { broker, readers, progress, damaged, given_up }) })
    }

    /// What the index knows of an execution.
    pub async fn find(&self, execution: ExecutionId) -> Result<Option<Found>, IndexError> {
        self.read(move |connection| queries::find(connection, execution)).await
    }

    /// A part of a list.
    pub async fn list(&self, query: Query) -> Result<Page, IndexError> {
        self.read(move |connection| query.page(connection)).await
    }

    /// Figures over what a filter lets through.
    pub async fn metrics(&self, filter: Filter) -> Result<Metrics, IndexError> {
        self.read(move |connection| queries::metrics(connection, &filter)).await
    }

    /// Whether the index has caught up with the stream since it was opened.
    pub fn is_complete(&self) -> bool {
        self.inner.progress.borrow().complete
    }

    /// The last record of the stream that can be found.
    pub fn reached(&self) -> u64 {
        self.inner.progress.borrow().sequence
    }

    /// Waits, not for long, until the index has the record with this sequence. Whether it has.
    pub async fn caught_up(&self, sequence: u64) -> bool {
        let mut progress = self.inner.progress.clone();
        let reached = progress.wait_for(|progress| progress.sequence >= sequence);
        matches!(timeout(SETTLE_MAX, reached).await, Ok(Ok(_)))
    }

    /// Waits, not for long, until the index has everything that the stream has at the moment.
    pub async fn settled(&self) -> bool {
        let Ok(state) = self.inner.broker.history_state().await else { return false };
        let given_up = self.inner.given_up.load(Ordering::Relaxed);
        if state.last == given_up && self.is_complete() {
            return true;
        }
        let reached = self.caught_up(state.last).await;
        if !reached && self.is_complete() {
            self.inner.given_up.store(state.last, Ordering::Relaxed);
        }
        reached
    }

    /// The record that all of an execution is in; `None` when there is none. That there is none is said only when the
    /// index has read everything.
    pub async fn record(&self, execution: ExecutionId) -> Result<Option<Kept>, RecordError> {
        let mut found = self.find(execution).await?;
        if found.as_ref().is_none_or(|found| found.record.is_none()) {
            let settled = self.settled().await;
            found = self.find(execution).await?;
            if !settled && found.as_ref().is_none_or(|found| found.record.is_none()) {
                return Err(RecordError::Behind);
            }
        }
        match found.and_then(|found| found.record) {
            Some(sequence) => Ok(self.record_at(sequence).await?.filter(|kept| kept.summary.execution == execution)),
            None => Ok(None),
        }
    }

    /// The newest record of an execution, once the index has everything that the stream has at the moment.
    pub async fn newest_record(&self, execution: ExecutionId) -> Result<Option<Kept>, RecordError> {
        if self.settled().await { self.record(execution).await } else { Err(RecordError::Behind) }
    }

    /// The record with this sequence, when it is one of a whole execution.
    pub async fn record_at(&self, sequence: u64) -> Result<Option<Kept>, RecordError> {
        let Some(message) = self.inner.broker.history_message(sequence).await? else { return Ok(None) };
        match Record::decode(&message.payload) {
            Ok(Record::Parked(kept) | Record::Ended(kept)) => Ok(Some(kept)),
            Ok(Record::Started(_)) => Ok(None),
            Err(source) => Err(RecordError::Unreadable { sequence, source }),
        }
    }

    /// The compressed transcript of a record.
    pub async fn transcript(&self, kept: &Kept) -> Result<Bytes, PayloadError> {
        match &kept.transcript {
            KeptIn::Here(transcript) => Ok(transcript.clone()),
            KeptIn::Stored(reference) => self.inner.broker.get_bytes(kept.summary.execution, *reference).await,
        }
    }

    async fn read<T, F>(&self, query: F) -> Result<T, IndexError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let mut readers = self.inner.readers.clone();
        let open = timeout(SETTLE_MAX, readers.wait_for(Option::is_some)).await;
        let readers = open.map_err(|_| IndexError::Closed)?.map_err(|_| IndexError::Closed)?.clone();
        let readers = readers.ok_or(IndexError::Closed)?;
        let answer = tokio::task::spawn_blocking(move || readers.read(query)).await.map_err(|_| IndexError::Closed)?;
        if answer.as_ref().is_err_and(IndexError::is_damage) {
            self.inner.damaged.notify_one();
        }
        answer
    }
}

/// The execution of a compressed transcript as it was after the entry at `until`, or as it is at the end.
pub async fn refold(
    catalog: &Catalog,
    transcript: Bytes,
    until: Option<Position>,
) -> Result<Box<Execution>, RefoldError> {
    let read = move || Transcribed::read(&transcript);
    let transcribed = tokio::task::spawn_blocking(read).await.map_err(|_| RefoldError::Aborted)??;
    let (_, definition) = submission(&transcribed).ok_or(RefoldError::Fold(Halt::NoSubmission))?;
    let plan = catalog.plan(definition).await?;
    let fold = move || Execution::refold_until(&transcribed, plan, until);
    let folded = tokio::task::spawn_blocking(fold).await.map_err(|_| RefoldError::Aborted)?;
    folded.map_err(RefoldError::Fold)
}

#[cfg(test)]
mod tests;
