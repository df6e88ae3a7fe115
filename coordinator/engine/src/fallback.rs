//! Fallbacks: what takes the place of a step or item whose attempts are used up.

use millstream_model::error::{ErrorCode, StepError};
use millstream_model::payload::Payload;
use millstream_model::plan::StepIndex;

use crate::activation::{self, Role};
use crate::execution::{Execution, Fold};
use crate::record::{Ran, Subject, What};
use crate::step::{Output, Settlement, Skip, Start};

/// A way round a failure.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// Another agent does it, with attempts of its own.
    Agent,
    /// This is the output.
    Value(Payload),
    /// It goes on without it.
    Skip,
}

impl Execution {
    /// The way round the last failure of an activation, if there is one.
    pub(crate) fn fallback_for(&self, subject: &Subject, error: &StepError) -> Option<Way> {
        let first = activation::role(subject.activation) == Some(Role::Run);
        if error.code == ErrorCode::Cancelled || !self.starts_steps() || self.is_closed(*subject) {
            return None;
        }
        let planned = self.plan.planned(subject.step);
        let fallback = self.plan.step(subject.step).fallback.as_ref().filter(|_| first)?;
        match &planned.fallback_value {
            Some(value) => Some(Way::Value(value.clone())),
            None if fallback.skip => Some(Way::Skip),
            None => {
                let activation = activation::number(activation::round(subject.activation), Role::Fallback);
                self.agent_of(subject.step, activation).map(|_| Way::Agent)
            }
        }
    }

    pub(crate) fn fall_back(
        &mut self,
        fold: &mut Fold<'_>,
        subject: Subject,
        way: Way,
        error: StepError,
        ran: Option<Box<Ran>>,
    ) {
        let Subject { step, item, activation, .. } = subject;
        if let Some(ran) = &ran {
            self.note_run(step, ran);
        }
        self.counts.fallbacks = self.counts.fallbacks.saturating_add(1);
        let state = self.step_mut(step);
        state.fallbacks = state.fallbacks.saturating_add(1);
        self.record(fold, What::FellBack(subject, ran, Box::new(error)));
        match (way, item) {
            (Way::Agent, Some(item)) => {
                self.forget_activation(step, Some(item));
                if let Some(fan_out) = self.fan_out_mut(step) {
                    fan_out.fall_back(item);
                }
                self.fill_fan_out(fold, step);
            }
            (Way::Agent, None) => {
                self.forget_activation(step, None);
                self.active.remove(&step);
                let activation = activation::number(activation::round(activation), Role::Fallback);
                self.make_ready(step, Start::Attempt { activation, number: 1 });
            }
            (Way::Value(value), Some(item)) => self.complete_item(fold, subject, item, value, None),
            (Way::Value(value), None) => {
                self.settle_attempt(fold, subject, Settlement::Completed(Output::One(value)), None);
            }
            (Way::Skip, Some(item)) => self.skip_item(fold, step, item),
            (Way::Skip, None) => self.settle_attempt(fold, subject, Settlement::Skipped(Skip::Fallback), None),
        }
    }

    /// What the fallback of a step is called in events.
    pub(crate) fn fallback_name(&self, step: StepIndex) -> &'static str {
        match &self.plan.step(step).fallback {
            Some(fallback) if fallback.static_value.is_some() => "static_value",
            Some(fallback) if fallback.skip => "skip",
            Some(_) => "agent",
            None => "none",
        }
    }
}
