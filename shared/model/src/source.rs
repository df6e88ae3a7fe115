//! Source text of definitions: YAML 1.2 or JSON, into a tree that remembers where everything stands.

use serde_json::{Map, Number, Value};

use crate::limits::{DEFINITION_NODES_MAX, DEFINITION_SIZE_MAX, DEFINITION_TEXT_MAX};
use crate::validate::Problem;

mod json;
mod scalar;
mod yaml;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Place,
    pub content: Content,
}

/// A place in a source text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// From 1; 0 when there is no text.
    pub line: u32,
    /// In characters from 1; 0 when there is no text.
    pub column: u32,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Node>),
    Object(Vec<Member>),
}

/// A member of an object, in the order of the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub name: String,
    /// Where the name stands.
    pub place: Place,
    pub value: Node,
}

/// Reads a text: JSON if it is JSON, else YAML.
///
/// Of YAML, scalars are read by the core schema of version 1.2 (`on`, `yes` and dates are strings),
/// and aliases are expanded within a budget.
pub fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    let start = Place { line: 1, column: 1 };
    if text.len() > DEFINITION_SIZE_MAX {
        let message = format!("the text has {} bytes; at most {DEFINITION_SIZE_MAX} are allowed", text.len());
        return Err(vec![start.problem(message, "")]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(vec![start.problem("the text is empty", "a definition has at least `id` and `steps`")]);
    }
    let broken = match json::check(text) {
        Ok(()) => return json::parse(text),
        Err(broken) => broken,
    };
    match yaml::parse(text) {
        Err(_) if json::resembles(text) => Err(vec![broken]),
        outcome => outcome,
    }
}

impl Node {
    /// A tree without a text.
    pub fn of_json(value: &Value) -> Self {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(value) => Content::Bool(*value),
            Value::Number(value) => Content::Number(value.clone()),
            Value::String(value) => Content::String(value.clone()),
            Value::Array(elements) => Content::List(elements.iter().map(Self::of_json).collect()),
            Value::Object(members) => Content::Object(
                members
                    .iter()
                    .map(|(name, value)| Member {
                        name: name.clone(),
                        place: Place::default(),
                        value: Self::of_json(value),
                    })
                    .collect(),
            ),
        };
        Self { place: Place::default(), content }
    }

    /// The value without places.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(value) => Value::Number(value.clone()),
            Content::String(value) => Value::String(value.clone()),
            Content::List(elements) => Value::Array(elements.iter().map(Self::to_json).collect()),
            Content::Object(members) => {
                let members = members.iter().map(|member| (member.name.clone(), member.value.to_json()));
                Value::Object(members.collect::<Map<_, _>>())
            }
        }
    }

    /// The value of a member of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.member(name).map(|member| &member.value)
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members().iter().find(|member| member.name == name)
    }

    /// The members of an object; none of anything else.
    pub fn members(&self) -> &[Member] {
        match &self.content {
            Content::Object(members) => members,
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::String(_) | Content::List(_) => &[],
        }
    }

    /// The elements of a list; none of anything else.
    pub fn elements(&self) -> &[Self] {
        match &self.content {
            Content::List(elements) => elements,
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::String(_) | Content::Object(_) => &[],
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.content {
            Content::String(text) => Some(text),
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::List(_) | Content::Object(_) => None,
        }
    }

    /// The node that an RFC 6901 pointer leads to, as far as it leads anywhere.
    pub(crate) fn at(&self, pointer: &str) -> &Self {
        let mut node = self;
        for token in pointer.split('/').skip(1) {
            let name = token.replace("~1", "/").replace("~0", "~");
            let next = match &node.content {
                Content::List(elements) => name.parse().ok().and_then(|index: usize| elements.get(index)),
                _ => node.get(&name),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }
}

impl Place {
    pub(crate) fn problem(self, message: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem {
            path: String::new(),
            line: self.line,
            column: self.column,
            message: message.into(),
            help: help.into(),
        }
    }
}

/// What a tree may still grow by.
#[derive(Debug)]
struct Budget {
    nodes: usize,
    text: usize,
}

impl Budget {
    fn new() -> Self {
        Self { nodes: DEFINITION_NODES_MAX, text: DEFINITION_TEXT_MAX }
    }

    /// Takes `nodes` with `text` bytes of strings.
    fn take(&mut self, nodes: usize, text: usize, place: Place) -> Result<(), Problem> {
        match (self.nodes.checked_sub(nodes), self.text.checked_sub(text)) {
            (Some(nodes), Some(text)) => {
                (self.nodes, self.text) = (nodes, text);
                Ok(())
            }
            (None, _) => {
                let message = format!("the definition has more than {DEFINITION_NODES_MAX} values, aliases expanded");
                Err(place.problem(message, "keep data out of the definition; pass it as input"))
            }
            (_, None) => {
                let message = format!("the definition has more than {DEFINITION_TEXT_MAX} bytes, aliases expanded");
                Err(place.problem(message, "keep data out of the definition; pass it as input"))
            }
        }
    }
}

/// A second member of a name that the object has.
fn duplicate(name: &str, first: Place, place: Place) -> Problem {
    let message = format!("`{name}` is there twice; the first is in line {}, column {}", first.line, first.column);
    place.problem(message, "remove one of them")
}

fn too_deep(place: Place) -> Problem {
    use crate::limits::DEFINITION_DEPTH_MAX;
    place.problem(format!("the definition is nested more than {DEFINITION_DEPTH_MAX} deep"), "flatten it")
}

#[cfg(test)]
mod tests;
