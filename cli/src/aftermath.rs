//! How an execution ended, as people are told: the verdict, and for one that did not complete what there is of it,
//! what became of its effects and what can be done.

use millstream_model::error::{ErrorCode, FailureMode};
use millstream_model::view::{
    CancelPhase, CancelView, Counts, EffectState, EffectView, ExecutionStatus, ExecutionView, PartialResult,
};

use crate::output;
use crate::progress::{count, duration};

/// Rows of the ledger that are told; `--json` has all.
const EFFECTS_TOLD: usize = 20;
/// Names of steps in one line.
const STEPS_TOLD: usize = 12;

/// How it ended, in one line, and why.
pub(crate) fn conclusion(execution: &ExecutionView, colour: bool) -> String {
    let style = || console::Style::new().force_styling(colour).bold();
    let style = match execution.status {
        ExecutionStatus::Completed => style().green(),
        ExecutionStatus::Failed | ExecutionStatus::Timeout => style().red(),
        ExecutionStatus::Cancelled => style().yellow(),
        ExecutionStatus::Pending | ExecutionStatus::Running => style().cyan(),
    };
    let mut text = style.apply_to(execution.status.as_str()).to_string();
    if let Some(ended_at) = execution.ended_at {
        let micros = ended_at.as_micros().saturating_sub(execution.started_at.as_micros());
        text.push_str(&format!(" in {}", duration(micros)));
    } else {
        text.push_str(&format!(", {}", execution.phase.as_str().to_lowercase()));
    }
    if execution.partial && execution.status == ExecutionStatus::Completed {
        text.push_str(", partially: a step that is not critical failed");
    }
    if let Some(error) = execution.error.as_ref().filter(|_| execution.status != ExecutionStatus::Cancelled) {
        let step = error.step.as_ref().map(|step| format!("step {step}: ")).unwrap_or_default();
        let kind = kind(error.error.code, error.failure_mode);
        text.push_str(&format!("\n{step}{kind}: {}", error.error.message));
    }
    text
}

fn kind(code: ErrorCode, mode: FailureMode) -> String {
    let mode = match mode {
        FailureMode::Agent => "agent",
        FailureMode::System => "system",
        FailureMode::Resource => "resource",
        FailureMode::Policy => "policy",
        FailureMode::User => "user",
    };
    format!("{code} ({mode})")
}

/// What else there is to tell: cancel, partial result, effects, counts, where it comes from. `None` when all went
/// as planned.
pub(crate) fn details(execution: &ExecutionView) -> Option<String> {
    let mut lines = Vec::new();
    if let Some(fork) = &execution.fork {
        let from = fork.from.as_ref().map(|step| format!(" from step {step}")).unwrap_or_default();
        lines.push(format!("forked     of {}{from}{}", fork.of, asked(fork.by.as_deref(), fork.reason.as_deref())));
    }
    for resume in &execution.resumes {
        lines.push(format!("resumed    {}{}", resume.at, asked(resume.by.as_deref(), resume.reason.as_deref())));
    }
    if let Some(cancel) = &execution.cancel {
        lines.push(format!("cancel     {}", cancelled(cancel)));
    }
    if let Some(result) = &execution.partial_result {
        lines.extend(partial(result));
        if result.recovery_plan.resumable {
            lines.push(format!("resume     millstream executions resume {}", execution.id));
        }
    }
    lines.extend(counted(&execution.counts));
    if !execution.effects.is_empty() {
        lines.push(format!("\n{}", ledger(&execution.effects)));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Who asked for something, and why.
fn asked(by: Option<&str>, reason: Option<&str>) -> String {
    match (by, reason) {
        (None, None) => String::new(),
        (Some(by), None) => format!(", asked for by {by}"),
        (None, Some(reason)) => format!(", because: {reason}"),
        (Some(by), Some(reason)) => format!(", asked for by {by}: {reason}"),
    }
}

/// How far a cancel is, as a sentence.
pub(crate) fn cancelled(cancel: &CancelView) -> String {
    let attempts = |number: u32| match number {
        1 => "1 attempt".to_owned(),
        several => format!("{} attempts", count(several.into())),
    };
    let how_far = match cancel.phase {
        CancelPhase::Requested => format!("requested, {} not acknowledged yet", attempts(cancel.outstanding)),
        CancelPhase::Acknowledged if cancel.acknowledged == 0 => "acknowledged, nothing ran".to_owned(),
        CancelPhase::Acknowledged => format!("acknowledged, {} stopped", attempts(cancel.acknowledged)),
        CancelPhase::Forced => format!(
            "forced, {} stopped and {} given up without an answer",
            attempts(cancel.acknowledged),
            attempts(cancel.forced)
        ),
    };
    let undo = if cancel.compensate { "; what was completed is undone" } else { "" };
    format!("{how_far}{undo}{}", asked(cancel.by.as_deref(), cancel.reason.as_deref()))
}

fn partial(result: &PartialResult) -> Vec<String> {
    let mut lines = Vec::new();
    if !result.completed_steps.is_empty() {
        lines.push(format!("completed  {}", listed(&result.completed_steps)));
    }
    if let Some(step) = &result.failed_step {
        lines.push(format!("failed     {step}"));
    }
    let plan = &result.recovery_plan;
    lines.push(format!("advice     {}", plan.advice));
    if !plan.runs.is_empty() {
        lines.push(format!("would run  {}", listed(&plan.runs)));
    }
    if !plan.standing_effects.is_empty() {
        lines.push(format!("standing   {}", listed(&plan.standing_effects)));
    }
    lines
}

fn listed<T: ToString>(steps: &[T]) -> String {
    let names: Vec<String> = steps.iter().take(STEPS_TOLD).map(ToString::to_string).collect();
    match steps.len().saturating_sub(STEPS_TOLD) {
        0 => names.join(", "),
        more => format!("{} and {} more", names.join(", "), count(more as u64)),
    }
}

fn counted(counts: &Counts) -> Option<String> {
    let counts = [
        (counts.retries, "retry", "retries"),
        (counts.fallbacks, "fallback", "fallbacks"),
        (counts.compensations, "compensation", "compensations"),
        (counts.reissues, "reissue", "reissues"),
    ];
    let told: Vec<String> = counts
        .iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| format!("{} {}", count((*number).into()), if *number == 1 { one } else { many }))
        .collect();
    (!told.is_empty()).then(|| format!("counts     {}", told.join(", ")))
}

/// The effects and what became of them.
fn ledger(effects: &[EffectView]) -> String {
    let rows: Vec<Vec<String>> = effects.iter().take(EFFECTS_TOLD).map(row).collect();
    let table = output::aligned(&["effect", "state", "undone by", "attempts", ""], &rows);
    if effects.len() <= EFFECTS_TOLD {
        return table;
    }
    let undone = effects.iter().filter(|effect| effect.state == EffectState::Compensated).count();
    let more = count((effects.len() - EFFECTS_TOLD) as u64);
    let (undone, all) = (count(undone as u64), count(effects.len() as u64));
    format!("{table}\nand {more} more: {undone} of {all} effects are undone")
}

fn row(effect: &EffectView) -> Vec<String> {
    let item = effect.item.map(|item| format!("[{item}]")).unwrap_or_default();
    let compensation = effect.compensation.as_ref();
    let error = compensation.and_then(|compensation| compensation.error.as_ref());
    vec![
        format!("{}{item}", effect.step_id),
        effect.state.as_str().to_owned(),
        compensation.and_then(|by| by.agent_id.as_ref()).map(ToString::to_string).unwrap_or_default(),
        compensation.filter(|by| by.attempts > 0).map(|by| by.attempts.to_string()).unwrap_or_default(),
        error.map(|error| format!("{} {}", error.code, error.message)).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn execution(more: &Value) -> ExecutionView {
        let mut view = json!({
            "id": "01936f6a-0000-7000-8000-000000000000", "workflow_id": "w", "definition": "0".repeat(64),
            "status": "FAILED", "phase": "ENDED", "partial": false, "cancel_requested": false, "input": {},
            "counts": {"retries": 0, "fallbacks": 0, "reissues": 0, "compensations": 0}, "labels": {},
            "started_at": "2026-11-20T12:00:00Z", "ended_at": "2026-11-20T12:00:02Z",
            "deadline": "2026-11-20T13:00:00Z", "trace_id": "01936f6a000070008000000000000001", "steps": [],
        });
        let members = view.as_object_mut().expect("an object");
        members.extend(more.as_object().expect("an object").clone());
        serde_json::from_value(view).expect("an execution")
    }

    fn check(more: &Value, expected: &str) {
        let view = execution(more);
        let text = [Some(conclusion(&view, false)), details(&view)].into_iter().flatten().collect::<Vec<_>>();
        let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&text.join("\n")), lines(expected));
    }

    #[test]
    fn what_went_as_planned_is_one_line() {
        check(&json!({"status": "COMPLETED"}), "COMPLETED in 2.0 s");
    }

    #[test]
    fn a_failure_tells_what_is_left_and_what_can_be_done() {
        check(
            &json!({
                "error": {"step": "bill", "code": "EXTERNAL_SERVICE_ERROR", "failure_mode": "system", "message": "down"},
                "partial_result": {
                    "completed_steps": ["crm", "list"], "failed_step": "bill",
                    "recovery_plan": {
                        "advice": "Mend it and resume.", "resumable": true, "keeps": ["list"], "runs": ["crm", "bill"],
                    },
                },
                "counts": {"retries": 2, "fallbacks": 0, "reissues": 0, "compensations": 1},
                "effects": [
                    {"step_id": "crm", "state": "compensated", "compensation": {"agent_id": "uncrm", "attempts": 1}},
                    {"step_id": "mail", "item": 3, "state": "compensation_failed", "compensation": {
                        "agent_id": "unmail", "attempts": 3, "error": {"code": "TIMEOUT", "message": "too slow"}}},
                ],
            }),
            "FAILED in 2.0 s
             step bill: EXTERNAL_SERVICE_ERROR (system): down
             completed  crm, list
             failed     bill
             advice     Mend it and resume.
             would run  crm, bill
             resume     millstream executions resume 01936f6a-0000-7000-8000-000000000000
             counts     2 retries, 1 compensation

             EFFECT   STATE                UNDONE BY  ATTEMPTS
             crm      compensated          uncrm      1
             mail[3]  compensation_failed  unmail     3         TIMEOUT too slow",
        );
    }

    #[test]
    fn a_cancel_tells_the_truth_about_what_ran() {
        let cancel = |phase: &str, outstanding: u32, acknowledged: u32, forced: u32| {
            let view = json!({
                "phase": phase, "requested_at": "2026-11-20T12:00:01Z", "by": "ada", "reason": "enough",
                "compensate": false, "outstanding": outstanding, "acknowledged": acknowledged, "forced": forced,
            });
            cancelled(&serde_json::from_value(view).expect("a cancel"))
        };
        assert_eq!(
            cancel("requested", 2, 0, 0),
            "requested, 2 attempts not acknowledged yet, asked for by ada: enough"
        );
        assert_eq!(cancel("acknowledged", 0, 0, 0), "acknowledged, nothing ran, asked for by ada: enough");
        assert_eq!(
            cancel("forced", 0, 1, 1),
            "forced, 1 attempt stopped and 1 attempt given up without an answer, asked for by ada: enough"
        );
    }

    #[test]
    fn a_long_ledger_is_cut_and_counted() {
        let effects: Vec<Value> =
            (0..1_000).map(|item| json!({"step_id": "book", "item": item, "state": "compensated"})).collect();
        let view = execution(&json!({"effects": effects}));
        let text = details(&view).expect("a ledger");
        assert!(text.ends_with("and 980 more: 1,000 of 1,000 effects are undone"), "{text}");
    }
}
