//! Summaries: what the history says of an execution in a few words.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_engine::Execution;
use millstream_model::expression::AttributeOf;
use millstream_model::history::{Record, Summary};
use millstream_model::limits::DURATION_MS_MAX;
use millstream_model::payload::{Body, Payload, PayloadRef};
use millstream_model::view::{ExecutionView, Held};
use serde_json::Value;
use serde_json::value::RawValue;

/// How much longer than one that has ended an execution is kept that only began: its end should find it there.
const STARTED_MS: u64 = DURATION_MS_MAX / 12;

/// Values of an execution that its attributes read and that are in the payload store.
#[derive(Debug, Clone, Default)]
pub struct Values {
    pub input: Option<Arc<RawValue>>,
    pub output: Option<Arc<RawValue>>,
}

/// What of [`Values`] has to be fetched for the summary of an execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WantedValues {
    pub input: Option<PayloadRef>,
    pub output: Option<PayloadRef>,
}

impl WantedValues {
    /// Whether nothing has to be fetched.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What [`of`] needs of the payload store.
pub fn wanted(execution: &Execution) -> WantedValues {
    let attributes = &execution.plan().attributes;
    if attributes.is_empty() {
        return WantedValues::default();
    }
    let reads = |of: AttributeOf| attributes.iter().any(|attribute| attribute.of == of);
    let input = Some(&execution.submitted().input).filter(|_| reads(AttributeOf::Input));
    let view = reads(AttributeOf::Output).then(|| execution.view());
    let output = view.as_ref().and_then(|view| single(view.output.as_ref()?));
    let stored = |payload: &Payload| payload.reference().filter(|_| payload.enc.is_none());
    WantedValues { input: input.and_then(stored), output: output.and_then(stored) }
}

/// The summary of an execution as it is. What `values` lacks has no attributes.
pub fn of(execution: &Execution, retention_default_ms: u64, values: &Values) -> Summary {
    let view = execution.view();
    let plan = execution.plan();
    Summary {
        execution: view.id,
        ns: execution.submitted().ns.clone(),
        definition: view.definition,
        status: view.status,
        partial: view.partial,
        started_at: view.started_at,
        ended_at: view.ended_at,
        attributes: attributes(execution, &view, values),
        counts: view.counts,
        steps: u32::try_from(plan.steps.len()).unwrap_or(u32::MAX),
        round: execution.round(),
        trace: view.trace_id,
        fork_of: view.fork.map(|fork| fork.of),
        retention_ms: plan.definition.retention_ms.unwrap_or(retention_default_ms),
        workflow: view.workflow_id,
        labels: view.labels,
        error: view.error,
    }
}

/// How long the history keeps a record; `None` for as long as its owner does not delete it.
pub fn time_to_live(record: &Record) -> Option<Duration> {
    match record {
        Record::Started(summaries) => {
            let retention = summaries.iter().map(|summary| summary.retention_ms).max().unwrap_or_default();
            Some(Duration::from_millis(retention.saturating_add(STARTED_MS)))
        }
        Record::Parked(_) => None,
        Record::Ended(kept) => Some(Duration::from_millis(kept.summary.retention_ms)),
    }
}

fn attributes(execution: &Execution, view: &ExecutionView<Held>, values: &Values) -> BTreeMap<String, Value> {
    let input = text(Some(&execution.submitted().input), values.input.as_ref());
    let output = text(view.output.as_ref().and_then(single), values.output.as_ref());
    let found = execution.plan().attributes.iter().filter_map(|attribute| {
        let text = match attribute.of {
            AttributeOf::Input => input.as_deref()?,
            AttributeOf::Output => output.as_deref()?,
        };
        Some((attribute.name.to_string(), attribute.read(text)?))
    });
    found.collect()
}

fn single(held: &Held) -> Option<&Payload> {
    match held {
        Held::One(payload) => Some(payload),
        Held::List(_) => None,
    }
}

/// The plain text of a value, wherever it is.
fn text(payload: Option<&Payload>, fetched: Option<&Arc<RawValue>>) -> Option<Arc<RawValue>> {
    let payload = payload.filter(|payload| payload.enc.is_none())?;
    match &payload.body {
        Body::Inline(text) => Some(Arc::clone(text)),
        Body::Stored(_) => fetched.cloned(),
    }
}
