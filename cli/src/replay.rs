//! An execution entry by entry: what each was, what became of it, and the state after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_engine::outcome::Halt;
use millstream_engine::refold::{self, Refold, Step};
use millstream_engine::{Execution, render};
use millstream_model::ids::StepId;
use millstream_model::plan::Plan;
use millstream_model::position::Position;
use millstream_model::time::Timestamp;
use millstream_model::transcript::Transcribed;
use millstream_model::view::{ExecutionPhase, ExecutionView, Held, StepStatus, StepView};
use serde::Serialize;

/// Steps that one line names.
const STEPS_TOLD: usize = 8;
/// Who is named where no worker wrote the entry.
const CONTROL: &str = "-";

/// An entry and what it did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Told {
    pub position: Position,
    #[serde(with = "millstream_model::time::rfc3339")]
    pub time: Timestamp,
    /// The worker's capability; `-` for what the API and coordinators write.
    pub by: String,
    pub entry: String,
    /// What became of it; empty when it was accepted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    pub effects: Vec<String>,
    /// The execution after it.
    pub state: String,
}

/// Why a transcript cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("the transcript does not begin with a submission")]
    NoSubmission,
    #[error("the execution begins at {first}, after {until}")]
    NotYet { first: Position, until: Position },
    #[error("this build cannot fold the entry at {position}: {source}")]
    Halted {
        position: Position,
        #[source]
        source: Halt,
    },
    #[error("this build cannot fold the execution: {source}")]
    Unfoldable {
        #[source]
        source: Halt,
    },
}

/// Folds a transcript and tells each entry, up to the one at `until`.
pub(crate) fn replay<E>(
    transcript: &Transcribed,
    plan: Arc<Plan>,
    until: Option<Position>,
    mut tell: impl FnMut(Told) -> Result<(), E>,
) -> Result<Result<(), E>, ReplayError> {
    let (id, _) = refold::submission(transcript).ok_or(ReplayError::NoSubmission)?;
    if let (Some(first), Some(until)) = (transcript.lines.first(), until)
        && first.position > until
    {
        return Err(ReplayError::NotYet { first: first.position, until });
    }
    let mut refold =
        Refold::new(id, transcript.revisions, plan).map_err(|source| ReplayError::Unfoldable { source })?;
    let mut shown = BTreeMap::new();
    for line in transcript.lines.iter().take_while(|line| until.is_none_or(|until| line.position <= until)) {
        let step = refold.apply(line).map_err(|source| ReplayError::Halted { position: line.position, source })?;
        let outcome = tell(told(&step, refold.execution(), &mut shown));
        if outcome.is_err() {
            return Ok(outcome);
        }
    }
    Ok(Ok(()))
}

fn told(step: &Step<'_>, execution: Option<&Execution>, shown: &mut BTreeMap<StepId, String>) -> Told {
    let line = step.line;
    let effects = execution.map(|execution| step.effects.iter().map(|e| render::effect(execution, e)).collect());
    Told {
        position: line.position,
        time: line.at,
        by: line.by.as_ref().map_or_else(|| CONTROL.to_owned(), ToString::to_string),
        entry: render::entry(&line.entry),
        outcome: render::outcome(&step.outcome),
        effects: effects.unwrap_or_default(),
        state: execution.map_or_else(String::new, |execution| state(&execution.view(), shown)),
    }
}

/// The execution in one line: how far it is, and the steps that stand elsewhere than in `shown`, which becomes what
/// is shown here.
fn state(view: &ExecutionView<Held>, shown: &mut BTreeMap<StepId, String>) -> String {
    let settled = view.steps.iter().filter(|step| step.status.is_settled()).count();
    let mut text = view.status.as_str().to_owned();
    if !matches!(view.phase, ExecutionPhase::Running | ExecutionPhase::Ended) {
        text.push_str(&format!(" ({})", view.phase.as_str().to_lowercase()));
    }
    text.push_str(&format!(", {settled} of {} settled", view.steps.len()));
    let mut changed = Vec::new();
    for step in &view.steps {
        let stands = stands(step);
        if shown.get(&step.id) != Some(&stands) {
            // What waits from the beginning is no news.
            if shown.contains_key(&step.id) || step.status != StepStatus::Pending {
                changed.push(format!("{} {stands}", step.id));
            }
            shown.insert(step.id.clone(), stands);
        }
    }
    let more = changed.len().saturating_sub(STEPS_TOLD);
    changed.truncate(STEPS_TOLD);
    if !changed.is_empty() {
        text.push_str(&format!(": {}", changed.join(", ")));
    }
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

fn stands(step: &StepView<Held>) -> String {
    match step.fan_out {
        Some(items) => {
            let done = items.completed + items.failed + items.skipped;
            format!("{} {done}/{}", step.status.as_str(), items.total)
        }
        None => step.status.as_str().to_owned(),
    }
}

/// What is told, for people.
pub(crate) fn text(told: &Told, with_effects: bool) -> String {
    let Told { position, time, by, entry, outcome, effects, state } = told;
    let mut text = format!("{:<8} {time}  {by:<10} {entry}", position.to_string());
    if !outcome.is_empty() {
        text.push_str(&format!("  [{outcome}]"));
    }
    if with_effects {
        effects.iter().for_each(|effect| text.push_str(&format!("\n         → {effect}")));
    }
    text.push_str(&format!("\n         = {state}"));
    text
}

#[cfg(test)]
mod tests;
