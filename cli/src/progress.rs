//! The progress of an execution, folded from its events: what to say once, and what is going on.

mod line;
mod screen;

use std::collections::{BTreeMap, BTreeSet};

use millstream_model::error::StepError;
use millstream_model::event::{Event, EventType};
use millstream_model::time::Timestamp;
use serde_json::Value;

pub(crate) use line::{Line, Mark, count, duration};
pub(crate) use screen::{Screen, Stream};

/// Failures of single items that are told one by one; beyond them only their number is.
const ITEM_FAILURES_TOLD: u32 = 3;
/// Items of a step whose fallback or compensation is told, for each of both.
const ITEMS_TOLD: u32 = 3;

/// What is known of an execution so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Steps of the workflow.
    total: usize,
    /// Steps that cannot change any more.
    settled: BTreeSet<String>,
    active: BTreeMap<String, Active>,
    /// Characters of the longest step id.
    width: usize,
    /// How often something was told of the items of a step.
    told: BTreeMap<(String, EventType), u32>,
}

/// A step that is under way.
#[derive(Debug)]
pub(crate) struct Active {
    pub since: Timestamp,
    /// What it is at: queued, running, or waiting for its next attempt.
    pub stage: &'static str,
    pub attempt: u32,
    pub items: Option<Items>,
}

/// How far a fan-out is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Items {
    pub total: u64,
    pub completed: u64,
    pub failed: u32,
}

impl Progress {
    /// Of a workflow whose steps have these names, and were settled before or not.
    pub(crate) fn of<'a>(steps: impl Iterator<Item = (&'a str, bool)>) -> Self {
        let mut progress = Self::default();
        for (step, settled) in steps {
            progress.total += 1;
            if settled {
                progress.settled.insert(step.to_owned());
            }
            progress.width = progress.width.max(step.chars().count());
        }
        progress
    }

    /// Steps in all, and steps that cannot change any more.
    pub(crate) fn steps(&self) -> (usize, usize) {
        (self.total, self.settled.len())
    }

    /// What is under way, by step.
    pub(crate) fn active(&self) -> &BTreeMap<String, Active> {
        &self.active
    }

    /// Characters that the column of step names takes.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Takes the next event and answers with what there is to say for good.
    pub(crate) fn apply(&mut self, event: &Event) -> Option<Line> {
        let Some(step) = event.step_id.as_ref().map(|step| step.as_str().to_owned()) else {
            return of_the_workflow(event);
        };
        match (event.kind, event.item) {
            (EventType::StepScheduled, None) => self.scheduled(step, event),
            (EventType::StepStarted, None) => self.started(&step, event),
            (EventType::StepRetrying, None) => return self.retrying(&step, event),
            (EventType::StepCompleted, None) => return Some(self.completed(&step, event)),
            (EventType::StepFailed, None) => return Some(self.failed(&step, event, "failed")),
            (EventType::StepTimeout, None) => return Some(self.failed(&step, event, "timeout")),
            (EventType::StepCancelled, None) => return Some(self.settled(&step, event, Mark::Gone, "cancelled")),
            (EventType::StepSkipped, None) => {
                let line = self.settled(&step, event, Mark::Gone, "skipped");
                return Some(line.note(text(&event.data, "reason")));
            }
            (EventType::StepFallback, item) => return self.fell_back(&step, item, event),
            (EventType::StepCompensated, item) => return self.undone(&step, item, event),
            (EventType::StepCompensationFailed, item) => {
                let line = Line::new(Mark::Failed, &name(&step, item), "not undone");
                return Some(line.attempt(event.attempt).note(error(&event.data)));
            }
            (EventType::FanOutStarted, _) => self.fan_out_started(step, event),
            (EventType::StepCompleted, Some(_)) => {
                if let Some(items) = self.items(&step) {
                    items.completed += 1;
                }
            }
            (EventType::StepFailed | EventType::StepTimeout, Some(item)) => {
                return self.item_failed(&step, item, event);
            }
            // The step's own end follows it, and of items only the ends count.
            (EventType::FanOutCompleted | EventType::StepCompensating, _) | (_, Some(_)) => {}
            (
                EventType::WorkflowStarted
                | EventType::WorkflowPlanned
                | EventType::WorkflowAggregated
                | EventType::WorkflowCompleted
                | EventType::WorkflowFailed
                | EventType::WorkflowCancelled
                | EventType::WorkflowTimeout
                | EventType::WorkflowCancelRequested
                | EventType::WorkflowCompensating
                | EventType::WorkflowResumed,
                None,
            ) => {}
        }
        None
    }

    fn scheduled(&mut self, step: String, event: &Event) {
        let attempt = event.attempt.unwrap_or(1);
        self.settled.remove(&step);
        let active = self.active.entry(step).or_insert(Active { since: event.time, stage: "", attempt, items: None });
        active.attempt = attempt;
        active.stage = "queued";
    }

    fn started(&mut self, step: &str, event: &Event) {
        if let Some(active) = self.active.get_mut(step) {
            active.stage = "running";
            active.attempt = event.attempt.unwrap_or(active.attempt);
        }
    }

    fn retrying(&mut self, step: &str, event: &Event) -> Option<Line> {
        if let Some(active) = self.active.get_mut(step) {
            active.stage = "waiting";
        }
        let delay = event.data["delay_ms"].as_u64().unwrap_or(0);
        let note = format!("again in {}: {}", duration(delay * 1_000), error(&event.data));
        Some(Line::new(Mark::Again, step, "retrying").attempt(event.attempt).note(note))
    }

    fn completed(&mut self, step: &str, event: &Event) -> Line {
        let items = self.active.get(step).and_then(|active| Some((active.items?, active.since)));
        let line = self.settled(step, event, Mark::Done, "completed");
        let Some((items, since)) = items else { return line };
        let micros = event.time.as_micros().saturating_sub(since.as_micros()).max(1);
        let rate = u128::from(items.total) * 1_000_000 / u128::from(micros);
        let failed = match items.failed {
            0 => String::new(),
            n => format!(", {n} failed"),
        };
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let note = format!("{} items{failed}, {} items/s", count(items.total), count(rate));
        line.time(Some(micros)).attempt(None).note(note)
    }

    fn failed(&mut self, step: &str, event: &Event, state: &'static str) -> Line {
        self.settled(step, event, Mark::Failed, state).note(error(&event.data))
    }

    fn settled(&mut self, step: &str, event: &Event, mark: Mark, state: &'static str) -> Line {
        self.settled.insert(step.to_owned());
        let active = self.active.remove(step);
        let told = event.data["duration_ms"].as_u64().map(|millis| millis * 1_000);
        let waited = active.map(|active| event.time.as_micros().saturating_sub(active.since.as_micros()));
        let time = told.or(waited);
        // What nobody ran, as a fan-in, had no attempts.
        Line::new(mark, step, state).time(time).attempt(event.attempt.filter(|_| time.is_some()))
    }

    fn fan_out_started(&mut self, step: String, event: &Event) {
        let items = Items { total: event.data["total"].as_u64().unwrap_or(0), ..Items::default() };
        self.active.insert(step, Active { since: event.time, stage: "running", attempt: 1, items: Some(items) });
    }

    fn item_failed(&mut self, step: &str, item: u32, event: &Event) -> Option<Line> {
        let items = self.items(step)?;
        items.failed += 1;
        let told = items.failed <= ITEM_FAILURES_TOLD;
        told.then(|| {
            Line::new(Mark::Failed, &name(step, Some(item)), "failed").attempt(event.attempt).note(error(&event.data))
        })
    }

    fn fell_back(&mut self, step: &str, item: Option<u32>, event: &Event) -> Option<Line> {
        if let Some(active) = self.active.get_mut(step).filter(|_| item.is_none()) {
            active.stage = "fallback";
        }
        let line = Line::new(Mark::Again, &name(step, item), "fallback").attempt(event.attempt);
        let instead = match event.data["fallback"].as_str() {
            Some("static_value") => "a static value instead: ",
            Some("skip") => "skipped instead: ",
            Some("agent") => "another agent: ",
            Some(_) | None => "",
        };
        self.tells(step, item, event).then(|| line.note(format!("{instead}{}", error(&event.data))))
    }

    fn undone(&mut self, step: &str, item: Option<u32>, event: &Event) -> Option<Line> {
        let line = Line::new(Mark::Gone, &name(step, item), "undone").attempt(event.attempt);
        let time = event.data["duration_ms"].as_u64().map(|millis| millis * 1_000);
        self.tells(step, item, event).then(|| line.time(time))
    }

    /// Whether what happened to an item is told as well.
    fn tells(&mut self, step: &str, item: Option<u32>, event: &Event) -> bool {
        if item.is_none() {
            return true;
        }
        let told = self.told.entry((step.to_owned(), event.kind)).or_default();
        *told += 1;
        *told <= ITEMS_TOLD
    }

    fn items(&mut self, step: &str) -> Option<&mut Items> {
        self.active.get_mut(step)?.items.as_mut()
    }
}

/// What is said of the execution as a whole.
fn of_the_workflow(event: &Event) -> Option<Line> {
    let (mark, state) = match event.kind {
        EventType::WorkflowCancelRequested => (Mark::Gone, "cancelling"),
        EventType::WorkflowCompensating => (Mark::Again, "undoing"),
        EventType::WorkflowResumed => (Mark::Again, "resumed"),
        _ => return None,
    };
    let effects = event.data["effects"].as_u64().map(|effects| format!("{} effects", count(effects)));
    let said = [effects.unwrap_or_default(), text(&event.data, "by"), text(&event.data, "reason")];
    let said: Vec<String> = said.into_iter().filter(|text| !text.is_empty()).collect();
    Some(Line::new(mark, "", state).note(said.join(": ")))
}

fn name(step: &str, item: Option<u32>) -> String {
    item.map_or_else(|| step.to_owned(), |item| format!("{step}[{item}]"))
}

fn text(data: &Value, member: &str) -> String {
    data[member].as_str().unwrap_or_default().to_owned()
}

/// The error of an event as one line.
fn error(data: &Value) -> String {
    match serde_json::from_value::<StepError>(data["error"].clone()) {
        Ok(error) => format!("{} {}", error.code, error.message.lines().next().unwrap_or_default()),
        Err(_) => "it did not say why".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Each event is `<milliseconds> <type> <step>[<item>] <attempt> <data>`; the lines are what is told.
    fn check(events: &str, expected: &str) {
        let events: Vec<Event> = events.lines().map(|line| event(line.trim())).collect();
        let mut progress = Progress::of(["metrics", "page"].into_iter().map(|step| (step, false)));
        let lines = events.iter().filter_map(|event| progress.apply(event)).map(|line| line.render(8, false));
        let lines: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
        assert_eq!(lines.join("\n"), expected.lines().map(str::trim).collect::<Vec<_>>().join("\n"));
    }

    fn event(line: &str) -> Event {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (at, kind, step, attempt, data) = (word(), word(), word(), word(), word());
        let (step, item) = step.split_once('[').map_or((step, None), |(step, item)| (step, Some(item)));
        let number = |text: &str| text.trim_end_matches(']').parse::<u64>().ok();
        let time = Timestamp::from_millis(number(at).expect("milliseconds"));
        let mut event = json!({
            "type": kind, "stage": "EXECUTE", "time": time.to_rfc3339(),
            "execution_id": "01936f6a-0000-7000-8000-000000000000", "workflow_id": "w",
            "trace_id": "01936f6a000070008000000000000001", "span_id": "0000000000000001",
            "item": item.and_then(number), "attempt": number(attempt).filter(|attempt| *attempt > 0),
            "data": serde_json::from_str::<Value>(data).unwrap_or(Value::Null),
        });
        if !step.is_empty() {
            event["step_id"] = json!(step);
        }
        serde_json::from_value(event).expect("an event")
    }

    #[test]
    fn a_step_is_told_once_with_state_time_and_attempt() {
        check(
            r#"0 workflow.started
               1 step.scheduled metrics 1 {"target":"monitoring"}
               2 step.started metrics 1
               25 step.completed metrics 1 {"duration_ms":23}
               26 step.skipped page 0 {"reason":"its condition is false"}
               27 workflow.completed"#,
            "✓ metrics   completed       23 ms  attempt 1
             – page      skipped                           its condition is false",
        );
    }

    #[test]
    fn retries_and_failures_say_why() {
        check(
            r#"0 step.scheduled page 1
               5 step.retrying page 1 {"error":{"code":"TIMEOUT","message":"too slow"},"delay_ms":1200,"next_attempt":2}
               1205 step.scheduled page 2
               1300 step.failed page 2 {"error":{"code":"INTERNAL_ERROR","message":"broken\nmore"},"duration_ms":90}"#,
            "↻ page      retrying               attempt 1  again in 1.2 s: TIMEOUT too slow
             ✗ page      failed          90 ms  attempt 2  INTERNAL_ERROR broken",
        );
    }

    #[test]
    fn a_fan_out_is_one_line_with_its_rate() {
        check(
            r#"0 fan_out.started page 0 {"total":4}
               1 step.scheduled page[0] 1
               2 step.completed page[0] 1
               3 step.failed page[1] 1 {"error":{"code":"LOST","message":"its worker vanished"}}
               9 fan_out.completed page 0 {"total":4,"completed":3,"failed":1}
               10 step.completed page 0"#,
            "✗ page[1]   failed                 attempt 1  LOST its worker vanished
             ✓ page      completed       10 ms             4 items, 1 failed, 400 items/s",
        );
    }

    #[test]
    fn fallbacks_and_compensations_are_told_and_an_undone_step_counts_once() {
        let mut progress = Progress::of([("metrics", false), ("page", false)].into_iter());
        for line in [
            "0 step.scheduled page 1",
            "1 step.completed page 1",
            "2 workflow.compensating",
            "3 step.compensating page 1",
            "4 step.compensated page 1",
        ] {
            progress.apply(&event(line));
        }
        assert_eq!(progress.steps(), (2, 1));
        check(
            r#"0 step.scheduled page 1
               5 step.fallback page 1 {"fallback":"agent","error":{"code":"TIMEOUT","message":"too slow"}}
               9 workflow.resumed  0 {"by":"ada","reason":"mended"}
               10 step.compensated page 1 {"duration_ms":3}
               11 step.compensation_failed page[2] 3 {"error":{"code":"TIMEOUT","message":"too slow"}}"#,
            "↻ page      fallback               attempt 1  another agent: TIMEOUT too slow
             ↻           resumed                           ada: mended
             – page      undone           3 ms  attempt 1
             ✗ page[2]   not undone             attempt 3  TIMEOUT too slow",
        );
    }
}
