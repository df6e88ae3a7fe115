//! What happens to an execution: at first anything, then what workers and the owner do on a calm day.

use millstream_engine::{Evaluate, TaskRef};
use millstream_model::entry::{
    CancelRequested, ClaimAbandoned, ClaimHeld, Entry, Evaluated, Evaluation, Expired, Reissued, TaskFailed,
    TaskStarted, TaskSucceeded, Unpublishable, Unrenderable,
};
use millstream_model::error::{ErrorCode, StepError};

use super::world::{World, worker};
use crate::check;

/// More moves than any history needs.
const MOVES_MAX: usize = 5_000;

const OUTPUTS: [&str; 5] = ["1", "stored", r#"{"k":1}"#, "[1,2]", "null"];

const CODES: [ErrorCode; 6] = [
    ErrorCode::Timeout,
    ErrorCode::ExternalServiceError,
    ErrorCode::CircuitOpen,
    ErrorCode::InvalidInput,
    ErrorCode::Cancelled,
    ErrorCode::Lost,
];

/// More rounds than show anything new.
const ROUNDS_MAX: u32 = 4;

/// Goes on until the execution has ended, and a while longer.
pub fn tell(world: &mut World) {
    let mut wild_moves = world.dice.below(120);
    let cancels = world.dice.chance(25);
    for number in 0..MOVES_MAX {
        if world.execution().status().is_terminal() && number > wild_moves + 40 {
            let goes_on = world.round < ROUNDS_MAX && world.dice.chance(60);
            if !goes_on || !resume(world) {
                return;
            }
            wild_moves = number + world.dice.below(80);
        }
        world.now = world.now.plus_millis(u64::from(world.dice.count(200)));
        if number < wild_moves { wild_move(world, cancels) } else { calm_move(world) }
    }
    panic!("it does not end:\n{}", millstream_engine::render::execution(world.execution()));
}

fn calm_move(world: &mut World) {
    match world.dice.below(6) {
        0..=2 => answer(world),
        3 => fire(world),
        4 if world.evaluations.is_empty() && world.queue.is_empty() => skip_to_next_alarm(world),
        4 => evaluate(world),
        _ => {}
    }
}

fn wild_move(world: &mut World, cancels: bool) {
    match world.dice.below(15) {
        0..=1 => answer(world),
        2 => answer_badly(world),
        3 => fire(world),
        4 => evaluate(world),
        5 => evaluate_twice(world),
        6 => answer_again(world),
        7 => reissue(world),
        8 => find_held(world),
        9 => abandon(world),
        10 if cancels && world.dice.chance(10) => cancel(world),
        11 if world.dice.chance(20) => fail_to_render(world),
        12 => start(world),
        13 if world.dice.chance(20) => fail_to_publish(world),
        14 if world.dice.chance(10) && world.round < ROUNDS_MAX => {
            resume(world);
        }
        _ => {}
    }
}

/// A worker pulls a task and says how it went.
fn answer(world: &mut World) {
    if let Some(task) = pull(world) {
        let entry = result(world, &task, task.attempt);
        world.apply(entry);
    }
}

/// A worker says how a redelivery went, or forgets to acknowledge the task.
fn answer_badly(world: &mut World) {
    let Some(task) = pull(world) else {
        return;
    };
    if world.dice.chance(50) {
        world.queue.push(task);
    }
    let ordinal = redelivered(world, &task);
    let entry = result(world, &task, ordinal);
    world.apply(entry);
}

/// A worker speaks of a task that was answered before.
fn answer_again(world: &mut World) {
    if let Some(task) = pulled(world) {
        let ordinal = redelivered(world, &task);
        let entry = result(world, &task, ordinal);
        world.apply(entry);
    }
}

/// The owner finds a task missing from the queue. It may be wrong.
fn reissue(world: &mut World) {
    let outstanding = world.execution().outstanding();
    if outstanding.is_empty() {
        return;
    }
    let (task, _) = outstanding[world.dice.below(outstanding.len())];
    if world.dice.chance(70) {
        world.queue.retain(|queued| *queued != task);
    }
    let next = world.execution().reissue_of(&task);
    world.apply(Entry::Reissued(Reissued { task: world.execution().task_key(&next) }));
}

/// A worker pulls a redelivery and finds its claim taken.
fn find_held(world: &mut World) {
    let Some(task) = pull(world) else {
        return;
    };
    let ordinal = redelivered(world, &task);
    world.apply(Entry::ClaimHeld(ClaimHeld {
        task: world.execution().task_key(&task),
        ordinal,
        token: world.token(&task),
        claimant: "other".parse().expect("a name"),
        claimed_at: world.now,
    }));
}

/// The holder of some claim is gone.
fn abandon(world: &mut World) {
    if let Some(task) = pulled(world) {
        let ordinal = redelivered(world, &task);
        world.apply(Entry::ClaimAbandoned(ClaimAbandoned { task: world.execution().task_key(&task), ordinal }));
    }
}

/// The owner cannot build the input of a task.
fn fail_to_render(world: &mut World) {
    if let Some(task) = pull(world) {
        let task = world.execution().task_key(&task);
        world.apply(Entry::Unrenderable(Unrenderable { task, reason: "no such value".to_owned() }));
    }
}

fn cancel(world: &mut World) {
    let compensate = world.dice.chance(50);
    let execution = check::id();
    world.apply(Entry::CancelRequested(CancelRequested { execution, reason: None, by: None, compensate }));
}

/// The broker refuses a task for good.
fn fail_to_publish(world: &mut World) {
    if let Some(task) = pull(world) {
        let task = world.execution().task_key(&task);
        let error = StepError::new(world.dice.pick(&CODES), "no");
        world.apply(Entry::Unpublishable(Unpublishable { task, error }));
    }
}

/// A worker is about to run a task.
fn start(world: &mut World) {
    if !world.queue.is_empty() {
        let task = world.queue[world.dice.below(world.queue.len())];
        let ordinal = redelivered(world, &task);
        let (key, token) = (world.execution().task_key(&task), world.token(&task));
        world.apply(Entry::TaskStarted(TaskStarted { task: key, ordinal, token, worker: worker() }));
    }
}

/// Somebody asks it to go on. Returns whether it does.
fn resume(world: &mut World) -> bool {
    let round = world.round;
    world.apply(world.resumed());
    world.round > round
}

/// All alarms that are due go off.
fn fire(world: &mut World) {
    for fired in world.partition.due(world.now, 100) {
        world.apply(Entry::TimerFired(fired));
    }
}

/// There is nothing to do until the next alarm is due.
fn skip_to_next_alarm(world: &mut World) {
    let next = world.execution().alarms().next();
    if let Some((at, _)) = next {
        world.now = world.now.max(at);
    }
}

fn evaluate(world: &mut World) {
    if let Some(evaluate) = world.evaluations.pop_first() {
        let entry = evaluated(world, evaluate);
        world.apply(entry);
    }
}

/// The owner before and the owner after a take-over answer both.
fn evaluate_twice(world: &mut World) {
    if let Some(evaluate) = world.evaluations.pop_first() {
        for _ in 0..2 {
            let entry = evaluated(world, evaluate);
            world.apply(entry);
        }
    }
}

fn evaluated(world: &mut World, evaluate: Evaluate) -> Entry {
    let dice = &mut world.dice;
    let (step, outcome) = match evaluate {
        Evaluate::Condition(_, step) => (Some(step), Evaluation::Condition(dice.chance(70))),
        Evaluate::Items(_, step) => (Some(step), Evaluation::Items(u32::from(step.0 * 3 % 8))),
        Evaluate::Aggregate(_, step) => (Some(step), Evaluation::Value(check::payload("stored"))),
        Evaluate::Output(_) => (None, Evaluation::Value(check::payload("stored"))),
    };
    let fails = dice.chance(15);
    let outcome = if fails { Evaluation::Failed(StepError::new(ErrorCode::InvalidInput, "no")) } else { outcome };
    let step = step.map(|step| world.plan.step(step).id.clone());
    Entry::Evaluated(Evaluated { execution: check::id(), step, round: world.execution().round(), outcome })
}

fn result(world: &mut World, task: &TaskRef, ordinal: u32) -> Entry {
    let key = world.execution().task_key(task);
    match world.dice.below(10) {
        0..=5 => Entry::TaskSucceeded(TaskSucceeded {
            task: key,
            run: world.run(task, ordinal),
            output: check::payload(world.dice.pick(&OUTPUTS)),
            metrics: None,
        }),
        6..=8 => Entry::TaskFailed(TaskFailed {
            task: key,
            run: world.run(task, ordinal),
            error: StepError::new(world.dice.pick(&CODES), "no"),
        }),
        _ => Entry::Expired(Expired { task: key, ordinal, token: world.token(task), worker: worker() }),
    }
}

/// Takes a task from the queue.
fn pull(world: &mut World) -> Option<TaskRef> {
    if world.queue.is_empty() {
        return None;
    }
    let task = world.queue.swap_remove(world.dice.below(world.queue.len()));
    world.pulled.push(task);
    Some(task)
}

/// A task that was taken from the queue before.
fn pulled(world: &mut World) -> Option<TaskRef> {
    (!world.pulled.is_empty()).then(|| world.pulled[world.dice.below(world.pulled.len())])
}

/// The ordinal of a delivery of the task: its first, or one or two later.
fn redelivered(world: &mut World, task: &TaskRef) -> u32 {
    (task.attempt + world.dice.count(3)).min(world.max_attempts(task))
}
