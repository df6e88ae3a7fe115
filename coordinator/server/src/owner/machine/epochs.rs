//! Epochs: how an owner takes its partition, raises the revision of the fold, and learns that it is another's.

use millstream_engine::Execution;
use millstream_model::entry::{Entry, Epoch};

use super::{Folded, Machine, Stage, Stop};

impl Machine {
    /// The entry that takes the partition, or raises its revision.
    pub fn epoch_entry(&self) -> Entry {
        Entry::Epoch(Epoch { node: self.node.clone(), epoch: self.epoch, fold_rev: self.fold_rev })
    }

    /// A number above every epoch that was folded.
    fn next_epoch(&self) -> u64 {
        let newest = self.partition.epoch().map_or(0, |(epoch, _)| epoch.epoch);
        newest.max(self.last_sequence) + 1
    }

    /// All live coordinators fold this revision: an epoch of a higher number puts it in force.
    pub fn raise(&mut self, fold_rev: u16) -> Folded {
        let mut asks = Folded::default();
        let newer = fold_rev > self.fold_rev;
        self.fold_rev = fold_rev;
        if newer {
            self.put_in_force(&mut asks);
        }
        asks
    }

    /// Whether an epoch is still to be appended: to take the partition, or to raise its revision.
    pub fn lacks_epoch(&self) -> bool {
        match self.stage {
            Stage::Recovering => true,
            Stage::Owning => self.fold_rev > self.partition.fold_rev(),
            Stage::Stopped => false,
        }
    }

    fn put_in_force(&mut self, asks: &mut Folded) {
        if self.stage == Stage::Owning && self.lacks_epoch() {
            self.epoch = self.next_epoch();
            asks.appends.push(self.epoch_entry());
        }
    }

    /// An epoch that is not above the one in force was stored late and changes nothing.
    pub(super) fn fold_epoch(&mut self, epoch: Epoch, accepted: bool, folded: &mut Folded) -> Result<(), Stop> {
        let own = epoch.node == self.node && epoch.epoch >= self.epoch_first;
        match (self.stage, own, accepted) {
            (Stage::Recovering, true, true) => self.take_over(folded),
            (Stage::Recovering, true, false) => {
                self.epoch = self.next_epoch();
                folded.appends.push(self.epoch_entry());
            }
            (Stage::Owning, false, true) => {
                return Err(Stop::TakenOver { node: epoch.node, epoch: epoch.epoch });
            }
            (Stage::Recovering | Stage::Owning | Stage::Stopped, _, _) => {}
        }
        Ok(())
    }

    fn take_over(&mut self, folded: &mut Folded) {
        self.stage = Stage::Owning;
        folded.took_over = true;
        // It was learned while the epoch of a lower one was on its way.
        self.put_in_force(folded);
        self.sweep.suspect(self.partition.outstanding().into_iter().map(|(task, _)| task));
        let owed = self.partition.executions().filter(|e| !e.status().is_terminal());
        folded.effects.extend(owed.flat_map(Execution::owed));
        let next = self.sweep.start();
        self.sweep_asks(next, folded);
    }
}
