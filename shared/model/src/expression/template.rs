//! Templates: JSON values with paths in them (`input_map`, `output_map`).
//!
//! | in a template | stands for |
//! |---|---|
//! | a string that starts with `$` | what the path gives |
//! | `{path: p, required: true}` | the same; nothing or null is an error |
//! | `{path: p, default: v}` | the same; `v` where there is nothing or null |
//! | `{literal: x}` | `x`, with no paths in it |
//! | anything else | itself |

use std::collections::BTreeSet;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{EvaluationError, Path, Root, Scope};

/// A compiled template. What is constant in it is JSON text already.
#[derive(Debug, Clone)]
pub struct Template {
    node: Node,
    reads: BTreeSet<Root>,
}

#[derive(Debug, Clone)]
enum Node {
    /// JSON text.
    Constant(Box<str>),
    Path {
        path: Box<Path>,
        absent: Absent,
    },
    List(Vec<Node>),
    /// Each name is JSON text.
    Object(Vec<(Box<str>, Node)>),
}

/// What stands where a path gives nothing or null.
#[derive(Debug, Clone)]
enum Absent {
    Null,
    Refused,
    /// JSON text.
    Default(Box<str>),
}

/// A part of a template that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct InvalidTemplate {
    /// Where in the template (RFC 6901).
    pub pointer: String,
    pub message: String,
}

/// One path of a template.
#[derive(Debug)]
pub(crate) struct Located {
    /// Where in the template (RFC 6901).
    pub(crate) pointer: String,
    pub(crate) reads: BTreeSet<Root>,
}

impl Template {
    /// Compiles a template, or reports everything that is wrong with it.
    pub fn parse(template: &Value) -> Result<Self, Vec<InvalidTemplate>> {
        Self::parse_located(template).map(|(template, _)| template)
    }

    /// Compiles a template and says which of its paths reads what.
    pub(crate) fn parse_located(template: &Value) -> Result<(Self, Vec<Located>), Vec<InvalidTemplate>> {
        let mut compiler = Compiler::default();
        let node = compiler.compile(template);
        if !compiler.errors.is_empty() {
            return Err(compiler.errors);
        }
        let reads = compiler.located.iter().flat_map(|located| located.reads.iter().cloned()).collect();
        Ok((Self { node, reads }, compiler.located))
    }

    /// What must be known to render it.
    pub fn reads(&self) -> &BTreeSet<Root> {
        &self.reads
    }

    /// The value as compact JSON text; what whole roots and singular paths give is not parsed.
    pub fn render(&self, scope: &Scope) -> Result<Box<RawValue>, EvaluationError> {
        if let Node::Path { path, absent: Absent::Null } = &self.node
            && path.is_singular()
        {
            return Ok(path.piece(scope)?.unwrap_or(RawValue::NULL).to_owned());
        }
        let mut text = String::new();
        self.node.render(scope, &mut text)?;
        Ok(RawValue::from_string(text).expect("constants and values are JSON texts, put together as JSON"))
    }
}

impl Node {
    fn render(&self, scope: &Scope, text: &mut String) -> Result<(), EvaluationError> {
        match self {
            Self::Constant(constant) => text.push_str(constant),
            Self::Path { path, absent } => render_path(path, absent, scope, text)?,
            Self::List(elements) => {
                text.push('[');
                for (i, element) in elements.iter().enumerate() {
                    if i > 0 {
                        text.push(',');
                    }
                    element.render(scope, text)?;
                }
                text.push(']');
            }
            Self::Object(members) => {
                text.push('{');
                for (i, (name, value)) in members.iter().enumerate() {
                    if i > 0 {
                        text.push(',');
                    }
                    text.push_str(name);
                    text.push(':');
                    value.render(scope, text)?;
                }
                text.push('}');
            }
        }
        Ok(())
    }
}

fn render_path(path: &Path, absent: &Absent, scope: &Scope, text: &mut String) -> Result<(), EvaluationError> {
    if !path.is_singular() {
        text.push_str(path.evaluate_raw(scope)?.get());
        return Ok(());
    }
    match (path.piece(scope)?.map(RawValue::get).filter(|piece| *piece != "null"), absent) {
        (Some(piece), _) => text.push_str(piece),
        (None, Absent::Null) => text.push_str("null"),
        (None, Absent::Default(default)) => text.push_str(default),
        (None, Absent::Refused) => return Err(EvaluationError::Missing { path: path.text().to_owned() }),
    }
    Ok(())
}

#[derive(Default)]
struct Compiler {
    pointer: String,
    located: Vec<Located>,
    errors: Vec<InvalidTemplate>,
}

impl Compiler {
    fn compile(&mut self, template: &Value) -> Node {
        match template {
            Value::String(text) if text.starts_with('$') => self.path(text, Absent::Null),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => constant(template),
            Value::Array(elements) => self.list(elements),
            Value::Object(members) => match Special::of(members) {
                Some(Special::Literal(value)) => constant(value),
                Some(Special::Path { path, required, default }) => self.refined(path, required, default),
                None => self.object(members),
            },
        }
    }

    fn list(&mut self, elements: &[Value]) -> Node {
        let compile = |(i, element): (usize, &Value)| self.below(&i.to_string(), |compiler| compiler.compile(element));
        Node::List(elements.iter().enumerate().map(compile).collect()).collapsed()
    }

    fn object(&mut self, members: &Map<String, Value>) -> Node {
        let compile = |(name, value): (&String, &Value)| {
            let text = Value::String(name.clone()).to_string().into_boxed_str();
            (text, self.below(name, |compiler| compiler.compile(value)))
        };
        Node::Object(members.iter().map(compile).collect()).collapsed()
    }

    fn refined(&mut self, path: &str, required: Option<&Value>, default: Option<&Value>) -> Node {
        let absent = match (required, default) {
            (Some(_), Some(_)) => {
                self.error("`required` and `default` exclude each other; a value with a default is never missing");
                Absent::Null
            }
            (Some(Value::Bool(true)), None) => Absent::Refused,
            (Some(Value::Bool(false)), None) | (None, None) => Absent::Null,
            (Some(other), None) => {
                self.error(format!("`required` is true or false, not {other}; write {{literal: …}} for plain data"));
                Absent::Null
            }
            (None, Some(default)) => Absent::Default(default.to_string().into_boxed_str()),
        };
        self.below("path", |compiler| compiler.path(path, absent))
    }

    fn path(&mut self, text: &str, absent: Absent) -> Node {
        match Path::parse(text) {
            Ok(path) => {
                self.located.push(Located { pointer: self.pointer.clone(), reads: path.reads().clone() });
                Node::Path { path: Box::new(path), absent }
            }
            Err(error) => {
                let is_path = text.starts_with("$.") || text.starts_with("$[");
                let hint = if is_path { "" } else { "; text that starts with `$` is written {literal: …}" };
                self.error(format!("{error}{hint}"));
                Node::Constant("null".into())
            }
        }
    }

    fn below<T>(&mut self, name: &str, compile: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let compiled = compile(self);
        self.pointer.truncate(length);
        compiled
    }

    fn error(&mut self, message: impl Into<String>) {
        self.errors.push(InvalidTemplate { pointer: self.pointer.clone(), message: message.into() });
    }
}

impl Node {
    /// A node without paths becomes its text.
    fn collapsed(self) -> Self {
        let constant = match &self {
            Self::List(elements) => elements.iter().all(Self::is_constant),
            Self::Object(members) => members.iter().all(|(_, value)| value.is_constant()),
            Self::Constant(_) | Self::Path { .. } => false,
        };
        if !constant {
            return self;
        }
        let mut text = String::new();
        self.render(&Scope::default(), &mut text).expect("constants always render");
        Self::Constant(text.into_boxed_str())
    }

    fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }
}

fn constant(value: &Value) -> Node {
    Node::Constant(value.to_string().into_boxed_str())
}

/// An object that stands for something else than itself.
enum Special<'a> {
    Literal(&'a Value),
    Path { path: &'a str, required: Option<&'a Value>, default: Option<&'a Value> },
}

impl<'a> Special<'a> {
    fn of(members: &'a Map<String, Value>) -> Option<Self> {
        if let (Some(literal), 1) = (members.get("literal"), members.len()) {
            return Some(Self::Literal(literal));
        }
        let path = members.get("path")?.as_str().filter(|path| path.starts_with('$'))?;
        let (required, default) = (members.get("required"), members.get("default"));
        let refinements = usize::from(required.is_some()) + usize::from(default.is_some());
        (refinements > 0 && members.len() == 1 + refinements).then_some(Self::Path { path, required, default })
    }
}

#[cfg(test)]
mod tests;
