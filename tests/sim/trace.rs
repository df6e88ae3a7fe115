//! What happened, as text: for people, and to compare two runs of a seed byte by byte.

use super::agenda::Time;

/// Lines of a run. Without a reader nothing is written.
#[derive(Debug, Default)]
pub struct Trace {
    text: Option<String>,
}

impl Trace {
    /// A trace that is kept.
    pub fn kept() -> Self {
        Self { text: Some(String::new()) }
    }

    /// Adds a line if anybody is going to read it.
    pub fn line(&mut self, at: Time, line: impl FnOnce() -> String) {
        if let Some(text) = &mut self.text {
            text.push_str(&at.to_string());
            text.push_str("  ");
            text.push_str(&line());
            text.push('\n');
        }
    }

    /// Everything so far; empty when nothing is kept.
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }

    pub fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}
