use super::check::{World, check, definition};

const FETCH: &str = "
  - {id: fetch, agent_id: x, retry: {max_attempts: 3, jitter: false}}";

#[test]
fn a_failed_attempt_is_repeated_after_its_backoff() {
    check(
        FETCH,
        "submit
         fail fetch #1 EXTERNAL_SERVICE_ERROR down
         +999 due
         +1 due
         fail fetch #2 TIMEOUT slow
         +2000 due
         ok fetch #3 1",
        "1 publish fetch #1
         2 arm backoff fetch #2 in 1000 ms
         4 publish fetch #2
         5 arm backoff fetch #3 in 2000 ms
         6 publish fetch #3
         7 end COMPLETED
         --
         COMPLETED 1
         fetch COMPLETED 1",
    );
}

#[test]
fn the_last_failure_ends_the_execution_without_a_timer() {
    check(
        "
  - {id: fetch, agent_id: x, retry: {max_attempts: 2, jitter: false}}",
        "submit
         fail fetch #1 INTERNAL_ERROR one
         +1000 due
         fail fetch #2 INTERNAL_ERROR two",
        "1 publish fetch #1
         2 arm backoff fetch #2 in 1000 ms
         3 publish fetch #2
         4 end FAILED
         --
         FAILED INTERNAL_ERROR: two
         fetch FAILED INTERNAL_ERROR: two",
    );
}

#[test]
fn what_cannot_get_better_is_not_repeated() {
    for line in ["INVALID_INPUT bad", "PERMISSION_DENIED no", "RESULT_TOO_LARGE 65 MiB"] {
        let mut world = World::new(&definition(FETCH));
        world.tell("submit");
        assert_eq!(world.tell(&format!("fail fetch #1 {line}")), ["1 end FAILED"], "{line}");
    }
}

#[test]
fn the_agents_own_word_overrides_the_policy_but_not_the_never_list() {
    let mut world = World::new(&definition(FETCH));
    world.tell("submit");
    assert_eq!(world.tell("fail fetch #1 retryable=false INTERNAL_ERROR no"), ["1 end FAILED"]);
    let mut world = World::new(&definition(FETCH));
    world.tell("submit");
    assert_eq!(world.tell("fail fetch #1 retryable=true INVALID_INPUT no"), ["1 end FAILED"]);
    let only_timeouts = "
  - {id: fetch, agent_id: x, retry: {retry_on: [TIMEOUT], jitter: false}}";
    let mut world = World::new(&definition(only_timeouts));
    world.tell("submit");
    let again = world.tell("fail fetch #1 retryable=true INTERNAL_ERROR no");
    assert_eq!(again, ["1 arm backoff fetch #2 in 1000 ms"]);
    let mut world = World::new(&definition(only_timeouts));
    world.tell("submit");
    assert_eq!(world.tell("fail fetch #1 INTERNAL_ERROR no"), ["1 end FAILED"]);
}

#[test]
fn a_backoff_holds_no_slot() {
    check(
        "id: w
max_parallel: 1
steps:
  - {id: a, agent_id: x, retry: {jitter: false}}
  - {id: b, agent_id: x}",
        "submit
         fail a #1 INTERNAL_ERROR no
         +1000 due
         ok b #1
         ok a #2",
        "1 publish a #1
         2 publish b #1
         2 arm backoff a #2 in 1000 ms
         4 publish a #2
         5 end COMPLETED
         --
         COMPLETED null
         a COMPLETED null
         b COMPLETED null",
    );
}

#[test]
fn a_late_success_settles_a_step_that_backs_off() {
    check(
        FETCH,
        "submit
         fail fetch #1 ordinal=2 INTERNAL_ERROR no
         ok fetch #1 ordinal=1 1
         +9999 due",
        "1 publish fetch #1
         2 arm backoff fetch #3 in 2000 ms
         3 end COMPLETED
         --
         COMPLETED 1
         fetch COMPLETED 1",
    );
}

#[test]
fn a_claim_that_another_worker_holds_is_waited_for_and_then_lost() {
    check(
        "
  - {id: fetch, agent_id: x, timeout_ms: 7000, retry: {max_attempts: 2, jitter: false}}",
        "submit
         held fetch #1 ordinal=2
         held fetch #1 ordinal=2
         +12000 due",
        "1 publish fetch #1
         2 arm claim fetch #2 in 12000 ms
         3 ignored: stale
         4 cancel activations below 4
         4 end FAILED
         --
         FAILED LOST: the worker of attempt 2 vanished
         fetch FAILED LOST: the worker of attempt 2 vanished",
    );
}

#[test]
fn the_holder_of_a_claim_may_still_succeed_or_fail() {
    check(
        FETCH,
        "submit
         held fetch #1 ordinal=2
         fail fetch #1 ordinal=1 INTERNAL_ERROR stale
         fail fetch #1 ordinal=2 INTERNAL_ERROR no
         +70000 due
         ok fetch #3 1",
        "1 publish fetch #1
         2 arm claim fetch #2 in 65000 ms
         3 ignored: stale
         4 arm backoff fetch #3 in 2000 ms
         5 publish fetch #3
         6 end COMPLETED
         --
         COMPLETED 1
         fetch COMPLETED 1",
    );
}

#[test]
fn an_abandoned_claim_is_lost_at_once() {
    check(
        FETCH,
        "submit
         abandoned fetch #1 ordinal=2
         held fetch #1 ordinal=2
         abandoned fetch #1 ordinal=2",
        "1 publish fetch #1
         2 ignored: stale
         3 arm claim fetch #2 in 65000 ms
         4 arm backoff fetch #3 in 2000 ms
         --
         RUNNING
         fetch RETRYING",
    );
}

#[test]
fn a_missing_task_is_published_again_as_the_next_attempt() {
    check(
        FETCH,
        "submit
         reissue fetch #1
         reissue fetch #2
         fail fetch #1 INTERNAL_ERROR late
         ok fetch #2 1",
        "1 publish fetch #1
         2 ignored: stale
         3 publish fetch #2
         4 ignored: stale
         5 end COMPLETED
         --
         COMPLETED 1
         fetch COMPLETED 1",
    );
}

#[test]
fn a_step_that_may_run_once_is_reissued_as_the_same_attempt() {
    check(
        "
  - {id: fetch, agent_id: x, retry: {max_attempts: 1}}",
        "submit
         reissue fetch #1
         ok fetch #1 1",
        "1 publish fetch #1
         2 publish fetch #1
         3 end COMPLETED
         --
         COMPLETED 1
         fetch COMPLETED 1",
    );
}

#[test]
fn a_redelivery_that_fails_during_the_backoff_uses_up_its_attempt() {
    check(
        "
  - {id: fetch, agent_id: x, retry: {max_attempts: 2, jitter: false}}",
        "submit
         fail fetch #1 ordinal=1 INTERNAL_ERROR first
         fail fetch #1 ordinal=2 INTERNAL_ERROR second",
        "1 publish fetch #1
         2 arm backoff fetch #2 in 1000 ms
         3 end FAILED
         --
         FAILED INTERNAL_ERROR: second
         fetch FAILED INTERNAL_ERROR: second",
    );
}

#[test]
fn what_a_step_leaves_open_comes_from_the_workflow_and_then_from_the_defaults() {
    check(
        "id: w
default_retry: {max_attempts: 2, jitter: false, strategy: linear, backoff_ms: 300}
steps:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, retry: {max_attempts: 3, backoff_ms: 100}}
  - {id: c, agent_id: x, retry: {retry_on: [LOST]}, critical: false}",
        "submit
         fail a #1 INTERNAL_ERROR no
         fail b #1 INTERNAL_ERROR no
         fail c #1 INTERNAL_ERROR no
         +300 due
         fail b #2 INTERNAL_ERROR no
         fail a #2 INTERNAL_ERROR no",
        "1 publish a #1
         1 publish b #1
         1 publish c #1
         2 arm backoff a #2 in 300 ms
         3 arm backoff b #2 in 100 ms
         5 publish b #2
         5 publish a #2
         6 arm backoff b #3 in 200 ms
         7 cancel activations below 4
         7 end FAILED
         --
         FAILED INTERNAL_ERROR: no
         a FAILED INTERNAL_ERROR: no
         b CANCELLED
         c FAILED INTERNAL_ERROR: no",
    );
}

#[test]
fn errors_are_repeated_by_their_code() {
    use millstream_model::error::ErrorCode;
    for code in ErrorCode::ALL {
        let mut world = World::new(&definition(FETCH));
        world.tell("submit");
        let repeated = world.tell(&format!("fail fetch #1 {code} no")) == ["1 arm backoff fetch #2 in 1000 ms"];
        assert_eq!(repeated, code.retryable_by_default(), "{code}");
    }
}

#[test]
fn retries_are_told_and_counted() {
    let mut world = World::new(&definition(FETCH));
    world.tell("submit\nfail fetch #1 TIMEOUT slow\n+1000 due\nreissue fetch #3");
    let view = world.execution().view();
    assert_eq!(
        (view.counts.retries, view.counts.reissues, view.steps[0].retries, view.steps[0].attempts),
        (1, 1, 1, 3)
    );
    let events = world.execution().events(None);
    let retrying = events.iter().find(|event| event.kind.as_str() == "step.retrying").expect("it is repeated");
    assert_eq!(retrying.data["delay_ms"], 1000);
    assert_eq!(retrying.data["next_attempt"], 2);
    assert_eq!(retrying.data["failure_mode"], "resource");
}

#[test]
fn a_never_published_task_fails_for_good() {
    check(
        FETCH,
        "submit
         unpublishable fetch #1 PERMISSION_DENIED the broker refuses it
         unpublishable fetch #1 PERMISSION_DENIED again",
        "1 publish fetch #1
         2 end FAILED
         3 ignored: execution has ended
         --
         FAILED PERMISSION_DENIED: the broker refuses it
         fetch FAILED PERMISSION_DENIED: the broker refuses it",
    );
}
