//! Looks executions up: in the memory of their owners, in other processes, in the history; and folds them again here
//! when they are not.

use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::Execution;
use millstream_model::event::Event;
use millstream_model::history::Kept;
use millstream_model::ids::ExecutionId;
use millstream_model::plan::{Plan, StepIndex};
use millstream_model::position::EventId;
use millstream_model::view::{ExecutionView, Held};
use tokio::time::sleep;

use super::asking::{Place, RETRY};
use super::wire::{Question, Told};
use super::{Cluster, QueryError, serving};
use crate::history::{self, RefoldError};
use crate::owner::ask::{Ask, KeptSteps, RETRY_AFTER};

/// Times that a record is looked for which was replaced while it was.
const LOOKS: u32 = 20;

impl Cluster {
    /// The execution as its owner knows it, or as the history has it.
    pub async fn execution(&self, execution: ExecutionId) -> Result<Option<ExecutionView<Held>>, QueryError> {
        if let Some(Place::Here(owned)) = self.place_of(execution.partition())
            && let Some(Some(view)) = serving::look(owned.handle(), |reply| Ask::View(execution, reply)).await
        {
            return Ok(Some(view));
        }
        Ok(self.refolded(execution).await?.map(|execution| execution.view()))
    }

    /// What a fork of the execution keeps under `plan` when it begins at `from`; `None` when there is no such execution.
    pub async fn kept_for_fork(
        &self,
        of: ExecutionId,
        plan: Arc<Plan>,
        from: Option<StepIndex>,
    ) -> Result<Option<KeptSteps>, QueryError> {
        if let Some(Place::Here(owned)) = self.place_of(of.partition())
            && let Some(Some(kept)) =
                serving::look(owned.handle(), |reply| Ask::Kept(of, Arc::clone(&plan), from, reply)).await
        {
            return Ok(Some(kept));
        }
        Ok(self.refolded(of).await?.map(|execution| execution.kept_for_fork(&plan, from)))
    }

    /// The compressed transcript of an execution; `None` when there is no such execution.
    pub async fn transcript(&self, execution: ExecutionId) -> Result<Option<Bytes>, QueryError> {
        if !self.has(execution.partition()) {
            return Ok(None);
        }
        for _ in 0..LOOKS {
            match self.ask(execution.partition(), &Question::Transcript(execution)).await {
                Told::Here(transcript) => return Ok(Some(transcript)),
                Told::Parked { record } => match self.record_at(record).await? {
                    Some(kept) => return self.transcript_of(&kept).await.map(Some),
                    // It went on, and has another record or none.
                    None => sleep(RETRY).await,
                },
                Told::NotFound => return self.archived(execution).await,
                // What has ended can be told without its owner.
                told => match self.archived(execution).await? {
                    Some(transcript) => return Ok(Some(transcript)),
                    None => return Err(unavailable(told.why_not())),
                },
            }
        }
        Err(unavailable("the execution is brought back and put away again and again".to_owned()))
    }

    /// The record of an execution that has ended and that its owner has forgotten.
    pub(super) async fn ended(&self, execution: ExecutionId) -> Result<Option<Kept>, QueryError> {
        let record = self.history.record(execution).await;
        let record = record.map_err(|error| unavailable(format!("the history cannot be read: {error}")))?;
        Ok(record.filter(|kept| kept.summary.status.is_terminal()))
    }

    /// The newest record of an execution that has ended and that its owner has forgotten.
    pub(super) async fn ended_last(&self, execution: ExecutionId) -> Result<Option<Kept>, QueryError> {
        let record = self.history.newest_record(execution).await;
        let record = record.map_err(|error| unavailable(format!("the history cannot be read: {error}")))?;
        Ok(record.filter(|kept| kept.summary.status.is_terminal()))
    }

    /// The compressed transcript of a record.
    pub(super) async fn transcript_of(&self, kept: &Kept) -> Result<Bytes, QueryError> {
        let transcript = self.history.transcript(kept).await;
        transcript.map_err(|error| unavailable(format!("the transcript cannot be had: {error}")))
    }

    /// The events of an execution that has ended and that its owner has forgotten.
    pub(super) async fn past(
        &self,
        execution: ExecutionId,
        after: Option<EventId>,
    ) -> Result<Option<Vec<Event>>, QueryError> {
        match self.archived(execution).await? {
            Some(transcript) => Ok(Some(self.refold(transcript).await?.events(after))),
            None => Ok(None),
        }
    }

    /// The events of a parked execution; `None` when it is parked no more.
    pub(super) async fn past_of_record(
        &self,
        record: u64,
        after: Option<EventId>,
    ) -> Result<Option<Vec<Event>>, QueryError> {
        let Some(kept) = self.record_at(record).await? else { return Ok(None) };
        let transcript = self.transcript_of(&kept).await?;
        Ok(Some(self.refold(transcript).await?.events(after)))
    }

    async fn refolded(&self, execution: ExecutionId) -> Result<Option<Box<Execution>>, QueryError> {
        match self.transcript(execution).await? {
            Some(transcript) => self.refold(transcript).await.map(Some),
            None => Ok(None),
        }
    }

    async fn archived(&self, execution: ExecutionId) -> Result<Option<Bytes>, QueryError> {
        match self.ended(execution).await? {
            Some(kept) => self.transcript_of(&kept).await.map(Some),
            None => Ok(None),
        }
    }

    async fn record_at(&self, record: u64) -> Result<Option<Kept>, QueryError> {
        let kept = self.history.record_at(record).await;
        kept.map_err(|error| unavailable(format!("the history cannot be read: {error}")))
    }

    async fn refold(&self, transcript: Bytes) -> Result<Box<Execution>, QueryError> {
        history::refold(&self.catalog, transcript, None).await.map_err(|error: RefoldError| {
            tracing::warn!(%error, "an execution cannot be folded again");
            unavailable(format!("the execution cannot be folded again: {error}"))
        })
    }
}

fn unavailable(reason: String) -> QueryError {
    QueryError::Unavailable { reason, retry_after: RETRY_AFTER }
}
