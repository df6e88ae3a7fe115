//! Everything a cluster keeps, folded again and compared with what was recorded. Nothing is written: a cluster that
//! runs does not notice.
//!
//! ```text
//!   partition by partition   snapshot ─▶ journal behind it ─▶ state ─▶ queue (two looks)
//!   then                     history, record by record, and definitions
//! ```
//!
//! One partition is in memory at a time, and of the history one execution; of all others the ids.

mod partition;
mod plans;
mod queue;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use millstream_broker::Broker;
use millstream_model::ids::{ExecutionId, Partition};
use millstream_model::position::Position;
use millstream_model::time::Timestamp;
use serde::Serialize;

use plans::Plans;

/// Findings of one kind that are told one by one.
const TOLD_MAX: u64 = 100;
/// How long a request is repeated that may succeed later.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All that contradicts something.
    Invariants {
        /// Between the two looks at the queue.
        pause: Duration,
    },
    /// Only what this build folds to another state than was recorded, or cannot fold.
    Folds,
}

/// Something that contradicts what is promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionId>,
    /// The first place of the journal where it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Sequence of a record of the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<u64>,
    pub message: String,
}

/// Kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    JournalMissing,
    /// Entries are missing at its beginning or within it.
    JournalGap,
    /// It does not continue the snapshot.
    JournalRegressed,
    /// A snapshot cannot be read.
    SnapshotUnreadable,
    /// It folds to another state than was recorded.
    SnapshotState,
    /// The fold halts.
    Halted,
    /// An execution contradicts itself, or runs and waits for nothing.
    Contradiction,
    /// A task is owed and nowhere.
    TaskMissing,
    RecordUnreadable,
    RecordState,
    RecordInconsistent,
    /// A parked execution's record is not there.
    ParkedMissing,
    /// An execution that began neither runs nor has ended.
    ExecutionLost,
    Definition,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub partitions: u64,
    pub snapshots: u64,
    pub messages: u64,
    pub entries: u64,
    /// Executions that partitions know.
    pub executions: u64,
    pub parked: u64,
    pub tasks_owed: u64,
    /// Records of the history that were folded.
    pub records: u64,
    pub definitions: u64,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub counts: Counts,
    pub findings: Vec<Finding>,
    /// Findings by kind, those that are not told one by one included.
    pub found: BTreeMap<Kind, u64>,
}

impl Finding {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, partition: None, execution: None, position: None, record: None, message: message.into() }
    }

    pub(crate) fn partition(self, partition: Partition) -> Self {
        Self { partition: Some(partition), ..self }
    }

    pub(crate) fn execution(self, execution: ExecutionId) -> Self {
        Self { execution: Some(execution), ..self }
    }

    pub(crate) fn position(self, position: Position) -> Self {
        Self { position: Some(position), ..self }
    }

    pub(crate) fn record(self, record: u64) -> Self {
        Self { record: Some(record), ..self }
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.execution.map(|execution| format!("execution {execution}")));
        parts.extend(self.partition.map(|partition| format!("partition {partition}")));
        parts.extend(self.position.map(|position| format!("entry {position}")));
        parts.extend(self.record.map(|record| format!("record {record}")));
        parts.join(", ")
    }
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        let found = self.found.entry(finding.kind).or_default();
        *found += 1;
        if *found <= TOLD_MAX {
            self.findings.push(finding);
        }
    }
}

/// What is known of all executions, by their ids alone.
#[derive(Debug, Default)]
struct Known {
    /// Those that partitions know.
    live: BTreeSet<ExecutionId>,
    /// Those that are in a record of the history and not in memory.
    parked: BTreeMap<ExecutionId, u64>,
    /// Up to when each partition was read; what began later is not expected in `live`.
    read_until: BTreeMap<Partition, Timestamp>,
}

/// Looks at everything.
pub(crate) async fn verify(broker: &Broker, scope: Scope, say: impl Fn(&str)) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut plans = Plans::new(broker.clone());
    let mut known = Known::default();
    let partitions = patiently("the list of streams", async || broker.partitions().await, |e| e.is_retryable()).await?;
    let Some(partitions) = partitions else {
        anyhow::bail!("there is no cluster with the prefix {}", broker.names());
    };
    for number in 0..=u8::try_from(partitions - 1).context("a cluster has at most 256 partitions")? {
        say(&format!("partition {} of {partitions}", u16::from(number) + 1));
        let partition = Partition(number);
        report.counts.partitions += 1;
        let Some(mut folded) = partition::fold(broker, &mut plans, partition, &mut report).await? else { continue };
        if let Scope::Invariants { pause } = scope {
            queue::check(broker, &mut plans, &mut folded, pause, &mut report).await?;
            folded.contradictions(&mut report);
        }
        folded.remember(&mut known, &mut report.counts);
    }
    say("the history");
    records::check(broker, &mut plans, scope, known, &mut report).await?;
    plans.check_stored(&mut report).await?;
    Ok(report)
}

/// Asks again while that may help.
async fn patiently<T, E: std::error::Error + Send + Sync + 'static>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
    is_retryable: impl Fn(&E) -> bool,
) -> anyhow::Result<T> {
    let started = tokio::time::Instant::now();
    loop {
        match ask().await {
            Err(error) if is_retryable(&error) && started.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            outcome => return outcome.with_context(|| format!("{what} cannot be read")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where_it_is() {
        let finding = Finding::new(Kind::Halted, "it halts").partition(Partition(3)).position(Position::start_of(7));
        assert_eq!(finding.place(), "partition 3, entry 7.0");
        assert_eq!(
            serde_json::to_value(&finding).expect("JSON"),
            serde_json::json!({"kind": "halted", "partition": 3, "position": "7.0", "message": "it halts"})
        );
    }

    #[test]
    fn many_findings_of_a_kind_are_counted_and_the_first_are_told() {
        let mut report = Report::default();
        assert!(report.is_clean());
        (0..TOLD_MAX + 5).for_each(|_| report.add(Finding::new(Kind::TaskMissing, "x")));
        report.add(Finding::new(Kind::Definition, "y"));
        assert_eq!(report.findings.len() as u64, TOLD_MAX + 1);
        assert_eq!(report.found[&Kind::TaskMissing], TOLD_MAX + 5);
        assert!(!report.is_clean());
    }
}
