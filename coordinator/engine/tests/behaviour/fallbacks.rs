use millstream_model::event::EventType;

use super::check::{World, check, definition};

#[test]
fn another_agent_with_attempts_of_its_own_follows_the_last_attempt() {
    check(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 2, jitter: false}, fallback: {agent_id: y, retry: {max_attempts: 2, backoff_ms: 10, jitter: false}}}
  - {id: b, agent_id: x, depends_on: [a]}",
        "submit
         fail a #1 INTERNAL_ERROR one
         +1000 due
         fail a #2 INTERNAL_ERROR two
         fail a #1 fallback TIMEOUT slow
         +10 due
         ok a #2 fallback 7",
        "1 publish a #1
         2 arm backoff a #2 in 1000 ms
         3 publish a #2
         4 publish a #1 fallback
         5 arm backoff a #2 in 10 ms
         6 publish a #2 fallback
         7 publish b #1
         --
         RUNNING
         a COMPLETED 7, 1 fallbacks
         b QUEUED",
    );
}

#[test]
fn the_failure_of_the_fallback_is_the_failure_of_the_step() {
    check(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}, fallback: {agent_id: y}}",
        "submit
         fail a #1 INTERNAL_ERROR one
         fail a #1 fallback INVALID_INPUT two",
        "1 publish a #1
         2 publish a #1 fallback
         3 end FAILED
         --
         FAILED INVALID_INPUT: two
         a FAILED INVALID_INPUT: two, 1 fallbacks",
    );
}

#[test]
fn a_fallback_without_retry_is_attempted_as_often_as_the_step() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, timeout_ms: 700, retry: {max_attempts: 4}, fallback: {agent_id: y}}
  - {id: b, agent_id: x, timeout_ms: 700, retry: {max_attempts: 4}, fallback: {agent_id: y, timeout_ms: 50, retry: {max_attempts: 2}}}",
    ));
    world.tell("submit\nfail a #1 INVALID_INPUT no\nfail b #1 INVALID_INPUT no");
    let (a, b) = (world.message("a #1 fallback"), world.message("b #1 fallback"));
    assert_eq!((a.max_attempts, a.timeout_ms), (4, 700));
    assert_eq!((b.max_attempts, b.timeout_ms), (2, 50));
    assert_eq!((a.agent.as_str(), a.capability.as_str()), ("spare", "spare"));
}

#[test]
fn the_fallback_agent_gets_the_same_input_under_a_key_of_its_own() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}, input_map: {n: $.input.n}, fallback: {agent_id: y}}",
    ));
    world.tell(r#"submit {"n": 5}"#);
    let first = world.message("a #1");
    world.tell("fail a #1 INTERNAL_ERROR no");
    assert_eq!(world.input("a #1 fallback", None), r#"{"n":5}"#);
    assert_ne!(world.message("a #1 fallback").idempotency_key, first.idempotency_key);
}

#[test]
fn a_static_value_takes_the_place_of_the_output() {
    check(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}, fallback: {static_value: {rate: 1.50}}}
  - {id: b, agent_id: x, depends_on: [a], require: completed}",
        "submit
         fail a #1 EXTERNAL_SERVICE_ERROR down
         ok b #1 2",
        r#"1 publish a #1
           2 publish b #1
           3 end COMPLETED
           --
           COMPLETED 2
           a COMPLETED {"rate":1.5}, 1 fallbacks
           b COMPLETED 2"#,
    );
}

#[test]
fn a_skipped_step_lets_its_dependants_run_unless_they_require_it() {
    check(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}, fallback: {skip: true}}
  - {id: b, agent_id: x, depends_on: [a]}
  - {id: strict, agent_id: x, depends_on: [a], require: completed}",
        "submit
         fail a #1 EXTERNAL_SERVICE_ERROR down
         ok b #1 2",
        "1 publish a #1
         2 publish b #1
         3 end COMPLETED
         --
         COMPLETED 2
         a SKIPPED: its attempts are used up, and its fallback is to go on without it, 1 fallbacks
         b COMPLETED 2
         strict SKIPPED: it requires a to be completed, which was skipped",
    );
}

#[test]
fn whatever_the_last_error_is_the_fallback_follows() {
    let lines = [
        "fail a #1 INVALID_INPUT bad",
        "fail a #1 PERMISSION_DENIED no",
        "fail a #1 CIRCUIT_OPEN later",
        "expired a #1",
        "unrenderable a #1 no such value",
        "unpublishable a #1 RESULT_TOO_LARGE too large",
    ];
    for line in lines {
        let mut world = World::new(&definition(
            "
  - {id: a, agent_id: x, retry: {max_attempts: 1}, fallback: {agent_id: y}}",
        ));
        world.tell("submit");
        assert_eq!(world.tell(line), ["1 publish a #1 fallback"], "{line}");
    }
}

#[test]
fn what_was_cancelled_has_no_fallback() {
    check(
        "
  - {id: a, agent_id: x, fallback: {agent_id: y}}
  - {id: b, agent_id: x, retry: {max_attempts: 1}, fallback: {static_value: 1}}",
        "submit
         cancel
         fail a #1 CANCELLED the execution was cancelled
         fail b #1 INTERNAL_ERROR no",
        "1 publish a #1
         1 publish b #1
         2 cancel activations below 4
         2 arm grace in 10000 ms
         4 end CANCELLED
         --
         CANCELLED CANCELLED: the execution was cancelled
         a CANCELLED
         b FAILED INTERNAL_ERROR: no",
    );
}

#[test]
fn each_item_has_a_fallback_within_the_limit_of_its_fan_out() {
    check(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}, fallback: {agent_id: y}, fan_out: {items: $.input, concurrency: 2}}",
        "submit [1, 2, 3]
         fail a[0] #1 INTERNAL_ERROR no
         fail a[1] #1 INTERNAL_ERROR no
         ok a[0] #1 fallback 10
         ok a[1] #1 99
         ok a[1] #1 fallback 20
         ok a[2] #1 30",
        "1 publish a[0] #1
         1 publish a[1] #1
         2 publish a[0] #1 fallback
         3 publish a[1] #1 fallback
         4 publish a[2] #1
         5 ignored: stale
         7 end COMPLETED
         --
         COMPLETED [10,20,30]
         a COMPLETED [10,20,30], 2 fallbacks",
    );
}

#[test]
fn an_item_that_fails_for_good_fails_its_step_and_takes_no_more_fallbacks() {
    check(
        "
  - {id: a, agent_id: x, critical: false, retry: {max_attempts: 1}, fallback: {agent_id: y}, fan_out: {items: $.input}}",
        "submit [1, 2, 3]
         fail a[0] #1 INTERNAL_ERROR no
         fail a[0] #1 fallback INTERNAL_ERROR neither
         fail a[1] #1 INTERNAL_ERROR too late
         ok a[2] #1 30",
        "1 publish a[0] #1
         1 publish a[1] #1
         1 publish a[2] #1
         2 publish a[0] #1 fallback
         5 end COMPLETED
         --
         COMPLETED partial null
         a FAILED [null,null,30] INTERNAL_ERROR: neither, 1 fallbacks",
    );
}

#[test]
fn items_are_replaced_or_left_out() {
    check(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}, fallback: {static_value: 0}, fan_out: {items: $.input}}",
        "submit [1, 2]
         fail a[0] #1 INTERNAL_ERROR no
         ok a[1] #1 20",
        "1 publish a[0] #1
         1 publish a[1] #1
         3 end COMPLETED
         --
         COMPLETED [0,20]
         a COMPLETED [0,20], 1 fallbacks",
    );
    let steps = "
  - {id: a, agent_id: x, retry: {max_attempts: 1}, fallback: {skip: true}, fan_out: {items: $.input}}";
    let history = "submit [1, 2]
         fail a[0] #1 INTERNAL_ERROR no
         ok a[1] #1 20";
    let mut world = World::new(&definition(steps));
    world.tell(history);
    assert!(world.state().contains("a COMPLETED [null,20]"), "{}", world.state());
    let fan_out = world.execution().view().steps[0].fan_out.expect("it fans out");
    assert_eq!((fan_out.completed, fan_out.failed, fan_out.skipped), (1, 0, 1));
}

#[test]
fn a_fallback_waits_for_a_slot_and_gives_it_up_when_the_execution_stops() {
    check(
        "id: w
max_parallel: 1
steps:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, retry: {max_attempts: 1}, fallback: {agent_id: y}}
  - {id: c, agent_id: x}",
        "submit
         ok a #1
         fail b #1 TIMEOUT slow
         cancel
         fail b #1 fallback CANCELLED no",
        "1 publish a #1
         2 publish b #1
         3 publish b #1 fallback
         4 cancel activations below 4
         4 arm grace in 10000 ms
         5 end CANCELLED
         --
         CANCELLED partial CANCELLED: the execution was cancelled
         a COMPLETED null
         b CANCELLED, 1 fallbacks
         c SKIPPED: the execution ended before it could start",
    );
    check(
        "id: w
max_parallel: 1
steps:
  - {id: z, agent_id: x, retry: {max_attempts: 1}, fallback: {agent_id: y}}
  - {id: a, agent_id: x, retry: {jitter: false, backoff_ms: 1}}",
        "submit
         fail z #1 TIMEOUT slow
         fail z #1 fallback TIMEOUT slow",
        "1 publish z #1
         2 publish z #1 fallback
         3 cancel activations below 4
         3 end FAILED
         --
         FAILED TIMEOUT: slow
         z TIMEOUT TIMEOUT: slow, 1 fallbacks
         a SKIPPED: the execution ended before it could start",
    );
}

#[test]
fn a_step_that_waits_for_its_fallback_was_not_left_out() {
    check(
        "id: w
max_parallel: 1
steps:
  - {id: a, agent_id: x, retry: {max_attempts: 2, backoff_ms: 1, jitter: false}}
  - {id: b, agent_id: x, retry: {max_attempts: 2, backoff_ms: 0, jitter: false}, fallback: {agent_id: y}, irreversible: true}",
        "submit
         fail a #1 INTERNAL_ERROR no
         fail b #1 TIMEOUT slow
         +1 due
         fail b #1 ordinal=2 TIMEOUT slow
         cancel
         ok a #2 1",
        "1 publish a #1
         2 publish b #1
         2 arm backoff a #2 in 1 ms
         3 arm backoff b #2 in 0 ms
         4 publish b #2
         5 publish a #2
         6 cancel activations below 4
         6 arm grace in 10000 ms
         7 end CANCELLED
         --
         CANCELLED partial CANCELLED: the execution was cancelled
         a COMPLETED 1
         b CANCELLED, 1 fallbacks
         effect b unknown",
    );
}

#[test]
fn fallbacks_are_counted_and_told() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}, fallback: {agent_id: y}, fan_out: {items: $.input}}
  - {id: b, agent_id: x, retry: {max_attempts: 1}, fallback: {static_value: 1}}",
    ));
    world.tell(
        "submit [1, 2]
         fail a[0] #1 TIMEOUT slow
         fail a[1] #1 TIMEOUT slow
         fail b #1 INVALID_INPUT no
         ok a[0] #1 fallback
         ok a[1] #1 fallback",
    );
    let view = world.execution().view();
    assert_eq!((view.counts.fallbacks, view.steps[0].fallbacks, view.steps[1].fallbacks), (3, 2, 1));
    let events = world.execution().events(None);
    let told: Vec<_> = events.iter().filter(|event| event.kind == EventType::StepFallback).collect();
    assert_eq!(told.len(), 3);
    assert_eq!(told[0].data["fallback"], "agent");
    assert_eq!(
        (&told[0].data["error"]["code"], &told[0].data["failure_mode"]),
        (&"TIMEOUT".into(), &"resource".into())
    );
    assert_eq!(told[2].data["fallback"], "static_value");
    let routed = events.iter().find(|event| event.data["target"] == "spare").expect("the fallback was routed");
    assert_eq!(routed.data["capability"], "spare");
}
