//! One delivery of a task, from its arrival to its ack.

use std::sync::Arc;

use millstream_model::batch::encode_entry;
use millstream_model::entry::{Entry, TaskFailed};
use millstream_model::error::{ErrorCode, StepError};
use millstream_model::payload::Payload;
use millstream_model::task::{Purpose, Task, TaskKey, claim_key};
use millstream_model::time::Timestamp;
use millstream_worker::protocol::{Clocks, Delivered, Due, Event, Next, Outcome};
use serde_json::value::RawValue;

use super::lane::{Item, pause_ms};
use super::{Awaited, NEVER, Outside, Worker};
use crate::simulation::agenda::Time;
use crate::simulation::coverage::{Phase, Phases};
use crate::simulation::happening::{Input, Wake};
use crate::simulation::jetstream::{AckToken, Delivery};
use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;
use crate::simulation::request::{NoReply, Reply, Request};
use crate::simulation::workload::agents::{self, Act};

/// See the module.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) task: Arc<Task>,
    /// What the protocol is shown of it.
    shown: Task,
    on_probation: bool,
    delivered: u64,
    token: AckToken,
    lane: usize,
    /// What the protocol was told: it borrows the task, so it is made anew from these each time.
    events: Vec<Event>,
    ordinal: u32,
    clocks: Clocks,
    pulled: Time,
    pub(super) wakes_at: Time,
    pub(super) started_at: Timestamp,
    pub(super) announcing: bool,
    /// The agent has answered.
    pub(super) answered: bool,
    act: Option<Act>,
    pending: Pending,
    failures: u32,
    claim: Option<u64>,
}

/// A task that a lane was given.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) lane: usize,
    pub(super) task: Task,
    /// What this worker wrote lately was refused.
    pub(super) on_probation: bool,
}

/// What is tried until it succeeds.
#[derive(Debug)]
enum Pending {
    Nothing,
    Claim,
    Input,
    Output { text: Arc<RawValue>, ended_at: Timestamp },
}

impl Run {
    pub(super) fn next_clock(&self) -> Time {
        self.pulled.plus_millis(self.clocks.next_ms())
    }

    pub(super) fn confirmed(&mut self, asked_ms: u64, heard: bool) {
        if heard {
            self.clocks.confirm(asked_ms);
        }
    }

    /// What is going on.
    pub(super) fn phases(&self) -> Phases {
        let phases = match (&self.pending, self.answered, self.act.is_some()) {
            (Pending::Claim, _, _) => Phases::of(Phase::Claim),
            (Pending::Input | Pending::Output { .. }, _, _) => Phases::of(Phase::Payload),
            (Pending::Nothing, false, true) => Phases::of(Phase::Run),
            (Pending::Nothing, true, _) => Phases::of(Phase::Append),
            (Pending::Nothing, false, false) => Phases::of(Phase::Ack),
        };
        match self.task.purpose {
            Purpose::Run => phases,
            Purpose::Compensation => phases.and(Phase::Compensate),
            Purpose::Finally => phases.and(Phase::Finally),
        }
    }

    fn now_ms(&self, now: Time) -> u64 {
        now.millis_since(self.pulled)
    }
}

impl Worker {
    /// A task arrives.
    pub(super) fn begin(&mut self, order: Order, delivery: &Delivery, physics: &mut Physics, outside: &mut Outside) {
        let Order { lane, task, on_probation } = order;
        let number = self.number();
        let shown = Self::shown(&task, physics);
        let ordinal = task.ordinal(delivery.delivered());
        if physics.planted(Plant::AckOnArrival) {
            physics.tell_broker(self.life, Request::Ack(delivery.token.clone()));
        }
        self.lie(&task, physics);
        let moment = self.moment(&task.key, physics);
        let run = Run {
            task: Arc::new(task),
            shown,
            on_probation,
            delivered: delivery.delivered(),
            token: delivery.token.clone(),
            lane,
            events: Vec::new(),
            ordinal,
            clocks: Clocks::default(),
            pulled: physics.now,
            wakes_at: NEVER,
            started_at: Timestamp::default(),
            announcing: false,
            answered: false,
            act: None,
            pending: Pending::Nothing,
            failures: 0,
            claim: None,
        };
        self.runs.insert(number, run);
        self.drive(number, Event::Arrived(moment), physics, outside);
        self.arm_all(physics);
    }

    /// Tells the protocol what happened and does what is next.
    pub(super) fn drive(&mut self, number: u64, event: Event, physics: &mut Physics, outside: &mut Outside) {
        let mut event = Some(event);
        while let Some(told) = event.take() {
            let Some(run) = self.runs.get_mut(&number) else { return };
            run.events.push(told);
            let machine = Delivered::new(&run.shown, run.token.stream_sequence, run.delivered, &self.id);
            let mut machine = if run.on_probation { machine.on_probation() } else { machine };
            let mut next = Next::Continue;
            for event in &run.events {
                next = machine.on(event.clone());
            }
            event = self.follow(number, next, physics, outside);
        }
    }

    /// Does what the protocol says. Returns what happens with it at once.
    fn follow(&mut self, number: u64, next: Next, physics: &mut Physics, outside: &mut Outside) -> Option<Event> {
        let run = self.runs.get_mut(&number)?;
        match next {
            Next::Claim { mut key, claim, ttl_ms } => {
                if physics.planted(Plant::ForgetClaim) {
                    return Some(Event::ClaimWon(self.moment_of(number, physics)));
                }
                if physics.planted(Plant::ClaimWithoutActivation) {
                    let plain = TaskKey { activation: 0, ..run.task.key.clone() };
                    key = claim_key(&run.task.capability, &plain, run.ordinal);
                }
                run.pending = Pending::Claim;
                self.ask(Request::Claim { key, claim, ttl_ms }, Awaited::Claim(number), physics);
            }
            Next::Announce(entry) => {
                run.announcing = true;
                let (lane, text) = (run.lane, encode_entry(&entry));
                self.report(lane, Item { run: Some(number), text }, physics);
            }
            Next::Run => self.run(number, physics, outside),
            Next::Append(entry) => {
                run.announcing = false;
                run.clocks.stop();
                run.pending = Pending::Nothing;
                if physics.planted(Plant::AckBeforeAppend) {
                    physics.tell_broker(self.life, Request::Ack(run.token.clone()));
                }
                let entry = said(*entry, physics);
                let (lane, text) = (run.lane, encode_entry(&entry));
                self.report(lane, Item { run: Some(number), text }, physics);
            }
            Next::Ack => {
                physics.tell_broker(self.life, Request::Ack(run.token.clone()));
                if let (Some(revision), true) = (run.claim, physics.planted(Plant::ReleaseRunClaim)) {
                    let key = claim_key(&run.task.capability, &run.task.key, run.ordinal);
                    physics.tell_broker(self.life, Request::ReleaseClaim { key, revision });
                }
                self.runs.remove(&number);
            }
            Next::AckConfirmed => {
                let request = Request::Ack(run.token.clone());
                self.ask(request, Awaited::AckConfirmed(number), physics);
            }
            Next::ReleaseClaim => {
                let Some(revision) = run.claim else { return Some(Event::Released) };
                let key = claim_key(&run.task.capability, &run.task.key, run.ordinal);
                self.ask(Request::ReleaseClaim { key, revision }, Awaited::Release(number), physics);
            }
            Next::HandBack { delay_ms } => {
                let request = Request::HandBack { token: run.token.clone(), delay_ms };
                physics.tell_broker(self.life, request);
                self.runs.remove(&number);
            }
            Next::Leave | Next::Done => {
                self.runs.remove(&number);
            }
            Next::Continue => {}
        }
        None
    }

    pub(super) fn claimed(
        &mut self,
        number: u64,
        reply: Result<Reply, NoReply>,
        physics: &mut Physics,
        outside: &mut Outside,
    ) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        match reply {
            Ok(Reply::ClaimWon { revision }) => {
                run.claim = Some(revision);
                let moment = self.moment_of(number, physics);
                self.drive(number, Event::ClaimWon(moment), physics, outside);
            }
            Ok(Reply::ClaimHeld { claim, stored_at }) => {
                let now = self.moment_of(number, physics);
                let event = if physics.planted(Plant::IgnoreTakenClaim) {
                    Event::ClaimWon(now)
                } else {
                    Event::ClaimTaken { claim, stored_at, now }
                };
                self.drive(number, event, physics, outside);
            }
            Err(NoReply::Denied | NoReply::TooLarge { .. } | NoReply::Missing) => {
                self.drive(number, Event::ClaimRefused, physics, outside);
            }
            Ok(_) | Err(_) => self.try_again(number, physics),
        }
    }

    /// What failed is tried again in a while.
    fn try_again(&mut self, number: u64, physics: &mut Physics) {
        if let Some(run) = self.runs.get_mut(&number) {
            run.failures += 1;
            physics.later(self.life, pause_ms(run.failures), Input::Wake(Wake::Retry(number)));
        }
    }

    pub(super) fn retry(&mut self, number: u64, physics: &mut Physics, outside: &mut Outside) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        match &run.pending {
            Pending::Nothing => {}
            Pending::Claim => {
                let moment = self.moment_of(number, physics);
                self.drive(number, Event::ClaimUnanswered(moment), physics, outside);
            }
            Pending::Input => self.load_input(number, physics),
            Pending::Output { text, .. } => {
                let request = Request::PutPayload { execution: run.task.key.execution, text: Arc::clone(text) };
                self.ask(request, Awaited::Output(number), physics);
            }
        }
    }

    /// The agent is to be called.
    fn run(&mut self, number: u64, physics: &mut Physics, outside: &mut Outside) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        run.announcing = false;
        run.pending = Pending::Nothing;
        run.started_at = physics.wall(self.life.node);
        let now_ms = run.now_ms(physics.now);
        run.clocks.start(now_ms, run.task.timeout_ms);
        if run.task.input.reference().is_some() {
            run.pending = Pending::Input;
            self.load_input(number, physics);
        } else {
            self.call(number, physics, outside);
        }
        self.arm_all(physics);
    }

    fn load_input(&mut self, number: u64, physics: &mut Physics) {
        let Some(run) = self.runs.get(&number) else { return };
        let Some(reference) = run.task.input.reference() else { return };
        let request = Request::GetPayload { execution: run.task.key.execution, reference };
        self.ask(request, Awaited::Input(number), physics);
    }

    pub(super) fn input_loaded(
        &mut self,
        number: u64,
        reply: &Result<Reply, NoReply>,
        physics: &mut Physics,
        outside: &mut Outside,
    ) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        if !matches!(run.pending, Pending::Input) {
            return;
        }
        match reply {
            Ok(_) => {
                run.pending = Pending::Nothing;
                self.call(number, physics, outside);
            }
            Err(NoReply::Missing) => {
                let error = StepError::new(ErrorCode::InvalidInput, "the input cannot be loaded");
                self.ran(number, Err(error), physics, outside);
            }
            Err(_) => self.try_again(number, physics),
        }
    }

    /// The agent is called: this is the side effect.
    fn call(&mut self, number: u64, physics: &mut Physics, outside: &mut Outside) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        let now_ms = run.now_ms(physics.now);
        run.clocks.call(now_ms, run.task.heartbeat_ms);
        outside.witness.see(&run.task, run.ordinal, self.life, physics.now, run.started_at);
        let act = agents::act(&outside.workload, &run.task, run.ordinal);
        let (life, key) = (self.life, &run.task.key);
        physics.tell(|| {
            format!(
                "{life} runs {} {:?} activation {} ordinal {}: {act:?}",
                key.step, key.item, key.activation, run.ordinal
            )
        });
        if let Some(duration_ms) = act.duration_ms {
            physics.later(self.life, duration_ms, Input::Wake(Wake::Answered(number)));
        }
        run.act = Some(act);
        self.arm_all(physics);
    }

    pub(super) fn agent_answers(&mut self, number: u64, physics: &mut Physics, outside: &mut Outside) {
        let Some(run) = self.runs.get_mut(&number).filter(|run| !run.answered) else { return };
        let Some(act) = run.act.take() else { return };
        run.answered = true;
        run.clocks.stop();
        match act.answer {
            Ok((text, true)) => {
                let ended_at = physics.wall(self.life.node);
                let request = Request::PutPayload { execution: run.task.key.execution, text: Arc::clone(&text) };
                run.pending = Pending::Output { text, ended_at };
                self.ask(request, Awaited::Output(number), physics);
                self.drive(number, Event::Answered, physics, outside);
            }
            Ok((text, false)) => {
                let output = Payload { enc: None, body: millstream_model::payload::Body::Inline(text) };
                self.ran(number, Ok(output), physics, outside);
            }
            Err(error) => self.ran(number, Err(error), physics, outside),
        }
    }

    pub(super) fn output_stored(
        &mut self,
        number: u64,
        reply: &Result<Reply, NoReply>,
        physics: &mut Physics,
        outside: &mut Outside,
    ) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        let Pending::Output { ended_at, .. } = run.pending else { return };
        match reply {
            Ok(Reply::Stored(reference)) => {
                run.pending = Pending::Nothing;
                let (started_at, result) = (run.started_at, Ok(Payload::stored(*reference)));
                let outcome = Outcome { started_at, ended_at, span: None, result };
                self.drive(number, Event::Ran(outcome), physics, outside);
            }
            Ok(_) | Err(_) => self.try_again(number, physics),
        }
    }

    fn ran(&mut self, number: u64, result: Result<Payload, StepError>, physics: &mut Physics, outside: &mut Outside) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        run.clocks.stop();
        run.answered = true;
        let outcome =
            Outcome { started_at: run.started_at, ended_at: physics.wall(self.life.node), span: None, result };
        self.drive(number, Event::Ran(outcome), physics, outside);
    }

    /// A clock of a run may be due.
    pub(super) fn look_at_clocks(&mut self, number: u64, physics: &mut Physics, outside: &mut Outside) {
        loop {
            let Some(run) = self.runs.get_mut(&number) else { return };
            run.wakes_at = NEVER;
            let now_ms = run.now_ms(physics.now);
            if run.act.as_ref().is_some_and(|act| act.beats) {
                run.clocks.heard(now_ms);
            }
            match run.clocks.due(now_ms) {
                Due::Timeout if physics.planted(Plant::TimeoutIgnored) => {}
                due @ (Due::Timeout | Due::Silent) => {
                    let error = StepError::new(ErrorCode::Timeout, format!("{due:?}: the attempt was stopped"));
                    run.act = None;
                    self.ran(number, Err(error), physics, outside);
                }
                Due::Lost if run.answered => {}
                Due::Lost => self.drive(number, Event::ProgressLost, physics, outside),
                Due::Progress => {
                    let request = Request::Progress(run.token.clone());
                    self.ask(request, Awaited::Progress { run: number, asked_ms: now_ms }, physics);
                }
                Due::Notice => {}
                Due::Nothing => break,
            }
        }
        self.arm_all(physics);
    }

    fn moment_of(&self, number: u64, physics: &Physics) -> millstream_worker::protocol::Moment {
        self.moment(&self.runs[&number].task.key, physics)
    }
}

/// The entry, or what a bug says.
fn said(entry: Entry, physics: &Physics) -> Entry {
    match entry {
        Entry::ClaimHeld(held) if physics.planted(Plant::HeldClaimAsLost) => Entry::TaskFailed(TaskFailed {
            run: millstream_model::entry::Run {
                ordinal: held.ordinal,
                token: held.token,
                worker: held.claimant,
                started_at: held.claimed_at,
                ended_at: held.claimed_at,
                span: None,
            },
            task: held.task,
            error: StepError::new(ErrorCode::Lost, "somebody else has it"),
        }),
        entry => entry,
    }
}
