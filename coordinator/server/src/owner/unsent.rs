//! Tasks that were certainly not stored and are tried again, each in its turn.

use std::collections::BTreeSet;
use std::ops::Bound;

use millstream_engine::TaskRef;

/// Tasks to be published once that can succeed.
#[derive(Debug, Default)]
pub struct Unsent {
    tasks: BTreeSet<TaskRef>,
    /// The last one that was tried: a full queue of one capability must not keep the others waiting.
    last: Option<TaskRef>,
}

impl Unsent {
    pub fn insert(&mut self, task: TaskRef) {
        self.tasks.insert(task);
    }

    pub fn contains(&self, task: &TaskRef) -> bool {
        self.tasks.contains(task)
    }

    /// Takes out the next tasks to try, at most `count`, going round.
    pub fn take(&mut self, count: usize) -> Vec<TaskRef> {
        let from = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut taken: Vec<TaskRef> = self.tasks.range((from, Bound::Unbounded)).take(count).copied().collect();
        if taken.len() < count {
            let rest = count - taken.len();
            let until = self.last.map_or(Bound::Unbounded, Bound::Included);
            let wrapped: Vec<TaskRef> = self
                .tasks
                .range((Bound::Unbounded, until))
                .filter(|task| !taken.contains(task))
                .take(rest)
                .copied()
                .collect();
            taken.extend(wrapped);
        }
        for task in &taken {
            self.tasks.remove(task);
        }
        self.last = taken.last().copied().or(self.last);
        taken
    }
}

#[cfg(test)]
mod tests {
    use millstream_model::plan::StepIndex;

    use super::*;

    fn task(step: u16) -> TaskRef {
        let execution = "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id");
        TaskRef { execution, step: StepIndex(step), item: None, activation: 0, attempt: 1 }
    }

    #[test]
    fn what_fails_again_waits_for_its_next_turn() {
        let mut unsent = Unsent::default();
        for step in 1..=5 {
            unsent.insert(task(step));
        }
        let mut turns = Vec::new();
        for _ in 0..4 {
            let taken = unsent.take(2);
            turns.push(taken.iter().map(|t| t.step.0).collect::<Vec<_>>());
            taken.into_iter().for_each(|task| unsent.insert(task));
        }
        assert_eq!(turns, [vec![1, 2], vec![3, 4], vec![5, 1], vec![2, 3]]);
        assert_eq!(unsent.take(9).len(), 5);
        assert_eq!(unsent.take(9), []);
    }
}
