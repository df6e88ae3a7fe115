use super::check::check;

#[test]
fn an_attempt_that_timed_out_for_good_leaves_the_step_in_timeout() {
    check(
        "
  - {id: slow, agent_id: x, retry: {max_attempts: 1}}",
        "submit
         fail slow #1 TIMEOUT no answer within 60000 ms",
        "1 publish slow #1
         2 cancel activations below 4
         2 end FAILED
         --
         FAILED TIMEOUT: no answer within 60000 ms
         slow TIMEOUT TIMEOUT: no answer within 60000 ms",
    );
}

#[test]
fn the_executions_deadline_cancels_what_runs_and_keeps_what_is_done() {
    check(
        "id: w
timeout_ms: 5000
steps:
  - {id: a, agent_id: x}
  - {id: b, agent_id: x}
  - {id: c, agent_id: x, depends_on: [b]}",
        "submit
         ok a #1 1
         +4999 due
         +1 due
         fail b #1 CANCELLED the execution was cancelled",
        "1 publish a #1
         1 publish b #1
         4 cancel activations below 4
         4 arm grace in 10000 ms
         5 end TIMEOUT
         --
         TIMEOUT partial TIMEOUT: the execution took longer than 5000 ms
         a COMPLETED 1
         b CANCELLED
         c SKIPPED: the execution ended before it could start",
    );
}

#[test]
fn a_timer_that_is_early_by_the_journals_time_is_ignored_and_fires_later() {
    check(
        "id: w
timeout_ms: 5000
steps:
  - {id: a, agent_id: x, retry: {jitter: false}}",
        "submit
         +10 timer deadline
         timer backoff a #2
         fail a #1 INTERNAL_ERROR no
         +999 timer backoff a #2
         +1 timer backoff a #2",
        "1 publish a #1
         2 ignored: early
         3 ignored: stale
         4 arm backoff a #2 in 1000 ms
         5 ignored: early
         6 publish a #2
         --
         RUNNING
         a QUEUED",
    );
}

#[test]
fn a_task_that_nobody_started_in_time_is_a_timeout_and_not_repeated() {
    check(
        "
  - {id: a, agent_id: x}",
        "submit
         expired a #1",
        "1 publish a #1
         2 cancel activations below 4
         2 end FAILED
         --
         FAILED TIMEOUT: no worker started the task in time
         a TIMEOUT TIMEOUT: no worker started the task in time",
    );
}
