//! Clients of the API: what they ask for, and what they were told.

use std::collections::BTreeMap;

use millstream_coordinator::owner::command::Answer;
use millstream_engine::{Outcome, Rejection, Request};
use millstream_model::entry::{Resumed, Submitted};
use millstream_model::ids::ExecutionId;

/// How often a client asks before it gives up.
const TRIES_MAX: u32 = 12;

/// Names something that a client wants, and how often it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DemandId {
    pub number: u32,
    pub tries: u32,
}

/// Something that a client wants.
#[derive(Debug, Clone)]
pub enum Demand {
    Submit(Box<Submitted>),
    Cancel { execution: ExecutionId, compensate: bool },
    Resume(Box<Resumed>),
}

impl Demand {
    /// What the owner is asked.
    pub fn into_request(self) -> Request {
        match self {
            Self::Submit(submitted) => Request::Submit(submitted),
            Self::Cancel { execution, compensate } => Request::Cancel {
                execution,
                reason: Some("no longer wanted".to_owned()),
                by: Some("a client".to_owned()),
                compensate,
            },
            Self::Resume(resumed) => Request::Resume(resumed),
        }
    }

    /// A word for traces.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Submit(_) => "submit",
            Self::Cancel { .. } => "cancel",
            Self::Resume(_) => "resume",
        }
    }
}

/// A demand and what became of it.
#[derive(Debug)]
struct Wanted {
    demand: Demand,
    tries: u32,
    done: bool,
}

/// What a client does next about a demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It has its answer, or gives up.
    Nothing,
    /// It asks again after a while.
    AskAgain,
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    demands: BTreeMap<u32, Wanted>,
    /// Executions whose submission was accepted, as a client was told.
    accepted: Vec<ExecutionId>,
    /// Times a client was told that its execution goes on.
    pub resumed: u32,
}

impl Clients {
    pub fn add(&mut self, demand: Demand) -> DemandId {
        let number = u32::try_from(self.demands.len()).expect("worlds are small");
        self.demands.insert(number, Wanted { demand, tries: 0, done: false });
        DemandId { number, tries: 0 }
    }

    /// The next try of a demand; `None` when it is done.
    pub fn ask(&mut self, id: DemandId) -> Option<(DemandId, Demand)> {
        let wanted = self.demands.get_mut(&id.number)?;
        if wanted.done || wanted.tries != id.tries {
            return None;
        }
        wanted.tries += 1;
        Some((DemandId { number: id.number, tries: wanted.tries }, wanted.demand.clone()))
    }

    /// The submission of this try is for another execution than the one before.
    pub fn renamed(&mut self, id: DemandId, execution: ExecutionId) {
        if let Some(Wanted { demand: Demand::Submit(submitted), .. }) = self.demands.get_mut(&id.number) {
            submitted.execution = execution;
        }
    }

    /// A client hears something, or nothing for too long.
    pub fn told(&mut self, id: DemandId, answer: Option<&Answer>) -> Then {
        let Some(wanted) = self.demands.get_mut(&id.number) else { return Then::Nothing };
        if wanted.done || wanted.tries != id.tries {
            return Then::Nothing;
        }
        let submission = match &wanted.demand {
            Demand::Submit(submitted) => Some(submitted.execution),
            Demand::Cancel { .. } | Demand::Resume(_) => None,
        };
        match answer {
            Some(Answer::Folded(Outcome::Repeated(execution)) | Answer::Rejected(Rejection::Repeated(execution))) => {
                self.accepted.push(*execution)
            }
            Some(Answer::Folded(Outcome::Accepted)) => match (submission, &wanted.demand) {
                (Some(execution), _) => self.accepted.push(execution),
                (None, Demand::Resume(_)) => self.resumed += 1,
                (None, _) => {}
            },
            Some(Answer::Folded(_) | Answer::Rejected(_)) => {}
            Some(Answer::NotOwner | Answer::Busy { .. }) if wanted.tries < TRIES_MAX => return Then::AskAgain,
            Some(Answer::NotOwner | Answer::Busy { .. }) => {}
            Some(Answer::Unavailable { .. }) | None => {
                // Without a key a second submission would be a second execution.
                let repeatable = match &wanted.demand {
                    Demand::Submit(submitted) => submitted.idempotency.is_some(),
                    Demand::Cancel { .. } | Demand::Resume(_) => true,
                };
                if repeatable && wanted.tries < TRIES_MAX {
                    return Then::AskAgain;
                }
            }
        }
        wanted.done = true;
        Then::Nothing
    }

    /// Executions whose submission was accepted, as a client was told.
    pub fn accepted(&self) -> &[ExecutionId] {
        &self.accepted
    }

    /// Whether nobody waits for anything.
    pub fn is_idle(&self) -> bool {
        self.demands.values().all(|wanted| wanted.done)
    }
}
