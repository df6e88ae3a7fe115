use millstream_engine::{Rejection, Request};
use millstream_model::view::{CancelPhase, CancelView};

use super::check::{World, check, definition, id};

#[test]
fn a_cancel_waits_for_what_runs_and_starts_nothing_more() {
    check(
        "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a]}",
        "submit
         cancel
         cancel
         ok a #1 1
         cancel",
        "1 publish a #1
         2 cancel activations below 4
         2 arm grace in 10000 ms
         3 ignored: already requested
         4 end CANCELLED
         5 ignored: execution has ended
         --
         CANCELLED partial CANCELLED: the execution was cancelled
         a COMPLETED 1
         b SKIPPED: the execution ended before it could start",
    );
}

#[test]
fn a_cancel_with_nothing_running_ends_at_once() {
    check(
        "
  - {id: a, agent_id: x, retry: {jitter: false}}",
        "submit
         fail a #1 INTERNAL_ERROR no
         cancel
         +1000 due",
        "1 publish a #1
         2 arm backoff a #2 in 1000 ms
         3 cancel activations below 4
         3 end CANCELLED
         --
         CANCELLED CANCELLED: the execution was cancelled
         a CANCELLED",
    );
}

#[test]
fn a_cancelled_fan_out_keeps_what_it_has() {
    check(
        "
  - {id: book, agent_id: x, fan_out: {items: $.input, concurrency: 2}}",
        "submit [1, 2, 3, 4]
         ok book[0] #1 10
         cancel
         fail book[1] #1 CANCELLED the execution was cancelled
         fail book[2] #1 CANCELLED the execution was cancelled",
        "1 publish book[0] #1
         1 publish book[1] #1
         2 publish book[2] #1
         3 cancel activations below 4
         3 arm grace in 10000 ms
         5 end CANCELLED
         --
         CANCELLED partial CANCELLED: the execution was cancelled
         book CANCELLED [10,null,null,null]",
    );
}

const PAID: &str = "
  - {id: a, agent_id: x, compensate: {agent_id: y}}
  - {id: b, agent_id: x, depends_on: [a]}";

#[test]
fn a_cancel_undoes_nothing_unless_asked() {
    check(
        PAID,
        "submit\n ok a #1 1\n cancel\n fail b #1 CANCELLED stopped",
        "1 publish a #1
     2 publish b #1
     3 cancel activations below 4
     3 arm grace in 10000 ms
     4 end CANCELLED
     --
     CANCELLED partial CANCELLED: the execution was cancelled
     a COMPLETED 1
     b CANCELLED
     effect a standing",
    );
}

#[test]
fn a_cancel_undoes_what_was_completed_when_asked() {
    check(
        PAID,
        "submit\n ok a #1 1\n cancel compensate\n ok b #1 2\n cancel\n ok a #1 compensation",
        "1 publish a #1
     2 publish b #1
     3 cancel activations below 4
     3 arm grace in 10000 ms
     4 publish a #1 compensation
     5 ignored: already requested
     6 end CANCELLED
     --
     CANCELLED partial CANCELLED: the execution was cancelled
     a COMPENSATED 1
     b COMPLETED 2
     effect a compensated",
    );
}

#[test]
fn a_cancel_that_comes_while_a_failure_stops_it_undoes_when_asked_and_it_has_failed() {
    check(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}}
  - {id: b, agent_id: x, compensate: {agent_id: y}}",
        "submit
         fail a #1 INTERNAL_ERROR no
         cancel compensate
         ok b #1 2
         ok b #1 compensation",
        "1 publish a #1
         1 publish b #1
         2 cancel activations below 4
         2 arm grace in 10000 ms
         4 publish b #1 compensation
         5 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         a FAILED INTERNAL_ERROR: no
         b COMPENSATED 2
         effect b compensated",
    );
}

#[test]
fn a_cancel_ends_an_execution_whose_output_is_evaluated() {
    check(
        "
  - {id: a, agent_id: x, fan_out: {items: $.input}}",
        "submit [1]
         ok a[0] #1 stored
         cancel
         evaluated output value 1",
        "1 publish a[0] #1
         2 evaluate the output
         3 end CANCELLED
         4 ignored: execution has ended
         --
         CANCELLED partial CANCELLED: the execution was cancelled
         a COMPLETED [(stored)]",
    );
}

#[test]
fn the_view_tells_how_far_a_cancel_is() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, retry: {max_attempts: 2}}
  - {id: c, agent_id: x, fan_out: {items: $.input}}",
    ));
    let cancel = |world: &World| world.execution().view().cancel;
    world.tell("submit [1, 2]\nheld b #1 ordinal=2");
    assert_eq!(cancel(&world), None);
    world.tell("cancel");
    let asked = CancelView {
        phase: CancelPhase::Requested,
        requested_at: world.now,
        by: None,
        reason: None,
        compensate: false,
        outstanding: 4,
        acknowledged: 0,
        forced: 0,
    };
    assert_eq!(cancel(&world), Some(asked.clone()));
    world.tell("fail a #1 CANCELLED stopped\nok c[0] #1 1");
    assert_eq!(cancel(&world), Some(CancelView { outstanding: 2, acknowledged: 1, ..asked.clone() }));
    world.tell("+10000 due");
    let forced = CancelView { phase: CancelPhase::Forced, outstanding: 0, acknowledged: 1, forced: 2, ..asked };
    assert_eq!(cancel(&world), Some(forced));
    let told: Vec<_> = world
        .execution()
        .events(None)
        .into_iter()
        .filter(|event| event.kind.as_str() == "step.cancelled")
        .map(|event| (event.step_id.expect("of a step").to_string(), event.item, event.data["cancel"].clone()))
        .collect();
    let expected = [("a", None, "acknowledged"), ("b", None, "forced"), ("c", Some(1), "forced")];
    for (step, item, how) in expected {
        assert!(told.contains(&(step.to_owned(), item, how.into())), "{told:?}");
    }
}

#[test]
fn when_all_acknowledge_the_cancel_is_acknowledged() {
    let mut world = World::new(&definition(PAID));
    world.tell("submit\ncancel\nfail a #1 CANCELLED stopped");
    let cancel = world.execution().view().cancel.expect("it was asked for");
    assert_eq!((cancel.phase, cancel.acknowledged, cancel.forced), (CancelPhase::Acknowledged, 1, 0));
}

#[test]
fn a_cancel_is_refused_once_the_outcome_is_decided() {
    let mut world = World::new(
        "id: w
on_failure: compensate
steps:
  - {id: a, agent_id: x, compensate: {agent_id: y}}
  - {id: b, agent_id: x, depends_on: [a], retry: {max_attempts: 1}}
finally:
  - {id: f, agent_id: x}",
    );
    let cancel = || Request::Cancel { execution: id(), reason: None, by: None, compensate: true };
    world.tell("submit\nok a #1\nfail b #1 INTERNAL_ERROR no");
    assert_eq!(world.partition.decide(cancel(), world.now).err(), Some(Rejection::OutcomeDecided(id())));
    assert_eq!(world.tell("cancel"), ["1 ignored: outcome is decided"]);
    world.tell("ok a #1 compensation");
    assert_eq!(world.partition.decide(cancel(), world.now).err(), Some(Rejection::OutcomeDecided(id())));
    assert_eq!(world.tell("cancel"), ["1 ignored: outcome is decided"]);
}
