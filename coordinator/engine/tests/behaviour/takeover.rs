//! What an owner asks a partition that it has folded.

use std::collections::BTreeMap;

use millstream_engine::scope::Values;
use millstream_engine::{Effect, Evaluate, Partition, Rejection, Request, render};
use millstream_model::entry::{Entry, Epoch, Evaluation, Scanned, TimerFired};
use millstream_model::payload::PayloadRef;
use millstream_model::plan::StepIndex;
use millstream_model::position::Position;
use serde_json::value::RawValue;

use super::check::{World, definition, id, payload};

const STORED: &str = "
  - {id: a, agent_id: x}
  - {id: items, agent_id: x, depends_on: [a], fan_out: {items: $.steps.a.output}}
  - {id: merge, depends_on: [a], fan_in: {from: [a], aggregate: merge}}
  - {id: cond, agent_id: x, depends_on: [a], condition: $.steps.a.output.go}";

/// The values of a partition whose owner has fetched what is elsewhere.
fn fetched(text: &str) -> BTreeMap<PayloadRef, std::sync::Arc<RawValue>> {
    let text = RawValue::from_string(text.to_owned()).expect("JSON");
    BTreeMap::from([(PayloadRef::to("elsewhere"), text.into())])
}

#[test]
fn evaluations_and_cancels_are_owed_until_they_are_answered() {
    let mut world = World::new(&definition(STORED));
    world.tell("submit");
    assert_eq!(world.execution().owed(), []);
    world.tell("ok a #1 stored");
    let (items, merge, cond) = (StepIndex(1), StepIndex(2), StepIndex(3));
    let all = [Evaluate::Items(id(), items), Evaluate::Aggregate(id(), merge), Evaluate::Condition(id(), cond)];
    assert_eq!(world.execution().owed(), all.map(Effect::Evaluate));
    assert!(all.iter().all(|evaluate| evaluate.execution() == id()));
    world.tell("evaluated merge value 1\nevaluated cond condition true\nevaluated items items 1");
    assert_eq!(world.execution().owed(), []);
    world.tell("cancel");
    assert_eq!(world.execution().owed(), [Effect::Cancel { execution: id(), below: 4 }]);
    let outstanding: Vec<String> = world
        .partition
        .outstanding()
        .iter()
        .map(|(task, _)| render::effect(world.execution(), &Effect::Publish(*task)))
        .collect();
    assert_eq!(outstanding, ["publish items[0] #1", "publish cond #1"]);
    world.tell("+10000 due");
    assert_eq!(world.execution().owed(), []);
    assert_eq!(world.partition.outstanding(), []);
    assert_eq!(world.partition.executions().count(), 1);
}

#[test]
fn every_evaluation_is_a_function_of_the_engine() {
    let mut world = World::new(&definition(STORED));
    world.tell("submit\nok a #1 stored");
    let list = fetched("[1, 2, 3]");
    let object = fetched(r#"{"go": true}"#);
    let answer = |evaluate, values| {
        world.execution().evaluate(evaluate, &Values::With(values)).expect("all values are here").outcome
    };
    assert_eq!(answer(Evaluate::Items(id(), StepIndex(1)), &list), Evaluation::Items(3));
    assert_eq!(answer(Evaluate::Condition(id(), StepIndex(3)), &object), Evaluation::Condition(true));
    let Evaluation::Value(merged) = answer(Evaluate::Aggregate(id(), StepIndex(2)), &object) else { panic!("a value") };
    assert_eq!(merged.text(), Some(r#"{"go":true}"#));
    for (evaluate, values, reason) in [
        (Evaluate::Items(id(), StepIndex(1)), &object, "expected a list"),
        (Evaluate::Aggregate(id(), StepIndex(2)), &list, "fan_in merge joins objects, one of the outputs is a list"),
        (Evaluate::Items(id(), StepIndex(0)), &list, "does not fan out"),
        (Evaluate::Aggregate(id(), StepIndex(0)), &list, "is not a fan-in"),
    ] {
        let Evaluation::Failed(error) = answer(evaluate, values) else { panic!("it cannot be evaluated") };
        assert!(error.message.contains(reason), "{}", error.message);
    }
    assert_eq!(answer(Evaluate::Condition(id(), StepIndex(0)), &list), Evaluation::Condition(true));
}

#[test]
fn the_output_of_stored_parts_is_evaluated_too() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, fan_out: {items: $.input}}",
    ));
    world.tell("submit [1, 2]\nok a[0] #1 stored\nok a[1] #1 5");
    let output = Evaluate::Output(id());
    assert_eq!(world.execution().owed(), [Effect::Evaluate(output)]);
    let evaluated = world.execution().evaluate(output, &Values::With(&fetched("[7]"))).expect("all values are here");
    assert_eq!(world.apply(Entry::Evaluated(evaluated)), ["end COMPLETED"]);
    assert!(world.state().starts_with("COMPLETED [[7],5]"), "{}", world.state());
}

#[test]
fn an_evaluation_of_another_kind_or_step_is_ignored() {
    let mut world = World::new(&definition(STORED));
    world.tell("submit\nok a #1 stored");
    assert_eq!(world.tell("evaluated items condition true"), ["1 ignored: stale"]);
    assert_eq!(world.tell("evaluated ghost condition true"), ["1 ignored: unknown step"]);
    assert_eq!(world.tell("evaluated output value 1"), ["1 ignored: stale"]);
    assert_eq!(world.tell("evaluated items items 2000000"), ["1 end FAILED"]);
    assert!(world.state().contains("fan_out: 2000000 items, the limit is 1000000"), "{}", world.state());
}

#[test]
fn entries_about_steps_that_do_not_exist_are_ignored() {
    let mut world = World::new(&definition(STORED));
    world.tell("submit");
    let lines = [
        "unrenderable ghost #1 no",
        "unpublishable ghost #1 LOST no",
        "reissue ghost #2",
        "abandoned ghost #1",
        "timer backoff ghost #1",
        "started ghost #1",
        "held ghost #1",
        "expired ghost #1",
        "fail ghost #1 LOST no",
    ];
    for line in lines {
        assert_eq!(world.tell(line), ["1 ignored: unknown step"], "{line}");
    }
}

#[test]
fn the_newest_epoch_and_the_last_entry_are_known() {
    let mut world = World::new(&definition(STORED));
    assert_eq!(Partition::default().epoch(), None);
    let node = || "n".parse().expect("a name");
    let epoch = Epoch { node: node(), epoch: 3, fold_rev: 1 };
    assert!(world.apply(Entry::Epoch(epoch.clone())).is_empty());
    assert!(world.apply(Entry::Scanned(Scanned { node: node(), epoch: 3 })).is_empty());
    assert_eq!(world.partition.epoch(), Some((&epoch, Position::start_of(1))));
    assert_eq!(world.partition.applied(), Position::start_of(2));
}

#[test]
fn requests_that_may_pass_become_entries() {
    let mut world = World::new(&definition(STORED));
    let submit = Request::Submit(Box::new(world.submitted("key=k 1")));
    assert!(matches!(world.partition.decide(submit, world.now), Ok(Entry::Submitted(_))));
    world.tell("submit");
    let cancel = Request::Cancel { execution: id(), reason: None, by: Some("ada".to_owned()), compensate: true };
    let Ok(Entry::CancelRequested(entry)) = world.partition.decide(cancel, world.now) else { panic!("a cancel") };
    assert!(entry.compensate && entry.by.as_deref() == Some("ada"));
    world.tell("fail a #1 INVALID_INPUT no");
    let resume = || Request::Resume(Box::new(world.resumed()));
    assert!(matches!(world.partition.decide(resume(), world.now), Ok(Entry::Resumed(_))));
    let empty = World::new(&definition(STORED));
    assert_eq!(empty.partition.decide(resume(), world.now).err(), Some(Rejection::UnknownExecution(id())));
}

#[test]
fn a_submission_names_an_agent_for_everything_that_has_one() {
    let steps = definition(
        "
  - {id: a, agent_id: x, fallback: {agent_id: y}, compensate: {agent_id: z}}",
    );
    let refused = |change: &dyn Fn(&mut millstream_model::entry::Submitted)| {
        let mut world = World::new(&steps);
        let mut submitted = world.submitted("1");
        change(&mut submitted);
        world.apply(Entry::Submitted(Box::new(submitted)));
        world.state().lines().next().expect("a line").to_owned()
    };
    assert!(refused(&|submitted| submitted.routes[0] = None).contains("no agent for step a"));
    assert!(refused(&|submitted| submitted.routes[0] = Some(9)).contains("no agent for step a"));
    assert!(refused(&|submitted| submitted.fallbacks.clear()).contains("no agent for the fallback of step a"));
    assert!(refused(&|submitted| submitted.compensations.clear()).contains("no agent for the compensation of step a"));
    assert_eq!(refused(&|_| {}), "RUNNING");
}

#[test]
fn every_entry_has_a_line_of_text() {
    let mut world = World::new(&definition(STORED));
    let lines = [
        ("submit", "submitted w as 0193a5a0-0000-7000-8000-000000000003"),
        ("cancel", "cancel requested"),
        ("cancel compensate", "cancel and compensation requested"),
        ("resume", "resumed"),
        ("ok a #1 ordinal=2 1", "succeeded a #1 ordinal 2"),
        ("fail items[3] #1 fallback LOST gone", "failed items[3] #1 fallback ordinal 1: LOST gone"),
        ("held a #1 round=2", "claim held a #1 round 2 ordinal 1 by other"),
        ("abandoned a #1 compensation", "claim abandoned a #1 compensation ordinal 1"),
        ("expired a #1", "expired a #1 ordinal 1"),
        ("started a #1", "started a #1 ordinal 1"),
        ("reissue a #2", "reissued a #2"),
        ("unrenderable a #1 no value", "unrenderable a #1: no value"),
        ("unpublishable a #1 PERMISSION_DENIED no", "unpublishable a #1: PERMISSION_DENIED no"),
        ("evaluated a condition true", "evaluated a: condition true"),
        ("evaluated a items 3", "evaluated a: 3 items"),
        ("evaluated output value 123", "evaluated output: 3 bytes"),
        ("evaluated a failed LOST gone", "evaluated a: LOST gone"),
        ("timer deadline", "timer fired: deadline"),
        ("timer grace", "timer fired: grace"),
        ("timer backoff a #2", "timer fired: backoff a #2"),
        ("timer claim items[1] #2", "timer fired: claim items[1] #2"),
        ("timer start a #1", "timer fired: schedule to start a #1"),
        ("timer close a #1", "timer fired: schedule to close a"),
    ];
    for (line, expected) in lines {
        world.tell(line);
        let (_, _, _, entry) = world.journal.last().expect("it was folded");
        assert_eq!(render::entry(entry), expected, "{line}");
    }
    let node = || "n".parse().expect("a name");
    assert_eq!(
        render::entry(&Entry::Epoch(Epoch { node: node(), epoch: 3, fold_rev: 1 })),
        "epoch 3 of n, fold revision 1"
    );
    assert_eq!(render::entry(&Entry::Scanned(Scanned { node: node(), epoch: 3 })), "scanned by n in epoch 3");
}

#[test]
fn alarms_that_are_due_are_handed_out_in_parts() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, retry: {jitter: false}, fan_out: {items: $.input}}",
    ));
    world.tell("submit [1, 2, 3]");
    for item in 0..3 {
        world.tell(&format!("fail a[{item}] #1 INTERNAL_ERROR no"));
    }
    let later = world.now.plus_millis(1_000);
    let due =
        |limit| world.partition.due(later, limit).into_iter().map(|TimerFired { timer, .. }| timer).collect::<Vec<_>>();
    assert_eq!((due(2).len(), due(9).len()), (2, 3));
    assert_eq!(due(2), due(9)[..2]);
}

#[test]
fn errors_and_metrics_of_steps_can_be_read() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, critical: false, retry: {max_attempts: 1}}
  - {id: b, agent_id: x}
  - {id: c, agent_id: x, depends_on: [a, b], input_map: {code: $.steps.a.error.code, cost: $.steps.b.metrics.cost}}",
    ));
    world.tell("submit\nfail a #1 TIMEOUT slow\nok b #1 1");
    assert_eq!(world.input("c #1", None), r#"{"code":"TIMEOUT","cost":null}"#);
    let mut world = World::new(&definition(
        "
  - {id: b, agent_id: x}
  - {id: c, agent_id: x, depends_on: [b], input_map: $.steps.b.metrics.cost}",
    ));
    world.tell("submit\nok b #1 1");
    let (_, _, _, entry) = world.journal.pop().expect("it was folded");
    let Entry::TaskSucceeded(mut succeeded) = entry else { panic!("a success") };
    succeeded.metrics = Some(payload(r#"{"cost": 5}"#));
    let mut world = World::new(&definition(
        "
  - {id: b, agent_id: x}
  - {id: c, agent_id: x, depends_on: [b], input_map: $.steps.b.metrics.cost}",
    ));
    world.tell("submit");
    world.apply(Entry::TaskSucceeded(succeeded));
    assert_eq!(world.input("c #1", None), "5");
    let completed = world.execution().events(None).into_iter().find(|event| event.kind.as_str() == "step.completed");
    assert_eq!(completed.expect("b completed").data["metrics"], serde_json::json!({"cost": 5}));
}
