//! The value of a condition, in a bounded number of steps.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Ordering;

use serde_json::Value;

use super::Condition;
use super::calculate::Numeral;
use super::compile::{Kind, Term};
use crate::expression::{EvaluationError, Scope};
use crate::limits::{CONDITION_LIST_MAX, CONDITION_STEPS_MAX};

mod calls;
mod operators;

/// Why a term has no value.
enum Failure {
    /// The other side of `&&` and `||` can make it irrelevant.
    Error(EvaluationError),
    /// Nothing can.
    Exhausted,
}

type Outcome<'a> = Result<Cow<'a, Value>, Failure>;

/// One evaluation of one condition.
pub(super) struct Evaluation<'a> {
    condition: &'a Condition,
    scope: &'a Scope,
    /// What the paths gave, as far as it was asked for.
    values: &'a [OnceCell<Value>],
    /// What the macros around the current term bound, the outermost first.
    variables: Vec<Cow<'a, Value>>,
    steps: u64,
}

impl<'a> Evaluation<'a> {
    pub(super) fn new(condition: &'a Condition, scope: &'a Scope, values: &'a [OnceCell<Value>]) -> Self {
        Self { condition, scope, values, variables: Vec::new(), steps: 0 }
    }

    pub(super) fn run(mut self) -> Result<bool, EvaluationError> {
        let term = &self.condition.term;
        let outcome = self.value(term).and_then(|value| match &*value {
            Value::Bool(holds) => Ok(*holds),
            Value::Null => Ok(false),
            other => Err(self.error(term, format!("the condition gives {}, not true or false", shown(other)))),
        });
        outcome.map_err(|failure| match failure {
            Failure::Error(error) => error,
            Failure::Exhausted => EvaluationError::Condition {
                text: self.condition.text.to_string(),
                column: 1,
                message: format!("the condition takes more than {CONDITION_STEPS_MAX} steps"),
            },
        })
    }

    fn value(&mut self, term: &'a Term) -> Outcome<'a> {
        self.charge(1)?;
        match &term.kind {
            Kind::Constant(value) => Ok(Cow::Borrowed(value)),
            Kind::Path(index) => self.path(*index),
            Kind::Variable(depth) => match &self.variables[*depth] {
                Cow::Borrowed(value) => Ok(Cow::Borrowed(value)),
                Cow::Owned(value) => {
                    let value = value.clone();
                    self.charge(weight(&value))?;
                    Ok(Cow::Owned(value))
                }
            },
            Kind::Member { of, name } => Ok(member(self.value(of)?, name)),
            Kind::Index { of, index } => self.index(term, of, index),
            Kind::Has(of) => Ok(boolean(!self.value(of)?.is_null())),
            Kind::Not(of) => Ok(boolean(!self.truth(of, "!")?)),
            Kind::Negate(of) => {
                let value = self.value(of)?;
                let numeral = self.numeral(term, "-", of, &value)?;
                numeral.negate().map_err(|no| self.no_result(term, no)).and_then(|n| self.number(term, n))
            }
            Kind::And(sides) => self.logic(sides, "&&", false),
            Kind::Or(sides) => self.logic(sides, "||", true),
            Kind::Choice(branches) => {
                let [condition, yes, no] = &**branches;
                if self.truth(condition, "?")? { self.value(yes) } else { self.value(no) }
            }
            Kind::Equal { sides, negated } => {
                let (left, right) = (self.value(&sides[0])?, self.value(&sides[1])?);
                Ok(boolean(self.equal(&left, &right)? != *negated))
            }
            Kind::Order { order, sides } => self.order(term, *order, sides),
            Kind::In(sides) => self.contained(term, sides),
            Kind::Arithmetic { operation, sides } => self.arithmetic(term, *operation, sides),
            Kind::List(elements) => self.list(elements),
            Kind::Call { function, arguments } => self.call(term, *function, arguments),
            Kind::Loop { kind, list, predicate, result } => {
                self.each(term, *kind, list, predicate.as_deref(), result.as_deref())
            }
        }
    }

    fn charge(&mut self, steps: u64) -> Result<(), Failure> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > CONDITION_STEPS_MAX { Err(Failure::Exhausted) } else { Ok(()) }
    }

    fn path(&mut self, index: usize) -> Outcome<'a> {
        let slot = &self.values[index];
        if let Some(value) = slot.get() {
            return Ok(Cow::Borrowed(value));
        }
        let value = self.condition.paths[index].evaluate(self.scope).map_err(Failure::Error)?;
        Ok(Cow::Borrowed(slot.get_or_init(|| value)))
    }

    /// Null counts as false.
    fn truth(&mut self, term: &'a Term, operator: &str) -> Result<bool, Failure> {
        let value = self.value(term)?;
        match &*value {
            Value::Bool(value) => Ok(*value),
            Value::Null => Ok(false),
            other => {
                let message = format!("`{operator}` takes true or false, not {}", self.operand(term, other));
                Err(self.error(term, message))
            }
        }
    }

    /// A side that is `decisive` decides, whatever is wrong with the other one.
    fn logic(&mut self, sides: &'a [Term; 2], operator: &str, decisive: bool) -> Outcome<'a> {
        let left = match self.truth(&sides[0], operator) {
            Err(Failure::Exhausted) => return Err(Failure::Exhausted),
            Ok(value) if value == decisive => return Ok(boolean(decisive)),
            other => other,
        };
        match (left, self.truth(&sides[1], operator)) {
            (_, Ok(value)) if value == decisive => Ok(boolean(decisive)),
            (_, Err(Failure::Exhausted)) => Err(Failure::Exhausted),
            (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
            (Ok(_), Ok(_)) => Ok(boolean(!decisive)),
        }
    }

    fn index(&mut self, term: &'a Term, of: &'a Term, index: &'a Term) -> Outcome<'a> {
        let (value, place) = (self.value(of)?, self.value(index)?);
        match (&*value, &*place) {
            (_, Value::String(name)) => Ok(member(value, name)),
            (Value::Array(_), Value::Number(number)) => {
                let place = Numeral::of(number);
                let whole = place.int().filter(|whole| Numeral::Int(*whole).order(place) == Ordering::Equal);
                let element = whole.and_then(|whole| usize::try_from(whole).ok());
                Ok(element.map_or(Cow::Owned(Value::Null), |element| self::element(value, element)))
            }
            (_, Value::Null) | (Value::Null, _) => Ok(Cow::Owned(Value::Null)),
            (list, place) => {
                let message =
                    format!("{} cannot be indexed with {}", self.operand(of, list), self.operand(index, place));
                Err(self.error(term, message))
            }
        }
    }

    fn list(&mut self, elements: &'a [Term]) -> Outcome<'a> {
        let mut list = Vec::with_capacity(elements.len());
        for element in elements {
            let value = self.value(element)?;
            list.push(self.owned(value)?);
        }
        Ok(Cow::Owned(Value::Array(list)))
    }

    fn owned(&mut self, value: Cow<'a, Value>) -> Result<Value, Failure> {
        if let Cow::Borrowed(value) = value {
            self.charge(weight(value))?;
        }
        Ok(value.into_owned())
    }

    fn check_length(&self, term: &Term, length: usize) -> Result<(), Failure> {
        if length <= CONDITION_LIST_MAX {
            return Ok(());
        }
        let message = format!("a condition goes through at most {CONDITION_LIST_MAX} elements; the list has {length}");
        Err(self.error(term, message))
    }

    /// A value for a message, under its path if it has one.
    fn operand(&self, term: &Term, value: &Value) -> String {
        match &term.kind {
            Kind::Path(index) => format!("{} ({})", self.condition.paths[*index].text(), shown(value)),
            _ => shown(value),
        }
    }

    fn error(&self, term: &Term, message: String) -> Failure {
        let text = self.condition.text.to_string();
        Failure::Error(EvaluationError::Condition { text, column: term.column, message })
    }
}

fn boolean<'a>(value: bool) -> Cow<'a, Value> {
    Cow::Owned(Value::Bool(value))
}

/// The member of an object; null of anything else.
fn member<'a>(value: Cow<'a, Value>, name: &str) -> Cow<'a, Value> {
    match value {
        Cow::Borrowed(value) => value.get(name).map_or(Cow::Owned(Value::Null), Cow::Borrowed),
        Cow::Owned(Value::Object(mut members)) => Cow::Owned(members.remove(name).unwrap_or_default()),
        Cow::Owned(_) => Cow::Owned(Value::Null),
    }
}

/// The element of a list; null where there is none.
fn element(value: Cow<'_, Value>, index: usize) -> Cow<'_, Value> {
    match value {
        Cow::Borrowed(value) => value.get(index).map_or(Cow::Owned(Value::Null), Cow::Borrowed),
        Cow::Owned(mut value) => Cow::Owned(value.get_mut(index).map(Value::take).unwrap_or_default()),
    }
}

/// Steps that a copy of `value` costs.
fn weight(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => 1 + text_weight(text),
        Value::Array(list) => list.iter().map(weight).fold(1, u64::saturating_add),
        Value::Object(members) => {
            members.iter().map(|(name, value)| 1 + text_weight(name) + weight(value)).fold(1, u64::saturating_add)
        }
    }
}

fn text_weight(text: &str) -> u64 {
    text.len() as u64 / 64
}

/// A value for a message.
fn shown(value: &Value) -> String {
    const LENGTH: usize = 40;
    match value {
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > LENGTH => {
            let start: String = text.chars().take(LENGTH).collect();
            format!("\"{start}…\"")
        }
        other => other.to_string(),
    }
}
