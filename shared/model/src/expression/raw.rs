//! Pieces of JSON text, found without building a value of the whole.

use std::borrow::Cow;
use std::fmt;

use jsonpath_rfc9535::SingularSegment;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{EvaluationError, Root};

/// Parses a root's text, or a piece of it.
pub(super) fn parse(text: &str, root: &Root) -> Result<Value, EvaluationError> {
    serde_json::from_str(text).map_err(|error| unreadable(root, &error))
}

/// Follows a singular path into `text`; `None` where it leads nowhere.
pub(super) fn follow<'a>(
    text: &'a RawValue,
    steps: &[SingularSegment],
    root: &Root,
) -> Result<Option<&'a RawValue>, EvaluationError> {
    let mut piece = text;
    for step in steps {
        let wanted = Wanted::of(step, piece.get(), root)?;
        match pick(piece.get(), wanted).map_err(|error| unreadable(root, &error))? {
            Some(next) => piece = next,
            None => return Ok(None),
        }
    }
    Ok(Some(piece))
}

fn unreadable(root: &Root, error: &serde_json::Error) -> EvaluationError {
    EvaluationError::Unreadable { root: root.clone(), reason: error.to_string() }
}

#[derive(Clone, Copy)]
enum Wanted<'s> {
    Name(&'s str),
    Index(u64),
    Nothing,
}

impl<'s> Wanted<'s> {
    /// A negative index counts from the end, which is found by counting.
    fn of(step: &'s SingularSegment, text: &str, root: &Root) -> Result<Self, EvaluationError> {
        Ok(match step {
            SingularSegment::Name(name) => Self::Name(name),
            SingularSegment::Index(index) => match u64::try_from(index.get()) {
                Ok(index) => Self::Index(index),
                Err(_) => {
                    let length = count(text).map_err(|error| unreadable(root, &error))?;
                    length.checked_sub(index.get().unsigned_abs()).map_or(Self::Nothing, Self::Index)
                }
            },
        })
    }
}

fn pick<'a>(text: &'a str, wanted: Wanted<'_>) -> serde_json::Result<Option<&'a RawValue>> {
    let opens = match text.as_bytes().first() {
        Some(b'{') => matches!(wanted, Wanted::Name(_)),
        Some(b'[') => matches!(wanted, Wanted::Index(_)),
        _ => false,
    };
    if !opens {
        return Ok(None);
    }
    wanted.deserialize(&mut serde_json::Deserializer::from_str(text))
}

fn count(text: &str) -> serde_json::Result<u64> {
    struct Count;
    impl<'de> Visitor<'de> for Count {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<u64, A::Error> {
            let mut length = 0;
            while list.next_element::<IgnoredAny>()?.is_some() {
                length += 1;
            }
            Ok(length)
        }
    }
    if !text.starts_with('[') {
        return Ok(0);
    }
    serde_json::Deserializer::from_str(text).deserialize_seq(Count)
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    /// Of members with one name the last counts, as in [`Value`].
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        #[derive(serde::Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
        let mut found = None;
        while let Some(Name(name)) = members.next_key()? {
            if matches!(self, Wanted::Name(wanted) if wanted == name) {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut index = 0;
        loop {
            if matches!(self, Wanted::Index(wanted) if wanted == index) {
                found = list.next_element()?;
                if found.is_none() {
                    return Ok(None);
                }
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            index += 1;
        }
    }
}
