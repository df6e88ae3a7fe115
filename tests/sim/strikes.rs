//! Faults that strike the world at a time, not a message: who, when, for how long.

use millstream_model::ids::Capability;

use super::dice::Dice;
use super::faults::{Fault, Faults};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strike {
    Disconnect {
        node: usize,
        millis: u64,
    },
    DiskFull {
        millis: u64,
    },
    QueueFull {
        capability: Capability,
        millis: u64,
    },
    Denied {
        capability: Capability,
        millis: u64,
    },
    DeniedResults {
        capability: Capability,
        millis: u64,
    },
    LeaderAway {
        millis: u64,
    },
    BrokerCrash {
        millis: u64,
        forgotten_ms: u64,
    },
    StreamLost,
    CoordinatorCrash {
        index: u8,
    },
    CoordinatorPause {
        index: u8,
        millis: u64,
    },
    TakeOver {
        index: u8,
    },
    HandOver {
        index: u8,
    },
    /// The journal is copied, and later the copy is put in its place.
    Backup,
    Regress,
    WorkerCrash {
        index: u8,
    },
    WorkerPause {
        index: u8,
        millis: u64,
    },
    WorkerStop {
        index: u8,
    },
    BrokerClock {
        micros: i64,
    },
    NodeClock {
        node: usize,
        micros: i64,
    },
    CancelStorm,
}

/// Five minutes.
const SKEW_MAX_MS: u64 = 300_000;

/// The strikes of a world within so many milliseconds, with their times.
pub fn random(
    faults: &Faults,
    capabilities: &[Capability],
    coordinators: u8,
    workers: u8,
    millis: u64,
    dice: &mut Dice,
) -> Vec<(u64, Strike)> {
    let mut strikes = Vec::new();
    let nodes = usize::from(coordinators) + usize::from(workers);
    for fault in faults.active() {
        let count = 1 + dice.below(5);
        for _ in 0..count {
            let at = dice.below(millis);
            let short = dice.pick(&[100, 1_000, 5_000]);
            let coordinator = u8::try_from(dice.below(u64::from(coordinators))).expect("there are few");
            let worker = u8::try_from(dice.below(u64::from(workers))).expect("there are few");
            let pause = dice.pick(&[100, 3_000, 12_000, 40_000]);
            let capability = capabilities[dice.index(capabilities.len())].clone();
            let strike = match fault {
                Fault::Disconnect => Strike::Disconnect {
                    node: dice.index(nodes),
                    millis: 1 + dice.below(dice.clone().pick(&[50, 2_000, 20_000])),
                },
                Fault::DiskFull => Strike::DiskFull { millis: 1 + dice.below(short * 2) },
                Fault::QueueFull => Strike::QueueFull { capability, millis: 1 + dice.below(short * 2) },
                Fault::Denied if dice.chance(500) => {
                    Strike::DeniedResults { capability, millis: 1 + dice.below(pause * 2) }
                }
                Fault::Denied => Strike::Denied { capability, millis: 1 + dice.below(short) },
                Fault::LeaderAway => Strike::LeaderAway { millis: dice.below(short * 4) },
                Fault::BrokerCrash => {
                    Strike::BrokerCrash { millis: 50 + dice.below(3_000), forgotten_ms: dice.below(10_000) }
                }
                Fault::StreamLost => Strike::StreamLost,
                Fault::CoordinatorCrash => Strike::CoordinatorCrash { index: coordinator },
                Fault::CoordinatorPause => {
                    Strike::CoordinatorPause { index: coordinator, millis: 1 + dice.below(pause) }
                }
                Fault::TakeOver => Strike::TakeOver { index: coordinator },
                Fault::HandOver => Strike::HandOver { index: coordinator },
                Fault::Regression => {
                    let back = at + (millis - at) / 2 + dice.below((millis - at) / 2 + 1);
                    strikes.push((back, Strike::Regress));
                    strikes.push((at, Strike::Backup));
                    break;
                }
                Fault::WorkerCrash => Strike::WorkerCrash { index: worker },
                Fault::WorkerPause => Strike::WorkerPause { index: worker, millis: 1 + dice.below(pause) },
                Fault::WorkerStop => Strike::WorkerStop { index: worker },
                Fault::ClockJump => Strike::BrokerClock { micros: jump(dice) },
                Fault::ClockSkew => Strike::NodeClock { node: dice.index(nodes), micros: jump(dice) },
                Fault::CancelStorm => Strike::CancelStorm,
                Fault::Loss
                | Fault::AnswerLost
                | Fault::Duplicate
                | Fault::Reorder
                | Fault::Delay
                | Fault::Late
                | Fault::Unsettled
                | Fault::StaleRead
                | Fault::FeedGap
                | Fault::Lies => break,
            };
            strikes.push((at, strike));
        }
    }
    strikes
}

/// Milliseconds to minutes, forward or back.
pub fn jump(dice: &mut Dice) -> i64 {
    let most = dice.pick(&[100, 5_000, SKEW_MAX_MS]);
    let micros = i64::try_from(dice.below(most * 1_000)).expect("minutes fit");
    if dice.chance(500) { micros } else { -micros }
}
