//! JSON from callers: checked as text, so that what nobody reads is never built.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};

use super::limits::INLINE_PARSE_MAX;
use super::problem::{Problem, ProblemKind};

/// Reads a body of type `T`, of which parts may stay text (`RawValue`).
///
/// The whole text is checked first: a `RawValue` by itself accepts numbers, escapes and depths that no later reader
/// accepts, and the caller should hear of those, not the step that meets them.
pub(super) async fn read<T: DeserializeOwned + Send + 'static>(text: String) -> Result<T, Problem> {
    if text.len() <= INLINE_PARSE_MAX {
        return parse(&text);
    }
    tokio::task::spawn_blocking(move || parse(&text))
        .await
        .unwrap_or_else(|_| Err(Problem::new(ProblemKind::Internal, "the body's reader failed")))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let invalid = |error: &serde_json::Error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => ProblemKind::InvalidBody,
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => ProblemKind::InvalidJson,
        };
        Problem::new(kind, error.to_string())
    };
    serde_json::from_str::<Checked>(text).map_err(|error| invalid(&error))?;
    serde_json::from_str(text).map_err(|error| invalid(&error))
}

/// Walks a JSON text as a reader of it would, and keeps nothing.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn check(text: &str) -> Result<Box<RawValue>, (ProblemKind, String)> {
        parse::<Box<RawValue>>(text).map_err(|problem| (problem.kind(), problem.detail().to_owned()))
    }

    #[test]
    fn valid_json_stays_as_it_was_written() {
        for text in [r#"{"b":1,"a":[1.50,"x\n",null,true,-3]}"#, "[]", "null", "1e3"] {
            assert_eq!(check(text).expect("valid").get(), text);
        }
    }

    #[test]
    fn bad_json_is_refused_with_its_place() {
        let (kind, detail) = check("{\"a\": 1,\n  \"b\": }").expect_err("invalid");
        assert_eq!(kind, ProblemKind::InvalidJson);
        assert_eq!(detail, "expected value at line 2 column 8");
        assert_eq!(check("").expect_err("invalid").0, ProblemKind::InvalidJson);
        assert_eq!(check("1 2").expect_err("invalid").0, ProblemKind::InvalidJson);
    }

    #[test]
    fn what_a_later_reader_would_stumble_over_is_refused_here() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for (text, why) in [(deep.as_str(), "recursion limit"), (r#""\ud800""#, "surrogate"), ("1e999", "out of range")]
        {
            assert!(serde_json::from_str::<Box<RawValue>>(text).is_ok(), "a raw value alone lets it through");
            let (_, detail) = check(text).expect_err("invalid");
            assert!(detail.contains(why) || detail.contains("hex escape"), "{detail}");
        }
    }
}
