use millstream_model::time::Timestamp;

use super::check::{World, check, definition};

const START: &str = "
  - {id: a, agent_id: x, schedule_to_start_ms: 500, retry: {max_attempts: 2, jitter: false}}";

const CLOSE: &str = "
  - {id: a, agent_id: x, schedule_to_close_ms: 3000, retry: {max_attempts: 9, jitter: false, strategy: fixed}}";

#[test]
fn a_task_that_is_not_started_in_time_is_a_timeout_and_not_repeated() {
    check(
        START,
        "submit
         +1499 due
         +1 due
         ok a #1 1",
        "1 publish a #1
         1 arm schedule to start a #1 in 1500 ms
         3 cancel activations below 4
         3 end FAILED
         4 ignored: execution has ended
         --
         FAILED TIMEOUT: no worker started the task within 500 ms
         a TIMEOUT TIMEOUT: no worker started the task within 500 ms",
    );
}

#[test]
fn the_workers_word_or_a_held_claim_stops_the_clock_of_the_start() {
    check(
        START,
        "submit
         +499 started a #1
         +9000 due
         ok a #1 1",
        "1 publish a #1
         1 arm schedule to start a #1 in 1500 ms
         4 end COMPLETED
         --
         COMPLETED 1
         a COMPLETED 1",
    );
    check(
        START,
        "submit
         held a #1 ordinal=2
         +9000 due
         ok a #1 ordinal=2 1",
        "1 publish a #1
         1 arm schedule to start a #1 in 1500 ms
         2 arm claim a #2 in 65000 ms
         4 end COMPLETED
         --
         COMPLETED 1
         a COMPLETED 1",
    );
}

#[test]
fn each_publication_has_its_own_clock_of_the_start() {
    check(
        START,
        "submit
         fail a #1 INTERNAL_ERROR no
         +1000 due
         +600 timer start a #1
         reissue a #2
         +1500 due",
        "1 publish a #1
         1 arm schedule to start a #1 in 1500 ms
         2 arm backoff a #2 in 1000 ms
         3 publish a #2
         3 arm schedule to start a #2 in 1500 ms
         4 ignored: stale
         5 publish a #2
         5 arm schedule to start a #2 in 1500 ms
         6 cancel activations below 4
         6 end FAILED
         --
         FAILED TIMEOUT: no worker started the task within 500 ms
         a TIMEOUT TIMEOUT: no worker started the task within 500 ms",
    );
}

#[test]
fn a_start_that_is_announced_late_changes_nothing() {
    check(
        START,
        "submit
         fail a #1 INTERNAL_ERROR no
         started a #1
         +1000 due
         +1500 due
         started a #2",
        "1 publish a #1
         1 arm schedule to start a #1 in 1500 ms
         2 arm backoff a #2 in 1000 ms
         3 ignored: stale
         4 publish a #2
         4 arm schedule to start a #2 in 1500 ms
         5 cancel activations below 4
         5 end FAILED
         6 ignored: execution has ended
         --
         FAILED TIMEOUT: no worker started the task within 500 ms
         a TIMEOUT TIMEOUT: no worker started the task within 500 ms",
    );
}

#[test]
fn all_attempts_together_have_their_time() {
    check(
        CLOSE,
        "submit
         fail a #1 INTERNAL_ERROR no
         +1000 due
         +1999 due
         +1 due
         ok a #2 1",
        "1 publish a #1
         1 arm schedule to close a in 3000 ms
         2 arm backoff a #2 in 1000 ms
         3 publish a #2
         5 cancel activations below 4
         5 end FAILED
         6 ignored: execution has ended
         --
         FAILED TIMEOUT: all attempts together took longer than 3000 ms
         a TIMEOUT TIMEOUT: all attempts together took longer than 3000 ms",
    );
}

#[test]
fn a_fallback_has_clocks_of_its_own() {
    check(
        "
  - {id: a, agent_id: x, schedule_to_start_ms: 100, schedule_to_close_ms: 3000, fallback: {agent_id: y}}",
        "submit
         started a #1
         +3000 due
         ok a #1 5
         started a #1 fallback
         +2999 due
         ok a #1 fallback 1",
        "1 publish a #1
         1 arm schedule to start a #1 in 1100 ms
         1 arm schedule to close a in 3000 ms
         3 publish a #1 fallback
         3 arm schedule to start a #1 in 1100 ms
         3 arm schedule to close a in 3000 ms
         4 ignored: stale
         7 end COMPLETED
         --
         COMPLETED 1
         a COMPLETED 1, 1 fallbacks",
    );
}

#[test]
fn each_item_has_its_own_clocks() {
    check(
        "
  - {id: a, agent_id: x, schedule_to_start_ms: 500, schedule_to_close_ms: 2000, retry: {max_attempts: 2, jitter: false}, fan_out: {items: $.input, on_item_failure: continue, concurrency: 2}}",
        "submit [1, 2, 3]
         started a[0] #1
         +1500 due
         started a[2] #1
         +500 due
         ok a[2] #1 30",
        "1 publish a[0] #1
         1 publish a[1] #1
         1 arm schedule to start a[0] #1 in 1500 ms
         1 arm schedule to start a[1] #1 in 1500 ms
         1 arm schedule to close a[0] in 2000 ms
         1 arm schedule to close a[1] in 2000 ms
         3 publish a[2] #1
         3 arm schedule to start a[2] #1 in 1500 ms
         3 arm schedule to close a[2] in 2000 ms
         6 end COMPLETED
         --
         COMPLETED partial [null,null,30]
         a COMPLETED [null,null,30]",
    );
}

#[test]
fn clocks_go_off_while_the_execution_stops_and_nothing_is_repeated() {
    check(
        "
  - {id: a, agent_id: x, schedule_to_start_ms: 500, fallback: {static_value: 1}}",
        "submit
         cancel
         +1500 due",
        "1 publish a #1
         1 arm schedule to start a #1 in 1500 ms
         2 cancel activations below 4
         2 arm grace in 10000 ms
         3 end CANCELLED
         --
         CANCELLED CANCELLED: the execution was cancelled
         a TIMEOUT TIMEOUT: no worker started the task within 500 ms",
    );
}

#[test]
fn a_task_says_how_long_it_may_wait_and_take() {
    let mut world = World::new(
        "id: w
timeout_ms: 10000
default_step_timeout_ms: 8000
steps:
  - {id: a, agent_id: x, schedule_to_start_ms: 500, heartbeat_ms: 100, retry: {jitter: false}}
  - {id: b, agent_id: x, schedule_to_close_ms: 3000}
  - {id: c, agent_id: x, timeout_ms: 200, depends_on: [a]}",
    );
    let start = world.now;
    let at = |millis: u64| Some(start.plus_millis(millis));
    world.tell("submit");
    let a = world.message("a #1");
    assert_eq!((a.timeout_ms, a.heartbeat_ms, a.announce_start), (8_000, Some(100), true));
    assert_eq!((a.not_after, a.deadline), (at(500), at(10_000)));
    let b = world.message("b #1");
    assert_eq!((b.timeout_ms, b.heartbeat_ms, b.announce_start), (3_000, None, false));
    assert_eq!((b.not_after, b.deadline), (at(3_000), at(3_000)));

    world.tell("+1500 fail a #1 INTERNAL_ERROR no\n+1000 due");
    let again = world.message("a #2");
    assert_eq!((again.timeout_ms, again.not_after), (7_500, at(3_000)), "no attempt outlives the execution");
    world.tell("ok a #2");
    assert_eq!(world.message("c #1").timeout_ms, 200);
    assert_eq!(world.message("c #1").not_after, at(10_000));
}

#[test]
fn a_task_that_is_published_at_the_last_moment_has_a_moment() {
    let mut world = World::new(
        "id: w
timeout_ms: 1000
steps:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a]}",
    );
    world.tell("submit\n+1000 ok a #1");
    assert_eq!(world.message("b #1").timeout_ms, 1);
}

#[test]
fn nothing_is_armed_once_it_has_ended() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, schedule_to_start_ms: 500, schedule_to_close_ms: 900}",
    ));
    world.tell("submit\nok a #1");
    assert_eq!(world.execution().alarms().count(), 0);
    assert!(world.partition.due(Timestamp::from_millis(u64::MAX / 1_000), 9).is_empty());
    assert_eq!(world.partition.next_deadline(), None);
}
