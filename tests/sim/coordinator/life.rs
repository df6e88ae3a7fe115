//! Owners of a process begin and end.

use super::begin::Beginning;
use super::shadow::Shadow;
use super::{Coordinator, End};
use crate::simulation::agenda::Time;
use crate::simulation::broker::PARTITION;
use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;
use crate::simulation::tamper::Tamper;

impl Coordinator {
    /// The owner begins, unless there is one.
    pub(super) fn start_owner(&mut self, physics: &mut Physics) {
        if self.runs {
            return;
        }
        let life = self.life;
        physics.tell(|| format!("{life} starts its owner"));
        self.runs = true;
        self.took_over_at = None;
        self.incarnation += 1;
        let early = physics.planted(Plant::StateBeforePointer);
        self.begin(if early { Beginning::EarlyState } else { Beginning::Pointer }, physics);
    }

    /// The owner ends.
    pub(super) fn end(&mut self, end: End, physics: &mut Physics) {
        if !std::mem::take(&mut self.runs) {
            return;
        }
        let life = self.life;
        physics.tell(|| format!("{life} ends its owner: {end}"));
        let took_over = self.took_over_at.unwrap_or(u64::MAX);
        if end != End::Asked {
            self.leases.stopped(PARTITION, end.why(), physics.mono(self.started));
        }
        self.ended.push((end, took_over));
        self.core = None;
        self.begins_again = None;
        self.inbox.clear();
        self.head = None;
        self.satisfied.clear();
        self.brings = false;
        self.awaited.retain(|_, awaited| awaited.is_of_leases());
        self.fetching.clear();
        self.asks.clear();
        self.wakes_at = None;
        self.tamper = Tamper::new(physics.plant);
        self.shadow = Shadow::default();
        (self.next_sequence, self.offset) = (1, 0);
        (self.scan_sent, self.scan_answered, self.decides_by) = (Time(0), None, None);
        self.unconfirmed = None;
        self.reconnected = None;
        self.refused.clear();
        self.unknown.clear();
        self.looks.clear();
    }
}
