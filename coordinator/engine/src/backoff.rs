//! How long to wait before the next attempt (F90–F91, settled by C5).

use millstream_model::definition::{Definition, Retry, Step, Strategy};
use millstream_model::entry::Defaults;
use millstream_model::error::StepError;
use millstream_model::ids::{ExecutionId, StepId};

use crate::activation::Role;

/// How often something is attempted, and how long it rests between. What a definition leaves open in the retry of the
/// step comes from its `default_retry`, then from the configured defaults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy<'a> {
    own: Option<&'a Retry>,
    workflow: Option<&'a Retry>,
    defaults: &'a Defaults,
}

impl<'a> Policy<'a> {
    pub(crate) fn of(definition: &'a Definition, step: &'a Step, role: Role, defaults: &'a Defaults) -> Self {
        let own = match role {
            Role::Run => step.retry.as_ref(),
            Role::Fallback => step.fallback.as_ref().and_then(|f| f.retry.as_ref()).or(step.retry.as_ref()),
            Role::Compensation => step.compensate.as_ref().and_then(|c| c.retry.as_ref()),
        };
        Self { own, workflow: definition.default_retry.as_ref(), defaults }
    }

    pub(crate) fn max_attempts(self) -> u32 {
        self.field(|r| r.max_attempts).unwrap_or(self.defaults.max_attempts).max(1)
    }

    fn field<T>(self, field: impl Fn(&'a Retry) -> Option<T>) -> Option<T> {
        self.own.and_then(&field).or_else(|| self.workflow.and_then(&field))
    }

    /// Whether this error may be retried: the never-list, then the agent's own word, then `retry_on`, then the
    /// code's default.
    pub(crate) fn retries(self, error: &StepError) -> bool {
        if error.code.never_retryable() {
            return false;
        }
        if let Some(agents_word) = error.retryable {
            return agents_word;
        }
        match self.field(|r| r.retry_on.as_ref()) {
            Some(codes) => codes.contains(&error.code),
            None => error.code.retryable_by_default(),
        }
    }

    /// Milliseconds to wait after attempt `n` (from 1) failed:
    /// `min(backoff_ms × multiplier^(n−1) + jitter, max_backoff_ms)`, jitter 0–25 % of the uncapped delay.
    /// The jitter is a hash of what is retried, so that a refold waits the same.
    pub(crate) fn delay_ms(self, n: u32, execution: ExecutionId, step: &StepId, item: Option<u32>) -> u64 {
        let backoff = self.field(|r| r.backoff_ms).unwrap_or(self.defaults.backoff_ms);
        let multiplier = self.field(|r| r.backoff_multiplier).unwrap_or(self.defaults.backoff_multiplier);
        let cap = self.field(|r| r.max_backoff_ms).unwrap_or(self.defaults.max_backoff_ms);
        let jitter = self.field(|r| r.jitter).unwrap_or(true);
        let strategy = self.field(|r| r.strategy).unwrap_or_default();
        let fraction = if jitter { fraction(execution, step, item, n) } else { 0.0 };
        delay_ms(strategy, backoff, multiplier, cap, n, fraction)
    }
}

/// `fraction` in 0..1 chooses the jitter between 0 and 25 %.
fn delay_ms(strategy: Strategy, backoff: u64, multiplier: f64, cap: u64, n: u32, fraction: f64) -> u64 {
    let backoff = backoff as f64;
    let base = match strategy {
        Strategy::Exponential => backoff * multiplier.powi(i32::try_from(n.saturating_sub(1)).unwrap_or(i32::MAX)),
        Strategy::Linear => backoff * f64::from(n),
        Strategy::Fixed => backoff,
    };
    // A power beyond all floats is infinite: it must not meet the zero of a missing jitter.
    if base >= cap as f64 {
        return cap;
    }
    ((base + base * 0.25 * fraction).round() as u64).min(cap)
}

fn fraction(execution: ExecutionId, step: &StepId, item: Option<u32>, n: u32) -> f64 {
    let span = millstream_model::trace::SpanId::of_attempt(execution, step, item, u32::MAX, n);
    let bits = u64::from_le_bytes(span.to_bytes()) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_the_cap() {
        let delays: Vec<u64> = (1..=7).map(|n| delay_ms(Strategy::Exponential, 1_000, 2.0, 30_000, n, 0.0)).collect();
        assert_eq!(delays, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn jitter_adds_at_most_a_quarter_and_nothing_at_the_cap() {
        assert_eq!(delay_ms(Strategy::Exponential, 1_000, 2.0, 30_000, 2, 1.0), 2_500);
        assert_eq!(delay_ms(Strategy::Exponential, 1_000, 2.0, 30_000, 9, 0.0), 30_000);
        assert_eq!(delay_ms(Strategy::Exponential, 1_000, 2.0, 30_000, 9, 1.0), 30_000);
        assert_eq!(delay_ms(Strategy::Exponential, 1_000, 10.0, u64::MAX, 100, 1.0), u64::MAX);
    }

    #[test]
    fn a_power_beyond_all_numbers_waits_as_long_as_the_cap() {
        assert_eq!(delay_ms(Strategy::Exponential, 1_000, 1e300, 30_000, 100, 0.0), 30_000);
        assert_eq!(delay_ms(Strategy::Exponential, 0, 1e300, 30_000, 2, 0.0), 0);
    }

    #[test]
    fn linear_and_fixed_do_what_they_say() {
        assert_eq!(delay_ms(Strategy::Linear, 500, 2.0, 30_000, 3, 0.0), 1_500);
        assert_eq!(delay_ms(Strategy::Fixed, 500, 2.0, 30_000, 3, 0.0), 500);
    }

    #[test]
    fn the_fraction_is_spread_and_repeatable() {
        let step: StepId = "fetch".parse().expect("a name");
        let execution: ExecutionId = "0193a5a0-0000-7000-8000-000000000003".parse().expect("an id");
        let all: Vec<f64> = (0..1_000).map(|n| fraction(execution, &step, None, n)).collect();
        let mean = all.iter().sum::<f64>() / 1_000.0;
        assert!(all.iter().all(|f| (0.0..1.0).contains(f)) && (0.45..0.55).contains(&mean), "{mean}");
        assert_eq!(all[7], fraction(execution, &step, None, 7));
    }
}
