//! Which tasks a worker does not run any more, as far as it has seen.

use std::collections::{HashMap, VecDeque};

use millstream_model::ids::ExecutionId;
use millstream_model::task::TaskKey;

/// Executions that are remembered; older ones are fenced by the fold.
const REMEMBERED_MAX: usize = 100_000;

/// Marks of cancelled executions, each with the activation that tasks must have at least to be run: a resumed
/// execution goes on with higher ones.
#[derive(Debug, Default)]
pub struct CancelMarks {
    below: HashMap<ExecutionId, u32>,
    order: VecDeque<ExecutionId>,
}

impl CancelMarks {
    /// Whether a task that heeds cancels is not to be run, see [`Delivered::heeds_cancel`](super::Delivered).
    pub fn covers(&self, task: &TaskKey) -> bool {
        self.below.get(&task.execution).is_some_and(|below| task.activation < *below)
    }

    /// Takes in a mark; `true` when it covers more than those before. Marks may be seen out of order.
    pub fn insert(&mut self, execution: ExecutionId, below: u32) -> bool {
        if let Some(known) = self.below.get_mut(&execution) {
            let more = below > *known;
            *known = below.max(*known);
            return more;
        }
        self.below.insert(execution, below);
        self.order.push_back(execution);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.below.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(number: u32) -> ExecutionId {
        format!("0193a5a0-0000-7000-8000-{number:08x}0000").parse().expect("an id")
    }

    fn covers(marks: &CancelMarks, execution: ExecutionId, activation: u32) -> bool {
        let step = "fetch".parse().expect("a name");
        marks.covers(&TaskKey { execution, step, item: None, activation, attempt: 1 })
    }

    #[test]
    fn the_highest_bound_decides_and_later_activations_run() {
        let mut marks = CancelMarks::default();
        assert!(!covers(&marks, execution(1), 0));
        assert!(marks.insert(execution(1), 4));
        assert!(covers(&marks, execution(1), 3) && !covers(&marks, execution(1), 4));
        assert!(marks.insert(execution(1), 8) && !marks.insert(execution(1), 4) && !marks.insert(execution(1), 8));
        assert!(covers(&marks, execution(1), 7) && !covers(&marks, execution(1), 8));
    }

    #[test]
    fn the_oldest_mark_is_forgotten_when_there_are_too_many() {
        let mut marks = CancelMarks::default();
        for number in 0..=u32::try_from(REMEMBERED_MAX).expect("small") {
            marks.insert(execution(number), 4);
        }
        assert!(!covers(&marks, execution(0), 0) && covers(&marks, execution(1), 0));
    }
}
