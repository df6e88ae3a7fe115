//! A worker of the world: the shell of the worker's protocol. The real [`Delivered`], [`Clocks`] and [`Pulling`]
//! decide; here what they ask for becomes messages and calls of scripted agents.
//!
//! ```text
//!   pull ─▶ Run ─▶ Delivered ─▶ claim, announce, call the agent, append, ack ─▶ physics ─▶ broker
//!                     ▲                                                             │
//!                     └───────────────── replies, clocks, cancels ◀────────────────┘
//! ```

mod lane;
mod lies;
mod run;

use std::collections::BTreeMap;

use millstream_model::ids::{Capability, ExecutionId, WorkerId};
use millstream_model::limits::PRESENCE_RENEW_MS;
use millstream_model::task::{Purpose, Task, TaskKey};
use millstream_worker::protocol::{CancelMarks, Event, Moment};

use super::agenda::Time;
use super::coverage::{Phase, Phases};
use super::happening::{Input, Wake};
use super::network::{Life, Node, Ticket};
use super::physics::Physics;
use super::plants::Plant;
use super::request::{NoReply, Push, Reply, Request};
use super::witness::Witness;
use super::workload::Workload;

use lane::Lane;
use run::Run;

pub use lies::LIE;

/// How long running tasks may take to finish when a worker stops.
const GRACE_MS: u64 = 3_000;
/// Between two tries to watch cancelled executions.
const REWATCH_MS: u64 = 250;

/// What surrounds workers beside physics.
#[derive(Debug)]
pub struct Outside {
    pub witness: Witness,
    pub workload: Workload,
}

/// What a process awaits.
#[derive(Debug)]
enum Awaited {
    Watch,
    Presence,
    Pull(usize),
    Claim(u64),
    Progress { run: u64, asked_ms: u64 },
    Input(u64),
    Output(u64),
    Results(usize),
    AckConfirmed(u64),
    Release(u64),
}

/// One process of a worker.
#[derive(Debug)]
pub struct Worker {
    pub life: Life,
    id: WorkerId,
    lanes: Vec<Lane>,
    /// Tasks that run at once.
    concurrency: usize,
    runs: BTreeMap<u64, Run>,
    numbers: u64,
    awaited: BTreeMap<Ticket, Awaited>,
    marks: CancelMarks,
    /// The marks it has seen, for who checks what it makes of them.
    cancelled: BTreeMap<ExecutionId, u32>,
    stopping: bool,
    /// It has stopped in an orderly way.
    pub over: bool,
}

impl Worker {
    /// A process that has just started.
    pub fn start(life: Life, capabilities: &[Capability], concurrency: usize, physics: &mut Physics) -> Self {
        let Node::Worker(index) = life.node else { unreachable!("a worker's node") };
        let mut worker = Self {
            life,
            id: format!("worker-{index}-{}", life.number).parse().expect("a name"),
            lanes: capabilities.iter().cloned().map(Lane::new).collect(),
            concurrency,
            runs: BTreeMap::new(),
            numbers: 0,
            awaited: BTreeMap::new(),
            marks: CancelMarks::default(),
            cancelled: BTreeMap::new(),
            stopping: false,
            over: false,
        };
        worker.ask(Request::WatchCancelled, Awaited::Watch, physics);
        worker.announce(physics);
        worker.pull(physics);
        worker
    }

    /// Stops in an orderly way.
    pub fn stop(&mut self, physics: &mut Physics) {
        if !self.stopping {
            self.stopping = true;
            physics.later(self.life, GRACE_MS, Input::Wake(Wake::GraceOver));
        }
    }

    /// Deliveries it works on.
    pub fn running(&self) -> usize {
        self.runs.len()
    }

    /// What it is doing.
    pub fn phases(&self) -> Phases {
        let pulls = Phases::of(Phase::Pull);
        self.runs.values().fold(pulls, |phases, run| phases.union(run.phases()))
    }

    /// Tasks of the execution with an activation below this are not to be started, as far as it has seen.
    pub fn knows_cancelled_below(&self, execution: ExecutionId) -> u32 {
        self.cancelled.get(&execution).copied().unwrap_or_default()
    }

    /// Something happened to it.
    pub fn on(&mut self, input: Input, physics: &mut Physics, outside: &mut Outside) {
        match input {
            Input::Reply(ticket, reply) => {
                if let Some(awaited) = self.awaited.remove(&ticket) {
                    self.answered(awaited, reply, physics, outside);
                }
            }
            Input::Push(Push::Cancelled { execution, below }) => self.see_cancel(execution, below, physics, outside),
            Input::Push(Push::CancelledBroken) | Input::Wake(Wake::Rewatch) => {
                self.ask(Request::WatchCancelled, Awaited::Watch, physics);
            }
            Input::Link => {
                if physics.network.connection(self.life.node).is_some() {
                    self.ask(Request::WatchCancelled, Awaited::Watch, physics);
                }
            }
            Input::Wake(Wake::Announce) => self.announce(physics),
            Input::Wake(Wake::Pull(lane)) => self.lanes[lane].rests = false,
            Input::Wake(Wake::Results(lane)) => self.flush(lane, physics),
            Input::Wake(Wake::Run(number)) => self.look_at_clocks(number, physics, outside),
            Input::Wake(Wake::Answered(number)) => self.agent_answers(number, physics, outside),
            Input::Wake(Wake::Retry(number)) => self.retry(number, physics, outside),
            Input::Wake(Wake::GraceOver) => self.end(physics, outside),
            Input::Wake(
                Wake::Owner | Wake::Reopen | Wake::Leases | Wake::WatchLeases | Wake::Bring | Wake::Parked { .. },
            )
            | Input::Push(Push::Journal { .. } | Push::JournalBroken | Push::Lease(_) | Push::LeasesBroken)
            | Input::Ask(..)
            | Input::Stray(_)
            | Input::Leave => {}
        }
        if self.stopping && self.runs.is_empty() {
            self.end(physics, outside);
        }
        self.pull(physics);
    }

    fn answered(
        &mut self,
        awaited: Awaited,
        reply: Result<Reply, NoReply>,
        physics: &mut Physics,
        outside: &mut Outside,
    ) {
        match (awaited, reply) {
            (Awaited::Watch, Err(NoReply::Offline)) | (Awaited::Watch, Ok(_)) | (Awaited::Presence, _) => {}
            (Awaited::Watch, Err(_)) => physics.later(self.life, REWATCH_MS, Input::Wake(Wake::Rewatch)),
            (Awaited::Pull(lane), reply) => self.pulled(lane, reply, physics, outside),
            (Awaited::Claim(run), reply) => self.claimed(run, reply, physics, outside),
            (Awaited::Progress { run, asked_ms }, reply) => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.confirmed(asked_ms, reply.is_ok());
                    self.arm_all(physics);
                }
            }
            (Awaited::Input(run), reply) => self.input_loaded(run, &reply, physics, outside),
            (Awaited::Output(run), reply) => self.output_stored(run, &reply, physics, outside),
            (Awaited::Results(lane), reply) => self.results_stored(lane, &reply, physics, outside),
            (Awaited::AckConfirmed(run), reply) => {
                self.drive(run, Event::Acked { confirmed: reply.is_ok() }, physics, outside);
            }
            (Awaited::Release(run), _) => self.drive(run, Event::Released, physics, outside),
        }
    }

    fn see_cancel(&mut self, execution: ExecutionId, below: u32, physics: &mut Physics, outside: &mut Outside) {
        let known = self.cancelled.entry(execution).or_default();
        if *known >= below {
            return;
        }
        *known = below;
        self.marks.insert(execution, below);
        let life = self.life;
        physics.tell(|| format!("{life} sees that {execution} is cancelled below {below}"));
        let numbers: Vec<u64> = self.runs.keys().copied().collect();
        for number in numbers {
            let run = &self.runs[&number];
            if !run.answered && self.covers(&run.task.key, physics) {
                let event = Event::CancelSeen { started_at: run.started_at, now: physics.wall(life.node) };
                self.drive(number, event, physics, outside);
            }
        }
    }

    /// Whether the task is not to be run, as far as the worker has seen.
    fn covers(&self, key: &TaskKey, physics: &Physics) -> bool {
        !physics.planted(Plant::CancelIgnored) && self.marks.covers(key)
    }

    fn moment(&self, key: &TaskKey, physics: &Physics) -> Moment {
        Moment { now: physics.wall(self.life.node), cancelled: self.covers(key, physics) }
    }

    /// The task as the protocol is shown it: as it is, unless a bug hides something of it.
    fn shown(task: &Task, physics: &Physics) -> Task {
        let mut shown = task.clone();
        if physics.planted(Plant::CancelledCompensation) {
            shown.purpose = Purpose::Run;
        }
        if physics.planted(Plant::NotAfterIgnored) {
            shown.not_after = None;
            shown.deadline = None;
        }
        shown
    }

    fn announce(&mut self, physics: &mut Physics) {
        self.ask(Request::Announce { worker: self.id.clone() }, Awaited::Presence, physics);
        physics.later(self.life, PRESENCE_RENEW_MS, Input::Wake(Wake::Announce));
    }

    /// Nothing is left to do, or the grace is over.
    fn end(&mut self, physics: &mut Physics, outside: &mut Outside) {
        if self.over {
            return;
        }
        let numbers: Vec<u64> = self.runs.keys().copied().collect();
        for number in numbers {
            self.drive(number, Event::GraceOver, physics, outside);
        }
        physics.tell_broker(self.life, Request::Withdraw { worker: self.id.clone() });
        self.over = true;
    }

    fn ask(&mut self, request: Request, awaited: Awaited, physics: &mut Physics) {
        let ticket = physics.send(self.life, request);
        self.awaited.insert(ticket, awaited);
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The runs' next clocks are on the agenda.
    fn arm_all(&mut self, physics: &mut Physics) {
        let life = self.life;
        for (number, run) in &mut self.runs {
            let at = run.next_clock().max(physics.now);
            if at < run.wakes_at {
                run.wakes_at = at;
                physics.agenda.add(at, super::happening::Happening::Process(life, Input::Wake(Wake::Run(*number))));
            }
        }
    }
}

/// A time that is never reached.
const NEVER: Time = Time(u64::MAX);
