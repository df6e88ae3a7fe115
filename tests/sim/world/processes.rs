//! Processes start, live, stand still and die.

use std::collections::VecDeque;

use millstream_engine::partition::{FOLD_REV, FOLD_REV_OLDEST};

use super::World;
use crate::simulation::coordinator::{Coordinator, Make};
use crate::simulation::faults::Fault;
use crate::simulation::happening::{Happening, Input};
use crate::simulation::invariants::Violation;
use crate::simulation::network::{Life, Node};
use crate::simulation::worker::Worker;

impl World {
    /// A process of the node starts, unless one lives there.
    pub(super) fn start(&mut self, node: Node) {
        if self.life_at(node).is_some() {
            return;
        }
        self.lives += 1;
        let life = Life { node, number: self.lives };
        self.physics.network.connect(node);
        self.physics.tell(|| format!("{life} starts"));
        match node {
            Node::Coordinator(index) => {
                let old = self.physics.now < self.healed_at && self.wishes.chance(self.old_builds);
                let fold_rev = if old { FOLD_REV_OLDEST } else { FOLD_REV };
                let make = Make { fold_rev, keeping: self.keeping };
                let process = Coordinator::start(life, make, self.plans.clone(), &mut self.physics);
                self.coordinators.insert(index, process);
            }
            Node::Worker(index) => {
                let post = &self.posts[usize::from(index)];
                let process = Worker::start(life, &post.capabilities, post.concurrency, &mut self.physics);
                self.workers.insert(index, process);
            }
        }
    }

    /// The process that lives at a node.
    pub(super) fn life_at(&self, node: Node) -> Option<Life> {
        match node {
            Node::Coordinator(index) => self.coordinators.get(&index).map(|process| process.life),
            Node::Worker(index) => self.workers.get(&index).map(|process| process.life),
        }
    }

    /// The process dies; the next one of its node starts after a while.
    pub(super) fn kill(&mut self, life: Life) {
        self.physics.tell(|| format!("{life} dies"));
        self.bury(life);
        let pause = self.physics.dice.between(100, 4_000);
        let at = self.physics.now.plus_millis(pause);
        self.physics.agenda.add(at, Happening::Start(life.node));
    }

    /// The process is gone.
    pub(super) fn bury(&mut self, life: Life) {
        self.physics.network.cut(life.node);
        self.broker.closed(life.node);
        self.paused.remove(&life);
        match life.node {
            Node::Coordinator(index) => {
                if let Some(gone) = self.coordinators.remove(&index) {
                    self.checker.coordinator_gone(&gone);
                }
            }
            Node::Worker(index) => {
                self.workers.remove(&index);
            }
        }
    }

    /// Something happens in a process, unless it is gone.
    pub(super) fn deliver(&mut self, life: Life, input: Input) -> Result<(), Violation> {
        if self.life_at(life.node) != Some(life) {
            return Ok(());
        }
        if let Some(backlog) = self.paused.get_mut(&life) {
            backlog.push_back(input);
            return Ok(());
        }
        match life.node {
            Node::Coordinator(index) => {
                let process = self.coordinators.get_mut(&index).expect("it lives");
                process.on(input, &mut self.physics);
                let (emitted, ended) = (process.take_emitted(), process.take_ended());
                if self.regressed.is_none() {
                    for emitted in emitted {
                        self.checker.emitted(process, &emitted, &self.broker, &self.physics)?;
                    }
                    for (end, took_over_at) in ended {
                        self.checker.ended(process, &end, took_over_at)?;
                    }
                }
                if process.doomed || process.over {
                    self.kill(life);
                }
            }
            Node::Worker(index) => {
                let process = self.workers.get_mut(&index).expect("it lives");
                process.on(input, &mut self.physics, &mut self.outside);
                for (subject, effect) in self.outside.witness.take_fresh() {
                    if self.regressed.is_some() {
                        continue;
                    }
                    self.checker.seen(&subject, &effect, &self.workers, &self.outside, &self.broker)?;
                }
                let process = &self.workers[&index];
                if process.over {
                    self.kill(life);
                }
            }
        }
        Ok(())
    }

    /// A process stands still.
    pub(super) fn pause(&mut self, life: Life, millis: u64) {
        if self.paused.contains_key(&life) {
            return;
        }
        self.physics.tell(|| format!("{life} stands still for {millis} ms"));
        self.paused.insert(life, VecDeque::new());
        let at = self.physics.now.plus_millis(millis).min(self.healed_at.plus_millis(1));
        self.physics.agenda.add(at.max(self.physics.now), Happening::Continue(life));
    }

    /// A process that stood still goes on and finds what has come meanwhile.
    pub(super) fn go_on(&mut self, life: Life) -> Result<(), Violation> {
        let Some(backlog) = self.paused.remove(&life) else { return Ok(()) };
        self.physics.tell(|| format!("{life} goes on"));
        if let Node::Coordinator(index) = life.node
            && let Some(process) = self.coordinators.get_mut(&index)
        {
            process.went_on = Some(self.physics.now);
        }
        for input in backlog {
            self.deliver(life, input)?;
        }
        Ok(())
    }

    /// A node has a connection again.
    pub(super) fn reconnect(&mut self, node: Node) {
        let Some(life) = self.life_at(node) else { return };
        if self.physics.network.connection(node).is_none() {
            self.physics.network.connect(node);
            self.physics.tell(|| format!("{life} is connected again"));
            let noticed = self.physics.dice.between(0, 100);
            self.physics.later(life, noticed, Input::Link);
        }
    }

    /// From here on nothing goes wrong any more.
    pub(super) fn heal(&mut self) -> Result<(), Violation> {
        self.physics.tell(|| "the world is healed".to_owned());
        self.physics.faults.heal();
        self.broker.heal();
        let all: Vec<Node> = super::nodes(u8::try_from(self.posts.len()).expect("there are few")).collect();
        for node in all {
            match node {
                Node::Worker(_) => self.start(node),
                Node::Coordinator(_) => {}
            }
            self.reconnect(node);
        }
        let lives: Vec<(Life, u16)> =
            self.coordinators.values().map(|process| (process.life, process.fold_rev)).collect();
        for (life, fold_rev) in lives {
            // Old builds are upgraded.
            if fold_rev < FOLD_REV {
                self.kill(life);
            } else {
                self.deliver(life, Input::Stray(false))?;
            }
        }
        if self.coordinators.is_empty() {
            self.start(Node::Coordinator(0));
        }
        Ok(())
    }

    /// Counts a fault that strikes a process by what it is doing.
    pub(super) fn struck(&mut self, fault: Fault, life: Life) {
        let phases = self.physics.phases_of(life).union(self.checker.phases_of(life, &self.workers));
        self.physics.struck(fault, phases);
    }
}
