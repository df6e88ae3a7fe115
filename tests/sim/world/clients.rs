//! Clients want something, ask for it, and hear what became of it.

use std::sync::Arc;

use millstream_coordinator::owner::command::Answer;
use millstream_engine::KeptOutput;
use millstream_model::entry::{Fork, Kept, KeptOutcome, Submitted};
use millstream_model::history::{KeptIn, Record};
use millstream_model::ids::ExecutionId;
use millstream_model::payload::{Body, Payload, PayloadRef};
use millstream_model::plan::StepIndex;
use millstream_model::token::Secret;
use millstream_model::view::ExecutionStatus;
use serde_json::value::{RawValue, to_raw_value};

use super::World;
use crate::simulation::agenda::Time;
use crate::simulation::client::{Demand, DemandId, Then};
use crate::simulation::happening::Happening;
use crate::simulation::network::Life;
use crate::simulation::plants::Plant;
use crate::simulation::workload::wishes::{self, Wish};

/// How long a client waits for an answer.
const PATIENCE_MS: u64 = 15_000;
/// Before it asks again.
const AGAIN_MS: u64 = 700;
/// Executions that are made from others in one world.
const FORKS_MAX: u32 = 2;
/// How often one execution is resumed.
const RESUMES_MAX: usize = 3;

impl World {
    pub(super) fn wish(&mut self, wish: Wish) {
        let Wish { at_ms, submitted, stored_input, cancel } = wish;
        let execution = submitted.execution;
        if let Some(text) = stored_input {
            self.broker.keep(execution, PayloadRef::to(text.get()).hash, text);
        }
        let id = self.clients.add(Demand::Submit(submitted));
        self.physics.agenda.add(Time(0).plus_millis(at_ms), Happening::Want(id));
        if let Some((at_ms, compensate)) = cancel {
            let id = self.clients.add(Demand::Cancel { execution, compensate });
            self.physics.agenda.add(Time(0).plus_millis(at_ms), Happening::Want(id));
        }
    }

    /// A client asks one of the coordinators that are there.
    pub(super) fn want(&mut self, id: DemandId) {
        let alive: Vec<(Life, bool)> =
            self.coordinators.values().map(|process| (process.life, process.owns())).collect();
        let owners: Vec<Life> = alive.iter().filter(|(_, owns)| *owns).map(|(life, _)| *life).collect();
        let Some((id, mut demand)) = self.clients.ask(id) else { return };
        if id.tries > 1
            && let Demand::Submit(submitted) = &mut demand
        {
            // The API gives each request an id of its own.
            let at_ms = self.physics.now.millis_since(Time(0));
            let (before, now) = (submitted.execution, wishes::execution(&mut self.wishes, at_ms));
            submitted.execution = now;
            let input = submitted.input.clone();
            self.clients.renamed(id, now);
            self.copied(before, now, input);
        }
        if let Demand::Resume(resumed) = &mut demand {
            resumed.transcript = self.transcript_of(resumed.execution);
        }
        let demand = Box::new(demand);
        let name = demand.name();
        self.physics.tell(|| format!("client asks {} for the {}. time: {name}", id.number, id.tries));
        let choices: Vec<Life> = if owners.is_empty() || self.physics.dice.chance(100) {
            alive.into_iter().map(|(life, _)| life).collect()
        } else {
            owners
        };
        if !choices.is_empty() {
            let life = self.physics.dice.pick(&choices);
            let at = self.physics.now.plus_micros(self.physics.dice.between(50, 2_000));
            self.physics.agenda.add(at, Happening::Ask { life, id, demand });
        }
        let at = self.physics.now.plus_millis(PATIENCE_MS);
        self.physics.agenda.add(at, Happening::Told { id, answer: None });
    }

    /// What the API brings that resumes an execution which partitions have forgotten: its newest record.
    fn transcript_of(&mut self, execution: ExecutionId) -> Option<PayloadRef> {
        let newest = self.checker.archived(execution)?;
        let outdated = self.physics.planted(Plant::ResumeFromOldRecord);
        let record = if outdated { self.checker.outdated(execution)? } else { newest };
        let message = self.broker.record(record)?;
        match Record::decode(&message) {
            Ok(Record::Ended(millstream_model::history::Kept { transcript: KeptIn::Here(bytes), .. })) => {
                Some(self.broker.keep_transcript(execution, bytes))
            }
            Ok(_) | Err(_) => None,
        }
    }

    pub(super) fn told(&mut self, id: DemandId, answer: Option<&Answer>) {
        if answer.is_some() {
            self.physics.tell(|| format!("client hears of {}: {answer:?}", id.number));
        }
        if self.clients.told(id, answer) == Then::AskAgain {
            let at = self.physics.now.plus_millis(self.physics.dice.between(1, AGAIN_MS));
            self.physics.agenda.add(at, Happening::Want(id));
        }
    }

    /// An execution has ended: somebody may want it to go on, or another one like it.
    pub(super) fn wish_more(&mut self, execution: ExecutionId) {
        let Some(ended) = self.checker.execution(execution) else { return };
        let view = ended.view();
        let resumable = matches!(view.status, ExecutionStatus::Failed | ExecutionStatus::Timeout);
        let workflow = self.outside.workload.workflow(&view.workflow_id).expect("only known workflows are submitted");
        if resumable && view.resumes.len() < RESUMES_MAX && self.wishes.chance(500) {
            let resumed = wishes::resume(execution, workflow);
            let id = self.clients.add(Demand::Resume(Box::new(resumed)));
            let at = self.physics.now.plus_millis(self.wishes.between(10, 4_000));
            self.physics.agenda.add(at, Happening::Want(id));
        } else if self.forks < FORKS_MAX && self.wishes.chance(150) {
            self.forks += 1;
            self.fork(execution);
        }
    }

    /// Somebody wants another execution that keeps what this one did before some step.
    fn fork(&mut self, of: ExecutionId) {
        let ended = self.checker.execution(of).expect("it has ended");
        let plan = Arc::clone(ended.plan());
        let steps = u64::try_from(plan.definition.steps.len()).expect("definitions are small");
        let from = StepIndex(u16::try_from(self.wishes.below(steps)).expect("definitions are small"));
        let kept = ended.kept_for_fork(&plan, Some(from));
        let view = ended.view();
        let workflow = self.outside.workload.workflow(&view.workflow_id).expect("only known workflows are submitted");
        let at_ms = self.physics.now.millis_since(Time(0));
        let execution = wishes::execution(&mut self.wishes, at_ms);
        let routing = workflow.routing.clone();
        let mut original = self.checker.submission(of).expect("it was submitted").clone();
        original.execution = execution;
        let copy = |world: &mut Self, payload: Payload| world.copied(of, execution, payload);
        let input = copy(self, original.input.clone());
        let kept = kept
            .into_iter()
            .map(|(step, output)| {
                let outcome = match output {
                    KeptOutput::One(payload) => KeptOutcome::Completed(copy(self, payload)),
                    KeptOutput::Items(items) => KeptOutcome::Items(self.listed(of, &items)),
                    KeptOutput::Whole(list) => KeptOutcome::Items(copy(self, list)),
                    KeptOutput::Skipped => KeptOutcome::Skipped,
                    KeptOutput::Failed(error) => KeptOutcome::Failed(error),
                };
                Kept { step, outcome }
            })
            .collect();
        let submitted = Box::new(Submitted {
            execution,
            input,
            secret: Secret::new(self.wishes.bytes()),
            idempotency: None,
            agents: routing.agents,
            routes: routing.routes,
            fallbacks: routing.fallbacks,
            compensations: routing.compensations,
            fork: Some(Box::new(Fork {
                of,
                from: Some(plan.step(from).id.clone()),
                by: Some("a client".to_owned()),
                reason: None,
                kept,
            })),
            ..original
        });
        let id = self.clients.add(Demand::Submit(submitted));
        let at = self.physics.now.plus_millis(self.wishes.between(10, 2_000));
        self.physics.agenda.add(at, Happening::Want(id));
    }

    /// A value for another execution: what is stored is stored there too.
    fn copied(&mut self, from: ExecutionId, to: ExecutionId, payload: Payload) -> Payload {
        if let Some(reference) = payload.reference()
            && let Some(text) = self.broker.value(from, reference.hash).cloned()
        {
            self.broker.keep(to, reference.hash, text);
        }
        payload
    }

    /// The outputs of items as one list.
    fn listed(&self, of: ExecutionId, items: &[Option<Payload>]) -> Payload {
        let value = |payload: &Payload| -> Option<Arc<RawValue>> {
            match &payload.body {
                Body::Inline(text) => Some(Arc::clone(text)),
                Body::Stored(reference) => self.broker.value(of, reference.hash).cloned(),
            }
        };
        let values: Vec<Option<Arc<RawValue>>> = items.iter().map(|item| item.as_ref().and_then(&value)).collect();
        Payload::inline(to_raw_value(&values).expect("a list of JSON values has a text"))
    }
}
