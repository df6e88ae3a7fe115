//! Comparisons and calculations.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::super::calculate::{NoResult, Numeral};
use super::super::compile::{Operation, Order, Term};
use super::{Evaluation, Failure, Outcome, boolean, text_weight, weight};

impl<'a> Evaluation<'a> {
    /// Numbers are equal by value, lists and objects by content; different types are not.
    pub(super) fn equal(&mut self, left: &Value, right: &Value) -> Result<bool, Failure> {
        self.charge(1)?;
        Ok(match (left, right) {
            (Value::Number(a), Value::Number(b)) => Numeral::of(a).order(Numeral::of(b)) == Ordering::Equal,
            (Value::String(a), Value::String(b)) => {
                self.charge(text_weight(a))?;
                a == b
            }
            (Value::Array(a), Value::Array(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Object(a), Value::Object(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (name, a) in a {
                    let Some(b) = b.get(name) else { return Ok(false) };
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (left, right) => left == right,
        })
    }

    pub(super) fn order(&mut self, term: &'a Term, order: Order, sides: &'a [Term; 2]) -> Outcome<'a> {
        let (left, right) = (self.value(&sides[0])?, self.value(&sides[1])?);
        let ordering = match (&*left, &*right) {
            (Value::Number(a), Value::Number(b)) => Numeral::of(a).order(Numeral::of(b)),
            (Value::String(a), Value::String(b)) => {
                self.charge(text_weight(a))?;
                a.cmp(b)
            }
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (left, right) => {
                let (left, right) = (self.operand(&sides[0], left), self.operand(&sides[1], right));
                let sign = order.as_str();
                let message = format!("`{sign}` compares two numbers or two strings, not {left} and {right}");
                return Err(self.error(term, message));
            }
        };
        Ok(boolean(match order {
            Order::Less => ordering.is_lt(),
            Order::LessOrEqual => ordering.is_le(),
            Order::Greater => ordering.is_gt(),
            Order::GreaterOrEqual => ordering.is_ge(),
        }))
    }

    pub(super) fn contained(&mut self, term: &'a Term, sides: &'a [Term; 2]) -> Outcome<'a> {
        let (element, container) = (self.value(&sides[0])?, self.value(&sides[1])?);
        match (&*container, &*element) {
            (Value::Array(list), element) => {
                self.check_length(term, list.len())?;
                for candidate in list {
                    if self.equal(candidate, element)? {
                        return Ok(boolean(true));
                    }
                }
                Ok(boolean(false))
            }
            (Value::Object(members), Value::String(name)) => Ok(boolean(members.contains_key(name))),
            (Value::Object(_), _) => Ok(boolean(false)),
            (other, _) => {
                let message = format!("`in` looks into a list or an object, not {}", self.operand(&sides[1], other));
                Err(self.error(term, message))
            }
        }
    }

    pub(super) fn arithmetic(&mut self, term: &'a Term, operation: Operation, sides: &'a [Term; 2]) -> Outcome<'a> {
        let (left, right) = (self.value(&sides[0])?, self.value(&sides[1])?);
        match (operation, &*left, &*right) {
            (_, Value::Number(a), Value::Number(b)) => Numeral::of(a)
                .calculate(operation, Numeral::of(b))
                .map_err(|no| self.no_result(term, no))
                .and_then(|numeral| self.number(term, numeral)),
            (Operation::Add, Value::String(a), Value::String(b)) => {
                self.charge(text_weight(a) + text_weight(b))?;
                Ok(Cow::Owned(Value::String(format!("{a}{b}"))))
            }
            (Operation::Add, Value::Array(a), Value::Array(b)) => {
                self.charge(weight(&left).saturating_add(weight(&right)))?;
                Ok(Cow::Owned(Value::Array(a.iter().chain(b).cloned().collect())))
            }
            (_, left, right) => {
                let (left, right) = (self.operand(&sides[0], left), self.operand(&sides[1], right));
                let also = if operation == Operation::Add { ", two strings or two lists" } else { "" };
                let message = format!("`{}` takes two numbers{also}, not {left} and {right}", operation.as_str());
                Err(self.error(term, message))
            }
        }
    }

    pub(super) fn numeral(&self, term: &Term, operator: &str, of: &Term, value: &Value) -> Result<Numeral, Failure> {
        match value {
            Value::Number(number) => Ok(Numeral::of(number)),
            other => Err(self.error(term, format!("`{operator}` takes a number, not {}", self.operand(of, other)))),
        }
    }

    pub(super) fn number(&self, term: &Term, numeral: Numeral) -> Outcome<'a> {
        numeral.value().map(Cow::Owned).ok_or_else(|| self.no_result(term, NoResult::Overflow))
    }

    pub(super) fn no_result(&self, term: &Term, why: NoResult) -> Failure {
        let message = match why {
            NoResult::Overflow => "the result is too large for a number",
            NoResult::ZeroDivisor => "division by zero",
            NoResult::FloatRemainder => "`%` takes two integers",
        };
        self.error(term, message.to_owned())
    }
}
