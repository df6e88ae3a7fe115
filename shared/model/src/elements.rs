//! Elements of a list, by index, over the list's own text.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The elements of a JSON list, 8 bytes each beside the text they share.
#[derive(Debug, Clone)]
pub struct Elements {
    text: Arc<RawValue>,
    bounds: Box<[(u32, u32)]>,
}

/// The value is not a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAList {
    #[error("expected a list, found {found}")]
    Other { found: &'static str },
    #[error("the list has {size} bytes of text; at most 4 GiB can be indexed")]
    TooLarge { size: usize },
    #[error("the list cannot be read: {reason}")]
    Unreadable { reason: String },
}

impl Elements {
    /// Finds the elements; reads the text once and copies nothing.
    pub fn parse(text: Arc<RawValue>) -> Result<Self, NotAList> {
        let json = text.get();
        let found = match json.as_bytes().first() {
            Some(b'[') => None,
            Some(b'{') => Some("an object"),
            Some(b'"') => Some("a string"),
            Some(b't' | b'f') => Some("a boolean"),
            Some(b'n') => Some("null"),
            _ => Some("a number"),
        };
        if let Some(found) = found {
            return Err(NotAList::Other { found });
        }
        if u32::try_from(json.len()).is_err() {
            return Err(NotAList::TooLarge { size: json.len() });
        }
        let bounds = serde_json::Deserializer::from_str(json)
            .deserialize_seq(Bounds { base: json.as_ptr() as usize })
            .map_err(|error| NotAList::Unreadable { reason: error.to_string() })?;
        Ok(Self { bounds: bounds.into_boxed_slice(), text })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bounds.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }

    /// The JSON text of element `index`.
    ///
    /// # Panics
    /// When there is no such element.
    pub fn get(&self, index: usize) -> &str {
        &self.text.get()[self.range(index)]
    }

    fn range(&self, index: usize) -> Range<usize> {
        let (start, end) = self.bounds[index];
        start as usize..end as usize
    }
}

struct Bounds {
    /// Address of the list's text; elements are borrowed from it.
    base: usize,
}

impl<'de> Visitor<'de> for Bounds {
    type Value = Vec<(u32, u32)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut bounds = Vec::new();
        while let Some(element) = list.next_element::<&RawValue>()? {
            let text = element.get();
            let start = text.as_ptr() as usize - self.base;
            let bound = |at: usize| u32::try_from(at).expect("the text has less than 4 GiB");
            bounds.push((bound(start), bound(start + text.len())));
        }
        Ok(bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str) -> Result<Elements, NotAList> {
        Elements::parse(Arc::from(RawValue::from_string(text.to_owned()).expect("JSON")))
    }

    #[test]
    fn every_element_keeps_its_text() {
        let list = elements(" [1.50, {\"a\": [1, 2]} ,\"é,]\",\n[], null ] ").expect("a list");
        let texts: Vec<&str> = (0..list.len()).map(|i| list.get(i)).collect();
        assert_eq!(texts, ["1.50", "{\"a\": [1, 2]}", "\"é,]\"", "[]", "null"]);
        assert!(elements("[]").expect("a list").is_empty());
    }

    #[test]
    fn what_is_not_a_list_is_named() {
        let found = |text| elements(text).expect_err("no list").to_string();
        assert_eq!(found("null"), "expected a list, found null");
        assert_eq!(found("{}"), "expected a list, found an object");
        assert_eq!(found("\"[]\""), "expected a list, found a string");
        assert_eq!(found("-1"), "expected a list, found a number");
    }
}
