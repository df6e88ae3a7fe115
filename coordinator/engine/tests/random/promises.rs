//! What holds in the end.

use millstream_engine::Execution;
use millstream_model::position::EventId;

use super::world::{World, empty, fold};
use crate::check::id;

/// Checks a history that was told to its end.
pub fn check(world: &World) {
    assert_eq!(world.ends, 1, "it ends exactly once");
    check_events(world.execution());
    check_refold(world);
}

/// Event ids increase, the last event is the only terminal one, and whoever resumes misses nothing.
fn check_events(execution: &Execution) {
    let events = execution.events(None);
    let ids: Vec<EventId> = events.iter().map(|event| event.id.expect("events of records have ids")).collect();
    assert!(ids.is_sorted_by(|earlier, later| earlier < later), "event ids increase: {ids:?}");
    let terminal: Vec<usize> = (0..events.len()).filter(|&at| events[at].kind.is_terminal()).collect();
    assert_eq!(terminal, [events.len() - 1], "the last event is the only terminal one");
    for (at, after) in ids.into_iter().enumerate() {
        assert!(execution.events(Some(after)) == events[at + 1..], "resuming after {after} gives exactly the rest");
    }
}

/// The journal, folded again, is the same execution.
fn check_refold(world: &World) {
    let mut partition = empty(&world.plan);
    for (position, at, entry) in &world.journal {
        fold(&mut partition, *position, *at, entry.clone());
    }
    let (told, refolded) = (world.execution(), partition.execution(id()).expect("it was submitted"));
    assert_eq!(refolded.view(), told.view(), "a refold has the same view");
    assert_eq!(refolded.events(None), told.events(None), "a refold has the same events");
}
