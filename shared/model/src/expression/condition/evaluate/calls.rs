//! Functions and list macros.

use std::borrow::Cow;

use serde_json::Value;

use super::super::calculate::Numeral;
use super::super::compile::{Function, Loop, Term};
use super::{Evaluation, Failure, Outcome, boolean, text_weight};

impl<'a> Evaluation<'a> {
    pub(super) fn call(&mut self, term: &'a Term, function: Function, arguments: &'a [Term]) -> Outcome<'a> {
        let value = self.value(&arguments[0])?;
        if let Some(second) = arguments.get(1) {
            let part = self.value(second)?;
            let (Value::String(text), Value::String(part)) = (&*value, &*part) else {
                let (text, part) = (self.operand(&arguments[0], &value), self.operand(second, &part));
                let message = format!("`{}` takes two strings, not {text} and {part}", function.as_str());
                return Err(self.error(term, message));
            };
            self.charge(text_weight(text))?;
            return Ok(boolean(match function {
                Function::StartsWith => text.starts_with(part.as_str()),
                Function::EndsWith => text.ends_with(part.as_str()),
                _ => text.contains(part.as_str()),
            }));
        }
        let converted = match (function, &*value) {
            (Function::Size, Value::Array(list)) => Some(Value::from(list.len())),
            (Function::Size, Value::Object(members)) => Some(Value::from(members.len())),
            (Function::Size, Value::String(text)) => {
                self.charge(text_weight(text))?;
                Some(Value::from(text.chars().count()))
            }
            (Function::Int, Value::Number(number)) => Numeral::of(number).int().map(Value::from),
            (Function::Int, Value::String(text)) => text.parse::<i64>().ok().map(Value::from),
            (Function::Double, Value::Number(number)) => Numeral::Float(Numeral::of(number).float()).value(),
            (Function::Double, Value::String(text)) => {
                text.parse::<f64>().ok().and_then(|value| Numeral::Float(value).value())
            }
            (Function::String, Value::String(_)) | (Function::Bool, Value::Bool(_)) => return Ok(value),
            (Function::String, value @ (Value::Bool(_) | Value::Number(_))) => Some(Value::String(value.to_string())),
            (Function::Bool, Value::String(text)) => text.parse::<bool>().ok().map(Value::from),
            _ => None,
        };
        converted.map(Cow::Owned).ok_or_else(|| {
            let operand = self.operand(&arguments[0], &value);
            let message = match function {
                Function::Size => format!("`size` counts a list, an object or a string, not {operand}"),
                _ => format!("`{}` cannot convert {operand}", function.as_str()),
            };
            self.error(term, message)
        })
    }

    pub(super) fn each(
        &mut self,
        term: &'a Term,
        kind: Loop,
        list: &'a Term,
        predicate: Option<&'a Term>,
        result: Option<&'a Term>,
    ) -> Outcome<'a> {
        let elements: Vec<Cow<'a, Value>> = match self.value(list)? {
            Cow::Borrowed(Value::Array(elements)) => elements.iter().map(Cow::Borrowed).collect(),
            Cow::Owned(Value::Array(elements)) => elements.into_iter().map(Cow::Owned).collect(),
            other => {
                let message = format!("`{}` goes through a list, not {}", kind.as_str(), self.operand(list, &other));
                return Err(self.error(term, message));
            }
        };
        self.check_length(term, elements.len())?;
        match (kind, predicate) {
            (Loop::All | Loop::Exists, Some(predicate)) => self.quantified(kind, elements, predicate),
            (Loop::All | Loop::Exists | Loop::ExistsOne | Loop::Map | Loop::Filter, _) => {
                let kept = self.kept(kind, elements, predicate, result)?;
                Ok(if kind == Loop::ExistsOne { boolean(kept.len() == 1) } else { Cow::Owned(Value::Array(kept)) })
            }
        }
    }

    /// An element that decides does so whatever is wrong with others.
    fn quantified(&mut self, kind: Loop, elements: Vec<Cow<'a, Value>>, predicate: &'a Term) -> Outcome<'a> {
        let decisive = kind == Loop::Exists;
        let mut error = None;
        for element in elements {
            self.variables.push(element);
            let holds = self.truth(predicate, kind.as_str());
            self.variables.pop();
            match holds {
                Ok(holds) if holds == decisive => return Ok(boolean(decisive)),
                Ok(_) => {}
                Err(Failure::Error(first)) => drop(error.get_or_insert(first)),
                Err(Failure::Exhausted) => return Err(Failure::Exhausted),
            }
        }
        error.map_or(Ok(boolean(!decisive)), |error| Err(Failure::Error(error)))
    }

    /// The elements for which the predicate holds, or what is made of them.
    fn kept(
        &mut self,
        kind: Loop,
        elements: Vec<Cow<'a, Value>>,
        predicate: Option<&'a Term>,
        result: Option<&'a Term>,
    ) -> Result<Vec<Value>, Failure> {
        let mut kept = Vec::new();
        for element in elements {
            self.variables.push(element);
            let holds = predicate.map_or(Ok(true), |predicate| self.truth(predicate, kind.as_str()))?;
            let made = match result {
                Some(result) if holds => Some(self.value(result)?),
                _ => None,
            };
            let element = self.variables.pop().expect("it was pushed above");
            if holds {
                kept.push(self.owned(made.unwrap_or(element))?);
            }
        }
        Ok(kept)
    }
}
