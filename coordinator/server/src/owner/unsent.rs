//! Tasks that were certainly not stored and are tried again, each in its turn.

use std::collections::BTreeSet;
use std::ops::Bound;

use millstream_engine::TaskRef;

use super::clock::Mono;

/// Between two turns.
const TURN_MS: u64 = 100;
/// Tasks that are tried in one turn.
const TURN_TASKS_MAX: usize = 256;

/// Tasks to be published once that can succeed.
#[derive(Debug, Default)]
pub struct Unsent {
    tasks: BTreeSet<TaskRef>,
    /// The last one that was tried: a full queue of one capability must not keep the others waiting.
    last: Option<TaskRef>,
    next_turn: Mono,
}

impl Unsent {
    pub fn insert(&mut self, task: TaskRef, now: Mono) {
        if self.tasks.is_empty() {
            self.next_turn = now.plus_millis(TURN_MS);
        }
        self.tasks.insert(task);
    }

    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    pub fn contains(&self, task: &TaskRef) -> bool {
        self.tasks.contains(task)
    }

    /// When the next turn is.
    pub fn wakes_at(&self) -> Option<Mono> {
        (!self.tasks.is_empty()).then_some(self.next_turn)
    }

    /// Takes out the tasks whose turn it is, if it is one's turn.
    pub fn take(&mut self, now: Mono) -> Vec<TaskRef> {
        if self.tasks.is_empty() || now < self.next_turn {
            return Vec::new();
        }
        self.next_turn = now.plus_millis(TURN_MS);
        self.take_round(TURN_TASKS_MAX)
    }

    /// Takes out the next `count` tasks, going round.
    fn take_round(&mut self, count: usize) -> Vec<TaskRef> {
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
            unsent.insert(task(step), Mono(0));
        }
        let mut turns = Vec::new();
        for _ in 0..4 {
            let taken = unsent.take_round(2);
            turns.push(taken.iter().map(|t| t.step.0).collect::<Vec<_>>());
            taken.into_iter().for_each(|task| unsent.insert(task, Mono(0)));
        }
        assert_eq!(turns, [vec![1, 2], vec![3, 4], vec![5, 1], vec![2, 3]]);
        assert_eq!(unsent.take_round(9).len(), 5);
        assert_eq!(unsent.take_round(9), []);
    }

    #[test]
    fn turns_have_their_distance() {
        let mut unsent = Unsent::default();
        assert_eq!(unsent.wakes_at(), None);
        unsent.insert(task(1), Mono(5));
        assert_eq!(unsent.take(Mono(5)), []);
        let turn = Mono(5).plus_millis(TURN_MS);
        assert_eq!(unsent.wakes_at(), Some(turn));
        assert_eq!(unsent.take(turn), [task(1)]);
        assert_eq!(unsent.wakes_at(), None);
    }
}
