//! What goes wrong, and which of it in which seed.
//!
//! A seed draws a random subset of the faults (A. Groce et al., "Swarm testing", ISSTA 2012): a run in which
//! everything fails a little rarely goes far enough for anything to go wrong deeply. A quarter of the seeds have none.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::dice::Dice;

/// One way in which the world is unkind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A message never arrives.
    Loss,
    /// What was asked is done, and the answer never arrives: an ack lost after the store.
    AnswerLost,
    /// A message arrives twice.
    Duplicate,
    /// A message overtakes others.
    Reorder,
    /// A message takes seconds.
    Delay,
    /// A message arrives after its sender has given up on it: an ambiguous publish.
    Late,
    /// A process loses its connection for a while.
    Disconnect,
    /// The broker answers 10164: it does not say whether it stored.
    Unsettled,
    /// The broker answers 10077: no room in any stream.
    DiskFull,
    /// The broker answers 10077: the queue of a capability is full.
    QueueFull,
    /// The broker refuses a coordinator the tasks of a capability, or workers its results.
    Denied,
    /// The broker has no leader for 0 to 20 s.
    LeaderAway,
    /// The broker dies, forgets late deliveries, and starts again.
    BrokerCrash,
    /// The task stream is lost with all that is in it.
    StreamLost,
    /// Reads answer what was true a moment ago.
    StaleRead,
    /// A purge skips a reader of the journal silently.
    FeedGap,
    /// A coordinator dies between two things it does.
    CoordinatorCrash,
    /// A coordinator stands still for a while and goes on as if nothing had happened.
    CoordinatorPause,
    /// A coordinator owns the partition whatever its lease says.
    TakeOver,
    /// A coordinator hands over what it owns and goes.
    HandOver,
    /// The journal becomes what it was some time before. It is the end of the world, which sees only whether everybody
    /// stops.
    Regression,
    /// A worker dies.
    WorkerCrash,
    /// A worker stands still for a while and goes on as if nothing had happened: a zombie.
    WorkerPause,
    /// A worker stops in an orderly way.
    WorkerStop,
    /// The broker's clock jumps, also back.
    ClockJump,
    /// The clocks of processes are wrong by minutes and jump.
    ClockSkew,
    /// Clients cancel whatever runs, many times.
    CancelStorm,
    /// A worker writes garbage and lies on the result subject.
    Lies,
}

impl Fault {
    pub const ALL: [Self; 28] = [
        Self::Loss,
        Self::AnswerLost,
        Self::Duplicate,
        Self::Reorder,
        Self::Delay,
        Self::Late,
        Self::Disconnect,
        Self::Unsettled,
        Self::DiskFull,
        Self::QueueFull,
        Self::Denied,
        Self::LeaderAway,
        Self::BrokerCrash,
        Self::StreamLost,
        Self::StaleRead,
        Self::FeedGap,
        Self::CoordinatorCrash,
        Self::CoordinatorPause,
        Self::TakeOver,
        Self::HandOver,
        Self::Regression,
        Self::WorkerCrash,
        Self::WorkerPause,
        Self::WorkerStop,
        Self::ClockJump,
        Self::ClockSkew,
        Self::CancelStorm,
        Self::Lies,
    ];

    /// The name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::AnswerLost => "answer-lost",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reorder",
            Self::Delay => "delay",
            Self::Late => "late",
            Self::Disconnect => "disconnect",
            Self::Unsettled => "unsettled",
            Self::DiskFull => "disk-full",
            Self::QueueFull => "queue-full",
            Self::Denied => "denied",
            Self::LeaderAway => "leader-away",
            Self::BrokerCrash => "broker-crash",
            Self::StreamLost => "stream-lost",
            Self::StaleRead => "stale-read",
            Self::FeedGap => "feed-gap",
            Self::CoordinatorCrash => "coordinator-crash",
            Self::CoordinatorPause => "coordinator-pause",
            Self::TakeOver => "take-over",
            Self::HandOver => "hand-over",
            Self::Regression => "regression",
            Self::WorkerCrash => "worker-crash",
            Self::WorkerPause => "worker-pause",
            Self::WorkerStop => "worker-stop",
            Self::ClockJump => "clock-jump",
            Self::ClockSkew => "clock-skew",
            Self::CancelStorm => "cancel-storm",
            Self::Lies => "lies",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault `{name}`")]
pub struct UnknownFault {
    name: String,
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.into_iter().find(|fault| fault.as_str() == name);
        found.ok_or_else(|| UnknownFault { name: name.to_owned() })
    }
}

/// Of 1,000 worlds in which the journal could go backwards so many have it do so.
const REGRESSIONS: u32 = 300;

/// The faults of a run and how often they strike.
#[derive(Debug, Clone)]
pub struct Faults {
    active: BTreeSet<Fault>,
    /// Of 1,000 messages.
    rate: u32,
    /// They strike until the world is healed.
    healed: bool,
}

impl Faults {
    /// The faults of a seed.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed, "faults");
        let count = match dice.below(8) {
            0 | 1 => 0,
            2..=4 => 1 + dice.index(3),
            5 | 6 => 2 + dice.index(6),
            _ => Fault::ALL.len(),
        };
        let mut active = BTreeSet::new();
        while active.len() < count {
            active.insert(dice.pick(&Fault::ALL));
        }
        // The end of the world is rare, also where everything fails.
        if !dice.chance(REGRESSIONS) {
            active.remove(&Fault::Regression);
        }
        Self { active, rate: dice.pick(&[5, 10, 20, 40, 60]), healed: false }
    }

    /// The same with these faults only.
    #[must_use]
    pub fn only(mut self, faults: &BTreeSet<Fault>) -> Self {
        self.active = faults.clone();
        self
    }

    pub fn active(&self) -> &BTreeSet<Fault> {
        &self.active
    }

    /// Whether nothing ever goes wrong.
    pub fn is_calm(&self) -> bool {
        self.active.is_empty()
    }

    /// From here on nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.healed = true;
    }

    /// Whether the fault may strike at all.
    pub fn has(&self, fault: Fault) -> bool {
        !self.healed && self.active.contains(&fault)
    }

    /// Whether the fault strikes one message.
    pub fn strikes(&self, fault: Fault, dice: &mut Dice) -> bool {
        self.has(fault) && dice.chance(self.rate)
    }
}
