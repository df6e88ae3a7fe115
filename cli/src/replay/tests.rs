//! A transcript told line by line.

#[path = "../export_file/tests/fixture.rs"]
#[allow(clippy::duplicate_mod, reason = "two test modules use one fixture")]
mod fixture;

use super::*;
use fixture::{DEFINITION, plan_of, transcribed};

fn example() -> Transcribed {
    transcribed(DEFINITION)
}

fn example_plan() -> Arc<Plan> {
    plan_of(DEFINITION)
}

fn told_until(until: Option<&str>) -> Result<Vec<Told>, ReplayError> {
    let until = until.map(|until| until.parse().expect("a position"));
    let mut all = Vec::new();
    let outcome = replay(&example(), example_plan(), until, |told| {
        all.push(told);
        Ok::<(), ()>(())
    });
    outcome.map(|_| all)
}

#[test]
fn each_entry_is_told_with_what_it_did_and_the_state_after_it() {
    let all = told_until(None).expect("it folds");
    let lines: Vec<String> = all.iter().map(|told| text(told, true)).collect();
    assert_eq!(
        lines.join("\n"),
        "\
4.0      1970-01-01T00:00:01.000000Z  -          submitted greet as 0193a5a0-0000-7000-8000-000000000003
         → publish first #1
         = RUNNING, 0 of 2 settled: first QUEUED
5.0      1970-01-01T00:00:02.000000Z  http       succeeded first #1 ordinal 1
         → publish second #1
         = RUNNING, 1 of 2 settled: first COMPLETED, second QUEUED
5.1      1970-01-01T00:00:02.000000Z  http       succeeded first #1 ordinal 1  [ignored: stale]
         = RUNNING, 1 of 2 settled
7.0      1970-01-01T00:00:03.000000Z  http       succeeded second #1 ordinal 1
         → end COMPLETED
         = COMPLETED, 2 of 2 settled: second COMPLETED"
    );
}

#[test]
fn it_stops_where_it_is_told_to_and_says_when_nothing_had_begun() {
    assert_eq!(told_until(Some("5.0")).expect("it folds").len(), 2);
    assert_eq!(told_until(Some("6.9")).expect("it folds").len(), 3);
    let early = told_until(Some("3.0")).expect_err("nothing");
    assert_eq!(early.to_string(), "the execution begins at 4.0, after 3.0");
}

#[test]
fn whoever_has_enough_is_told_no_more() {
    let mut seen = 0;
    let stopped = replay(&example(), example_plan(), None, |_| {
        seen += 1;
        Err(())
    });
    assert!(matches!(stopped, Ok(Err(()))) && seen == 1);
}
