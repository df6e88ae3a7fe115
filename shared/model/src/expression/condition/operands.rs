//! The paths of a condition, told apart from the text around them.

use std::collections::BTreeMap;

use super::Complaint;
use crate::expression::Path;
use crate::expression::path::root;
use crate::expression::query::column;
use crate::expression::segments::{Segment, segment, skip_blank};

/// A condition's text in two parts.
#[derive(Debug)]
pub(super) struct Operands {
    /// The text with each path replaced by a name of as many characters.
    pub(super) cel: String,
    pub(super) paths: Vec<Path>,
    /// The path that each of these names stands for.
    pub(super) names: BTreeMap<String, usize>,
}

/// Finds the paths: each `$` outside of string literals and comments starts one, and it goes on
/// as long as segments follow. A `.name` before `(` is a call and not part of it.
pub(super) fn extract(text: &str) -> Result<Operands, Complaint> {
    let prefix = free_prefix(text);
    let mut operands = Operands { cel: String::with_capacity(text.len()), paths: Vec::new(), names: BTreeMap::new() };
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let end = match c {
            '$' => {
                let end = end_of_path(text, at)?;
                let path = Path::parse(&text[at..end])
                    .map_err(|error| (column(text, at) + error.column - 1, error.message))?;
                let name = operands.name(path, &prefix);
                operands.cel.push_str(&name);
                at = end;
                continue;
            }
            '"' | '\'' => end_of_literal(text, at),
            '/' if text[at..].starts_with("//") => text[at..].find('\n').map_or(text.len(), |line| at + line),
            _ => at + c.len_utf8(),
        };
        operands.cel.push_str(&text[at..end]);
        at = end;
    }
    Ok(operands)
}

impl Operands {
    /// The name that stands for `path`.
    fn name(&mut self, path: Path, prefix: &str) -> String {
        let known = self.paths.iter().position(|known| known.text() == path.text());
        let index = known.unwrap_or(self.paths.len());
        let length = path.text().chars().count();
        let name = format!("{:_<length$}", format!("{prefix}{index}"));
        if known.is_none() {
            self.paths.push(path);
            self.names.insert(name.clone(), index);
        }
        name
    }

    /// `message` with the paths back in the place of their names.
    pub(super) fn restore(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for (name, index) in &self.names {
            message = message.replace(name, self.paths[*index].text());
        }
        message
    }
}

/// Two characters that no name in `text` starts with. The shortest path has six characters, so
/// they and an index below a thousand fit.
fn free_prefix(text: &str) -> String {
    let taken = |prefix: &String| text.contains(prefix.as_str());
    let letters = ('a'..='z').chain('A'..='Z');
    letters.map(|letter| format!("_{letter}")).find(|prefix| !taken(prefix)).unwrap_or_else(|| "__".to_owned())
}

fn end_of_path(text: &str, at: usize) -> Result<usize, Complaint> {
    root(text, at).map_err(|error| (error.column, error.message))?;
    let mut end = at + 1;
    while let Some(Segment { end: next, .. }) = segment(text, end) {
        let is_call = text[end..].starts_with('.') && text[skip_blank(text, next)..].starts_with('(');
        if is_call {
            break;
        }
        end = next;
    }
    Ok(end)
}

/// The first byte after the string literal that opens at `at`; an open one ends with the text.
fn end_of_literal(text: &str, at: usize) -> usize {
    let quote = &text[at..=at];
    let triple = quote.repeat(3);
    let quote = if text[at..].starts_with(&triple) { triple.as_str() } else { quote };
    let raw = text[..at].ends_with(['r', 'R']) || text[..at].ends_with("rb") || text[..at].ends_with("Rb");
    let mut place = at + quote.len();
    while let Some(c) = text[place..].chars().next() {
        if text[place..].starts_with(quote) {
            return place + quote.len();
        }
        let escaped = if c == '\\' && !raw { text[place + 1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
        place += c.len_utf8() + escaped;
    }
    text.len()
}
