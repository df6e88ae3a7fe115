use super::check::check;

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
         2 cancel what runs
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
         3 cancel what runs
         3 arm grace in 10000 ms
         5 end CANCELLED
         --
         CANCELLED CANCELLED: the execution was cancelled
         book CANCELLED [10,null,null,null]",
    );
}
