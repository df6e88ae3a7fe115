//! The history: every record folded again.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bytes::Bytes;
use millstream_broker::{Broker, HistoryMessage, PayloadError, ReadError};
use millstream_engine::outcome::Halt;
use millstream_engine::{Execution, refold as engine};
use millstream_model::history::{Kept, KeptIn, Record};
use millstream_model::ids::{ExecutionId, Partition};
use millstream_model::payload::PayloadRef;
use millstream_model::position::Position;
use millstream_model::time::Timestamp;
use millstream_model::transcript::{Transcribed, UnreadableTranscript};

use super::plans::{Plans, Useless};
use super::{Finding, Kind, Known, Report, Scope, patiently};

/// How long the next record may take when there is one.
const RECORD_PATIENCE: Duration = Duration::from_secs(5);

/// Why a transcript does not become an execution again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfoldable {
    #[error("its transcript cannot be had: {0}")]
    Payload(#[from] PayloadError),
    #[error("its transcript cannot be read: {0}")]
    Transcript(#[from] UnreadableTranscript),
    #[error(transparent)]
    Definition(#[from] Useless),
    #[error("{source}")]
    Halted {
        /// The first entry that this build cannot fold.
        position: Option<Position>,
        #[source]
        source: Halt,
    },
}

impl Unfoldable {
    /// As a finding; `kind` is what it means when the fold itself fails.
    pub(super) fn finding(&self, kind: Kind) -> Finding {
        let finding = match self {
            Self::Definition(_) => Finding::new(Kind::Definition, self.to_string()),
            Self::Payload(_) | Self::Transcript(_) | Self::Halted { .. } => Finding::new(kind, self.to_string()),
        };
        match self {
            Self::Halted { position: Some(position), .. } => finding.position(*position),
            Self::Halted { .. } | Self::Payload(_) | Self::Transcript(_) | Self::Definition(_) => finding,
        }
    }
}

/// Folds a transcript.
pub(super) async fn refold(
    plans: &mut Plans,
    transcript: &Transcribed,
) -> anyhow::Result<Result<Box<Execution>, Unfoldable>> {
    let Some((_, definition)) = engine::submission(transcript) else {
        return Ok(Err(Unfoldable::Halted { position: None, source: Halt::NoSubmission }));
    };
    let plan = match plans.get(definition).await? {
        Ok(plan) => plan,
        Err(useless) => return Ok(Err(useless.into())),
    };
    Ok(Execution::refold(transcript, plan.clone()).map_err(|source| {
        let is_folded = |line: &millstream_model::transcript::Line| {
            Execution::refold_until(transcript, plan.clone(), Some(line.position)).is_ok()
        };
        let lines = &transcript.lines;
        let first = lines.partition_point(is_folded);
        Unfoldable::Halted { position: lines.get(first).map(|line| line.position), source }
    }))
}

/// Folds a compressed transcript.
pub(super) async fn refold_bytes(
    plans: &mut Plans,
    compressed: &[u8],
) -> anyhow::Result<Result<Box<Execution>, Unfoldable>> {
    match Transcribed::read(compressed) {
        Ok(transcript) => refold(plans, &transcript).await,
        Err(error) => Ok(Err(error.into())),
    }
}

/// A compressed transcript from the payload store.
pub(super) async fn stored(
    broker: &Broker,
    execution: ExecutionId,
    reference: PayloadRef,
) -> anyhow::Result<Result<Bytes, Unfoldable>> {
    let ask = async || match broker.get_bytes(execution, reference).await {
        Err(error) if !error.is_retryable() => Ok(Err(error)),
        outcome => outcome.map(Ok),
    };
    let found = patiently("the payload store", ask, PayloadError::is_retryable).await?;
    Ok(found.map_err(Unfoldable::from))
}

/// The execution of a record.
pub(super) async fn execution_of(
    broker: &Broker,
    plans: &mut Plans,
    kept: &Kept,
) -> anyhow::Result<Result<Box<Execution>, Unfoldable>> {
    match &kept.transcript {
        KeptIn::Here(bytes) => refold_bytes(plans, bytes).await,
        KeptIn::Stored(reference) => match stored(broker, kept.summary.execution, *reference).await? {
            Ok(bytes) => refold_bytes(plans, &bytes).await,
            Err(unfoldable) => Ok(Err(unfoldable)),
        },
    }
}

/// Reads the history to its end and folds every record.
pub(super) async fn check(
    broker: &Broker,
    plans: &mut Plans,
    scope: Scope,
    mut known: Known,
    report: &mut Report,
) -> anyhow::Result<()> {
    let ask = async || broker.history_state().await;
    let state = patiently("the history", ask, ReadError::is_retryable).await?;
    let mut begun: BTreeMap<ExecutionId, (Timestamp, u64)> = BTreeMap::new();
    if state.messages > 0 {
        let ask = async || broker.read_history(state.first).await;
        let mut reader = patiently("the history", ask, ReadError::is_retryable).await?;
        while reader.position() <= state.last {
            let message = match tokio::time::timeout(RECORD_PATIENCE, reader.next()).await {
                Ok(message) => message.context("the history cannot be read")?,
                // The last records have run out meanwhile.
                Err(_) => break,
            };
            if message.sequence > state.last {
                break;
            }
            record(broker, plans, scope, &message, &mut known, &mut begun, report).await?;
        }
    }
    if scope == Scope::Folds {
        return Ok(());
    }
    lost(&known, &begun, now(), report);
    for (&execution, &sequence) in &known.parked {
        let ask = async || broker.history_message(sequence).await;
        let is_there = patiently("the history", ask, ReadError::is_retryable).await?.is_some();
        if !is_there && !has_moved_on(broker, execution.partition(), &known).await? {
            let finding = Finding::new(Kind::ParkedMissing, "the record of a parked execution is gone");
            report.add(finding.execution(execution).record(sequence));
        }
    }
    Ok(())
}

/// Whether the partition has entries that were not read here: they may have brought a parked execution back.
async fn has_moved_on(broker: &Broker, partition: Partition, known: &Known) -> anyhow::Result<bool> {
    let ask = async || broker.journal_state(partition).await;
    let last = patiently("a journal", ask, ReadError::is_retryable).await?.last_sequence;
    let ask = async || broker.journal_message(partition, last).await;
    let newest = patiently("a journal", ask, ReadError::is_retryable).await?;
    Ok(newest.is_some_and(|message| known.read_until.get(&partition).is_some_and(|until| message.time > *until)))
}

async fn record(
    broker: &Broker,
    plans: &mut Plans,
    scope: Scope,
    message: &HistoryMessage,
    known: &mut Known,
    begun: &mut BTreeMap<ExecutionId, (Timestamp, u64)>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let sequence = message.sequence;
    let (kept, ended) = match Record::decode(&message.payload) {
        Ok(Record::Started(summaries)) => {
            for summary in summaries {
                begun.entry(summary.execution).or_insert((summary.started_at, summary.retention_ms));
            }
            return Ok(());
        }
        Ok(Record::Parked(kept)) => (kept, false),
        Ok(Record::Ended(kept)) => (kept, true),
        Err(error) => {
            let finding = Finding::new(Kind::RecordUnreadable, error.to_string()).partition(message.partition);
            report.add(finding.record(sequence));
            return Ok(());
        }
    };
    let id = kept.summary.execution;
    if ended {
        // It needs no beginning any more, and no place in a partition.
        known.live.insert(id);
    }
    if known.parked.get(&id) == Some(&sequence) {
        known.parked.remove(&id);
        known.live.insert(id);
    }
    report.counts.records += 1;
    let execution = match execution_of(broker, plans, &kept).await? {
        Ok(execution) => execution,
        Err(unfoldable) => {
            report.add(unfoldable.finding(Kind::RecordUnreadable).execution(id).record(sequence));
            return Ok(());
        }
    };
    let inconsistent = |what: String| Finding::new(Kind::RecordInconsistent, what).execution(id).record(sequence);
    let found = execution.state_hash();
    if found != kept.state {
        let message = format!("the record folds to state {found} with this build, and says {}", kept.state);
        report.add(Finding::new(Kind::RecordState, message).execution(id).record(sequence));
    }
    if scope == Scope::Folds {
        return Ok(());
    }
    for contradiction in contradictions(&kept, ended, message.partition, &execution) {
        report.add(inconsistent(contradiction));
    }
    if let Some(contradiction) = execution.contradiction() {
        report.add(Finding::new(Kind::Contradiction, contradiction).execution(id).record(sequence));
    }
    Ok(())
}

/// Where a record and the execution that is in it disagree.
fn contradictions(kept: &Kept, ended: bool, partition: Partition, execution: &Execution) -> Vec<String> {
    let summary = &kept.summary;
    let mut found = Vec::new();
    if execution.id() != summary.execution {
        found.push(format!("the record is of another execution than its transcript, {}", execution.id()));
    }
    if summary.execution.partition() != partition {
        found.push(format!("the record is among those of partition {partition}"));
    }
    if execution.status() != summary.status {
        let (status, said) = (execution.status().as_str(), summary.status.as_str());
        found.push(format!("the record says {said}, and its transcript folds to {status}"));
    }
    if ended != execution.status().is_terminal() {
        let what = if ended { "ended and runs" } else { "parked and has ended" };
        found.push(format!("the record is of an execution that {what}"));
    }
    if summary.definition != execution.plan().hash {
        found.push("the record names another definition than its transcript".to_owned());
    }
    found
}

/// Executions that began, should still be known, and are not.
fn lost(known: &Known, begun: &BTreeMap<ExecutionId, (Timestamp, u64)>, now: Timestamp, report: &mut Report) {
    for (&execution, &(started_at, retention_ms)) in begun {
        let read = known.read_until.get(&execution.partition());
        let was_read = read.is_some_and(|until| started_at <= *until);
        let is_kept = started_at.plus_millis(retention_ms) > now;
        if was_read && is_kept && !known.live.contains(&execution) && !known.parked.contains_key(&execution) {
            let message = "it began, and is neither in its partition nor among those that have ended";
            report.add(Finding::new(Kind::ExecutionLost, message).execution(execution));
        }
    }
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_and_is_nowhere_is_lost_until_its_record_may_have_run_out() {
        let id = |n: u8| format!("0193a5a0-0000-7000-8000-0000000{n:02}003").parse().expect("an id");
        let mut known = Known::default();
        known.read_until.insert(Partition(3), Timestamp::from_millis(1_000));
        known.live.insert(id(1));
        known.parked.insert(id(2), 9);
        let started = |ms: u64| (Timestamp::from_millis(ms), 5_000);
        let begun = [(id(1), 10), (id(2), 10), (id(3), 10), (id(4), 1_001)].map(|(id, ms)| (id, started(ms)));
        let begun = BTreeMap::from(begun);
        let found = |now: u64| {
            let mut report = Report::default();
            lost(&known, &begun, Timestamp::from_millis(now), &mut report);
            report.findings.iter().filter_map(|finding| finding.execution).collect::<Vec<_>>()
        };
        assert_eq!(found(2_000), [id(3)]);
        assert_eq!(found(5_010), []);
    }
}
