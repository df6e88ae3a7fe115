//! What a resume keeps of a fan-out: the items that completed and were not undone.

use super::check::{World, check, definition};

const BOOK: &str = "
  - {id: book, agent_id: x, fan_out: {items: $.input, concurrency: 2}, retry: {max_attempts: 1}}";

#[test]
fn items_that_completed_do_not_run_again() {
    check(
        BOOK,
        "submit [1, 2, 3, 4]
         ok book[1] #1 20
         fail book[0] #1 INTERNAL_ERROR no
         ok book[2] #1 30
         resume
         ok book[0] #1 round=1 10
         ok book[3] #1 round=1 40",
        "1 publish book[0] #1
         1 publish book[1] #1
         2 publish book[2] #1
         3 cancel activations below 4
         3 arm grace in 10000 ms
         4 end FAILED
         5 publish book[0] #1 round 1
         5 publish book[3] #1 round 1
         7 end COMPLETED
         --
         COMPLETED [10,20,30,40]
         book COMPLETED [10,20,30,40]",
    );
}

const GATED: &str = "id: w
on_failure: compensate
max_parallel: 1
steps:
  - {id: gate, agent_id: x, retry: {max_attempts: 2, backoff_ms: 0, jitter: false}, compensate: {agent_id: y, retry: {max_attempts: 1}}}
  - {id: book, agent_id: x, fan_out: {items: $.input}, retry: {max_attempts: 1}, compensate: {agent_id: y, retry: {max_attempts: 1}}}";

#[test]
fn an_item_whose_compensation_failed_is_kept_and_undone_later() {
    check(
        GATED,
        "submit [1, 2, 3]
         ok gate #1
         ok book[0] #1 10
         ok book[1] #1 20
         fail book[2] #1 INTERNAL_ERROR no
         fail book[1] #1 compensation EXTERNAL_SERVICE_ERROR down
         ok book[0] #1 compensation
         fail gate #1 compensation EXTERNAL_SERVICE_ERROR down
         resume
         ok book[0] #1 round=1 11
         fail book[2] #1 round=1 INTERNAL_ERROR no
         ok book[0] #1 round=1 compensation
         ok book[1] #1 round=1 compensation
         ok gate #1 round=1 compensation",
        "1 publish gate #1
         2 publish book[0] #1
         2 publish book[1] #1
         2 publish book[2] #1
         5 cancel activations below 4
         5 publish book[1] #1 compensation
         6 publish book[0] #1 compensation
         7 publish gate #1 compensation
         8 end FAILED
         9 publish book[0] #1 round 1
         9 publish book[2] #1 round 1
         11 cancel activations below 8
         11 publish book[0] #1 compensation round 1
         12 publish book[1] #1 compensation round 1
         13 publish gate #1 compensation round 1
         14 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         gate COMPENSATED null
         book COMPENSATED [11,20,null] INTERNAL_ERROR: no
         effect gate compensated
         effect book[0] compensated
         effect book[1] compensated
         effect book[0] compensated",
    );
}

#[test]
fn an_item_that_was_undone_in_one_round_and_kept_in_the_next_is_kept() {
    check(
        GATED,
        "submit [1, 2]
         ok gate #1
         ok book[0] #1 10
         fail book[1] #1 INTERNAL_ERROR no
         ok book[0] #1 compensation
         fail gate #1 compensation EXTERNAL_SERVICE_ERROR down
         resume
         ok book[0] #1 round=1 11
         fail book[1] #1 round=1 INTERNAL_ERROR no
         fail book[0] #1 round=1 compensation EXTERNAL_SERVICE_ERROR down
         fail gate #1 round=1 compensation EXTERNAL_SERVICE_ERROR down
         resume
         ok book[1] #1 round=2 21",
        "1 publish gate #1
         2 publish book[0] #1
         2 publish book[1] #1
         4 cancel activations below 4
         4 publish book[0] #1 compensation
         5 publish gate #1 compensation
         6 end FAILED
         7 publish book[0] #1 round 1
         7 publish book[1] #1 round 1
         9 cancel activations below 8
         9 publish book[0] #1 compensation round 1
         10 publish gate #1 compensation round 1
         11 end FAILED
         12 publish book[1] #1 round 2
         13 end COMPLETED
         --
         COMPLETED [11,21]
         gate COMPLETED null
         book COMPLETED [11,21]
         effect gate standing
         effect book[0] compensated
         effect book[0] standing
         effect book[1] standing",
    );
}

#[test]
fn a_round_that_ends_before_the_fan_out_starts_loses_none_of_its_items() {
    let mut world = World::new(GATED);
    world.tell(
        "submit [1, 2]
         ok gate #1
         ok book[0] #1 10
         fail book[1] #1 INTERNAL_ERROR no
         fail book[0] #1 compensation EXTERNAL_SERVICE_ERROR down
         ok gate #1 compensation",
    );
    assert_eq!(world.tell("resume"), ["1 publish gate #1 round 1"]);
    assert_eq!(
        world.tell("fail gate #1 round=1 INVALID_INPUT no"),
        ["1 publish book[0] #1 compensation round 1"],
        "its effect stands, though the fan-out has not started again"
    );
    assert_eq!(world.input("book[0] #1 round=1 compensation", Some("1")), "10");
    world.tell("fail book[0] #1 round=1 compensation EXTERNAL_SERVICE_ERROR down");
    assert_eq!(world.tell("resume"), ["1 publish gate #1 round 2"]);
    assert_eq!(world.tell("ok gate #1 round=2"), ["1 publish book[1] #1 round 2"]);
    world.tell("ok book[1] #1 round=2 21");
    assert!(world.state().contains("book COMPLETED [10,21]"), "{}", world.state());
}

#[test]
fn a_fan_out_whose_dependency_runs_again_starts_from_nothing() {
    check(
        "id: w
on_failure: compensate
steps:
  - {id: list, agent_id: x, compensate: {agent_id: y}}
  - {id: book, agent_id: x, depends_on: [list], fan_out: {items: $.steps.list.output}, retry: {max_attempts: 1}}",
        "submit
         ok list #1 [1, 2]
         ok book[0] #1 10
         fail book[1] #1 INTERNAL_ERROR no
         ok list #1 compensation
         resume
         ok list #1 round=1 [3]
         ok book[0] #1 round=1 30",
        "1 publish list #1
         2 publish book[0] #1
         2 publish book[1] #1
         4 cancel activations below 4
         4 publish list #1 compensation
         5 end FAILED
         6 publish list #1 round 1
         7 publish book[0] #1 round 1
         8 end COMPLETED
         --
         COMPLETED [30]
         list COMPLETED [3]
         book COMPLETED [30]
         effect list compensated
         effect list standing",
    );
}

#[test]
fn events_of_items_keep_their_outputs() {
    let mut world = World::new(&definition(BOOK));
    world.tell("submit [1, 2, 3]\nok book[1] #1 20\nfail book[0] #1 INTERNAL_ERROR no");
    world.tell("fail book[2] #1 CANCELLED stopped");
    let before = world.execution().events(None);
    world.tell("resume\nok book[0] #1 round=1 10");
    assert_eq!(world.execution().events(None)[..before.len()], before[..]);
    world.tell("ok book[2] #1 round=1 30");
    assert_eq!(world.execution().events(None)[..before.len()], before[..]);
    let output = |item: u32| {
        let events = world.execution().events(None);
        let found = events.into_iter().find(|e| e.kind.as_str() == "step.completed" && e.item == Some(item));
        found.expect("it completed").data["output"].clone()
    };
    assert_eq!([output(0), output(1), output(2)], [10, 20, 30]);
}
