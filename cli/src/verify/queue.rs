//! Tasks that are owed and neither queued nor done.
//!
//! A worker appends a result before its task leaves the queue, and the owner publishes a little after it has folded:
//! so a task counts as missing only when it was absent in two looks, and nothing that was appended before the second
//! one ended says otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_broker::{Broker, ScanError};
use millstream_engine::TaskRef;
use millstream_model::ids::Partition;
use millstream_model::task::TaskKey;

use super::partition::Folded;
use super::plans::Plans;
use super::{Finding, Kind, Report, patiently};

/// Looks for every task that the partition owes.
pub(super) async fn check(
    broker: &Broker,
    plans: &mut Plans,
    folded: &mut Folded,
    pause: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let owed: Vec<TaskRef> = folded.state.outstanding().into_iter().map(|(task, _)| task).collect();
    report.counts.tasks_owed += owed.len() as u64;
    if owed.is_empty() {
        return Ok(());
    }
    let queued = scan(broker, folded.partition, report).await?;
    let absent = |folded: &Folded, tasks: &[TaskRef], queued: &BTreeSet<TaskKey>| -> Vec<TaskRef> {
        let is_absent = |task: &&TaskRef| key(folded, task).is_some_and(|key| !queued.contains(&key));
        tasks.iter().filter(is_absent).copied().collect()
    };
    let suspects = absent(folded, &owed, &queued);
    if suspects.is_empty() {
        return Ok(());
    }
    tokio::time::sleep(pause).await;
    let queued = scan(broker, folded.partition, report).await?;
    if let Some(finding) = folded.catch_up(broker, plans).await? {
        report.add(finding);
        return Ok(());
    }
    for task in absent(folded, &suspects, &queued) {
        let outstanding =
            folded.state.execution(task.execution).is_some_and(|execution| execution.is_outstanding(&task));
        let Some(key) = key(folded, &task).filter(|_| outstanding) else { continue };
        let item = key.item.map(|item| format!("[{item}]")).unwrap_or_default();
        let message = format!(
            "the task of step {}{item}, attempt {}, is owed and not in the queue; an owner that runs publishes it \
             again within a minute",
            key.step, key.attempt
        );
        report.add(Finding::new(Kind::TaskMissing, message).partition(folded.partition).execution(task.execution));
    }
    Ok(())
}

/// The task as its message names it.
fn key(folded: &Folded, task: &TaskRef) -> Option<TaskKey> {
    let TaskRef { execution, step, item, activation, attempt } = *task;
    let step = folded.state.execution(execution)?.plan().step(step).id.clone();
    Some(TaskKey { execution, step, item, activation, attempt })
}

async fn scan(broker: &Broker, partition: Partition, report: &mut Report) -> anyhow::Result<BTreeSet<TaskKey>> {
    let ask = async || match broker.scan_tasks(partition).await {
        Err(ScanError::NoStream { stream }) => Ok(Err(stream)),
        outcome => outcome.map(Ok),
    };
    match patiently("the queue", ask, ScanError::is_retryable).await? {
        Ok(keys) => Ok(keys.into_iter().collect()),
        Err(stream) => {
            let message = format!("the stream {stream} is missing; a coordinator that runs creates it again");
            report.add(Finding::new(Kind::TaskMissing, message).partition(partition));
            Ok(BTreeSet::new())
        }
    }
}
