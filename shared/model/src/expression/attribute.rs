//! Attributes: single values of an execution's input and output that people find it by.

use jsonpath_rfc9535::SingularSegment;
use serde_json::Value;
use serde_json::value::RawValue;

use super::query::{self, InvalidPath, invalid};
use super::segments::{segment, skip_blank};
use super::{Root, raw};
use crate::limits::{ATTRIBUTE_LENGTH_MAX, PATH_LENGTH_MAX};

/// One of `searchable`.
#[derive(Debug, Clone)]
pub struct Attribute {
    pub name: Box<str>,
    pub of: AttributeOf,
    steps: Vec<SingularSegment>,
}

/// Which value of the execution an attribute is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeOf {
    Input,
    Output,
}

const STARTS: &str = "the path of an attribute starts with $.input or $.output";

impl Attribute {
    /// Reads the path of an attribute.
    pub fn parse(name: &str, text: &str) -> Result<Self, InvalidPath> {
        if text.len() > PATH_LENGTH_MAX {
            let message = format!("a path has at most {PATH_LENGTH_MAX} bytes, this one has {}", text.len());
            return Err(invalid(text, PATH_LENGTH_MAX, message));
        }
        let whole = query::parse(text)?;
        let of = match segment(text, skip_blank(text, 1)).and_then(|first| first.name).as_deref() {
            Some("input") => AttributeOf::Input,
            Some("output") => AttributeOf::Output,
            Some(_) | None => return Err(invalid(text, 0, STARTS)),
        };
        let Some(steps) = whole.singular_steps() else {
            let message = "an attribute is one value: its path has names and indexes only, as $.input.lines[0].sku";
            return Err(invalid(text, 0, message));
        };
        Ok(Self { name: name.into(), of, steps: steps[1..].to_vec() })
    }

    /// The attribute of an execution whose input or output is `text`; `None` when it is not there or no string, number
    /// or boolean.
    pub fn read(&self, text: &RawValue) -> Option<Value> {
        // The error would name the root; a value that cannot be read has no attributes.
        let piece = raw::follow(text, &self.steps, &Root::Input).ok()??;
        match serde_json::from_str(piece.get()).ok()? {
            Value::String(text) => Some(Value::String(cut(text))),
            value @ (Value::Bool(_) | Value::Number(_)) => Some(value),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ATTRIBUTE_LENGTH_MAX));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(path: &str, value: &Value) -> Option<Value> {
        let attribute = Attribute::parse("a", path).expect("a path");
        attribute.read(&serde_json::value::to_raw_value(value).expect("JSON"))
    }

    #[test]
    fn an_attribute_is_a_string_a_number_or_a_boolean() {
        let value = json!({"id": "x-1", "n": 2.5, "ok": true, "list": [1, {"a-b": "c"}], "none": null});
        assert_eq!(read("$.input.id", &value), Some(json!("x-1")));
        assert_eq!(read("$.output.n", &value), Some(json!(2.5)));
        assert_eq!(read("$['input'].ok", &value), Some(json!(true)));
        assert_eq!(read("$.input.list[1][\"a-b\"]", &value), Some(json!("c")));
        assert_eq!(read("$.input.list[-2]", &value), Some(json!(1)));
        assert_eq!(read("$.input", &json!("whole")), Some(json!("whole")));
        for nothing in ["$.input", "$.input.list", "$.input.none", "$.input.absent", "$.input.id.deeper"] {
            assert_eq!(read(nothing, &value), None, "{nothing}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "ü".repeat(ATTRIBUTE_LENGTH_MAX);
        assert_eq!(read("$.input", &json!(format!("x{long}"))), Some(json!(format!("x{}", "ü".repeat(127)))));
    }

    #[test]
    fn a_path_that_is_none_of_an_attribute_is_refused() {
        let refused = |path: &str| Attribute::parse("a", path).expect_err(path).message;
        assert_eq!(refused("$.context.user"), STARTS);
        assert_eq!(refused("$"), STARTS);
        assert!(refused("$.input.lines[*].sku").starts_with("an attribute is one value"));
        assert!(refused("$.input.%").contains("cannot be read"));
    }
}
