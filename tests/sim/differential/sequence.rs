//! One sequence: the same operations on the model and on a server, until one answers otherwise.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use tokio::time::Instant;

use crate::generator::{ALL, next, opening};
use crate::modelled::{Modelled, agrees};
use crate::operation::{CAPABILITIES, Operation};
use crate::random::Random;
use crate::real::Real;
use crate::setting::{Pace, Setting};
use crate::wire::Wire;

/// How long what is there may take to be seen.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a sequence ended.
pub(crate) enum Ended {
    Equal {
        operations: usize,
    },
    /// The operations did not keep within their slots: nothing can be said, unless the same happens again and again.
    Late {
        difference: Option<String>,
    },
    /// With a report.
    Different(String),
}

/// A sequence under way.
pub(crate) struct Sequence {
    name: String,
    random: Random,
    pub(crate) model: Modelled,
    pub(crate) real: Real,
    log: String,
    number: usize,
    /// Operations that come before any random one.
    queued: VecDeque<Operation>,
    /// Whether messages of a capability may have fallen due one shortly after the other.
    unordered: [bool; CAPABILITIES.len()],
    started: Instant,
    slot: u32,
}

/// Runs the sequence of a seed. `run` counts runs of the same seed: each takes its time.
pub(crate) async fn run(seed: u64, run: u32, wire: Wire) -> (Ended, Wire) {
    let mut random = Random::new(seed);
    let setting = Setting::of(format!("D{seed}r{run}"), Pace(run + 1), &mut random);
    let length = 20 + usize::try_from(random.below(41)).expect("a length");
    let mut sequence = Sequence::start(format!("SEED={seed}"), setting, random, wire).await;
    let ended = sequence.proceed(length).await.unwrap_or(Ended::Equal { operations: length });
    (ended, sequence.real.end().await)
}

impl Sequence {
    /// Creates the streams on both sides. `name` is what repeats the sequence.
    pub(crate) async fn start(name: String, setting: Setting, random: Random, wire: Wire) -> Self {
        let model = Modelled::new(setting.clone());
        Self {
            name,
            random,
            log: format!("{setting:?}\n"),
            number: 0,
            queued: opening(&setting).into(),
            unordered: [false; CAPABILITIES.len()],
            model,
            real: Real::new(setting, wire).await,
            started: Instant::now(),
            slot: 0,
        }
    }

    /// Performs so many operations; `None` when all answers were equal.
    pub(crate) async fn proceed(&mut self, operations: usize) -> Option<Ended> {
        for _ in 0..operations {
            let random = &mut self.random;
            let operation =
                self.queued.pop_front().unwrap_or_else(|| next(random, &self.model, self.number, self.slot));
            if let Some(ended) = self.perform(operation).await {
                return Some(ended);
            }
        }
        None
    }

    /// Performs one operation; `None` when the answers were equal.
    pub(crate) async fn perform(&mut self, mut operation: Operation) -> Option<Ended> {
        let pace = self.model.setting.pace;
        let is_calm = self.model.setting.is_calm;
        let mut sort = false;
        match &mut operation {
            Operation::Wait { slots } => {
                self.slot += *slots;
                self.unordered = [true; CAPABILITIES.len()];
                tokio::time::sleep_until(self.started + pace.slot() * self.slot).await;
            }
            Operation::Fetch { capability, max } if std::mem::take(&mut self.unordered[*capability]) => {
                // Their order is a matter of microseconds.
                *max = ALL;
                sort = true;
            }
            // What a feed lists is read before it may be removed: a server whose feed finds none of its list is silent
            // until the next publish.
            Operation::OpenFeed { .. } => self.queued.push_back(Operation::ReadFeed { feed: self.model.feeds.len() }),
            _ => {}
        }
        let expected = self.model.perform(&operation);
        let closes = self.started + pace.slot() * self.slot + pace.open();
        let until = if is_calm { Instant::now() + PATIENCE } else { closes };
        let found = self.real.perform(&operation, &expected, until).await;
        writeln!(self.log, "{:>3} {operation:?}\n      {expected}", self.number).expect("text takes text");
        self.number += 1;
        let (expected, found) = if sort { (sorted(&expected), sorted(&found)) } else { (expected, found) };
        let difference = (!agrees(&expected, &found)).then(|| self.report(&expected, &found));
        if !is_calm && Instant::now() > closes {
            return Some(Ended::Late { difference });
        }
        difference.map(Ended::Different)
    }

    /// What was done so far, and how the answers differ.
    pub(crate) fn report(&self, expected: &str, found: &str) -> String {
        let Self { name, log, .. } = self;
        format!(
            "the model and the server differ; to repeat it: {name} cargo test -p millstream-tests --test differential\n\
             {log}--- model:  {expected}\n--- server: {found}"
        )
    }
}

/// The deliveries of a fetch in the order of their messages, without the sequences that tell the order.
fn sorted(fetched: &str) -> String {
    let mut parts: Vec<&str> = fetched.split(", ").map(|part| part.split(" (").next().unwrap_or(part)).collect();
    parts.sort_unstable();
    parts.join(", ")
}
