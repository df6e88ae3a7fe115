//! How one agent behaves.

use millstream_model::error::ErrorCode;

use crate::simulation::dice::Dice;

/// What an agent answers when it succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Number,
    Object,
    /// So many elements.
    List(u8),
    Null,
    /// More than fits into a message.
    Huge,
}

/// What becomes of its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Succeeds,
    /// The first ordinals fail.
    FailsFirst {
        times: u32,
        code: ErrorCode,
        retryable: Option<bool>,
    },
    /// Every run fails.
    Fails {
        code: ErrorCode,
        retryable: Option<bool>,
    },
    /// Every run fails until somebody resumes the execution.
    FailsAtFirst {
        code: ErrorCode,
    },
    /// The first ordinals answer nothing for ever.
    Hangs {
        times: u32,
    },
    /// One of so many items fails.
    FailsSometimes {
        one_of: u32,
        code: ErrorCode,
    },
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    pub shape: Shape,
    /// The output goes to the payload store however small it is, as a large one would.
    pub stored: bool,
    pub fate: Fate,
    pub fastest_ms: u64,
    pub slowest_ms: u64,
    /// Gives signs of life while it works.
    pub beats: bool,
}

/// Codes that agents fail with.
const CODES: [ErrorCode; 8] = [
    ErrorCode::Timeout,
    ErrorCode::ExternalServiceError,
    ErrorCode::RateLimited,
    ErrorCode::CircuitOpen,
    ErrorCode::InternalError,
    ErrorCode::InvalidInput,
    ErrorCode::PermissionDenied,
    ErrorCode::BudgetExceeded,
];

impl Script {
    /// A random agent; of 1,000 steps `trouble` fail in one way or another.
    pub fn random(dice: &mut Dice, shape: Shape, trouble: u32) -> Self {
        let code = dice.pick(&CODES);
        let passing = dice.pick(&CODES[..5]);
        let retryable = dice.pick(&[None, None, None, Some(true), Some(false)]);
        let times = 1 + u32::try_from(dice.below(3)).expect("it is small");
        let fate = match dice.below(8) {
            _ if !dice.chance(trouble) => Fate::Succeeds,
            0..=2 => Fate::FailsFirst { times, code: passing, retryable },
            3 => Fate::Fails { code, retryable },
            4 => Fate::FailsAtFirst { code },
            5 => Fate::Hangs { times },
            _ => Fate::FailsSometimes { one_of: 3, code },
        };
        let fastest_ms = dice.pick(&[0, 1, 5, 20]);
        let slowest_ms = fastest_ms + dice.pick(&[1, 10, 100, 100, 1_000, 4_000]);
        Self { shape, stored: dice.chance(160), fate, fastest_ms, slowest_ms, beats: dice.chance(600) }
    }
}
