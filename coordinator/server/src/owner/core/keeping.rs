//! What leaves memory and how the journal is cut: the Core's side of the [`Keeper`](crate::owner::keeper::Keeper).

use millstream_engine::{Execution, Request};
use millstream_model::ids::ExecutionId;
use millstream_model::position::Position;
use millstream_model::snapshot::Snapshot;
use millstream_model::transcript::Transcript;

use crate::owner::clock::Mono;
use crate::owner::command::{Command, Limit};
use crate::owner::failure::StoreFailure;
use crate::owner::keeper::{Keeper, RECORDING_MAX, Taken};
use crate::owner::later::Chore;

use super::{Core, Due, Told};

/// Bytes of entries that may wait for the journal before requests are refused.
const QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Before a record that the history did not take is sent again.
const RECORD_RETRY_MS: u64 = 500;

/// Where an execution is.
#[derive(Debug, Clone)]
pub enum Whereabouts {
    /// In memory; this is what it can be folded again from.
    Here(Transcript),
    /// Parked: the history has it under this sequence.
    Parked { record: u64 },
}

impl Core {
    /// What is kept beside the folded state.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Where the execution is that an owner knows.
    pub fn whereabouts(&self, execution: ExecutionId) -> Option<Whereabouts> {
        if let Some(record) = self.machine.partition().parked_record(execution) {
            return Some(Whereabouts::Parked { record });
        }
        self.keeper.transcript(execution).cloned().map(Whereabouts::Here)
    }

    /// A parked execution was folded again from its record. An answer that comes so late that it is parked under another
    /// one is of no use.
    pub fn unpark(&mut self, record: u64, execution: Box<Execution>, transcript: Transcript) {
        let id = execution.id();
        if self.machine.partition().parked_record(id) != Some(record) {
            return;
        }
        self.machine.unpark(execution);
        self.machine.counts_mut().woken += 1;
        self.keeper.bring(id, transcript);
        let replaced = self.keeper.archive.replaces(id, record);
        self.drop_records(replaced);
    }

    /// An archived execution was folded again, for the entry that resumes it.
    pub fn recall(&mut self, execution: Box<Execution>, transcript: Transcript) {
        if self.machine.partition().execution(execution.id()).is_none() {
            self.keeper.bring(execution.id(), transcript);
        }
        self.recalled.push(execution.id());
        self.machine.recall(execution);
    }

    /// All live coordinators fold this revision.
    pub fn raise(&mut self, fold_rev: u16) {
        let folded = self.machine.raise(fold_rev);
        self.take_on(folded);
    }

    /// How full what is stored is: submissions are refused while there is a reason.
    pub fn storage(&mut self, full: Option<String>) {
        self.storage_full = full;
    }

    /// The record of an execution that ended at `end` is in the history, or is not.
    pub fn recorded(&mut self, execution: ExecutionId, end: Position, result: Result<(), &StoreFailure>, now: Mono) {
        match result {
            Ok(()) => {
                let replaced = self.keeper.archive.recorded(execution, end, now);
                self.drop_records(replaced);
                self.machine.counts_mut().archived += 1;
            }
            // Without its record it cannot be forgotten.
            Err(StoreFailure::Passing { .. } | StoreFailure::Lasting { .. }) => {
                self.later.push(now.plus_millis(RECORD_RETRY_MS), Chore::Record(execution));
            }
        }
    }

    /// The record of an execution that waits is in the history under this sequence, or is not.
    pub fn parked(&mut self, execution: ExecutionId, result: Result<u64, &StoreFailure>) {
        let entries = self.keeper.parking.ends(execution);
        let Ok(record) = result else {
            return;
        };
        let unchanged = self.keeper.transcript(execution).map(Transcript::len) == entries;
        let found = self.machine.partition().execution(execution);
        if unchanged && found.and_then(Execution::waits_until).is_some() {
            self.machine.park(execution, record);
            self.keeper.drop_transcript(execution);
            self.machine.counts_mut().parked += 1;
            let replaced = self.keeper.archive.forget_replaced(execution);
            self.drop_records(replaced);
        } else {
            self.due.push_back(Due::Command(Command::DropRecord { record }));
        }
    }

    /// The snapshot is stored and pointed at, or is not.
    pub fn snapshot_stored(&mut self, taken: &Taken, result: Result<(), &StoreFailure>, now: Mono) {
        match result {
            Ok(()) => {
                let unnamed = self.keeper.snapshots.stored(taken.sequence, taken.time);
                self.due.extend(unnamed.into_iter().map(|record| Due::Command(Command::DropRecord { record })));
                self.machine.counts_mut().snapshots += 1;
                self.due.push_back(Due::Command(Command::Report));
            }
            Err(StoreFailure::Passing { .. } | StoreFailure::Lasting { .. }) => {
                let keeping = self.keeper.keeping;
                self.keeper.snapshots.failed(&keeping, now);
            }
        }
    }

    /// The journal was cut below a message, or could not be.
    pub fn trimmed(&mut self, below: u64, result: Result<(), &StoreFailure>, now: Mono) {
        match result {
            Ok(()) => {
                self.machine.counts_mut().trims += 1;
                self.due.push_back(Due::Command(Command::Report));
            }
            Err(StoreFailure::Passing { .. } | StoreFailure::Lasting { .. }) => {
                if let Some(at) = self.machine.journal_time(now) {
                    self.keeper.snapshots.not_cut(below, at);
                }
            }
        }
    }

    /// After a message was folded.
    pub(super) fn keep(&mut self, took_over: bool, told: &Told, now: Mono) {
        let recalled = std::mem::take(&mut self.recalled);
        if !self.machine.owns() {
            return;
        }
        // One that could not be resumed has ended as before, and nothing else says so.
        recalled.into_iter().for_each(|execution| self.record(execution));
        if took_over {
            let executions: Vec<(ExecutionId, bool)> = self
                .machine
                .partition()
                .executions()
                .map(|execution| (execution.id(), execution.status().is_terminal()))
                .collect();
            for (execution, has_ended) in executions {
                if has_ended {
                    self.record(execution);
                } else {
                    self.due.push_back(Due::Command(Command::Started(execution)));
                }
            }
        } else {
            self.due.extend(told.begun.iter().map(|&execution| Due::Command(Command::Started(execution))));
        }
        self.take_snapshot(now);
    }

    /// Time has passed.
    pub(super) fn tick_keeper(&mut self, now: Mono) {
        if !self.machine.owns() {
            return;
        }
        if let Some(entry) = self.keeper.archive.take(now) {
            self.appends.push(entry, None);
        }
        let keeping = self.keeper.keeping;
        if let Some(at) = self.machine.journal_time(now) {
            let partition = self.machine.partition();
            for execution in self.keeper.parking.look(partition, at, keeping.park_after_ms, now) {
                if let Some(transcript) = self.keeper.transcript(execution).cloned() {
                    self.keeper.parking.begins(execution, transcript.len());
                    self.due.push_back(Due::Command(Command::Park { execution, transcript }));
                }
            }
            if let Some(below) = self.keeper.snapshots.take_cut(at, &keeping) {
                self.due.push_back(Due::Command(Command::Trim { below }));
            }
        }
        self.take_snapshot(now);
    }

    /// When `tick_keeper` has something to do.
    pub(super) fn keeper_wakes_at(&self) -> Option<Mono> {
        if !self.machine.owns() {
            return None;
        }
        let keeper = &self.keeper;
        let cut = keeper.snapshots.cut_at(&keeper.keeping).and_then(|at| self.machine.when(at));
        let wakes = [keeper.archive.wakes_at(), keeper.parking.wakes_at(self.machine.partition()), cut];
        wakes.into_iter().flatten().min()
    }

    /// Has the record of an execution written, if it has ended.
    pub(super) fn record(&mut self, execution: ExecutionId) {
        let Some(end) = self.keeper.archive.ended(execution, self.machine.partition()) else {
            return;
        };
        if let Some(transcript) = self.keeper.transcript(execution).cloned() {
            self.due.push_back(Due::Command(Command::Record { execution, end, transcript }));
        }
    }

    /// Why a request is not taken though the partition is owned.
    pub(super) fn refusal(&self, request: &Request) -> Option<(String, Limit)> {
        if self.appends.queued_bytes() >= QUEUED_BYTES_MAX {
            return Some(("more requests wait for the journal than it takes".to_owned(), Limit::Storage));
        }
        match request {
            Request::Submit(_) => {}
            Request::Cancel { .. } | Request::Resume(_) => return None,
        }
        if let Some(reason) = &self.storage_full {
            return Some((reason.clone(), Limit::Storage));
        }
        if self.keeper.archive.recording() >= RECORDING_MAX {
            let reason = "the history does not take the records of what has ended".to_owned();
            return Some((reason, Limit::Storage));
        }
        let (live, max) = (self.machine.partition().in_memory(), self.keeper.keeping.live_max);
        (live >= max)
            .then(|| (format!("{live} executions of the partition are under way, and {max} may be"), Limit::Executions))
    }

    /// Records that another one replaces are deleted, once no snapshot that somebody may begin with names them.
    fn drop_records(&mut self, records: Option<u64>) {
        let unnamed = records.filter(|&record| !self.keeper.snapshots.keeps(record));
        self.due.extend(unnamed.map(|record| Due::Command(Command::DropRecord { record })));
    }

    fn take_snapshot(&mut self, now: Mono) {
        let keeping = self.keeper.keeping;
        if !self.keeper.snapshots.is_due(&keeping, now) {
            return;
        }
        let partition = self.machine.partition();
        let weight = self.keeper.weight(partition);
        let Some((sequence, time, message)) = self.keeper.snapshots.begins(weight) else {
            return;
        };
        let snapshot = Snapshot::new(
            partition.applied(),
            partition.fold_rev(),
            partition.epoch_in_force(),
            partition.remembered_keys(),
            partition.parked(),
            self.keeper.transcripts(),
        );
        let (state, fold_rev) = (partition.state_hash(), partition.fold_rev());
        let taken = Taken { snapshot, sequence, time, message, state, fold_rev };
        self.due.push_back(Due::Command(Command::Snapshot(Box::new(taken))));
    }
}
