//! What holds in the end.

use millstream_engine::Execution;
use millstream_model::event::{Event, EventType};
use millstream_model::position::EventId;

use super::world::{Seen, World, fold};
use crate::check::{empty, id};

/// Checks a history that was told to its end.
pub fn check(world: &World) {
    assert_eq!(world.ends, 1 + world.round, "it ends exactly once, and once more after each resume");
    check_events(world.execution());
    check_refold(world);
}

/// Event ids increase, each terminal event but the last is followed by a resume, and whoever follows misses nothing.
fn check_events(execution: &Execution) {
    let events = execution.events(None);
    let ids: Vec<EventId> = events.iter().map(|event| event.id.expect("events of records have ids")).collect();
    assert!(ids.is_sorted_by(|earlier, later| earlier < later), "event ids increase: {ids:?}");
    for (at, event) in events.iter().enumerate() {
        let goes_on = events.get(at + 1).map(|next| next.kind);
        let expected = if event.kind.is_terminal() { [None, Some(EventType::WorkflowResumed)] } else { [goes_on; 2] };
        assert!(expected.contains(&goes_on), "nothing follows the end but a resume: {goes_on:?}");
    }
    assert!(events.last().is_some_and(|event| event.kind.is_terminal()), "the last event is a terminal one");
    let step = (ids.len() / 40).max(1);
    for (at, after) in ids.into_iter().enumerate().step_by(step) {
        assert!(execution.events(Some(after)) == events[at + 1..], "following {after} gives exactly the rest");
    }
}

/// What earlier rounds told is told for ever.
pub fn check_history(earlier: &[Event], events: &[Event]) {
    for (told, kept) in earlier.iter().zip(events) {
        assert_eq!(told, kept, "an event changed after a resume");
    }
    assert!(events.len() >= earlier.len(), "events are lost after a resume");
}

/// The journal, folded again, is the same execution after every entry.
fn check_refold(world: &World) {
    let mut partition = empty(world.fold_rev, &world.plan);
    for ((position, at, entry), seen) in world.journal.iter().zip(&world.seen) {
        fold(&mut partition, *position, *at, entry.clone());
        let execution = partition.execution(id()).expect("it was submitted");
        assert!(Seen::of(execution) == *seen, "a refold is different at {position:?}");
    }
    assert_eq!(world.seen.len(), if world.watched { world.journal.len() } else { 0 });
    for (position, at, entry) in world.journal.iter().skip(world.seen.len()) {
        fold(&mut partition, *position, *at, entry.clone());
    }
    let (told, refolded) = (world.execution(), partition.execution(id()).expect("it was submitted"));
    assert_eq!(refolded.view(), told.view(), "a refold has the same view");
    assert_eq!(refolded.events(None), told.events(None), "a refold has the same events");
    assert_eq!(partition.next_deadline(), world.partition.next_deadline());
}
