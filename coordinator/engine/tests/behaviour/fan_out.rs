use super::check::{World, check, definition};

#[test]
fn items_run_up_to_the_limit_and_the_output_is_in_order() {
    check(
        "
  - {id: book, agent_id: x, fan_out: {items: $.input.list, concurrency: 2}}
  - {id: after, agent_id: x, depends_on: [book]}",
        r#"submit {"list": ["a", "b", "c"]}
           ok book[1] #1 "B"
           ok book[2] #1 "C"
           ok book[0] #1 "A"
           ok after #1"#,
        r#"1 publish book[0] #1
           1 publish book[1] #1
           2 publish book[2] #1
           4 publish after #1
           5 end COMPLETED
           --
           COMPLETED null
           book COMPLETED ["A","B","C"]
           after COMPLETED null"#,
    );
}

#[test]
fn an_empty_list_completes_at_once_and_what_is_no_list_is_invalid() {
    check(
        "
  - {id: book, agent_id: x, fan_out: {items: $.input}}",
        "submit []",
        "1 end COMPLETED
         --
         COMPLETED []
         book COMPLETED []",
    );
    check(
        "
  - {id: book, agent_id: x, fan_out: {items: $.input.list}}",
        "submit {}",
        "1 end FAILED
         --
         FAILED INVALID_INPUT: fan_out.items: $.input.list: expected a list, found null
         book FAILED INVALID_INPUT: fan_out.items: $.input.list: expected a list, found null",
    );
}

#[test]
fn a_failed_item_fails_the_step() {
    check(
        "
  - {id: book, agent_id: x, fan_out: {items: $.input, concurrency: 2}, retry: {max_attempts: 1}}",
        "submit [1, 2, 3]
         fail book[0] #1 INTERNAL_ERROR no
         ok book[1] #1 20",
        "1 publish book[0] #1
         1 publish book[1] #1
         2 cancel activations below 4
         2 arm grace in 10000 ms
         3 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         book FAILED [null,20,null] INTERNAL_ERROR: no",
    );
}

#[test]
fn with_continue_a_failed_item_is_null() {
    check(
        "
  - {id: book, agent_id: x, fan_out: {items: $.input, on_item_failure: continue}, retry: {max_attempts: 1}}",
        "submit [1, 2, 3]
         fail book[0] #1 INTERNAL_ERROR no
         ok book[1] #1 20
         ok book[2] #1 30",
        "1 publish book[0] #1
         1 publish book[1] #1
         1 publish book[2] #1
         4 end COMPLETED
         --
         COMPLETED partial [null,20,30]
         book COMPLETED [null,20,30]",
    );
}

#[test]
fn too_few_successes_fail_the_step() {
    check(
        "
  - {id: book, agent_id: x, fan_out: {items: $.input, on_item_failure: continue, min_success: 0.9}, retry: {max_attempts: 1}}",
        "submit [1, 2]
         fail book[0] #1 INTERNAL_ERROR no
         ok book[1] #1 20",
        "1 publish book[0] #1
         1 publish book[1] #1
         3 end FAILED
         --
         FAILED partial INTERNAL_ERROR: 1 of 2 items succeeded, min_success asks for 2; the last failure: no
         book FAILED [null,20] INTERNAL_ERROR: 1 of 2 items succeeded, min_success asks for 2; the last failure: no",
    );
}

#[test]
fn each_item_has_its_own_retries_and_a_backoff_frees_its_place() {
    check(
        "
  - {id: book, agent_id: x, fan_out: {items: $.input, concurrency: 1}, retry: {max_attempts: 2, jitter: false}}",
        "submit [1, 2, 3]
         fail book[0] #1 INTERNAL_ERROR no
         +1000 due
         ok book[1] #1 20
         ok book[0] #2 10
         ok book[2] #1 30",
        "1 publish book[0] #1
         2 publish book[1] #1
         2 arm backoff book[0] #2 in 1000 ms
         4 publish book[0] #2
         5 publish book[2] #1
         6 end COMPLETED
         --
         COMPLETED [10,20,30]
         book COMPLETED [10,20,30]",
    );
}

#[test]
fn a_fan_out_takes_one_slot() {
    check(
        "id: w
max_parallel: 2
steps:
  - {id: book, agent_id: x, fan_out: {items: $.input}}
  - {id: other, agent_id: x}
  - {id: third, agent_id: x}",
        "submit [1, 2, 3]
         ok other #1",
        "1 publish book[0] #1
         1 publish book[1] #1
         1 publish book[2] #1
         1 publish other #1
         2 publish third #1
         --
         RUNNING
         book RUNNING
         other COMPLETED null
         third QUEUED",
    );
}

#[test]
fn a_hundred_thousand_items_are_a_cursor() {
    let mut world = World::new(&definition(
        "
  - {id: list, agent_id: x}
  - {id: book, agent_id: x, fan_out: {items: $.steps.list.output, concurrency: 100}, depends_on: [list]}",
    ));
    world.tell("submit");
    world.tell("ok list #1 stored");
    let mut published = world.tell("evaluated book items 100000").len();
    for item in 0..100_000 {
        published += world.tell(&format!("ok book[{item}] #1 {item}")).len();
        world.journal.clear();
    }
    // 100,000 publishes and the end, which is an evaluation: the output is too large for the fold.
    assert_eq!(published, 100_001);
    assert_eq!(world.tell("evaluated output value [1]"), ["1 end COMPLETED"]);
}

#[test]
fn a_fan_out_that_failed_waits_for_what_runs_but_repeats_nothing() {
    check(
        "
  - {id: book, agent_id: x, critical: false, fan_out: {items: $.input}, retry: {jitter: false}}",
        "submit [1, 2]
         fail book[0] #1 INVALID_INPUT no
         fail book[1] #1 TIMEOUT slow",
        "1 publish book[0] #1
         1 publish book[1] #1
         3 end COMPLETED
         --
         COMPLETED partial null
         book FAILED [null,null] INVALID_INPUT: no",
    );
}

#[test]
fn more_successes_than_items_cannot_be_reached() {
    check(
        "
  - {id: book, agent_id: x, fan_out: {items: $.input, min_success: 5}}",
        "submit [1]
         ok book[0] #1 10",
        "1 publish book[0] #1
         2 end FAILED
         --
         FAILED partial INVALID_INPUT: 1 of 1 items succeeded, min_success asks for 5
         book FAILED [10] INVALID_INPUT: 1 of 1 items succeeded, min_success asks for 5",
    );
}

#[test]
fn every_event_of_a_wide_fan_out_has_an_id_of_its_own() {
    let mut world = World::new(&definition(
        "
  - {id: list, agent_id: x}
  - {id: book, agent_id: x, depends_on: [list], fan_out: {items: $.steps.list.output, concurrency: 70000}}",
    ));
    world.tell("submit");
    world.tell("ok list #1 stored");
    world.tell("evaluated book items 70000");
    let ids: std::collections::BTreeSet<_> = world.execution().events(None).iter().map(|e| e.id).collect();
    assert_eq!(ids.len(), world.execution().events(None).len());
}

#[test]
fn a_share_of_items_is_a_number_of_items() {
    for (share, total, enough) in [("0.55", 100, 55), ("0.07", 100, 7), ("0.5", 3, 2), ("0.14", 50, 7), ("0.9", 2, 2)] {
        for (succeed, status) in [(enough - 1, "FAILED"), (enough, "COMPLETED")] {
            let mut world = World::new(&definition(&format!(
                "
  - {{id: a, agent_id: x, fan_out: {{items: $.input, on_item_failure: continue, min_success: {share}}}, retry: {{max_attempts: 1}}}}"
            )));
            let list: Vec<String> = (0..total).map(|item| item.to_string()).collect();
            world.tell(&format!("submit [{}]", list.join(",")));
            for item in 0..total {
                let verb = if item < succeed { "ok" } else { "fail" };
                let what = if item < succeed { "1" } else { "INTERNAL_ERROR no" };
                world.tell(&format!("{verb} a[{item}] #1 {what}"));
            }
            assert!(world.state().starts_with(status), "{succeed} of {total}, {share} asked: {}", world.state());
        }
    }
}

#[test]
fn a_fan_out_that_was_stopped_has_completed_when_all_its_items_have() {
    let steps = "
  - {id: a, agent_id: x, fan_out: {items: $.input, on_item_failure: continue}, retry: {max_attempts: 1}}
  - {id: b, agent_id: x, retry: {max_attempts: 1}}";
    let history = "submit [1, 2]
         fail b #1 INTERNAL_ERROR no
         ok a[0] #1 10";
    for (last, ended) in [
        ("ok a[1] #1 20", "a COMPLETED [10,20]"),
        ("fail a[1] #1 CANCELLED stopped", "a CANCELLED [10,null]"),
        ("fail a[1] #1 INTERNAL_ERROR no", "a CANCELLED [10,null]"),
        ("+10000 due", "a CANCELLED [10,null]"),
    ] {
        let mut world = World::new(&definition(steps));
        world.tell(history);
        assert_eq!(world.tell(last), ["1 end FAILED"], "{last}");
        assert!(world.state().contains(ended), "{last}: {}", world.state());
    }
}
