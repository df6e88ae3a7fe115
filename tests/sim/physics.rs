//! What every process is subject to: time, chance, the network.

use millstream_coordinator::owner::clock::Mono;
use millstream_model::time::Timestamp;

use super::agenda::{Agenda, Time};
use super::clocks::Clocks;
use super::coverage::{Coverage, Phase, Phases};
use super::dice::Dice;
use super::faults::{Fault, Faults};
use super::happening::{Answering, Envelope, Happening, Input};
use super::network::{Life, Network, Node, Ticket};
use super::plants::Plant;
use super::request::{NoReply, Push, Reply, Request};
use super::trace::Trace;

/// How long the broker crate waits for an answer.
pub const ANSWER_WAIT_MS: u64 = 5_000;
/// Coordinators that may die between two things they do, in one world.
const DEATHS_MAX: u32 = 12;
/// Between two looks of an owner at its connection.
const LINK_PERIOD_MS: u64 = 100;

/// See the module.
#[derive(Debug)]
pub struct Physics {
    pub now: Time,
    pub agenda: Agenda<Happening>,
    pub dice: Dice,
    pub network: Network,
    pub clocks: Clocks,
    pub faults: Faults,
    pub coverage: Coverage,
    pub trace: Trace,
    pub plant: Option<Plant>,
    /// Coordinators that died between two things they did.
    pub deaths: u32,
}

impl Physics {
    /// Whether the simulated shells have this bug.
    pub fn planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    /// Adds a line to the trace.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        self.trace.line(now, line);
    }

    /// Whether a fault strikes here; counted where it does.
    pub fn strikes(&mut self, fault: Fault, phases: impl FnOnce() -> Phases) -> bool {
        if !self.faults.strikes(fault, &mut self.dice) {
            return false;
        }
        self.coverage.hit(fault, phases());
        true
    }

    /// Whether a coordinator dies at this point.
    pub fn coordinator_dies(&mut self, phases: impl FnOnce() -> Phases) -> bool {
        let dies = self.deaths < DEATHS_MAX && self.strikes(Fault::CoordinatorCrash, phases);
        self.deaths += u32::from(dies);
        dies
    }

    /// The wall clock of a node.
    pub fn wall(&self, node: Node) -> Timestamp {
        self.clocks.wall(node, self.now)
    }

    /// The monotonic clock of a process that started at `started`.
    pub fn mono(&self, started: Time) -> Mono {
        Mono(self.now.0 - started.0)
    }

    /// Something happens in a process after a while, if it still lives.
    pub fn later(&mut self, life: Life, millis: u64, input: Input) {
        let at = self.now.plus_millis(millis);
        self.agenda.add(at, Happening::Process(life, input));
    }

    /// Sends a request to the broker. The answer comes as [`Input::Reply`], exactly once while the process lives.
    pub fn send(&mut self, life: Life, request: Request) -> Ticket {
        let Some(connection) = self.network.connection(life.node) else {
            let ticket = self.network.ticket();
            let input = Input::Reply(ticket, Err(NoReply::Offline));
            self.agenda.add(self.now, Happening::Process(life, input));
            return ticket;
        };
        let ticket = self.network.open(life, connection, self.now);
        self.dispatch(life, connection, Some(ticket), request);
        ticket
    }

    /// Sends something to the broker without waiting for an answer; it is lost when there is no connection.
    pub fn tell_broker(&mut self, life: Life, request: Request) {
        if let Some(connection) = self.network.connection(life.node) {
            self.dispatch(life, connection, None, request);
        }
    }

    /// The broker's answer to a request travels to its sender.
    pub fn answer(&mut self, ticket: Ticket, reply: Result<Reply, NoReply>) {
        let Some(open) = self.network.waiting(ticket) else { return };
        let at = self.now.plus_micros(self.latency());
        let at = self.network.delivery(open.life.node, at);
        self.agenda.add(at, Happening::Answer(ticket, reply));
    }

    /// The request gets no answer: its sender notices when the wait is over.
    pub fn no_answer(&mut self, ticket: Ticket) {
        let Some(open) = self.network.waiting(ticket) else { return };
        let at = open.sent.plus_millis(ANSWER_WAIT_MS).max(self.now);
        self.agenda.add(at, Happening::Answer(ticket, Err(NoReply::NoAnswer)));
    }

    /// The broker sends something to a process by itself. Whether it is on its way; it is not when it got lost.
    pub fn push(&mut self, life: Life, connection: u64, push: Push, phases: impl Fn() -> Phases) -> bool {
        if self.strikes(Fault::Loss, &phases) {
            return false;
        }
        let mut at = self.now.plus_micros(self.latency());
        if self.strikes(Fault::Delay, &phases) {
            at = at.plus_millis(self.dice.between(200, 4_000));
        }
        if self.strikes(Fault::Reorder, &phases) {
            at = at.plus_millis(self.dice.between(0, 50));
        }
        let at = self.network.delivery(life.node, at);
        self.agenda.add(at, Happening::Push { life, connection, push });
        true
    }

    /// The connection of a node ends; it has another one after a while.
    pub fn disconnect(&mut self, node: Node, life: Life, millis: u64) {
        for (ticket, open) in self.network.cut(node) {
            let input = Input::Reply(ticket, Err(NoReply::NoAnswer));
            self.agenda.add(self.now, Happening::Process(open.life, input));
        }
        let noticed = self.dice.between(0, LINK_PERIOD_MS);
        self.later(life, noticed, Input::Link);
        self.agenda.add(self.now.plus_millis(millis), Happening::Reconnect(node));
    }

    /// Microseconds that a message takes on a good day.
    fn latency(&mut self) -> u64 {
        self.dice.between(80, 900)
    }

    fn dispatch(&mut self, life: Life, connection: u64, ticket: Option<Ticket>, request: Request) {
        let phases = || request.phases();
        if self.strikes(Fault::Loss, phases) {
            self.tell(|| format!("{life} {} is lost", request.name()));
            return ticket.into_iter().for_each(|ticket| self.no_answer(ticket));
        }
        let mut answering = Answering { answered: true, unsettled: None };
        if ticket.is_some() && self.strikes(Fault::AnswerLost, phases) {
            answering.answered = false;
        }
        if request.stores() && self.strikes(Fault::Unsettled, phases) {
            answering.unsettled = Some(self.dice.chance(500));
        }
        let mut at = self.now.plus_micros(self.latency());
        if self.strikes(Fault::Delay, phases) {
            at = at.plus_millis(self.dice.between(200, 4_000));
        }
        // Tasks are sent once: nobody repeats them, so nothing doubles them.
        if !matches!(request, Request::Publish { .. }) && self.strikes(Fault::Duplicate, phases) {
            let again = at.plus_millis(self.dice.between(0, 3_000));
            let envelope = Envelope {
                life,
                connection,
                ticket: None,
                answering: Answering { answered: false, unsettled: None },
                request: request.clone(),
            };
            self.agenda.add(again, Happening::Arrive(Box::new(envelope)));
        }
        if self.strikes(Fault::Late, phases) {
            at = at.plus_millis(self.dice.between(ANSWER_WAIT_MS, 3 * ANSWER_WAIT_MS));
            ticket.into_iter().for_each(|ticket| self.no_answer(ticket));
        } else if self.strikes(Fault::Reorder, phases) {
            at = at.plus_millis(self.dice.between(0, 200));
        } else {
            at = self.network.arrival(life.node, at);
        }
        let envelope = Envelope { life, connection, ticket, answering, request };
        self.agenda.add(at, Happening::Arrive(Box::new(envelope)));
    }

    /// A fault of the whole world struck while these things went on.
    pub fn struck(&mut self, fault: Fault, phases: Phases) {
        self.coverage.hit(fault, phases);
    }

    /// What goes on between a process and the broker.
    pub fn phases_of(&self, life: Life) -> Phases {
        let mut phases = Phases::NONE;
        for (_, happening) in self.agenda.iter() {
            let more = match happening {
                Happening::Arrive(envelope) if envelope.life == life => envelope.request.phases(),
                Happening::Push { life: to, push: Push::Journal { .. }, .. } if *to == life => Phases::of(Phase::Fold),
                Happening::Push { life: to, push: Push::Cancelled { .. }, .. } if *to == life => {
                    Phases::of(Phase::Cancel)
                }
                _ => Phases::NONE,
            };
            phases = phases.union(more);
        }
        phases
    }

    /// What goes on between all processes and the broker.
    pub fn phases(&self) -> Phases {
        let mut phases = Phases::NONE;
        for (_, happening) in self.agenda.iter() {
            let more = match happening {
                Happening::Arrive(envelope) => envelope.request.phases(),
                Happening::Push { push: Push::Journal { .. }, .. } => Phases::of(Phase::Fold),
                Happening::Push { push: Push::Cancelled { .. }, .. } => Phases::of(Phase::Cancel),
                _ => Phases::NONE,
            };
            phases = phases.union(more);
        }
        phases
    }
}
