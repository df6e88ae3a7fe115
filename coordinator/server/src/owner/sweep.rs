//! The sweep: finds tasks that are owed and not in the queue, and has them reissued.
//!
//! Absence is what counts, and only once a marker that was appended after the scan has been folded: a worker appends
//! its result before it acks, so whatever had left the queue when it was scanned has its result before the marker.
//! It takes two scans, 2 s apart, because acks and publishes become visible late.
//!
//! ```text
//!   Idle ─▶ Scanning(1) ─▶ Marking(1) ─▶ Waiting ─▶ Scanning(2) ─▶ Marking(2) ─▶ Idle + reissues
//! ```

use std::collections::BTreeSet;

use millstream_engine::TaskRef;

use super::clock::Mono;

/// Between two sweeps.
pub const PERIOD_MS: u64 = 30_000;
/// An attempt that is outstanding for longer is looked for.
pub const EXPECTED_MS: u64 = 30_000;
/// Between the two scans of a sweep.
const BETWEEN_SCANS_MS: u64 = 2_000;

/// Where the sweep stands.
#[derive(Debug, Default)]
pub struct Sweep {
    stage: Stage,
    /// Looked for by the next sweep, whatever their age.
    suspects: BTreeSet<TaskRef>,
    next: Mono,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Scanning {
        suspects: BTreeSet<TaskRef>,
        second: bool,
    },
    Marking {
        absent: BTreeSet<TaskRef>,
        second: bool,
    },
    Waiting {
        absent: BTreeSet<TaskRef>,
        until: Mono,
    },
}

/// What a step of the sweep asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// List the queue.
    Scan,
    /// Append a marker.
    Mark,
    /// Append a reissue of each.
    Reissue(Vec<TaskRef>),
}

impl Sweep {
    /// Looks for these soon, whatever their age.
    pub fn suspect(&mut self, tasks: impl IntoIterator<Item = TaskRef>) {
        self.suspects.extend(tasks);
    }

    /// It is known that the task is not in the queue: it is going to be published and not missing.
    pub fn acquit(&mut self, task: &TaskRef) {
        self.suspects.remove(task);
        match &mut self.stage {
            Stage::Scanning { suspects: tasks, .. }
            | Stage::Marking { absent: tasks, .. }
            | Stage::Waiting { absent: tasks, .. } => {
                tasks.remove(task);
            }
            Stage::Idle => {}
        }
    }

    /// Tasks that are looked for.
    pub fn len(&self) -> usize {
        let under_way = match &self.stage {
            Stage::Idle => 0,
            Stage::Scanning { suspects: tasks, .. }
            | Stage::Marking { absent: tasks, .. }
            | Stage::Waiting { absent: tasks, .. } => tasks.len(),
        };
        self.suspects.len() + under_way
    }

    /// Whether no task is looked for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts a sweep at `now` even without suspects, for the marker that the wheel waits for.
    pub fn start(&mut self) -> Option<Next> {
        if !matches!(self.stage, Stage::Idle) {
            return None;
        }
        self.stage = Stage::Scanning { suspects: std::mem::take(&mut self.suspects), second: false };
        Some(Next::Scan)
    }

    /// When something is to be done though nothing happens; `None` while a scan or marker is under way.
    pub fn wakes_at(&self) -> Option<Mono> {
        match &self.stage {
            Stage::Idle if !self.suspects.is_empty() => Some(Mono(0)),
            Stage::Idle => Some(self.next),
            Stage::Waiting { until, .. } => Some(*until),
            Stage::Scanning { .. } | Stage::Marking { .. } => None,
        }
    }

    /// Time has passed. `overdue` names what is outstanding for longer than expected.
    pub fn tick(&mut self, now: Mono, overdue: impl FnOnce() -> Vec<TaskRef>) -> Option<Next> {
        match &mut self.stage {
            Stage::Idle => {
                if now >= self.next {
                    self.next = now.plus_millis(PERIOD_MS);
                    self.suspects.extend(overdue());
                }
                if self.suspects.is_empty() { None } else { self.start() }
            }
            Stage::Waiting { absent, until } if now >= *until => {
                self.stage = Stage::Scanning { suspects: std::mem::take(absent), second: true };
                Some(Next::Scan)
            }
            Stage::Waiting { .. } | Stage::Scanning { .. } | Stage::Marking { .. } => None,
        }
    }

    /// The queue was listed.
    pub fn scanned(&mut self, present: &BTreeSet<TaskRef>) -> Option<Next> {
        let Stage::Scanning { suspects, second } = &mut self.stage else {
            return None;
        };
        let absent = std::mem::take(suspects).into_iter().filter(|task| !present.contains(task)).collect();
        self.stage = Stage::Marking { absent, second: *second };
        Some(Next::Mark)
    }

    /// The queue could not be listed, or the marker not be appended: the suspects are looked for again later.
    pub fn failed(&mut self, now: Mono) {
        self.next = now.plus_millis(BETWEEN_SCANS_MS);
        match std::mem::take(&mut self.stage) {
            Stage::Scanning { suspects: tasks, .. }
            | Stage::Marking { absent: tasks, .. }
            | Stage::Waiting { absent: tasks, .. } => {
                self.stage = Stage::Waiting { absent: BTreeSet::new(), until: self.next };
                self.suspects.extend(tasks);
            }
            Stage::Idle => {}
        }
    }

    /// The marker was folded. `outstanding` says whether a task is still owed.
    pub fn marked(&mut self, now: Mono, outstanding: impl Fn(&TaskRef) -> bool) -> Option<Next> {
        let Stage::Marking { absent, second } = &mut self.stage else {
            return None;
        };
        let second = *second;
        let absent: BTreeSet<TaskRef> = std::mem::take(absent).into_iter().filter(outstanding).collect();
        self.stage = Stage::Idle;
        if absent.is_empty() {
            return None;
        }
        if second {
            return Some(Next::Reissue(absent.into_iter().collect()));
        }
        self.stage = Stage::Waiting { absent, until: now.plus_millis(BETWEEN_SCANS_MS) };
        None
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

    fn set(steps: &[u16]) -> BTreeSet<TaskRef> {
        steps.iter().map(|&s| task(s)).collect()
    }

    #[test]
    fn a_task_is_reissued_after_it_was_absent_twice_and_is_still_owed() {
        let mut sweep = Sweep::default();
        sweep.suspect(set(&[1, 2, 3]));
        assert_eq!(sweep.tick(Mono(1), Vec::new), Some(Next::Scan));
        assert_eq!(sweep.scanned(&set(&[1])), Some(Next::Mark));
        assert_eq!(sweep.marked(Mono(1), |_| true), None);
        assert_eq!(sweep.tick(Mono(1), Vec::new), None);
        let later = Mono(1).plus_millis(BETWEEN_SCANS_MS);
        assert_eq!(sweep.tick(later, Vec::new), Some(Next::Scan));
        assert_eq!(sweep.scanned(&set(&[])), Some(Next::Mark));
        assert_eq!(sweep.marked(later, |t| *t != task(3)), Some(Next::Reissue(vec![task(2)])));
        assert_eq!(sweep.tick(later, Vec::new), None);
    }

    #[test]
    fn a_result_before_the_marker_clears_the_suspect() {
        let mut sweep = Sweep::default();
        sweep.suspect(set(&[1]));
        sweep.tick(Mono(1), Vec::new);
        sweep.scanned(&set(&[]));
        assert_eq!(sweep.marked(Mono(1), |_| false), None);
        assert_eq!(sweep.tick(Mono(1).plus_millis(BETWEEN_SCANS_MS), Vec::new), None);
    }

    #[test]
    fn what_is_known_not_to_be_queued_is_not_missing() {
        let mut sweep = Sweep::default();
        sweep.suspect(set(&[1]));
        sweep.tick(Mono(1), Vec::new);
        sweep.acquit(&task(1));
        sweep.scanned(&set(&[]));
        assert_eq!(sweep.marked(Mono(1), |_| true), None);
        assert_eq!(sweep.tick(Mono(1).plus_millis(BETWEEN_SCANS_MS), Vec::new), None);
    }

    #[test]
    fn a_failed_scan_is_repeated_from_the_first_one() {
        let mut sweep = Sweep::default();
        sweep.suspect(set(&[1]));
        sweep.tick(Mono(1), Vec::new);
        sweep.failed(Mono(1));
        let later = Mono(1).plus_millis(BETWEEN_SCANS_MS);
        assert_eq!(sweep.tick(Mono(1), Vec::new), None);
        sweep.tick(later, Vec::new);
        sweep.scanned(&set(&[]));
        sweep.marked(later, |_| true);
        assert_eq!(sweep.tick(later, Vec::new), Some(Next::Scan));
    }

    #[test]
    fn what_is_overdue_is_looked_for_once_a_period() {
        let mut sweep = Sweep::default();
        assert_eq!(sweep.tick(Mono(1), Vec::new), None);
        assert_eq!(sweep.tick(Mono(2), || vec![task(1)]), None);
        assert_eq!(sweep.tick(Mono(1).plus_millis(PERIOD_MS), || vec![task(1)]), Some(Next::Scan));
    }
}
