use millstream_engine::{Rejection, Request};
use millstream_model::entry::Entry;
use millstream_model::view::ExecutionStatus;

use super::check::{World, check, definition};

const CHAIN: &str = "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a], retry: {max_attempts: 1}}
  - {id: c, agent_id: x, depends_on: [b]}";

#[test]
fn it_goes_on_from_the_step_that_failed() {
    check(
        CHAIN,
        "submit
         ok a #1 1
         fail b #1 INTERNAL_ERROR no
         resume
         ok b #1 round=1 2
         ok c #1 round=1 3",
        "1 publish a #1
         2 publish b #1
         3 end FAILED
         4 publish b #1 round 1
         5 publish c #1 round 1
         6 end COMPLETED
         --
         COMPLETED 3
         a COMPLETED 1
         b COMPLETED 2
         c COMPLETED 3",
    );
}

#[test]
fn it_goes_on_after_a_timeout_with_its_time_anew() {
    let mut world = World::new(&format!("id: w\ntimeout_ms: 5000\nsteps:{CHAIN}"));
    world.tell("submit\nok a #1 1\n+5000 due\n+10000 due");
    assert!(world.state().starts_with("TIMEOUT"), "{}", world.state());
    assert_eq!(world.tell("+500 resume"), ["1 publish b #1 round 1"]);
    assert_eq!(world.execution().deadline(), world.now.plus_millis(5_000));
    assert!(world.tell("+4999 due").is_empty());
    assert_eq!(world.tell("+1 due"), ["1 cancel activations below 8", "1 arm grace in 10000 ms"]);
}

#[test]
fn what_was_undone_runs_again_and_so_does_what_depends_on_it() {
    check(
        "id: w
on_failure: compensate
steps:
  - {id: free, agent_id: x}
  - {id: paid, agent_id: x, compensate: {agent_id: y}}
  - {id: after, agent_id: x, depends_on: [paid]}
  - {id: stuck, agent_id: x, depends_on: [free], compensate: {agent_id: y, retry: {max_attempts: 1}}}
  - {id: end, agent_id: x, depends_on: [free, after, stuck], retry: {max_attempts: 1}}",
        "submit
         ok free #1 1
         ok paid #1 2
         ok stuck #1 3
         ok after #1 4
         fail end #1 INTERNAL_ERROR no
         fail stuck #1 compensation EXTERNAL_SERVICE_ERROR down
         ok paid #1 compensation
         resume
         ok paid #1 round=1 20
         ok after #1 round=1 40
         fail end #1 round=1 INTERNAL_ERROR no
         ok paid #1 round=1 compensation
         ok stuck #1 round=1 compensation",
        "1 publish free #1
         1 publish paid #1
         2 publish stuck #1
         3 publish after #1
         5 publish end #1
         6 publish stuck #1 compensation
         7 publish paid #1 compensation
         8 end FAILED
         9 publish paid #1 round 1
         10 publish after #1 round 1
         11 publish end #1 round 1
         12 publish paid #1 compensation round 1
         13 publish stuck #1 compensation round 1
         14 end FAILED
         --
         FAILED partial INTERNAL_ERROR: no
         free COMPLETED 1
         paid COMPENSATED 20
         after COMPLETED 40
         stuck COMPENSATED 3
         end FAILED INTERNAL_ERROR: no
         effect paid compensated
         effect stuck compensated
         effect paid compensated",
    );
}

#[test]
fn with_continue_only_what_failed_or_was_left_out_runs() {
    check(
        "id: w
on_failure: continue
steps:
  - {id: a, agent_id: x, retry: {max_attempts: 1}}
  - {id: after-a, agent_id: x, depends_on: [a]}
  - {id: b, agent_id: x}
  - {id: soft, agent_id: x, critical: false, retry: {max_attempts: 1}}
  - {id: after-soft, agent_id: x, depends_on: [soft]}
  - {id: off, agent_id: x, condition: 'false'}
  - {id: spare, agent_id: x, retry: {max_attempts: 1}, fallback: {skip: true}}",
        "submit
         fail a #1 INTERNAL_ERROR no
         ok b #1 2
         fail soft #1 INTERNAL_ERROR soft
         ok after-soft #1 3
         fail spare #1 INTERNAL_ERROR no
         resume
         ok a #1 round=1 1
         ok after-a #1 round=1 4",
        "1 publish a #1
         1 publish b #1
         1 publish soft #1
         1 publish spare #1
         4 publish after-soft #1
         6 end FAILED
         7 publish a #1 round 1
         8 publish after-a #1 round 1
         9 end COMPLETED
         --
         COMPLETED partial 3
         a COMPLETED 1
         after-a COMPLETED 4
         b COMPLETED 2
         soft FAILED INTERNAL_ERROR: soft
         after-soft COMPLETED 3
         off SKIPPED: its condition is false
         spare SKIPPED: its attempts are used up, and its fallback is to go on without it, 1 fallbacks",
    );
}

#[test]
fn it_may_be_resumed_again_and_again() {
    check(
        CHAIN,
        "submit
         ok a #1 1
         fail b #1 INTERNAL_ERROR no
         resume
         fail b #1 round=1 INTERNAL_ERROR no
         resume
         ok b #1 2
         ok b #1 round=1 2
         ok b #1 round=2 2
         ok c #1 round=2 3",
        "1 publish a #1
         2 publish b #1
         3 end FAILED
         4 publish b #1 round 1
         5 end FAILED
         6 publish b #1 round 2
         7 ignored: stale
         8 ignored: stale
         9 publish c #1 round 2
         10 end COMPLETED
         --
         COMPLETED 3
         a COMPLETED 1
         b COMPLETED 2
         c COMPLETED 3",
    );
}

#[test]
fn results_and_timers_of_the_round_before_are_stale() {
    check(
        "
  - {id: a, agent_id: x, schedule_to_close_ms: 9000, retry: {max_attempts: 3, jitter: false}}
  - {id: b, agent_id: x, retry: {max_attempts: 1}}",
        "submit
         held a #1 ordinal=2
         fail b #1 INTERNAL_ERROR no
         +10000 due
         resume
         fail a #1 ordinal=3 INTERNAL_ERROR stale
         ok a #1 1
         abandoned a #1 ordinal=2
         timer claim a #2
         timer close a #1
         timer deadline
         timer grace
         reissue a #2
         started a #1
         expired a #1
         ok b #1 round=1 1
         ok a #1 round=1 2",
        "1 publish a #1
         1 publish b #1
         1 arm schedule to close a in 9000 ms
         2 arm claim a #2 in 65000 ms
         3 cancel activations below 4
         3 arm grace in 10000 ms
         4 end FAILED
         4 ignored: execution has ended
         5 publish a #1 round 1
         5 publish b #1 round 1
         5 arm schedule to close a in 9000 ms
         6 ignored: stale
         7 ignored: stale
         8 ignored: stale
         9 ignored: stale
         10 ignored: stale
         11 ignored: early
         12 ignored: stale
         13 ignored: stale
         14 ignored: stale
         15 ignored: stale
         17 end COMPLETED
         --
         COMPLETED 1
         a COMPLETED 2
         b COMPLETED 1",
    );
}

#[test]
fn a_cancel_of_the_round_before_is_forgotten() {
    let mut world = World::new(&definition(
        "
  - {id: a, agent_id: x, retry: {max_attempts: 1}}
  - {id: b, agent_id: x}",
    ));
    world.tell("submit\nfail a #1 INTERNAL_ERROR no\ncancel\nok b #1");
    let before = world.execution().view();
    assert!(before.cancel_requested && before.status == ExecutionStatus::Failed);
    world.tell("resume");
    let after = world.execution().view();
    assert!(!after.cancel_requested && after.cancel.is_none() && after.error.is_none() && after.ended_at.is_none());
    assert_eq!(
        world.tell("cancel\nfail a #1 round=1 CANCELLED stopped").last().map(String::as_str),
        Some("2 end CANCELLED")
    );
}

#[test]
fn it_is_refused_where_there_is_nothing_to_go_on_with() {
    let refused = |history: &str| {
        let mut world = World::new(&definition(CHAIN));
        world.tell(history);
        assert_eq!(world.tell("resume"), ["1 ignored: not resumable"], "{history}");
        let Entry::Resumed(resumed) = Entry::Resumed(Box::new(world.resumed())) else { unreachable!() };
        world.partition.decide(Request::Resume(resumed), world.now).err()
    };
    let running = Some(Rejection::NotResumable(ExecutionStatus::Running));
    assert_eq!(refused("submit"), running);
    assert_eq!(refused("submit\nok a #1\nfail b #1 INTERNAL_ERROR no\nresume"), running);
    assert_eq!(refused("submit\ncancel"), running);
    let completed = refused("submit\nok a #1\nok b #1\nok c #1");
    assert_eq!(completed, Some(Rejection::NotResumable(ExecutionStatus::Completed)));
    let cancelled = refused("submit\ncancel\nfail a #1 CANCELLED stopped");
    assert_eq!(cancelled, Some(Rejection::NotResumable(ExecutionStatus::Cancelled)));
}

#[test]
fn it_is_refused_with_agents_that_do_not_fit() {
    let mut world = World::new(&definition(CHAIN));
    world.tell("submit\nok a #1\nfail b #1 INTERNAL_ERROR no");
    let mut resumed = world.resumed();
    resumed.routes.pop();
    assert_eq!(world.apply(Entry::Resumed(Box::new(resumed))), ["ignored: unroutable"]);
    assert_eq!(world.tell("resume"), ["1 publish b #1 round 1"]);
}

#[test]
fn a_submission_that_could_not_run_can_be_mended() {
    let mut world = World::new(&definition(CHAIN));
    let mut submitted = world.submitted("1");
    submitted.routes.clear();
    assert_eq!(world.apply(Entry::Submitted(Box::new(submitted))), ["end FAILED"]);
    assert_eq!(world.tell("resume"), ["1 publish a #1 round 1"]);
}

#[test]
fn finally_runs_again_after_each_round() {
    check(
        "id: w
steps:
  - {id: a, agent_id: x, retry: {max_attempts: 1}}
finally:
  - {id: f, agent_id: x}",
        "submit
         fail a #1 INTERNAL_ERROR no
         ok f #1 1
         resume
         ok a #1 round=1 2
         ok f #1 1
         ok f #1 round=1 3",
        "1 publish a #1
         2 publish f #1
         3 end FAILED
         4 publish a #1 round 1
         5 publish f #1 round 1
         6 ignored: stale
         7 end COMPLETED
         --
         COMPLETED 2
         a COMPLETED 2
         f COMPLETED 3",
    );
}

#[test]
fn an_output_that_could_not_be_built_is_tried_again() {
    check(
        "
  - {id: a, agent_id: x, fan_out: {items: $.input}}",
        "submit [1]
         ok a[0] #1 stored
         evaluated output failed INTERNAL_ERROR the store is down
         resume
         evaluated output value [1]",
        "1 publish a[0] #1
         2 evaluate the output
         3 end FAILED
         4 evaluate the output
         5 end COMPLETED
         --
         COMPLETED [1]
         a COMPLETED [(stored)]",
    );
}

#[test]
fn events_of_all_rounds_keep_their_data() {
    let mut world = World::new(&format!("id: w\non_failure: continue\nsteps:{CHAIN}"));
    world.tell("submit\nok a #1 {\"n\": 1}\nfail b #1 INTERNAL_ERROR no");
    let before = world.execution().events(None);
    world.tell("resume\nok b #1 round=1 2\nok c #1 round=1 3");
    let after = world.execution().events(None);
    assert_eq!(after[..before.len()], before[..]);
    let kinds: Vec<&str> = after[before.len()..].iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds[0], "workflow.resumed");
    assert_eq!(kinds.last(), Some(&"workflow.completed"));
    let reason = before.iter().find(|event| event.kind.as_str() == "step.skipped").expect("c was skipped");
    assert_eq!(reason.data["reason"], "b ended FAILED", "it says so for ever");
}

#[test]
fn outputs_that_were_replaced_stay_in_the_events_of_their_round() {
    let mut world = World::new(
        "id: w
on_failure: compensate
steps:
  - {id: a, agent_id: x, compensate: {agent_id: y}}
  - {id: b, agent_id: x, depends_on: [a], retry: {max_attempts: 1}}",
    );
    world.tell("submit\nok a #1 1\nfail b #1 INTERNAL_ERROR no\nok a #1 compensation");
    world.tell("resume\nok a #1 round=1 2\nfail b #1 round=1 INTERNAL_ERROR no\nok a #1 round=1 compensation");
    world.tell("resume\nok a #1 round=2 3\nok b #1 round=2 4");
    let events = world.execution().events(None);
    let completed = events
        .iter()
        .filter(|e| e.kind.as_str() == "step.completed" && e.step_id.as_ref().is_some_and(|s| s.as_str() == "a"));
    let outputs: Vec<_> = completed.map(|event| event.data["output"].clone()).collect();
    assert_eq!(outputs, [1, 2, 3]);
}

#[test]
fn the_recovery_plan_says_what_a_resume_keeps() {
    let mut world = World::new(&definition(CHAIN));
    world.tell("submit\nok a #1 1\nfail b #1 INTERNAL_ERROR no");
    let plan = world.execution().view().partial_result.expect("it failed").recovery_plan;
    let names = |steps: &[millstream_model::ids::StepId]| steps.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(plan.resumable);
    assert_eq!((names(&plan.keeps), names(&plan.runs)), (vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]));
    assert!(plan.advice.contains("Mend what made b fail"), "{}", plan.advice);
}

#[test]
fn an_evaluation_of_the_round_before_decides_nothing_in_this_one() {
    check(
        "
  - {id: a, agent_id: x, input_map: 1}
  - {id: b, agent_id: x, depends_on: [a], condition: $.steps.a.output.go == true}
  - {id: c, agent_id: x, retry: {max_attempts: 1}}
",
        "submit {}
         ok a #1 stored
         fail c #1 INTERNAL_ERROR no
         resume
         evaluated round=0 b condition false
         evaluated b condition true",
        "1 publish a #1
         1 publish c #1
         2 evaluate the condition of b
         3 end FAILED
         4 evaluate the condition of b
         4 publish c #1 round 1
         5 ignored: stale
         6 publish b #1 round 1
         --
         RUNNING
         a COMPLETED (stored)
         b QUEUED
         c QUEUED",
    );
}

#[test]
fn items_that_failed_before_the_resume_leave_the_execution_partial() {
    check(
        "
  - {id: many, agent_id: x, fan_out: {items: $.input, on_item_failure: continue}, retry: {max_attempts: 1}}
  - {id: bad, agent_id: x, depends_on: [many], retry: {max_attempts: 1}}
",
        "submit [1, 2]
         ok many[0] #1 10
         fail many[1] #1 INTERNAL_ERROR no
         fail bad #1 INTERNAL_ERROR no
         resume
         ok bad #1 round=1 3",
        "1 publish many[0] #1
         1 publish many[1] #1
         3 publish bad #1
         4 end FAILED
         5 publish bad #1 round 1
         6 end COMPLETED
         --
         COMPLETED partial 3
         many COMPLETED [10,null]
         bad COMPLETED 3",
    );
}
