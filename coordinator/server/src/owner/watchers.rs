//! Who follows the events of an execution.

use std::collections::BTreeMap;

use millstream_engine::Execution;
use millstream_model::event::Event;
use millstream_model::ids::ExecutionId;
use millstream_model::position::EventId;
use tokio::sync::mpsc;

use crate::cluster::EventFeed;

/// Events that may wait for a reader; one that falls behind further is dropped and may resume.
const BEHIND_MAX: usize = 4_096;

/// The readers of one partition's events.
#[derive(Debug, Default)]
pub struct Watchers {
    by_execution: BTreeMap<ExecutionId, Vec<Watcher>>,
}

#[derive(Debug)]
struct Watcher {
    last: Option<EventId>,
    events: mpsc::Sender<Event>,
}

impl Watchers {
    /// The events so far, and the ones to come.
    pub fn follow(&mut self, execution: &Execution, after: Option<EventId>) -> EventFeed {
        let backlog = execution.events(after);
        let (events, live) = mpsc::channel(BEHIND_MAX);
        if !execution.status().is_terminal() {
            let last = backlog.last().and_then(|event| event.id).or(after);
            self.by_execution.entry(execution.id()).or_default().push(Watcher { last, events });
        }
        EventFeed { backlog, live }
    }

    /// Tells the readers of an execution what is new.
    pub fn tell(&mut self, execution: &Execution) {
        let Some(watchers) = self.by_execution.get_mut(&execution.id()) else {
            return;
        };
        watchers.retain_mut(|watcher| watcher.catch_up(execution));
        if watchers.is_empty() || execution.status().is_terminal() {
            self.by_execution.remove(&execution.id());
        }
    }

    /// Passes on what a worker says it does, which is not in the journal.
    pub fn notify(&mut self, notice: &Event) {
        if let Some(watchers) = self.by_execution.get_mut(&notice.execution_id) {
            watchers.retain(|watcher| watcher.events.try_send(notice.clone()).is_ok());
        }
    }
}

impl Watcher {
    /// False when the reader is gone or too slow.
    fn catch_up(&mut self, execution: &Execution) -> bool {
        for event in execution.events(self.last) {
            self.last = event.id;
            if self.events.try_send(event).is_err() {
                return false;
            }
        }
        true
    }
}
