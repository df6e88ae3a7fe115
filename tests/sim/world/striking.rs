//! Faults strike.

use super::{Regressed, World};
use crate::simulation::client::Demand;
use crate::simulation::coverage::{Phase, Phases};
use crate::simulation::faults::Fault;
use crate::simulation::happening::{Happening, Input};
use crate::simulation::invariants::Violation;
use crate::simulation::network::{Life, Node};
use crate::simulation::strikes::Strike;

impl World {
    pub(super) fn strike(&mut self, strike: Strike) -> Result<(), Violation> {
        if self.physics.now >= self.healed_at {
            return Ok(());
        }
        self.physics.tell(|| format!("{strike:?}"));
        let until = |millis: u64| self.physics.now.plus_millis(millis).min(self.healed_at);
        match strike {
            Strike::Disconnect { node, millis } => {
                let workers = u8::try_from(self.posts.len()).expect("there are few");
                let node = super::nodes(workers).nth(node).expect("strikes know how many nodes there are");
                if let Some(life) = self.life_at(node) {
                    self.struck(Fault::Disconnect, life);
                    self.cut(life, millis);
                }
            }
            Strike::DiskFull { millis } => {
                self.broker.fill_disk(until(millis));
                self.struck_all(Fault::DiskFull);
            }
            Strike::QueueFull { capability, millis } => {
                let end = until(millis);
                self.broker.fill_queue(capability, end);
                self.struck_all(Fault::QueueFull);
            }
            Strike::Denied { capability, millis } => {
                let end = until(millis);
                self.broker.deny(capability, end);
                self.struck_all(Fault::Denied);
            }
            Strike::DeniedResults { capability, millis } => {
                let end = until(millis);
                self.broker.deny_results(capability, end);
                self.struck_all(Fault::Denied);
            }
            Strike::LeaderAway { millis } => {
                let end = until(millis);
                self.struck_all(Fault::LeaderAway);
                self.broker.leave(end, &mut self.physics);
            }
            Strike::BrokerCrash { millis, forgotten_ms } => {
                self.struck_all(Fault::BrokerCrash);
                self.broker.crash(forgotten_ms, &mut self.physics);
                for life in self.lives() {
                    self.cut(life, millis);
                }
            }
            Strike::StreamLost => {
                self.struck_all(Fault::StreamLost);
                self.broker.lose_queue(self.physics.now);
            }
            Strike::CoordinatorCrash { index } => {
                if let Some(life) = self.life_at(Node::Coordinator(index)) {
                    self.struck(Fault::CoordinatorCrash, life);
                    self.kill(life);
                }
            }
            Strike::CoordinatorPause { index, millis } => {
                if let Some(life) = self.life_at(Node::Coordinator(index)) {
                    self.struck(Fault::CoordinatorPause, life);
                    self.pause(life, millis);
                }
            }
            Strike::TakeOver { index } => {
                self.struck_all(Fault::TakeOver);
                self.start(Node::Coordinator(index));
                if let Some(life) = self.life_at(Node::Coordinator(index)) {
                    self.deliver(life, Input::Stray(true))?;
                }
            }
            Strike::HandOver { index } => {
                if let Some(life) = self.life_at(Node::Coordinator(index)) {
                    self.struck(Fault::HandOver, life);
                    self.deliver(life, Input::Leave)?;
                }
            }
            Strike::Backup => self.broker.back_up_journal(),
            Strike::Regress => {
                if let Some(shows) = self.broker.restore_journal() {
                    self.struck_all(Fault::Regression);
                    self.regressed = Some(Regressed { at: self.physics.now, shows });
                    self.broker.crash(0, &mut self.physics);
                    for life in self.lives() {
                        self.cut(life, 500);
                    }
                }
            }
            Strike::WorkerCrash { index } => {
                if let Some(life) = self.life_at(Node::Worker(index)) {
                    self.struck(Fault::WorkerCrash, life);
                    self.kill(life);
                }
            }
            Strike::WorkerPause { index, millis } => {
                if let Some(life) = self.life_at(Node::Worker(index)) {
                    self.struck(Fault::WorkerPause, life);
                    self.pause(life, millis);
                }
            }
            Strike::WorkerStop { index } => {
                if let Some(life) = self.life_at(Node::Worker(index)) {
                    self.struck(Fault::WorkerStop, life);
                    let worker = self.workers.get_mut(&index).expect("it lives");
                    worker.stop(&mut self.physics);
                }
            }
            Strike::BrokerClock { micros } => {
                self.struck_all(Fault::ClockJump);
                self.physics.clocks.jump_broker(micros);
            }
            Strike::NodeClock { node, micros } => {
                let workers = u8::try_from(self.posts.len()).expect("there are few");
                let node = super::nodes(workers).nth(node).expect("strikes know how many nodes there are");
                self.struck_all(Fault::ClockSkew);
                self.physics.clocks.jump(node, micros);
            }
            Strike::CancelStorm => {
                self.physics.struck(Fault::CancelStorm, Phases::of(Phase::Cancel));
                for execution in self.checker.running() {
                    for _ in 0..1 + self.physics.dice.below(3) {
                        let compensate = self.physics.dice.chance(400);
                        let id = self.clients.add(Demand::Cancel { execution, compensate });
                        let at = self.physics.now.plus_millis(self.physics.dice.below(500));
                        self.physics.agenda.add(at, Happening::Want(id));
                    }
                }
            }
        }
        Ok(())
    }

    fn cut(&mut self, life: Life, millis: u64) {
        // The broker may notice much later than the process.
        if self.physics.dice.chance(600) {
            self.broker.closed(life.node);
        } else {
            self.broker.unread(life.node);
        }
        let left = self.healed_at.millis_since(self.physics.now);
        self.physics.disconnect(life.node, life, millis.min(left));
    }

    fn lives(&self) -> Vec<Life> {
        let coordinators = self.coordinators.values().map(|process| process.life);
        coordinators.chain(self.workers.values().map(|process| process.life)).collect()
    }

    /// Counts a fault that strikes everybody.
    fn struck_all(&mut self, fault: Fault) {
        let mut phases = self.physics.phases().union(self.checker.phases());
        for life in self.lives() {
            phases = phases.union(self.checker.phases_of(life, &self.workers));
        }
        if self.coordinators.values().any(|process| !process.owns()) {
            phases = phases.and(Phase::TakeOver);
        }
        self.physics.struck(fault, phases);
    }
}
