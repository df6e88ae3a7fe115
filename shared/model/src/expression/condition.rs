//! Conditions: CEL (the Common Expression Language) over paths.
//!
//! `$.steps.classify.output.severity == "high" && !($.input.dry_run)`
//!
//! The `cel` crate reads the text, in which each path stands as a variable of the same length, so
//! that columns stay true. The evaluation is ours, over JSON values: it is part of what a journal
//! means for ever, it is bounded, and it knows the operands when it complains.
//!
//! Where it differs from CEL:
//! - What is missing is null. Null counts as false under `!`, `&&`, `||`, `? :`, in the predicate
//!   of a list macro and as the result; any other use of null as a boolean, number, string or list
//!   is an error.
//! - Integers and floats are numbers: they compare and calculate with each other. Integers have 64
//!   bits and a sign; a JSON integer beyond that is a float. Overflow and division by zero are
//!   errors, of floats too.
//! - `==` and `!=` of different types are false and true. `<`, `<=`, `>`, `>=` are for two numbers,
//!   two strings (by code point) or two booleans.
//! - `has(x)` is `x != null`.
//! - There are no objects to write, no loops over objects, no bytes, types, regular expressions
//!   and clocks.
//!
//! As in CEL, `false && x` and `x && false` are false whatever is wrong with `x`; likewise `||`.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use serde_json::Value;

use self::compile::Term;
use super::{EvaluationError, Path, Root, Scope};
use crate::limits::CONDITION_LENGTH_MAX;

mod calculate;
mod compile;
mod evaluate;
mod operands;
mod syntax;

/// A compiled condition.
#[derive(Debug, Clone)]
pub struct Condition {
    text: Box<str>,
    reads: BTreeSet<Root>,
    paths: Vec<Path>,
    term: Term,
}

/// The text is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`, column {column}: {message}")]
pub struct InvalidCondition {
    pub text: String,
    /// Where in the text, counted in characters from 1.
    pub column: u32,
    pub message: String,
}

impl Condition {
    /// Reads and checks a condition.
    pub fn parse(text: &str) -> Result<Self, InvalidCondition> {
        let invalid = |(column, message)| InvalidCondition { text: text.to_owned(), column, message };
        if text.len() > CONDITION_LENGTH_MAX {
            let message = format!("a condition has at most {CONDITION_LENGTH_MAX} bytes, this one has {}", text.len());
            return Err(invalid((1, message)));
        }
        let operands = operands::extract(text).map_err(invalid)?;
        let program = syntax::parse(&operands).map_err(invalid)?;
        let term = compile::compile(&program, &operands).map_err(invalid)?;
        let reads = operands.paths.iter().flat_map(|path| path.reads().iter().cloned()).collect();
        Ok(Self { text: text.into(), reads, paths: operands.paths, term })
    }

    /// The condition as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What must be known to evaluate it.
    pub fn reads(&self) -> &BTreeSet<Root> {
        &self.reads
    }

    /// Whether it holds.
    pub fn evaluate(&self, scope: &Scope) -> Result<bool, EvaluationError> {
        let values: Vec<OnceCell<Value>> = self.paths.iter().map(|_| OnceCell::new()).collect();
        evaluate::Evaluation::new(self, scope, &values).run()
    }
}

/// What is wrong, and at which column.
type Complaint = (u32, String);

#[cfg(test)]
mod tests;
