//! What expressions see of an execution.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_model::expression::{EvaluationError, Field, Root, Scope};
use millstream_model::limits::INLINE_MAX;
use millstream_model::payload::{Body, Payload, PayloadRef};
use serde_json::value::RawValue;

use crate::execution::Execution;
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
            Output::One(payload) => self.text(payload),
            Output::List(outputs) => self.list(outputs),
        }
    }
}

impl Execution {
    /// The values of `reads`. `item` is the element of a fan-out and its index.
    pub(crate) fn scope(
        &self,
        reads: &BTreeSet<Root>,
        item: Option<(u32, &Arc<RawValue>)>,
        values: &Values<'_>,
    ) -> Result<Scope, Missing> {
        let mut scope = Scope::default();
        let mut missing = None;
        for root in reads {
            match self.root(root, item, values) {
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

    fn root(
        &self,
        root: &Root,
        item: Option<(u32, &Arc<RawValue>)>,
        values: &Values<'_>,
    ) -> Result<Option<Arc<RawValue>>, Missing> {
        let (id, field) = match root {
            Root::Input => return values.text(&self.submitted.input).map(Some),
            Root::Context => return self.submitted.context.as_ref().map(|c| values.text(c)).transpose(),
            Root::Item => return Ok(item.map(|(_, text)| text.clone())),
            Root::Index => return Ok(item.map(|(index, _)| raw(index.to_string()))),
            Root::Step(id, field) => (id, field),
        };
        let Some(step) = self.plan.find(id).map(|index| self.step(index)) else {
            return Ok(None);
        };
        match field {
            Field::Output => step.output().map(|output| values.output(output)).transpose(),
            Field::Status => Ok(Some(raw(format!("\"{}\"", step.status().as_str())))),
            Field::Error => {
                Ok(step.error().and_then(|error| serde_json::value::to_raw_value(error).ok()).map(Arc::from))
            }
            Field::Metrics => step.metrics.as_ref().map(|metrics| values.text(metrics)).transpose(),
        }
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
