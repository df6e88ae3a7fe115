use millstream_engine::Origin;
use millstream_engine::partition::FOLD_REV;
use millstream_model::event::{Event, Stage};

use super::check::{self, World, definition};

fn lines(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|e| {
            let step = e.step_id.as_ref().map_or(String::new(), |s| format!(" {s}"));
            let item = e.item.map_or(String::new(), |i| format!("[{i}]"));
            let attempt = e.attempt.map_or(String::new(), |a| format!(" #{a}"));
            format!("{} {}{step}{item}{attempt}", e.id.expect("it is in the journal"), e.kind)
        })
        .collect()
}

fn world() -> World {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, retry: {jitter: false}}
  - {id: b, agent_id: x, depends_on: [a], fan_out: {items: $.input}}
  - {id: c, agent_id: x, depends_on: [a], condition: 'false'}",
    ));
    world.tell(
        "submit [1, 2]
         fail a #1 INTERNAL_ERROR no
         +1000 due
         ok a #2 1
         ok b[1] #1 2
         ok b[0] #1 3",
    );
    world
}

#[test]
fn events_tell_the_whole_story_in_order() {
    assert_eq!(
        lines(&world().execution().events(None)),
        [
            "1.0.0 workflow.started",
            "1.0.1 workflow.planned",
            "1.0.2 step.scheduled a #1",
            "2.0.0 step.started a #1",
            "2.0.1 step.retrying a #1",
            "3.0.0 step.scheduled a #2",
            "4.0.0 step.started a #2",
            "4.0.1 step.completed a #2",
            "4.0.2 step.skipped c",
            "4.0.3 fan_out.started b",
            "4.0.4 step.scheduled b[0] #1",
            "4.0.5 step.scheduled b[1] #1",
            "5.0.0 step.started b[1] #1",
            "5.0.1 step.completed b[1] #1",
            "6.0.0 step.started b[0] #1",
            "6.0.1 step.completed b[0] #1",
            "6.0.2 fan_out.completed b",
            "6.0.3 step.completed b #1",
            "6.0.4 workflow.aggregated",
            "6.0.5 workflow.completed",
        ]
    );
}

#[test]
fn an_event_names_the_attempt_that_ran() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x}",
    ));
    world.tell("submit\nok a #1 ordinal=3 1");
    let lines = lines(&world.execution().events(None));
    assert!(lines.contains(&"2.0.1 step.completed a #3".to_owned()), "{lines:?}");
}

#[test]
fn stages_first_occur_in_their_order() {
    let mut stages: Vec<Stage> = Vec::new();
    for event in world().execution().events(None) {
        if !stages.contains(&event.stage) {
            stages.push(event.stage);
        }
    }
    let expected = [Stage::Initialize, Stage::Plan, Stage::Route, Stage::Execute, Stage::Aggregate, Stage::Complete];
    assert_eq!(stages, expected);
}

#[test]
fn events_can_be_resumed_after_any_of_them() {
    let world = world();
    let all = world.execution().events(None);
    for (i, event) in all.iter().enumerate() {
        assert_eq!(world.execution().events(event.id), all[i + 1..], "after {:?}", event.id);
    }
}

#[test]
fn folding_the_journal_again_gives_the_same_events_and_state() {
    let world = world();
    let mut again = check::empty(FOLD_REV, world.execution().plan());
    for (position, at, capability, entry) in &world.journal {
        let origin = capability.as_ref().map_or(Origin::Control, Origin::Result);
        again.apply(*position, *at, origin, entry.clone()).expect("no reason to halt");
    }
    let refolded = again.execution(world.execution().id()).expect("it was submitted");
    assert_eq!(refolded.events(None), world.execution().events(None));
    assert_eq!(millstream_engine::render::execution(refolded), world.state());
    assert_eq!(refolded.view(), world.execution().view());
}

#[test]
fn data_of_events_says_what_happened() {
    let events = world().execution().events(None);
    let data = |kind: &str| {
        let found = events.iter().find(|e| e.kind.as_str() == kind).expect("it happened");
        found.data.clone()
    };
    assert_eq!(data("workflow.started"), serde_json::json!({"input": [1, 2], "context": {"user": "ada"}}));
    assert_eq!(data("workflow.planned"), serde_json::json!({"steps": ["a", "b", "c"]}));
    assert_eq!(data("step.scheduled")["target"], "agent");
    assert_eq!(data("step.retrying")["error"]["code"], "INTERNAL_ERROR");
    assert_eq!(data("step.retrying")["delay_ms"], 1000);
    assert_eq!(data("step.completed"), serde_json::json!({"output": 1, "duration_ms": 0}));
    assert_eq!(data("step.skipped"), serde_json::json!({"reason": "its condition is false"}));
    assert_eq!(data("fan_out.started"), serde_json::json!({"total": 2}));
    assert_eq!(data("fan_out.completed"), serde_json::json!({"total": 2, "completed": 2, "failed": 0, "skipped": 0}));
    assert_eq!(data("workflow.aggregated"), serde_json::json!({"output": [3, 2]}));
    assert_eq!(data("workflow.completed"), serde_json::json!({"status": "COMPLETED", "partial": false}));
}
