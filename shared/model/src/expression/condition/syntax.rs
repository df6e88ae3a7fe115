//! The text of a condition, read by the `cel` crate, and its complaints in plain words.

use cel::{Env, ParseError, Program};

use super::Complaint;
use super::operands::Operands;

/// Reads the text. Macros stay the calls they are written as.
pub(super) fn parse(operands: &Operands) -> Result<Program, Complaint> {
    let environment = Env::default().with_optional_support(false);
    environment.compile(&operands.cel).map_err(|errors| match errors.errors.first() {
        Some(error) => (column(&operands.cel, error), operands.restore(&explain(&operands.cel, error))),
        None => (1, "this is not a condition".to_owned()),
    })
}

/// The parser counts lines and columns; a condition counts characters.
fn column(text: &str, error: &ParseError) -> u32 {
    let (line, column) = (usize::try_from(error.pos.0).unwrap_or(1), usize::try_from(error.pos.1).unwrap_or(1));
    let before: usize = text.split_inclusive('\n').take(line.max(1) - 1).map(|line| line.chars().count()).sum();
    let length = text.chars().count() + 1;
    u32::try_from((before + column.max(1)).min(length)).unwrap_or(u32::MAX)
}

fn explain(text: &str, error: &ParseError) -> String {
    let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
    if text.trim().is_empty() {
        return "the condition is empty".to_owned();
    }
    if message.contains("Recursi") {
        return "the condition is nested too deeply".to_owned();
    }
    if let Some(token) = message.strip_prefix("token recognition error at: ") {
        return match token.trim_matches('\'').trim() {
            "=" => "`=` is not an operator; `==` compares".to_owned(),
            "&" => "`&` is not an operator; `&&` is".to_owned(),
            "|" => "`|` is not an operator; `||` is".to_owned(),
            _ if token.starts_with("''") || token.starts_with("'\"") => "the string has no end".to_owned(),
            other => format!("`{other}` is not part of the condition language"),
        };
    }
    let input = message
        .split_once("input '")
        .and_then(|(_, rest)| rest.rsplit_once("' expecting").map(|(token, _)| token).or(rest.strip_suffix('\'')));
    match input {
        Some("<EOF>") => "the condition ends too early".to_owned(),
        Some("and") => "`and` is not an operator; `&&` is".to_owned(),
        Some("or") => "`or` is not an operator; `||` is".to_owned(),
        Some("=") => "`=` is not an operator; `==` compares".to_owned(),
        Some(token) => format!("`{token}` is not expected here"),
        None => message.to_owned(),
    }
}
