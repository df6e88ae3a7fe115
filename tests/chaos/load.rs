//! The load: executions that are submitted evenly while the strikes fall, some of them cancelled, each followed to its
//! end by a client of its own.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::chaos::client::{Clients, Outcome};
use crate::chaos::ledger::Ledger;
use crate::chaos::record::now_ms;
use crate::chaos::settings::Settings;
use crate::chaos::workflow;
use crate::simulation::dice::Dice;
use crate::wait::lasting;

/// States in which nothing can change any more.
pub const TERMINAL: [&str; 4] = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"];

/// How many of 1,000 executions have an input that does not fit into a message.
const BALLAST_PER_MILLE: u32 = 20;

/// What became of one execution.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    pub number: usize,
    pub key: String,
    pub ballast: bool,
    /// Once it was accepted.
    pub id: Option<String>,
    pub submitted_ms: u64,
    pub accepted_ms: u64,
    /// Whether a cancel was accepted.
    pub cancelled: bool,
    /// The execution when it was first seen in a terminal state.
    pub ended: Option<Value>,
    pub ended_ms: u64,
    /// Answers that a good client must not get.
    pub odd: Vec<String>,
}

/// What became of all of them.
#[derive(Debug)]
pub struct Settled {
    pub fates: Vec<Fate>,
}

/// The clients at work.
#[derive(Debug)]
pub struct Load {
    fates: Arc<Mutex<Vec<Fate>>>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Registers the witness and the workflow and begins; the last submission comes after `spread`.
    ///
    /// # Panics
    /// When the workflow is refused.
    pub async fn start(settings: &Settings, clients: Arc<Clients>, ledger: &Ledger, spread: Duration) -> Self {
        let mut dice = clients.dice("catalog");
        let agent =
            json!({"id": "witness", "framework": "http", "capabilities": ["http"], "config": {"url": ledger.url()}});
        stored(clients.put("/agents/witness", &agent, &mut dice).await);
        let definition = workflow::definition(settings.steps);
        for api in clients.apis().iter().take(1) {
            api.define(definition.clone()).await;
        }
        let fates = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let mut dice = Dice::of(settings.seed, "load");
        for number in 0..settings.executions {
            let share = number as f64 / settings.executions as f64;
            let (key, ballast) = (format!("chaos-{}-{number}", settings.seed), dice.chance(BALLAST_PER_MILLE));
            lock(&fates).push(Fate { number, key, ballast, ..Fate::default() });
            let cancel = dice.chance(settings.cancels_per_mille).then(|| Duration::from_millis(dice.between(0, 4_000)));
            let client = Client { number, clients: Arc::clone(&clients), fates: Arc::clone(&fates) };
            tasks.spawn(client.follow(spread.mul_f64(share), cancel));
        }
        Self { fates, tasks }
    }

    /// The executions that were accepted so far.
    pub fn accepted(&self) -> BTreeSet<String> {
        lock(&self.fates).iter().filter_map(|fate| fate.id.clone()).collect()
    }

    /// Waits until every execution has ended, at most so long, and tells what became of them.
    pub async fn settle(mut self, limit: Duration) -> Settled {
        let start = Instant::now();
        while let Ok(Some(ended)) =
            tokio::time::timeout(limit.saturating_sub(start.elapsed()), self.tasks.join_next()).await
        {
            ended.expect("clients do not panic");
        }
        self.tasks.abort_all();
        Settled { fates: lock(&self.fates).clone() }
    }
}

fn stored(outcome: Outcome) {
    if let Outcome::Refused(status, body) = outcome {
        panic!("{status}: {body}");
    }
}

fn lock(fates: &Mutex<Vec<Fate>>) -> std::sync::MutexGuard<'_, Vec<Fate>> {
    fates.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Client {
    number: usize,
    clients: Arc<Clients>,
    fates: Arc<Mutex<Vec<Fate>>>,
}

impl Client {
    fn note(&self, note: impl FnOnce(&mut Fate)) {
        note(&mut lock(&self.fates)[self.number]);
    }

    async fn follow(self, after: Duration, cancel: Option<Duration>) {
        lasting(after).await;
        let (key, ballast) = {
            let fate = &mut lock(&self.fates)[self.number];
            fate.submitted_ms = now_ms();
            (fate.key.clone(), fate.ballast)
        };
        let mut dice = self.clients.dice(&key);
        let id = match self.clients.submit(&key, &workflow::input(self.number, ballast), &mut dice).await {
            Outcome::Done(body) => body["execution_id"].as_str().expect("an accepted execution has an id").to_owned(),
            Outcome::Refused(status, body) => {
                return self.note(|fate| fate.odd.push(format!("submit answered {status}: {body}")));
            }
        };
        self.note(|fate| {
            fate.id = Some(id.clone());
            fate.accepted_ms = now_ms();
        });
        if let Some(delay) = cancel {
            lasting(delay).await;
            match self.clients.cancel(&id, &mut dice).await {
                Outcome::Done(_) => self.note(|fate| fate.cancelled = true),
                Outcome::Refused(409, _) => {}
                Outcome::Refused(status, body) => {
                    self.note(|fate| fate.odd.push(format!("cancel answered {status}: {body}")));
                }
            }
        }
        loop {
            lasting(Duration::from_millis(dice.between(800, 2_000))).await;
            match self.clients.show(&id, &mut dice).await {
                Outcome::Done(body) if is_terminal(&body) => {
                    return self.note(|fate| {
                        fate.ended = Some(body);
                        fate.ended_ms = now_ms();
                    });
                }
                Outcome::Done(_) => {}
                Outcome::Refused(status, body) => {
                    return self.note(|fate| fate.odd.push(format!("show answered {status}: {body}")));
                }
            }
        }
    }
}

/// Whether an execution has ended.
pub fn is_terminal(execution: &Value) -> bool {
    execution["status"].as_str().is_some_and(|status| TERMINAL.contains(&status))
}
