//! Every stream, subject, bucket and consumer. Nothing else in the code spells one.

use std::fmt;
use std::str::FromStr;

use crate::hash::ContentHash;
use crate::ids::{AgentId, Capability, ExecutionId, InvalidName, Namespace, NodeId, Partition, WorkerId, WorkflowId};

/// The names of one environment, all under one prefix (`ms` by default).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    lower: Box<str>,
    upper: Box<str>,
}

impl Default for Names {
    fn default() -> Self {
        Self { lower: "ms".into(), upper: "MS".into() }
    }
}

impl FromStr for Names {
    type Err = InvalidName;

    fn from_str(prefix: &str) -> Result<Self, InvalidName> {
        let prefix: Namespace = prefix.parse()?;
        Ok(Self {
            lower: prefix.as_str().to_ascii_lowercase().into(),
            upper: prefix.as_str().to_ascii_uppercase().into(),
        })
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lower)
    }
}

/// Whose a journal message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalSubject {
    /// Written by coordinators.
    Control,
    /// Written by workers of a capability.
    Result(Capability),
}

impl Names {
    /// Stream: the journal of a partition.
    pub fn journal_stream(&self, partition: Partition) -> String {
        format!("{}_JOURNAL_{partition}", self.upper)
    }

    /// Subjects of [`Self::journal_stream`].
    pub fn journal_subjects(&self, partition: Partition) -> String {
        format!("{}.journal.{partition}.>", self.lower)
    }

    /// Subject: entries of the API and of coordinators.
    pub fn journal_control(&self, partition: Partition) -> String {
        format!("{}.journal.{partition}.control", self.lower)
    }

    /// Subject: results of the workers of a capability.
    pub fn journal_result(&self, partition: Partition, capability: &Capability) -> String {
        format!("{}.journal.{partition}.result.{capability}", self.lower)
    }

    /// Reads a subject of [`Self::journal_subjects`]; `None` when it is none that we write.
    pub fn parse_journal(&self, subject: &str) -> Option<JournalSubject> {
        let rest = subject.strip_prefix(&*self.lower)?.strip_prefix(".journal.")?;
        let (_partition, rest) = rest.split_once('.')?;
        if rest == "control" {
            return Some(JournalSubject::Control);
        }
        rest.strip_prefix("result.")?.parse().ok().map(JournalSubject::Result)
    }

    /// Stream: the tasks of a capability and partition. One stream holds them all.
    pub fn tasks_stream(&self, _capability: &Capability, _partition: Partition) -> String {
        format!("{}_TASKS", self.upper)
    }

    /// Every stream [`Self::tasks_stream`] can name.
    pub fn tasks_streams(&self) -> Vec<String> {
        vec![format!("{}_TASKS", self.upper)]
    }

    /// Subjects of the task streams.
    pub fn tasks_subjects(&self) -> String {
        format!("{}.task.*.*", self.lower)
    }

    /// Subject: tasks of a capability and partition.
    pub fn task(&self, capability: &Capability, partition: Partition) -> String {
        format!("{}.task.{capability}.{partition}", self.lower)
    }

    /// Filter: tasks of a partition, whatever their capability.
    pub fn tasks_of_partition(&self, partition: Partition) -> String {
        format!("{}.task.*.{partition}", self.lower)
    }

    /// Filter: tasks of a capability, whatever their partition.
    pub fn tasks_of_capability(&self, capability: &Capability) -> String {
        format!("{}.task.{capability}.*", self.lower)
    }

    /// Durable consumer: the workers of a capability.
    pub fn task_consumer(&self, capability: &Capability) -> String {
        capability.to_string()
    }

    /// KV bucket: definitions.
    pub fn definitions(&self) -> String {
        format!("{}_DEFINITIONS", self.upper)
    }

    /// Key in [`Self::definitions`]: the definition now in force.
    pub fn definition(&self, workflow: &WorkflowId) -> String {
        format!("id.{workflow}")
    }

    /// Key in [`Self::definitions`] and [`Self::agents`]: immutable content.
    pub fn content(&self, hash: ContentHash) -> String {
        format!("hash.{hash}")
    }

    /// Object in [`Self::payloads`]: the content of a definition that is too large for [`Self::definitions`].
    pub fn definition_object(&self, hash: ContentHash) -> String {
        format!("definition/{hash}")
    }

    /// KV bucket: agents' manifests.
    pub fn agents(&self) -> String {
        format!("{}_AGENTS", self.upper)
    }

    /// Key in [`Self::agents`]: the manifest now in force.
    pub fn agent(&self, agent: &AgentId) -> String {
        format!("id.{agent}")
    }

    /// KV bucket: presence of workers.
    pub fn workers(&self) -> String {
        format!("{}_WORKERS", self.upper)
    }

    /// Key in [`Self::workers`].
    pub fn worker(&self, worker: &WorkerId) -> String {
        worker.to_string()
    }

    /// KV bucket: claims on runs, see [`crate::task::claim_key`].
    pub fn claims(&self) -> String {
        format!("{}_CLAIMS", self.upper)
    }

    /// KV bucket: executions whose tasks are not to be started any more.
    pub fn cancelled(&self) -> String {
        format!("{}_CANCELLED", self.upper)
    }

    /// Key in [`Self::cancelled`].
    pub fn cancelled_execution(&self, execution: ExecutionId) -> String {
        execution.to_string()
    }

    /// KV bucket: leases of partitions, presence of coordinators, and where the newest snapshots are.
    pub fn leases(&self) -> String {
        format!("{}_LEASES", self.upper)
    }

    /// Key in [`Self::leases`]: who is to own a partition.
    pub fn lease(&self, partition: Partition) -> String {
        format!("partition.{partition}")
    }

    /// Key in [`Self::leases`]: presence of a coordinator.
    pub fn coordinator(&self, node: &NodeId) -> String {
        format!("coordinator.{node}")
    }

    /// Key in [`Self::leases`]: where the newest snapshot of a partition is.
    pub fn snapshot_pointer(&self, partition: Partition) -> String {
        format!("snapshot.{partition}")
    }

    /// Object store: snapshots.
    pub fn snapshots(&self) -> String {
        format!("{}_SNAPSHOTS", self.upper)
    }

    /// Stream: records of executions.
    pub fn history_stream(&self) -> String {
        format!("{}_HISTORY", self.upper)
    }

    /// Subjects of [`Self::history_stream`].
    pub fn history_subjects(&self) -> String {
        format!("{}.history.*", self.lower)
    }

    /// Subject: records of the executions of a partition.
    pub fn history(&self, partition: Partition) -> String {
        format!("{}.history.{partition}", self.lower)
    }

    /// Stream: the audit trail.
    pub fn audit_stream(&self) -> String {
        format!("{}_AUDIT", self.upper)
    }

    /// Subject of [`Self::audit_stream`].
    pub fn audit(&self) -> String {
        format!("{}.audit", self.lower)
    }

    /// Core subject: questions to the owner of a partition.
    pub fn query(&self, partition: Partition) -> String {
        format!("{}.query.{partition}", self.lower)
    }

    /// Core subject: questions to the owner of a partition that runs in this process. One that was paused and does not
    /// know yet that it owns no more has a subject of its own.
    pub fn query_of(&self, partition: Partition, node: &NodeId) -> String {
        format!("{}.{node}", self.query(partition))
    }

    /// Object store: values too large for messages, see [`crate::payload::PayloadRef::object_name`].
    pub fn payloads(&self) -> String {
        format!("{}_PAYLOADS", self.upper)
    }

    /// Core subject: what happens in an execution, as it happens, not durable.
    pub fn live(&self, execution: ExecutionId) -> String {
        format!("{}.live.{}.{execution}", self.lower, execution.partition())
    }

    /// Filter: [`Self::live`] of every execution.
    pub fn live_all(&self) -> String {
        format!("{}.live.*.*", self.lower)
    }

    /// Core subject: tells workers that an execution was cancelled.
    pub fn cancel(&self) -> String {
        format!("{}.cancel", self.lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_subjects_read_back() {
        let names: Names = "Prod".parse().expect("a prefix");
        let http: Capability = "http".parse().expect("a name");
        let partition = Partition(3);
        assert_eq!(names.journal_stream(partition), "PROD_JOURNAL_3");
        assert_eq!(names.parse_journal(&names.journal_control(partition)), Some(JournalSubject::Control));
        assert_eq!(names.parse_journal(&names.journal_result(partition, &http)), Some(JournalSubject::Result(http)));
        assert_eq!(names.parse_journal("ms.journal.3.control"), None);
        assert_eq!(names.parse_journal("prod.journal.3.other"), None);
    }
}
