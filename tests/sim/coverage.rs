//! What the generator reached: how often each fault struck in each phase.
//!
//! A simulator finds only what its world comes to (reference, reliability section 2, on what four fuzzers missed). The
//! suite wants every cell filled that [`is_possible`].

use std::fmt::Write;

use super::faults::Fault;

/// What is going on when a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// A submission is on its way into the journal.
    Submit,
    /// A task is on its way into its queue.
    Publish,
    /// A worker asks for tasks, or they are on their way to it.
    Pull,
    /// A worker claims a run.
    Claim,
    /// An agent works.
    Run,
    /// A result is on its way into the journal.
    Append,
    /// A task is acked or handed back.
    Ack,
    /// The journal is on its way to an owner.
    Fold,
    /// An attempt waits for its turn, or its turn comes.
    Backoff,
    /// The owner looks for missing tasks.
    Sweep,
    /// A cancel is on its way into the journal or to the workers.
    Cancel,
    /// A compensation is published, run or reported.
    Compensate,
    /// A step of `finally` is published, run or reported.
    Finally,
    /// An execution is asked to go on, or goes on.
    Resume,
    /// A coordinator takes the partition.
    TakeOver,
    /// A value is on its way to or from the payload store.
    Payload,
    /// A record is on its way to or from the history.
    Record,
    /// A snapshot is stored or read, or the journal is cut below one.
    Snapshot,
    /// Coordinators share out the partitions.
    Lease,
}

impl Phase {
    pub const ALL: [Self; 19] = [
        Self::Submit,
        Self::Publish,
        Self::Pull,
        Self::Claim,
        Self::Run,
        Self::Append,
        Self::Ack,
        Self::Fold,
        Self::Backoff,
        Self::Sweep,
        Self::Cancel,
        Self::Compensate,
        Self::Finally,
        Self::Resume,
        Self::TakeOver,
        Self::Payload,
        Self::Record,
        Self::Snapshot,
        Self::Lease,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Publish => "publish",
            Self::Pull => "pull",
            Self::Claim => "claim",
            Self::Run => "run",
            Self::Append => "append",
            Self::Ack => "ack",
            Self::Fold => "fold",
            Self::Backoff => "backoff",
            Self::Sweep => "sweep",
            Self::Cancel => "cancel",
            Self::Compensate => "compens.",
            Self::Finally => "finally",
            Self::Resume => "resume",
            Self::TakeOver => "takeover",
            Self::Payload => "payload",
            Self::Record => "record",
            Self::Snapshot => "snapshot",
            Self::Lease => "lease",
        }
    }
}

/// Some phases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases(u32);

impl Phases {
    pub const NONE: Self = Self(0);

    pub const fn of(phase: Phase) -> Self {
        Self(1 << phase as u32)
    }

    #[must_use]
    pub const fn and(self, phase: Phase) -> Self {
        Self(self.0 | 1 << phase as u32)
    }

    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn has(self, phase: Phase) -> bool {
        self.0 & (1 << phase as u32) != 0
    }
}

/// Counts by fault and phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    hits: [[u64; Phase::ALL.len()]; Fault::ALL.len()],
}

impl Default for Coverage {
    fn default() -> Self {
        Self { hits: [[0; Phase::ALL.len()]; Fault::ALL.len()] }
    }
}

impl Coverage {
    /// The fault struck in these phases.
    pub fn hit(&mut self, fault: Fault, phases: Phases) {
        for phase in Phase::ALL.into_iter().filter(|phase| phases.has(*phase)) {
            self.hits[fault as usize][phase as usize] += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (sums, counts) in self.hits.iter_mut().zip(&other.hits) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }

    /// Cells that were not reached and could be.
    pub fn holes(&self) -> Vec<(Fault, Phase)> {
        let cells = Fault::ALL.into_iter().flat_map(|fault| Phase::ALL.map(|phase| (fault, phase)));
        cells.filter(|(f, p)| is_possible(*f, *p) && self.hits[*f as usize][*p as usize] == 0).collect()
    }

    /// The table; `-` where nothing can be.
    pub fn table(&self) -> String {
        let mut text = format!("{:18}", "");
        for phase in Phase::ALL {
            write!(text, "{:>9}", phase.as_str()).expect("a string takes everything");
        }
        for fault in Fault::ALL {
            write!(text, "\n{:18}", fault.as_str()).expect("a string takes everything");
            for phase in Phase::ALL {
                let count = self.hits[fault as usize][phase as usize];
                let cell = if is_possible(fault, phase) { count.to_string() } else { "-".to_owned() };
                write!(text, "{cell:>9}").expect("a string takes everything");
            }
        }
        text.push('\n');
        text
    }
}

/// Whether a fault can strike in a phase at all. What cannot:
///
/// - a store is refused only where something is stored: pulls, progress, acks and reads are not;
/// - acks have no answer, but for the rare one after a claim that was not used;
/// - a full queue meets publishes only, a denied subject these and results;
/// - stale answers come from reads: the scan of a sweep or take-over, and the list of workers beside a held claim;
/// - a purge is met by readers of the journal;
/// - a coordinator has no part in pulls, runs, claims, acks and appends of workers, a worker none in what only owners do;
/// - a cancel storm and lies are messages of clients and workers, struck where they are sent.
pub fn is_possible(fault: Fault, phase: Phase) -> bool {
    use Phase as P;
    match fault {
        Fault::Loss | Fault::Delay | Fault::Reorder => true,
        Fault::AnswerLost => !matches!(phase, P::Fold | P::Ack),
        Fault::Late | Fault::Duplicate => !matches!(phase, P::Fold),
        Fault::Unsettled | Fault::DiskFull => !matches!(phase, P::Pull | P::Run | P::Ack | P::Fold),
        Fault::QueueFull => matches!(phase, P::Publish | P::Backoff | P::Compensate | P::Finally),
        Fault::Denied => matches!(phase, P::Publish | P::Append | P::Backoff | P::Compensate | P::Finally),
        Fault::HandOver => !matches!(phase, P::Pull | P::Claim | P::Run | P::Append | P::Ack | P::Payload),
        Fault::Regression => matches!(phase, P::Fold | P::Snapshot | P::Record),
        Fault::StaleRead => matches!(phase, P::Sweep),
        Fault::FeedGap => matches!(phase, P::Fold),
        Fault::CoordinatorCrash => !matches!(phase, P::Pull | P::Claim | P::Run | P::Append | P::Ack),
        Fault::CoordinatorPause | Fault::TakeOver => {
            !matches!(phase, P::Pull | P::Claim | P::Run | P::Append | P::Ack | P::Payload)
        }
        Fault::WorkerCrash | Fault::WorkerPause | Fault::WorkerStop => {
            matches!(phase, P::Pull | P::Claim | P::Run | P::Append | P::Ack | P::Compensate | P::Finally | P::Payload)
        }
        Fault::Disconnect | Fault::LeaderAway | Fault::BrokerCrash | Fault::ClockJump | Fault::ClockSkew => true,
        Fault::StreamLost => !matches!(phase, P::Submit | P::Payload),
        Fault::CancelStorm => matches!(phase, P::Cancel),
        Fault::Lies => matches!(phase, P::Append),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_was_not_reached_is_a_hole_unless_it_is_impossible() {
        let mut coverage = Coverage::default();
        assert!(coverage.holes().contains(&(Fault::Lies, Phase::Append)));
        assert!(!coverage.holes().contains(&(Fault::Lies, Phase::Fold)));
        coverage.hit(Fault::Lies, Phases::of(Phase::Append));
        assert!(!coverage.holes().contains(&(Fault::Lies, Phase::Append)));
    }
}
