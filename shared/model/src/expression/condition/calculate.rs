//! Numbers of conditions: integers of 64 bits with a sign, and floats, mixed as one likes.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::compile::Operation;

/// A number of a condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Numeral {
    Int(i64),
    Float(f64),
}

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoResult {
    Overflow,
    ZeroDivisor,
    FloatRemainder,
}

impl Numeral {
    /// A JSON integer beyond 64 bits with a sign is a float.
    pub(super) fn of(number: &Number) -> Self {
        match number.as_i64() {
            Some(value) => Self::Int(value),
            None => Self::Float(number.as_f64().expect("a JSON number is an integer or a float")),
        }
    }

    pub(super) fn value(self) -> Option<Value> {
        match self {
            Self::Int(value) => Some(Value::from(value)),
            Self::Float(value) => Number::from_f64(value).map(Value::Number),
        }
    }

    /// The exact order, also of large integers and floats.
    pub(super) fn order(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b).expect("JSON has no NaN"),
            (Self::Int(a), Self::Float(b)) => order(a, b),
            (Self::Float(a), Self::Int(b)) => order(b, a).reverse(),
        }
    }

    pub(super) fn negate(self) -> Result<Self, NoResult> {
        match self {
            Self::Int(value) => value.checked_neg().map(Self::Int).ok_or(NoResult::Overflow),
            Self::Float(value) => Ok(Self::Float(-value)),
        }
    }

    pub(super) fn calculate(self, operation: Operation, other: Self) -> Result<Self, NoResult> {
        if let (Self::Int(a), Self::Int(b)) = (self, other) {
            if b == 0 && matches!(operation, Operation::Divide | Operation::Remainder) {
                return Err(NoResult::ZeroDivisor);
            }
            let result = match operation {
                Operation::Add => a.checked_add(b),
                Operation::Subtract => a.checked_sub(b),
                Operation::Multiply => a.checked_mul(b),
                Operation::Divide => a.checked_div(b),
                Operation::Remainder => a.checked_rem(b),
            };
            return result.map(Self::Int).ok_or(NoResult::Overflow);
        }
        let (a, b) = (self.float(), other.float());
        let result = match operation {
            Operation::Add => a + b,
            Operation::Subtract => a - b,
            Operation::Multiply => a * b,
            Operation::Divide if b == 0.0 => return Err(NoResult::ZeroDivisor),
            Operation::Divide => a / b,
            Operation::Remainder => return Err(NoResult::FloatRemainder),
        };
        if result.is_finite() { Ok(Self::Float(result)) } else { Err(NoResult::Overflow) }
    }

    #[allow(clippy::cast_precision_loss, reason = "floats are not exact, and were asked for")]
    pub(super) fn float(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// The integer that is left without the fraction.
    pub(super) fn int(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            Self::Float(value) => whole(value),
        }
    }
}

/// 2⁶³, the first float above all integers.
const BEYOND: f64 = 9_223_372_036_854_775_808.0;

#[allow(clippy::cast_possible_truncation, reason = "the range was checked")]
fn whole(value: f64) -> Option<i64> {
    (-BEYOND..BEYOND).contains(&value).then_some(value as i64)
}

fn order(int: i64, float: f64) -> Ordering {
    match whole(float) {
        None if float > 0.0 => Ordering::Less,
        None => Ordering::Greater,
        Some(floor) => int.cmp(&floor).then_with(|| 0.0.partial_cmp(&float.fract()).expect("JSON has no NaN")),
    }
}

#[cfg(test)]
mod tests {
    use super::Numeral::{Float, Int};
    use super::*;

    #[test]
    fn integers_and_floats_have_one_order() {
        assert_eq!(Int(95).order(Float(87.5)), Ordering::Greater);
        assert_eq!(Float(87.5).order(Int(95)), Ordering::Less);
        assert_eq!(Int(1).order(Float(1.0)), Ordering::Equal);
        assert_eq!(Int(-1).order(Float(-1.5)), Ordering::Greater);
        assert_eq!(Int(9_007_199_254_740_993).order(Float(9_007_199_254_740_992.0)), Ordering::Greater);
        assert_eq!(Int(i64::MAX).order(Float(1e300)), Ordering::Less);
        assert_eq!(Int(i64::MIN).order(Float(-1e300)), Ordering::Greater);
        assert_eq!(Int(i64::MAX).order(Float(BEYOND)), Ordering::Less);
        assert_eq!(Int(i64::MIN).order(Float(-BEYOND)), Ordering::Equal);
    }

    #[test]
    fn what_has_no_result_says_why() {
        assert_eq!(Int(i64::MAX).calculate(Operation::Add, Int(1)), Err(NoResult::Overflow));
        assert_eq!(Int(i64::MIN).calculate(Operation::Divide, Int(-1)), Err(NoResult::Overflow));
        assert_eq!(Int(i64::MIN).negate(), Err(NoResult::Overflow));
        assert_eq!(Int(1).calculate(Operation::Remainder, Int(0)), Err(NoResult::ZeroDivisor));
        assert_eq!(Float(1.0).calculate(Operation::Divide, Int(0)), Err(NoResult::ZeroDivisor));
        assert_eq!(Float(1e308).calculate(Operation::Multiply, Int(10)), Err(NoResult::Overflow));
        assert_eq!(Float(1.5).calculate(Operation::Remainder, Int(1)), Err(NoResult::FloatRemainder));
    }
}
