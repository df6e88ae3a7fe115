//! How much of its queue a lane asks for.
//!
//! A lane holds a permit for every task it asks for, so that nothing it was given waits here. A permit it holds is
//! missed by other capabilities: it asks for as many as the queue seems to have, and not for long when others wait.

use crate::protocol::Standing;

/// Tasks of one pull.
const TASKS_MAX: usize = 256;
/// How long a pull waits for the first task.
const WAIT_MS: u64 = 5_000;
/// How long it waits while other capabilities could use the permit it holds.
const WAIT_CONTENDED_MS: u64 = 100;

/// What a lane has learned about its queue.
#[derive(Debug)]
pub struct Pulling {
    wanted: usize,
}

/// What a lane does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// Ask for tasks, with as many permits as are free, at least one and at most `max`.
    Tasks { max: usize },
    /// Ask for nothing until then, in milliseconds of the lane's clock.
    NotBefore { at_ms: u64 },
}

impl Default for Pulling {
    /// A lane that has not pulled yet.
    fn default() -> Self {
        Self { wanted: 1 }
    }
}

impl Pulling {
    /// What to do, given how this worker's entries stand.
    pub fn next(&self, standing: Standing) -> Pull {
        match standing {
            Standing::Accepted => Pull::Tasks { max: self.wanted },
            Standing::OnProbation => Pull::Tasks { max: 1 },
            Standing::Suspended { until_ms } => Pull::NotBefore { at_ms: until_ms },
        }
    }

    /// How long a pull waits for its first task.
    pub const fn wait_ms(contended: bool) -> u64 {
        if contended { WAIT_CONTENDED_MS } else { WAIT_MS }
    }

    /// A pull brought so many tasks. Twice that is room to grow, and little that other capabilities miss.
    pub fn pulled(&mut self, tasks: usize) {
        self.wanted = (tasks * 2).clamp(1, TASKS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_asks_for_twice_what_came_within_its_bounds() {
        let mut pulling = Pulling::default();
        let max = |pulling: &Pulling| match pulling.next(Standing::Accepted) {
            Pull::Tasks { max } => max,
            other => panic!("expected tasks, not {other:?}"),
        };
        let mut asked = vec![max(&pulling)];
        for came in [1, 2, 3, 200, 256, 0] {
            pulling.pulled(came);
            asked.push(max(&pulling));
        }
        assert_eq!(asked, [1, 2, 4, 6, 256, 256, 1]);
    }

    #[test]
    fn a_lane_whose_results_are_refused_rests_and_then_tries_with_one_task() {
        let mut pulling = Pulling::default();
        pulling.pulled(50);
        assert_eq!(pulling.next(Standing::Suspended { until_ms: 7 }), Pull::NotBefore { at_ms: 7 });
        assert_eq!(pulling.next(Standing::OnProbation), Pull::Tasks { max: 1 });
        assert_eq!(pulling.next(Standing::Accepted), Pull::Tasks { max: 100 });
    }
}
