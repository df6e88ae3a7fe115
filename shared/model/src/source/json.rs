//! JSON text into a tree with places. `serde_json` has the word on what is JSON.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;

use super::{Budget, Content, Member, Node, Place, duplicate, too_deep};
use crate::limits::DEFINITION_DEPTH_MAX;
use crate::validate::Problem;

/// Whether `text` is JSON.
pub(super) fn check(text: &str) -> Result<(), Problem> {
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| {
        let place = Place { line: count(error.line()), column: count(error.column().max(1)) };
        place.problem(format!("this is not JSON: {}", reason(&error)), "")
    })
}

/// Whether who wrote `text` probably meant JSON.
pub(super) fn resembles(text: &str) -> bool {
    let mut start = text.chars().filter(|c| !c.is_whitespace());
    matches!((start.next(), start.next()), (Some('{'), Some('"' | '}') | None) | (Some('['), Some('{' | ']') | None))
}

/// The tree of a text that is JSON.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    let mut reader =
        Reader { text, at: 0, place: Place { line: 1, column: 1 }, budget: Budget::new(), problems: vec![] };
    match reader.value(0) {
        Ok(node) if reader.problems.is_empty() => Ok(node),
        Ok(_) => Err(reader.problems),
        Err(problem) => {
            reader.problems.push(problem);
            Err(reader.problems)
        }
    }
}

/// Reads text that is JSON; only what `serde_json` skips unread is left to be wrong.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Of the byte `at`.
    place: Place,
    budget: Budget,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Node, Problem> {
        self.skip_blank();
        let place = self.place;
        self.budget.take(1, 0, place)?;
        if depth == DEFINITION_DEPTH_MAX {
            return Err(too_deep(place));
        }
        let content = match self.peek() {
            b'{' => self.object(depth)?,
            b'[' => self.list(depth)?,
            b'"' => Content::String(self.string()?),
            b't' => self.word("true", Content::Bool(true)),
            b'f' => self.word("false", Content::Bool(false)),
            b'n' => self.word("null", Content::Null),
            _ => self.number()?,
        };
        Ok(Node { place, content })
    }

    fn object(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut members = Vec::new();
        let mut places = BTreeMap::new();
        self.advance(1);
        self.skip_blank();
        while self.peek() != b'}' {
            let place = self.place;
            let name = self.string()?;
            self.skip_blank();
            self.advance(1);
            let value = self.value(depth + 1)?;
            match places.get(&name) {
                Some(first) => self.problems.push(duplicate(&name, *first, place)),
                None => drop(places.insert(name.clone(), place)),
            }
            members.push(Member { name, place, value });
            self.skip_comma();
        }
        self.advance(1);
        Ok(Content::Object(members))
    }

    fn list(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut elements = Vec::new();
        self.advance(1);
        self.skip_blank();
        while self.peek() != b']' {
            elements.push(self.value(depth + 1)?);
            self.skip_comma();
        }
        self.advance(1);
        Ok(Content::List(elements))
    }

    fn string(&mut self) -> Result<String, Problem> {
        let (start, place) = (self.at, self.place);
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.advance(end + 1 - start);
        let text: String = serde_json::from_str(&self.text[start..=end])
            .map_err(|error| place.problem(format!("the string cannot be read: {}", reason(&error)), ""))?;
        self.budget.take(0, text.len(), place)?;
        Ok(text)
    }

    fn number(&mut self) -> Result<Content, Problem> {
        let (start, place) = (self.at, self.place);
        let rest = &self.text[start..];
        let length = rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        self.advance(length);
        serde_json::from_str(&rest[..length])
            .map(Content::Number)
            .map_err(|_| place.problem(format!("the number {} is too large", &rest[..length]), ""))
    }

    fn word(&mut self, word: &str, content: Content) -> Content {
        self.advance(word.len());
        content
    }

    fn peek(&self) -> u8 {
        self.text.as_bytes()[self.at]
    }

    fn skip_blank(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.advance(rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count());
    }

    fn skip_comma(&mut self) {
        self.skip_blank();
        if self.peek() == b',' {
            self.advance(1);
            self.skip_blank();
        }
    }

    fn advance(&mut self, bytes: usize) {
        for c in self.text[self.at..self.at + bytes].chars() {
            if c == '\n' {
                self.place = Place { line: self.place.line + 1, column: 1 };
            } else {
                self.place.column += 1;
            }
        }
        self.at += bytes;
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The error without its place, which stands elsewhere.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}
