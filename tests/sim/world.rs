//! Everything there is, and what happens to it.
//!
//! ```text
//!   Agenda ─▶ next happening ─▶ broker │ coordinator │ worker │ client ─▶ (more happenings)
//!                                  │
//!                                  ▼ what was stored, run, emitted
//!                               Checker
//! ```

mod clients;
mod processes;
mod striking;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millstream_coordinator::owner::keeper::Keeping;
use millstream_model::hash::ContentHash;
use millstream_model::limits::DUPLICATE_WINDOW_MS;
use millstream_model::plan::Plan;

use super::agenda::{Agenda, Time};
use super::broker::Broker;
use super::client::Clients;
use super::clocks::Clocks;
use super::coordinator::Coordinator;
use super::coverage::Coverage;
use super::dice::Dice;
use super::faults::{Fault, Faults};
use super::happening::{Happening, Input};
use super::invariants::{Checker, Violation};
use super::network::{Life, Network, Node};
use super::physics::Physics;
use super::plants::Plant;
use super::strikes;
use super::trace::Trace;
use super::witness::Witness;
use super::worker::{Outside, Worker};
use super::workload::{Workload, wishes};

/// Places where coordinators run.
const COORDINATORS: u8 = 3;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    pub faults: Faults,
    pub plant: Option<Plant>,
    pub traced: bool,
}

impl Settings {
    /// A seed as it is.
    pub fn of(seed: u64) -> Self {
        Self { seed, faults: Faults::of(seed), plant: None, traced: false }
    }
}

/// What a worker of a place is like.
#[derive(Debug, Clone)]
struct Post {
    capabilities: Vec<millstream_model::ids::Capability>,
    concurrency: usize,
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub physics: Physics,
    pub broker: Broker,
    pub outside: Outside,
    pub checker: Checker,
    clients: Clients,
    coordinators: BTreeMap<u8, Coordinator>,
    workers: BTreeMap<u8, Worker>,
    posts: Vec<Post>,
    /// Processes that stand still, with what they will find when they go on.
    paused: BTreeMap<Life, VecDeque<Input>>,
    lives: u32,
    plans: Arc<BTreeMap<ContentHash, Arc<Plan>>>,
    /// When nothing goes wrong any more.
    pub healed_at: Time,
    wishes: Dice,
    forks: u32,
    /// What owners keep, and the odds, of 1,000, that a process is of an older build.
    keeping: Keeping,
    old_builds: u32,
    /// The journal became what it was before, and whether that can be seen.
    pub regressed: Option<Regressed>,
}

/// The journal went backwards.
#[derive(Debug, Clone, Copy)]
pub struct Regressed {
    pub at: Time,
    /// The newest snapshot is not continued any more.
    pub shows: bool,
}

impl World {
    /// The world of a seed at its beginning.
    pub fn new(settings: &Settings) -> Self {
        let Settings { seed, faults, plant, traced } = settings.clone();
        let workload = Workload::of(seed);
        let mut dice = Dice::of(seed, "world");
        let mut physics = Physics {
            now: Time(0),
            agenda: Agenda::default(),
            dice: Dice::of(seed, "physics"),
            network: Network::default(),
            clocks: Clocks::default(),
            faults,
            coverage: Coverage::default(),
            trace: if traced { Trace::kept() } else { Trace::default() },
            plant,
            deaths: 0,
        };
        let chaos_ms = dice.pick(&[2_000, 2_000, 10_000, 10_000, 30_000, 30_000, 60_000, 200_000]);
        let keeping = keeping(&mut dice);
        let old_builds = dice.pick(&[0, 0, 300, 700]);
        let coordinators = dice.pick(&[1, 1, 2, 3]);
        let posts = posts(&workload, &mut dice);
        let workers = u8::try_from(posts.len()).expect("there are few");
        for (at, strike) in
            strikes::random(&physics.faults, &workload.capabilities, COORDINATORS, workers, chaos_ms, &mut dice)
        {
            physics.agenda.add(Time(0).plus_millis(at), Happening::Strike(strike));
        }
        if physics.faults.has(Fault::ClockSkew) {
            for node in nodes(workers) {
                physics.clocks.jump(node, strikes::jump(&mut dice));
            }
        }
        let healed_at = Time(0).plus_millis(chaos_ms);
        physics.agenda.add(healed_at, Happening::Heal);
        for index in 0..coordinators {
            let at = Time(0).plus_millis(if index == 0 { 0 } else { dice.below(3_000) });
            physics.agenda.add(at, Happening::Start(Node::Coordinator(index)));
        }
        for index in 0..workers {
            let at = Time(0).plus_millis(dice.below(500));
            physics.agenda.add(at, Happening::Start(Node::Worker(index)));
        }
        let broker = Broker::new(&workload.capabilities, &physics);
        let plans = Arc::new(workload.plans());
        let wanted = wishes::random(&workload, chaos_ms, &mut dice);
        // Hand-overs are nothing that goes wrong, but the day is not a calm one.
        let calm = physics.faults.is_calm() && coordinators == 1 && old_builds == 0;
        let mut world = Self {
            checker: Checker::new(Arc::clone(&plans), plant, calm),
            physics,
            broker,
            outside: Outside { witness: Witness::default(), workload },
            clients: Clients::default(),
            coordinators: BTreeMap::new(),
            workers: BTreeMap::new(),
            posts,
            paused: BTreeMap::new(),
            lives: 0,
            plans,
            healed_at,
            wishes: dice,
            forks: 0,
            keeping,
            old_builds,
            regressed: None,
        };
        for wish in wanted {
            world.wish(wish);
        }
        world
    }

    /// Lets the next thing happen; `false` when nothing ever will.
    pub fn step(&mut self) -> Result<bool, Violation> {
        let Some((at, happening)) = self.physics.agenda.pop() else { return Ok(false) };
        self.physics.now = at;
        self.happen(happening)?;
        self.observe()?;
        Ok(true)
    }

    /// All processes that fold.
    pub fn coordinators(&self) -> impl Iterator<Item = &Coordinator> {
        self.coordinators.values()
    }

    /// Whether everything is done and nothing is under way but routine.
    pub fn is_quiet(&self) -> bool {
        self.physics.now > self.healed_at
            && self.clients.is_idle()
            && self.checker.all_ended()
            && self.broker.queued() == 0
            && self.workers.values().all(|worker| worker.running() == 0)
            && self.coordinators.values().all(|coordinator| {
                !coordinator.runs() || (coordinator.is_idle() && coordinator.folded() == self.checker.last_sequence())
            })
    }

    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Arrive(envelope) => {
                if self.regressed.is_none() {
                    self.checker.arrives(&envelope, &self.broker)?;
                }
                self.broker.arrive(*envelope, &mut self.physics);
            }
            Happening::Answer(ticket, reply) => {
                if let Some(open) = self.physics.network.close(ticket) {
                    self.deliver(open.life, Input::Reply(ticket, reply))?;
                }
            }
            Happening::Push { life, connection, push } => {
                if self.physics.network.connection(life.node) == Some(connection) {
                    self.deliver(life, Input::Push(push))?;
                }
            }
            Happening::Process(life, input) => self.deliver(life, input)?,
            Happening::Reconnect(node) => self.reconnect(node),
            Happening::BrokerWakes => self.broker.wake(&mut self.physics),
            Happening::Strike(strike) => self.strike(strike)?,
            Happening::Start(node) => self.start(node),
            Happening::Continue(life) => self.go_on(life)?,
            Happening::Want(id) => self.want(id),
            Happening::Ask { life, id, demand } => self.deliver(life, Input::Ask(id, demand))?,
            Happening::Told { id, answer } => self.told(id, answer.as_ref()),
            Happening::Heal => self.heal()?,
        }
        Ok(())
    }

    /// The checker sees what has happened.
    fn observe(&mut self) -> Result<(), Violation> {
        if self.regressed.is_some() {
            drop((self.broker.take_stored(), self.broker.take_queued(), self.broker.take_kept()));
            return Ok(());
        }
        for stored in self.broker.take_stored() {
            self.checker.stored(&stored, &mut self.physics, &self.outside, &self.broker, &self.coordinators)?;
        }
        for key in self.broker.take_queued() {
            self.checker.queued(&key, &self.physics)?;
        }
        for kept in self.broker.take_kept() {
            self.checker.kept(&kept, &self.broker, &self.physics)?;
        }
        let ended = self.checker.take_ended();
        for execution in ended {
            self.wish_more(execution);
        }
        Ok(())
    }
}

/// When owners of a world let go of what they hold: early, so that it happens.
fn keeping(dice: &mut Dice) -> Keeping {
    let tail_entries_min = dice.pick(&[4, 10, 40]);
    Keeping {
        park_after_ms: dice.pick(&[200, 1_000, 5_000]),
        tail_entries_min,
        tail_bytes_min: dice.pick(&[1_000, 20_000, u64::MAX]),
        tail_entries_max: tail_entries_min * dice.pick(&[1, 3, 10]),
        trim_after_ms: DUPLICATE_WINDOW_MS,
        live_max: dice.pick(&[3, 100, 100, 100, 100]),
    }
}

/// The workers of a world; together they have every capability.
fn posts(workload: &Workload, dice: &mut Dice) -> Vec<Post> {
    let count = 1 + dice.index(5);
    let all = &workload.capabilities;
    (0..count)
        .map(|number| {
            let mut capabilities: Vec<_> = all.iter().filter(|_| number == 0 || dice.chance(700)).cloned().collect();
            if capabilities.is_empty() {
                capabilities.push(all[0].clone());
            }
            Post { capabilities, concurrency: dice.pick(&[1, 2, 4, 16]) + all.len() }
        })
        .collect()
}

/// All places, coordinators first.
fn nodes(workers: u8) -> impl Iterator<Item = Node> {
    (0..COORDINATORS).map(Node::Coordinator).chain((0..workers).map(Node::Worker))
}
