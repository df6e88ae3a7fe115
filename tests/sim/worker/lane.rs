//! One capability of a worker: pulls as much as can start at once, and packs its results.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_model::batch::BatchBuilder;
use millstream_model::ids::{Capability, Namespace};
use millstream_worker::protocol::{self, Acceptance, Event, Pull, Pulling, Refused, Standing};

use super::run::Order;
use super::{Awaited, Outside, Worker};
use crate::simulation::agenda::Time;
use crate::simulation::happening::{Input, Wake};
use crate::simulation::physics::Physics;
use crate::simulation::plants::Plant;
use crate::simulation::request::{NoReply, Reply, Request};

/// Half of a nats-server's default `max_payload`.
const BATCH_SIZE_MAX: usize = 512 * 1024;
/// The first pause after a failure; doubled each time.
const PAUSE_MS: u64 = 50;
const PAUSE_MS_MAX: u64 = 2_000;

/// An entry on its way, and whose it is.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) run: Option<u64>,
    pub(super) text: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) capability: Capability,
    pulling: Pulling,
    acceptance: Acceptance,
    asking: bool,
    /// It waits before it pulls again.
    pub(super) rests: bool,
    failures: u32,
    queue: VecDeque<Item>,
    in_flight: Option<(Bytes, Vec<Option<u64>>)>,
    result_failures: u32,
}

impl Lane {
    pub(super) fn new(capability: Capability) -> Self {
        Self {
            capability,
            pulling: Pulling::default(),
            acceptance: Acceptance::default(),
            asking: false,
            rests: false,
            failures: 0,
            queue: VecDeque::new(),
            in_flight: None,
            result_failures: 0,
        }
    }
}

/// The pause after so many failures in a row.
pub(super) fn pause_ms(failures: u32) -> u64 {
    (PAUSE_MS << failures.saturating_sub(1).min(10)).min(PAUSE_MS_MAX)
}

impl Worker {
    /// Lanes with free permits ask for tasks.
    pub(super) fn pull(&mut self, physics: &mut Physics) {
        if self.stopping || self.over {
            return;
        }
        for lane in 0..self.lanes.len() {
            let asking = self.lanes.iter().filter(|lane| lane.asking).count();
            let free = self.concurrency.saturating_sub(self.runs.len() + asking);
            let state = &mut self.lanes[lane];
            if state.asking || state.rests || free == 0 {
                continue;
            }
            let now_ms = physics.now.millis_since(Time(0));
            let max = match state.pulling.next(state.acceptance.standing(now_ms)) {
                Pull::Tasks { max, .. } => max,
                Pull::NotBefore { at_ms } => {
                    state.rests = true;
                    let rest = at_ms.saturating_sub(now_ms).max(1);
                    physics.later(self.life, rest, Input::Wake(Wake::Pull(lane)));
                    continue;
                }
            };
            state.asking = true;
            let request = Request::Pull {
                capability: state.capability.clone(),
                batch: max.min(free),
                wait_ms: Pulling::wait_ms(free == 1),
            };
            self.ask(request, Awaited::Pull(lane), physics);
        }
    }

    pub(super) fn pulled(
        &mut self,
        lane: usize,
        reply: Result<Reply, NoReply>,
        physics: &mut Physics,
        outside: &mut Outside,
    ) {
        self.lanes[lane].asking = false;
        match reply {
            Ok(Reply::Pulled(deliveries)) => {
                self.lanes[lane].failures = 0;
                self.lanes[lane].pulling.pulled(deliveries.len());
                let now_ms = physics.now.millis_since(Time(0));
                let on_probation = self.lanes[lane].acceptance.standing(now_ms) != Standing::Accepted;
                if on_probation && !deliveries.is_empty() {
                    self.lanes[lane].acceptance.tried(now_ms);
                }
                for delivery in deliveries {
                    let hand_back = |delay_ms| Request::HandBack { token: delivery.token.clone(), delay_ms };
                    match protocol::read(&delivery.payload) {
                        _ if self.stopping => physics.tell_broker(self.life, hand_back(None)),
                        Ok(task) => {
                            let order = Order { lane, task, on_probation };
                            self.begin(order, &delivery, physics, outside);
                        }
                        Err(refusal) => physics.tell_broker(self.life, hand_back(Some(refusal.delay_ms()))),
                    }
                }
            }
            Ok(_) | Err(_) => {
                let state = &mut self.lanes[lane];
                state.failures += 1;
                state.rests = true;
                physics.later(self.life, pause_ms(state.failures), Input::Wake(Wake::Pull(lane)));
            }
        }
    }

    /// An entry is to be stored.
    pub(super) fn report(&mut self, lane: usize, item: Item, physics: &mut Physics) {
        if physics.planted(Plant::ResultTwice) {
            let again = Item { run: None, text: item.text.clone() };
            self.lanes[lane].queue.push_back(again);
        }
        self.lanes[lane].queue.push_back(item);
        self.flush(lane, physics);
    }

    /// Sends what waits, unless a batch is in flight; then that one once more when its pause is over.
    pub(super) fn flush(&mut self, lane: usize, physics: &mut Physics) {
        let state = &mut self.lanes[lane];
        let waiting = self.awaited.values().any(|awaited| matches!(awaited, Awaited::Results(l) if *l == lane));
        if waiting {
            return;
        }
        if state.in_flight.is_none() {
            let mut batch = BatchBuilder::new(&Namespace::default(), BATCH_SIZE_MAX);
            let mut runs = Vec::new();
            while let Some(item) = state.queue.pop_front() {
                if !batch.push(&item.text) {
                    state.queue.push_front(item);
                    break;
                }
                runs.push(item.run);
            }
            if runs.is_empty() {
                return;
            }
            state.in_flight = Some((batch.finish(), runs));
        } else if state.result_failures == 0 {
            return;
        }
        let Some((batch, _)) = &state.in_flight else { return };
        let request = Request::AppendResults { capability: state.capability.clone(), batch: batch.clone() };
        self.ask(request, Awaited::Results(lane), physics);
    }

    pub(super) fn results_stored(
        &mut self,
        lane: usize,
        reply: &Result<Reply, NoReply>,
        physics: &mut Physics,
        outside: &mut Outside,
    ) {
        let state = &mut self.lanes[lane];
        if let Err(failure) = reply {
            if *failure == NoReply::Denied {
                let refused = state.acceptance.refused(physics.now.millis_since(Time(0)));
                if refused == Refused::GiveUp {
                    return self.give_up_results(lane, physics, outside);
                }
            }
            let state = &mut self.lanes[lane];
            state.result_failures += 1;
            return physics.later(self.life, pause_ms(state.result_failures), Input::Wake(Wake::Results(lane)));
        }
        state.result_failures = 0;
        state.acceptance.accepted();
        let (_, runs) = state.in_flight.take().expect("a batch was in flight");
        for run in runs.into_iter().flatten() {
            let event = self.stored_event(run, physics);
            self.drive(run, event, physics, outside);
        }
        self.flush(lane, physics);
    }

    /// Nobody lets this worker write: what it has goes back to the queue.
    fn give_up_results(&mut self, lane: usize, physics: &mut Physics, outside: &mut Outside) {
        let state = &mut self.lanes[lane];
        state.result_failures = 0;
        let (_, runs) = state.in_flight.take().expect("a batch was in flight");
        for run in runs.into_iter().flatten() {
            self.drive(run, Event::NotAccepted, physics, outside);
        }
        self.flush(lane, physics);
    }

    /// What it means for a run that its entry is stored.
    fn stored_event(&self, run: u64, physics: &Physics) -> Event {
        match self.runs.get(&run) {
            Some(run) if run.announcing => Event::Announced(self.moment(&run.task.key, physics)),
            Some(_) | None => Event::Stored,
        }
    }
}
