use super::check::{World, definition};
use millstream_model::entry::{Kept, KeptOutcome};
use millstream_model::error::{ErrorCode, StepError};

const WORK: &str = "id: w
on_failure: compensate
steps:
  - {id: list, agent_id: x}
  - {id: off, agent_id: x, condition: 'false'}
  - {id: soft, agent_id: x, critical: false, retry: {max_attempts: 1}}
  - {id: book, agent_id: x, depends_on: [list], fan_out: {items: $.steps.list.output}}
  - {id: join, depends_on: [book], fan_in: {from: [book], aggregate: list}}
  - {id: mail, agent_id: x, depends_on: [join, soft, off]}
finally:
  - {id: tell, agent_id: x}";

/// An execution of [`WORK`] that has completed.
fn told() -> World {
    let mut world = World::new(WORK);
    world.tell(
        "submit {}
         ok list #1 [1, 2]
         fail soft #1 TIMEOUT slow
         ok book[0] #1 10
         ok book[1] #1 20
         ok mail #1 3
         ok tell #1",
    );
    assert!(world.state().starts_with("COMPLETED partial 3"), "{}", world.state());
    world
}

fn names(kept: &[Kept]) -> Vec<&str> {
    kept.iter().map(|kept| kept.step.as_str()).collect()
}

#[test]
fn what_is_neither_the_step_nor_downstream_of_it_is_taken_over() {
    let world = told();
    assert_eq!(names(&world.kept_for_fork(WORK, Some("mail"))), ["list", "off", "soft", "book", "join"]);
    assert_eq!(names(&world.kept_for_fork(WORK, Some("book"))), ["list", "off", "soft"]);
    assert_eq!(names(&world.kept_for_fork(WORK, Some("list"))), ["off", "soft"]);
    assert!(world.kept_for_fork(WORK, None).is_empty(), "everything runs anew");
}

#[test]
fn a_fork_runs_the_rest_over_what_it_took_over() {
    let world = told();
    let (mut fork, caused) = World::forked(WORK, "{}", world.kept_for_fork(WORK, Some("mail")));
    assert_eq!(caused, ["publish mail #1"]);
    assert_eq!(
        fork.state(),
        "RUNNING partial
list COMPLETED [1, 2]
off SKIPPED: its condition is false
soft TIMEOUT TIMEOUT: slow
book COMPLETED [10,20]
join COMPLETED [10,20]
mail QUEUED
tell PENDING"
    );
    let view = fork.execution().view();
    assert_eq!(view.fork.expect("it is a fork").by.as_deref(), Some("ada"));
    assert_eq!(fork.tell("ok mail #1 4\nok tell #1"), ["1 publish tell #1", "2 end COMPLETED"]);
}

#[test]
fn fan_ins_and_fan_outs_read_lists_that_were_taken_over() {
    let world = told();
    let changed = WORK.replace("{from: [book], aggregate: list}", "{from: [book], aggregate: first}").replace(
        "  - {id: mail, agent_id: x, depends_on: [join, soft, off]}",
        "  - {id: mail, agent_id: x, depends_on: [join, book], fan_out: {items: $.steps.book.output}}",
    );
    let kept = world.kept_for_fork(&changed, Some("join"));
    assert_eq!(names(&kept), ["list", "off", "soft", "book"]);
    let (fork, caused) = World::forked(&changed, "{}", kept);
    assert_eq!(caused, ["publish mail[0] #1", "publish mail[1] #1"]);
    assert!(fork.state().contains("join COMPLETED 10"), "{}", fork.state());
}

#[test]
fn a_changed_definition_runs_what_its_dependencies_ask_for() {
    let world = told();
    let changed = "id: w
steps:
  - {id: fresh, agent_id: x}
  - {id: list, agent_id: x}
  - {id: book, agent_id: x, depends_on: [list, fresh]}
  - {id: tell, agent_id: x}
  - {id: soft, agent_id: x}";
    let kept = world.kept_for_fork(changed, Some("tell"));
    assert_eq!(names(&kept), ["list"], "book has a new dependency, tell was in `finally`, soft is critical by now");
    let (_, caused) = World::forked(changed, "{}", kept);
    assert_eq!(caused, ["publish fresh #1", "publish tell #1", "publish soft #1"]);
}

#[test]
fn what_was_undone_is_not_taken_over() {
    let steps = "id: w
on_failure: compensate
steps:
  - {id: free, agent_id: x}
  - {id: paid, agent_id: x, compensate: {agent_id: y}}
  - {id: end, agent_id: x, depends_on: [free, paid], retry: {max_attempts: 1}}";
    let mut world = World::new(steps);
    world.tell("submit\nok free #1 1\nok paid #1 2\nfail end #1 INTERNAL_ERROR no\nok paid #1 compensation");
    assert_eq!(names(&world.kept_for_fork(steps, Some("end"))), ["free"]);
}

#[test]
fn a_submission_cannot_make_a_fork_skip_what_has_to_run() {
    let steps = definition(
        "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a]}
  - {id: soft, agent_id: x, critical: false}",
    );
    let kept = |step: &str, outcome| Kept { step: step.parse().expect("a name"), outcome };
    let value = || KeptOutcome::Completed(super::check::payload("1"));
    let error = || KeptOutcome::Failed(StepError::new(ErrorCode::InternalError, "no"));
    let (_, caused) = World::forked(&steps, "1", vec![kept("b", value()), kept("ghost", value())]);
    assert_eq!(caused, ["publish a #1", "publish soft #1"], "b depends on what runs");
    let (_, caused) = World::forked(&steps, "1", vec![kept("a", error()), kept("soft", error())]);
    assert_eq!(caused, ["publish a #1"], "a critical failure is no result");
    let (fork, caused) =
        World::forked(&steps, "1", vec![kept("a", value()), kept("a", value()), kept("soft", error())]);
    assert_eq!(caused, ["publish b #1"]);
    assert!(fork.state().starts_with("RUNNING partial"), "{}", fork.state());
}

#[test]
fn a_fork_of_which_nothing_is_left_to_run_completes() {
    let steps = definition(
        "
  - {id: a, agent_id: x}",
    );
    let kept = Kept { step: "a".parse().expect("a name"), outcome: KeptOutcome::Completed(super::check::payload("7")) };
    let (fork, caused) = World::forked(&steps, "1", vec![kept]);
    assert_eq!(caused, ["end COMPLETED"]);
    assert_eq!(fork.state(), "COMPLETED 7\na COMPLETED 7");
}

#[test]
fn a_fork_that_cannot_run_has_failed() {
    let steps = definition(
        "
  - {id: a, agent_id: x}
  - {id: b, agent_id: x, depends_on: [a]}",
    );
    let world = World::new(&steps);
    let kept = vec![Kept { step: "a".parse().expect("a name"), outcome: KeptOutcome::Skipped }];
    let fork = millstream_model::entry::Fork { of: super::check::id(), from: None, by: None, reason: None, kept };
    let submitted =
        millstream_model::entry::Submitted { fork: Some(Box::new(fork)), routes: Vec::new(), ..world.submitted("1") };
    let mut world = world;
    assert_eq!(world.apply(millstream_model::entry::Entry::Submitted(Box::new(submitted))), ["end FAILED"]);
}

#[test]
fn a_fork_may_be_resumed_and_forked_again() {
    let world = told();
    let (mut fork, _) = World::forked(WORK, "{}", world.kept_for_fork(WORK, Some("mail")));
    fork.tell("fail mail #1 INVALID_INPUT no\nok tell #1");
    assert_eq!(names(&fork.kept_for_fork(WORK, Some("join"))), ["list", "off", "soft", "book"]);
    assert_eq!(fork.tell("resume"), ["1 publish mail #1 round 1"]);
    fork.tell("ok mail #1 round=1 5\nok tell #1 round=1");
    assert!(fork.state().starts_with("COMPLETED partial 5"), "{}", fork.state());
}
