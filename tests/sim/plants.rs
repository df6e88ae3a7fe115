//! Bugs, planted to show that they are found.
//!
//! Each is a switch of the simulated shells or of what they hand to the real code; none exists outside of this
//! folder. What would be a bug inside of the engine is made by tampering with what *every* fold is given
//! ([`tamper`](super::tamper)), so that comparing two folds does not find it.

use std::fmt;
use std::str::FromStr;

/// One planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// An owner publishes what it folds before its own epoch.
    EmitDuringReplay,
    /// An owner does not stop at another's newer epoch.
    IgnoreEpoch,
    /// An owner folds with its own wall clock instead of the messages' times.
    WallClockInFold,
    /// An append that is refused because the journal is full is taken for a duplicate, which is a success.
    FullJournalAsDuplicate,
    /// A publish that is refused because the queue is full is taken for a duplicate, which is a success.
    FullQueueAsDuplicate,
    /// A task stream that is gone is taken for one that is full.
    LostQueueAsFull,
    /// A publish of unknown outcome is taken for a success.
    UnknownPublishAsSuccess,
    /// A publish of unknown outcome is repeated as it was, without an entry of its own.
    UnknownPublishRepeated,
    /// 10164 is taken for a success of an append.
    UnsettledAsSuccess,
    /// Messages that are missing from the journal are not noticed.
    NoContiguityCheck,
    /// Alarms go off right after a reconnect.
    TimersAfterReconnect,
    /// Alarms of executions that began before the owner did never go off.
    TimersLostOnRestart,
    /// A missing task is published again under the number it had.
    ReissueSameOrdinal,
    /// The second scan of a sweep is the first one's answer.
    OneScan,
    /// The sweep does not wait for its marker.
    MarkerNotAwaited,
    /// One publish of fifty never leaves.
    PublishForgotten,
    /// A worker writes something unreadable, and the owner stops.
    HaltOnGarbage,
    /// A caller is told that its submission is accepted before the journal has it.
    AnswerBeforeStored,
    /// A task is acked before its result is stored.
    AckBeforeAppend,
    /// A task is acked when it arrives.
    AckOnArrival,
    /// A worker runs without the claim it needs.
    ForgetClaim,
    /// A claim that is taken is run all the same.
    IgnoreTakenClaim,
    /// Claims of all activations have the same key.
    ClaimWithoutActivation,
    /// The claim of a run that may be repeated is released with its ack.
    ReleaseRunClaim,
    /// A worker whose claim is taken says that the other's attempt is lost.
    HeldClaimAsLost,
    /// Workers do not heed cancels.
    CancelIgnored,
    /// Workers heed cancels in compensations and in what runs after the outcome.
    CancelledCompensation,
    /// Workers start tasks after their time.
    NotAfterIgnored,
    /// Workers do not enforce start-to-close.
    TimeoutIgnored,
    /// Results are appended twice.
    ResultTwice,
    /// The fold takes a success for one item for that of the next one too.
    DoubleApply,
    /// The fold forgets a settled attempt now and then.
    LeakedSlot,
    /// The fold takes results of earlier activations for those of the current one.
    StaleActivation,
    /// The fold takes any token.
    AnyToken,
    /// The fold takes late failures of earlier ordinals for those of the current one.
    StaleOrdinal,
    /// Completed effects are undone in the order in which they were completed.
    CompensateForward,
    /// Two processes of a coordinator have the same name, and with it the same message ids.
    NodeNameReused,
    /// Nobody looks whether the journal went backwards.
    RegressionUnchecked,
    /// A snapshot is restored without the idempotency keys.
    SnapshotWithoutKeys,
    /// A snapshot is restored without the epoch in force.
    SnapshotWithoutEpoch,
    /// Executions of a snapshot are restored without their last entry.
    RestoredWithoutLastEntry,
    /// A snapshot is restored under the oldest revision of the fold.
    RevisionLowered,
    /// A revision is put in force though a coordinator lives that does not fold it.
    RevisionWithoutOthers,
    /// Alarms of parked executions are not in snapshots.
    ParkedAlarmsForgotten,
    /// A parked execution comes back without its last entry.
    WokenWithoutLastEntry,
    /// The journal is cut before the pointer leads to the snapshot.
    TrimBeforePointer,
    /// The journal is cut as soon as the snapshot is stored, within the duplicate window.
    TrimAtOnce,
    /// The pointer to the newest snapshot is written without looking at what it is.
    PointerWithoutCompare,
    /// An execution is forgotten before its record is in the history.
    ArchiveBeforeRecord,
    /// An owner stops when its lease has run out, and nobody tells the leases.
    ExpiryStopsOwner,
    /// An epoch of a lower number than the one in force is taken for a newer one.
    EpochOfLowerNumber,
    /// An owner whose own epoch is ignored waits for ever.
    EpochNotRetried,
    /// A parked execution is never woken by its alarm.
    ParkedForgotten,
    /// A record of the history lacks the entry that ended its execution.
    RecordWithoutLastEntry,
    /// The journal is looked at before the pointer to the newest snapshot.
    StateBeforePointer,
    /// An archived execution is resumed from an older record than its newest.
    ResumeFromOldRecord,
}

impl Plant {
    pub const ALL: [Self; 56] = [
        Self::EmitDuringReplay,
        Self::IgnoreEpoch,
        Self::WallClockInFold,
        Self::FullJournalAsDuplicate,
        Self::FullQueueAsDuplicate,
        Self::LostQueueAsFull,
        Self::UnknownPublishAsSuccess,
        Self::UnknownPublishRepeated,
        Self::UnsettledAsSuccess,
        Self::NoContiguityCheck,
        Self::TimersAfterReconnect,
        Self::TimersLostOnRestart,
        Self::ReissueSameOrdinal,
        Self::OneScan,
        Self::MarkerNotAwaited,
        Self::PublishForgotten,
        Self::HaltOnGarbage,
        Self::AnswerBeforeStored,
        Self::AckBeforeAppend,
        Self::AckOnArrival,
        Self::ForgetClaim,
        Self::IgnoreTakenClaim,
        Self::ClaimWithoutActivation,
        Self::ReleaseRunClaim,
        Self::HeldClaimAsLost,
        Self::CancelIgnored,
        Self::CancelledCompensation,
        Self::NotAfterIgnored,
        Self::TimeoutIgnored,
        Self::ResultTwice,
        Self::DoubleApply,
        Self::LeakedSlot,
        Self::StaleActivation,
        Self::AnyToken,
        Self::StaleOrdinal,
        Self::CompensateForward,
        Self::NodeNameReused,
        Self::RegressionUnchecked,
        Self::SnapshotWithoutKeys,
        Self::SnapshotWithoutEpoch,
        Self::RestoredWithoutLastEntry,
        Self::RevisionLowered,
        Self::RevisionWithoutOthers,
        Self::ParkedAlarmsForgotten,
        Self::WokenWithoutLastEntry,
        Self::TrimBeforePointer,
        Self::TrimAtOnce,
        Self::PointerWithoutCompare,
        Self::ArchiveBeforeRecord,
        Self::ExpiryStopsOwner,
        Self::EpochOfLowerNumber,
        Self::EpochNotRetried,
        Self::ParkedForgotten,
        Self::RecordWithoutLastEntry,
        Self::StateBeforePointer,
        Self::ResumeFromOldRecord,
    ];

    /// The name on the command line.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The text names no planted bug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no planted bug `{name}`; there are {}", Plant::ALL.map(Plant::name).join(", "))]
pub struct UnknownPlant {
    name: String,
}

impl FromStr for Plant {
    type Err = UnknownPlant;

    fn from_str(name: &str) -> Result<Self, UnknownPlant> {
        let found = Self::ALL.into_iter().find(|plant| plant.name() == name);
        found.ok_or_else(|| UnknownPlant { name: name.to_owned() })
    }
}
