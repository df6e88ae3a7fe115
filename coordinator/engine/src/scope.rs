//! What expressions see of an execution.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_model::expression::{EvaluationError, Field, Root, Scope};
use millstream_model::limits::INLINE_MAX;
use millstream_model::payload::{Body, Payload, PayloadRef};
use millstream_model::plan::StepIndex;
use millstream_model::view::ExecutionStatus;
use serde_json::value::RawValue;

use crate::execution::{Execution, Phase};
use crate::step::{Output, Outputs};

/// Where values come from.
#[derive(Debug)]
pub enum Values<'a> {
    /// Only what is inline in the state: what the fold may read.
    Inline,
    /// Also these, which the owner has fetched.
    With(&'a BTreeMap<PayloadRef, Arc<RawValue>>),
}

/// Values that are not in the state. Empty when one is merely too large for the fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing(pub Vec<PayloadRef>);

impl Values<'_> {
    /// The JSON text of a value.
    pub(crate) fn text(&self, payload: &Payload) -> Result<Arc<RawValue>, Missing> {
        match (&payload.body, self) {
            (Body::Inline(text), _) => Ok(text.clone()),
            (Body::Stored(reference), Self::With(fetched)) => {
                fetched.get(reference).cloned().ok_or_else(|| Missing(vec![*reference]))
            }
            (Body::Stored(reference), Self::Inline) => Err(Missing(vec![*reference])),
        }
    }

    /// The JSON text of a list; the fold reads it only when it is small.
    fn list(&self, outputs: &Outputs) -> Result<Arc<RawValue>, Missing> {
        let size: usize = outputs.iter().map(|o| o.as_ref().map_or(4, Payload::size) + 1).sum();
        let missing: BTreeSet<PayloadRef> = outputs
            .iter()
            .flatten()
            .filter_map(|payload| self.text(payload).err())
            .flat_map(|Missing(references)| references)
            .collect();
        if !missing.is_empty() || (matches!(self, Self::Inline) && size > INLINE_MAX) {
            return Err(Missing(missing.into_iter().collect()));
        }
        let mut text = String::with_capacity(size + 2);
        text.push('[');
        for (i, output) in outputs.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            match output {
                Some(payload) => text.push_str(self.text(payload)?.get()),
                None => text.push_str("null"),
            }
        }
        text.push(']');
        Ok(raw(text))
    }

    /// The JSON text of a step's output.
    pub(crate) fn output(&self, output: &Output) -> Result<Arc<RawValue>, Missing> {
        match output {
            Output::One(payload) | Output::Whole(payload) => self.text(payload),
            Output::List(outputs) => self.list(outputs),
        }
    }
}

/// What an expression sees beside the execution.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen<'a> {
    /// The element of a fan-out and its index.
    pub item: Option<(u32, &'a Arc<RawValue>)>,
    /// The step or item that is compensated.
    pub own: Option<(StepIndex, Option<u32>)>,
}

impl Execution {
    /// The values of `reads`.
    pub(crate) fn scope(&self, reads: &BTreeSet<Root>, seen: Seen<'_>, values: &Values<'_>) -> Result<Scope, Missing> {
        let mut scope = Scope::default();
        let mut missing = None;
        for root in reads {
            match self.root(root, seen, values) {
                Ok(Some(text)) => scope.insert(root.clone(), text),
                Ok(None) => {}
                Err(Missing(references)) => missing.get_or_insert_with(Vec::new).extend(references),
            }
        }
        match missing {
            None => Ok(scope),
            Some(references) => Err(Missing(references)),
        }
    }

    fn root(&self, root: &Root, seen: Seen<'_>, values: &Values<'_>) -> Result<Option<Arc<RawValue>>, Missing> {
        let (step, field) = match root {
            Root::Input => return values.text(&self.submitted.input).map(Some),
            Root::Context => return self.submitted.context.as_ref().map(|c| values.text(c)).transpose(),
            Root::Item => return Ok(seen.item.map(|(_, text)| text.clone())),
            Root::Index => return Ok(seen.item.map(|(index, _)| raw(index.to_string()))),
            Root::Outcome => return self.outcome(values).map(Some),
            Root::Own(Field::Output) => {
                let output = seen.own.and_then(|own| self.own_output(own));
                return output.map(|output| values.output(&output)).transpose();
            }
            Root::Own(field) => (seen.own.map(|(step, _)| step), field),
            Root::Step(id, field) => (self.plan.find(id), field),
        };
        let Some(index) = step else {
            return Ok(None);
        };
        let step = self.step(index);
        match field {
            Field::Output => step.output().map(|output| values.output(output)).transpose(),
            Field::Status => {
                let status = self.status_of(index, &self.saga.undone_steps());
                Ok(Some(raw(format!("\"{}\"", status.as_str()))))
            }
            Field::Error => {
                Ok(step.error().and_then(|error| serde_json::value::to_raw_value(error).ok()).map(Arc::from))
            }
            Field::Metrics => step.metrics.as_ref().map(|metrics| values.text(metrics)).transpose(),
        }
    }
}

impl Execution {
    /// The output of what is compensated.
    pub(crate) fn own_output(&self, (step, item): (StepIndex, Option<u32>)) -> Option<Output> {
        match item {
            None => self.step(step).output().cloned(),
            Some(item) => {
                let outputs = self.step(step).known_outputs()?;
                outputs.get(item as usize)?.clone().map(Output::One)
            }
        }
    }

    /// `$.outcome`: how the execution ends.
    fn outcome(&self, values: &Values<'_>) -> Result<Arc<RawValue>, Missing> {
        let (Phase::Finalizing(status) | Phase::Ended(status)) = self.phase else {
            return Ok(raw("null".to_owned()));
        };
        let (compensated, standing) = self.count_effects();
        let mut text = format!("{{\"status\":\"{}\",\"partial\":{}", status.as_str(), self.partial);
        if let Some(error) = &self.failure {
            text.push_str(",\"error\":");
            text.push_str(&serde_json::to_string(error).expect("an error has a JSON form"));
        }
        if let Some(output) = &self.output {
            text.push_str(",\"output\":");
            text.push_str(values.text(output)?.get());
        }
        if status != ExecutionStatus::Completed {
            text.push_str(&format!(",\"compensated\":{compensated},\"standing_effects\":{standing}"));
        }
        text.push('}');
        Ok(raw(text))
    }
}

/// Text that we composed of valid JSON.
pub(crate) fn raw(text: String) -> Arc<RawValue> {
    Arc::from(RawValue::from_string(text).expect("composed of valid JSON"))
}

/// A value is not what an expression or a step needs: INVALID_INPUT of the step, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

impl From<EvaluationError> for Unfit {
    fn from(error: EvaluationError) -> Self {
        Self(error.to_string())
    }
}
