//! What an owner tells of itself, and of executions that leave it.

use millstream_model::ids::ExecutionId;
use tokio::sync::watch;

use super::Owner;
use super::errands::records::Remains;
use super::status::{Figures, Status};

impl Owner {
    pub(super) fn remains(&self, execution: ExecutionId) -> Option<Remains> {
        let execution = self.core.partition().execution(execution)?;
        Some(Remains::of(execution, self.surroundings.retention_ms))
    }

    /// Tells what was counted, which is cheap.
    pub(super) fn report(&self, status: &watch::Sender<Status>) {
        let (counts, caught_up) = (self.core.counts().clone(), self.core.owns());
        status.send_modify(|s| {
            s.caught_up = caught_up;
            s.counts = counts;
        });
    }

    /// Tells what is held.
    pub(super) fn measure(&self, status: &watch::Sender<Status>) {
        let (partition, keeper) = (self.core.partition(), self.core.keeper());
        let (tail_entries, tail_bytes) = keeper.snapshots.tail();
        let figures = Figures {
            epoch: partition.epoch().map_or(0, |(epoch, _)| epoch.epoch),
            fold_rev: partition.fold_rev(),
            in_memory: partition.in_memory(),
            parked: partition.parked_count(),
            transcripts: keeper.held_size(),
            tail_entries,
            tail_bytes,
            snapshot: keeper.snapshots.base().unwrap_or_default(),
            journal_bytes: self.journal.0,
            journal_bytes_max: self.journal.1,
        };
        status.send_modify(|s| s.figures = figures);
    }
}
