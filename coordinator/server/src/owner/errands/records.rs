//! Records of executions on their way into the history, and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::Broker;
use millstream_engine::{Execution, refold};
use millstream_model::history::{Kept, KeptIn, Record, Summary};
use millstream_model::ids::{ExecutionId, Partition};
use millstream_model::payload::PayloadRef;
use millstream_model::position::Position;
use millstream_model::transcript::{Transcribed, Transcript};
use tokio::sync::mpsc;

use super::{Done, Errands, end};
use crate::catalog::Catalog;
use crate::history::summary::{self, Values, WantedValues};
use crate::owner::RETRY;
use crate::owner::failure::StoreFailure;
use crate::owner::reading::plan;

/// How long the beginning of an execution waits for others to be told with, or for its end, which says it too.
const COMPANY: Duration = Duration::from_millis(250);
/// Beginnings of one record.
const TOGETHER_MAX: usize = 128;
/// Bytes of a record beside its transcript.
const HEAD: usize = 64 * 1024;

/// What is told of executions that have begun.
pub(super) enum Beginning {
    Began(Box<Summary>),
    Ended(ExecutionId),
}

/// What an execution leaves behind, but its transcript.
pub struct Remains {
    pub summary: Summary,
    pub state: millstream_model::hash::ContentHash,
    pub wanted: WantedValues,
    pub retention_ms: u64,
}

impl Remains {
    /// What there is to say of an execution as it is.
    pub fn of(execution: &Execution, retention_ms: u64) -> Self {
        let summary = summary::of(execution, retention_ms, &Values::default());
        Self { summary, state: execution.state_hash(), wanted: summary::wanted(execution), retention_ms }
    }
}

impl Errands {
    /// Tells the history that an execution has begun, unless it ends at once.
    pub fn begin(&self, summary: Summary) {
        drop(self.beginnings.send(Beginning::Began(Box::new(summary))));
    }

    /// Puts the record of an execution that has ended into the history.
    pub fn record(&self, execution: ExecutionId, end_at: Position, remains: Remains, transcript: Transcript) {
        drop(self.beginnings.send(Beginning::Ended(execution)));
        let (broker, catalog, done) = (self.broker.clone(), self.catalog.clone(), self.done.clone());
        let (partition, records) = (self.partition, Arc::clone(&self.records));
        tokio::spawn(async move {
            let _permit = records.acquire().await;
            let stored = store(&broker, &catalog, partition, remains, &transcript, Some(end_at)).await;
            end(&done, Done::Recorded(execution, end_at, stored.map(drop)));
        });
    }

    /// Puts the record of an execution that waits into the history.
    pub fn park(&self, execution: ExecutionId, remains: Remains, transcript: Transcript) {
        let (broker, catalog, done) = (self.broker.clone(), self.catalog.clone(), self.done.clone());
        let (partition, records) = (self.partition, Arc::clone(&self.records));
        tokio::spawn(async move {
            let _permit = records.acquire().await;
            let stored = store(&broker, &catalog, partition, remains, &transcript, None).await;
            end(&done, Done::Parked(execution, stored));
        });
    }

    /// Brings a parked execution back.
    pub fn wake(&self, execution: ExecutionId, record: u64) {
        let (broker, catalog, done) = (self.broker.clone(), self.catalog.clone(), self.done.clone());
        tokio::spawn(async move {
            let brought = loop {
                match bring_parked(&broker, &catalog, execution, record).await {
                    Err(StoreFailure::Passing { .. }) => tokio::time::sleep(RETRY).await,
                    Err(StoreFailure::Lasting { reason }) => break Err(reason),
                    Ok(brought) => break Ok(brought),
                }
            };
            end(&done, Done::Woken(execution, record, brought));
        });
    }

    /// Deletes a record that nobody needs.
    pub fn drop_record(&self, record: u64) {
        let broker = self.broker.clone();
        tokio::spawn(async move {
            if let Err(error) = broker.delete_history(record).await {
                tracing::debug!(record, %error, "a record that nobody needs stays in the history");
            }
        });
    }
}

/// Folds a parked execution again from its record.
pub async fn bring_parked(
    broker: &Broker,
    catalog: &Catalog,
    execution: ExecutionId,
    record: u64,
) -> Result<(Box<Execution>, Transcript), StoreFailure> {
    let found = broker.history_message(record).await?;
    let lasting = |reason: String| StoreFailure::Lasting { reason };
    let message = found.ok_or_else(|| lasting(format!("record {record} of execution {execution} is gone")))?;
    let kept = match Record::decode(&message.payload) {
        Ok(Record::Parked(kept) | Record::Ended(kept)) if kept.summary.execution == execution => kept,
        Ok(_) => return Err(lasting(format!("record {record} is not of execution {execution}"))),
        Err(error) => return Err(lasting(format!("record {record}: {error}"))),
    };
    let compressed = match kept.transcript {
        KeptIn::Here(bytes) => bytes,
        KeptIn::Stored(reference) => fetch(broker, execution, reference).await?,
    };
    bring(catalog, execution, compressed).await
}

/// Folds an archived execution again from its transcript in the payload store.
pub async fn bring_archived(
    broker: &Broker,
    catalog: &Catalog,
    execution: ExecutionId,
    reference: PayloadRef,
) -> Result<(Box<Execution>, Transcript), StoreFailure> {
    let compressed = fetch(broker, execution, reference).await?;
    bring(catalog, execution, compressed).await
}

async fn fetch(broker: &Broker, execution: ExecutionId, reference: PayloadRef) -> Result<Bytes, StoreFailure> {
    broker.get_bytes(execution, reference).await.map_err(StoreFailure::from)
}

async fn bring(
    catalog: &Catalog,
    execution: ExecutionId,
    compressed: Bytes,
) -> Result<(Box<Execution>, Transcript), StoreFailure> {
    let lasting = |reason: &dyn std::fmt::Display| StoreFailure::Lasting {
        reason: format!("the transcript of execution {execution}: {reason}"),
    };
    let transcribed = Transcribed::read(&compressed).map_err(|error| lasting(&error))?;
    let (found, definition) =
        refold::submission(&transcribed).ok_or_else(|| lasting(&"it does not begin with a submission"))?;
    if found != execution {
        return Err(lasting(&format!("it is that of {found}")));
    }
    let plan = plan(catalog, definition).await.map_err(|error| lasting(&error))?;
    let folded = Execution::refold(&transcribed, plan).map_err(|error| lasting(&error))?;
    Ok((folded, transcribed.to_transcript()))
}

async fn store(
    broker: &Broker,
    catalog: &Catalog,
    partition: Partition,
    remains: Remains,
    transcript: &Transcript,
    end_at: Option<Position>,
) -> Result<u64, StoreFailure> {
    let Remains { mut summary, state, wanted, retention_ms } = remains;
    let execution = summary.execution;
    let compressed = transcript.finish();
    if !wanted.is_empty() {
        let (folded, _) = bring(catalog, execution, compressed.clone()).await?;
        let values = Values {
            input: fetch_value(broker, execution, wanted.input).await?,
            output: fetch_value(broker, execution, wanted.output).await?,
        };
        summary = summary::of(&folded, retention_ms, &values);
    }
    let kept_in = if compressed.len() + HEAD > broker.max_payload() / 2 {
        KeptIn::Stored(broker.put_bytes(execution, compressed).await?)
    } else {
        KeptIn::Here(compressed)
    };
    let (entries, text) = (transcript.len(), transcript.text_size());
    let kept = Kept { summary, state, entries, text, transcript: kept_in };
    let record = if end_at.is_some() { Record::Ended(kept) } else { Record::Parked(kept) };
    let id = end_at.map(|end| format!("{execution}-{end}"));
    let appended =
        broker.append_history(partition, id.as_deref(), record.encode(), summary::time_to_live(&record)).await;
    appended.map_err(StoreFailure::from)
}

async fn fetch_value(
    broker: &Broker,
    execution: ExecutionId,
    wanted: Option<PayloadRef>,
) -> Result<Option<Arc<serde_json::value::RawValue>>, StoreFailure> {
    match wanted {
        None => Ok(None),
        Some(reference) => Ok(Some(Arc::from(broker.get_payload(execution, reference).await?))),
    }
}

/// Tells the history of executions that have begun and do not end at once, several at a time.
pub(super) async fn tell_beginnings(
    broker: Broker,
    partition: Partition,
    mut beginnings: mpsc::UnboundedReceiver<Beginning>,
) {
    let mut begun: Vec<Summary> = Vec::new();
    while let Some(first) = beginnings.recv().await {
        note(&mut begun, first);
        let flush = tokio::time::sleep(COMPANY);
        tokio::pin!(flush);
        loop {
            tokio::select! {
                beginning = beginnings.recv() => match beginning {
                    Some(beginning) => note(&mut begun, beginning),
                    None => break,
                },
                () = &mut flush => break,
            }
        }
        for together in std::mem::take(&mut begun).chunks(TOGETHER_MAX) {
            let record = Record::Started(together.to_vec());
            let told = broker.append_history(partition, None, record.encode(), summary::time_to_live(&record)).await;
            if let Err(error) = told {
                tracing::debug!(%partition, %error, "the history does not know of executions that have begun");
            }
        }
    }
}

fn note(begun: &mut Vec<Summary>, beginning: Beginning) {
    match beginning {
        Beginning::Began(summary) => begun.push(*summary),
        // The latest ones end first, as a rule.
        Beginning::Ended(execution) => {
            if let Some(index) = begun.iter().rposition(|summary| summary.execution == execution) {
                begun.swap_remove(index);
            }
        }
    }
}
