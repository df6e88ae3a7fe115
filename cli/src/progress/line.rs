//! One line about one step.

use console::Style;

/// How a step stands, as a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Done,
    Failed,
    Again,
    /// Skipped or cancelled.
    Gone,
}

/// What is said of a step for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    mark: Mark,
    subject: String,
    state: &'static str,
    micros: Option<u64>,
    attempt: Option<u32>,
    note: String,
}

impl Line {
    pub(super) fn new(mark: Mark, subject: &str, state: &'static str) -> Self {
        Self { mark, subject: subject.to_owned(), state, micros: None, attempt: None, note: String::new() }
    }

    pub(super) fn time(self, micros: Option<u64>) -> Self {
        Self { micros, ..self }
    }

    pub(super) fn attempt(self, attempt: Option<u32>) -> Self {
        Self { attempt, ..self }
    }

    pub(super) fn note(self, note: String) -> Self {
        Self { note, ..self }
    }

    /// The line; `width` characters are for the step's name.
    pub(crate) fn render(&self, width: usize, colour: bool) -> String {
        let style = || Style::new().force_styling(colour);
        let (sign, paint) = match self.mark {
            Mark::Done => ("✓", style().green()),
            Mark::Failed => ("✗", style().red()),
            Mark::Again => ("↻", style().yellow()),
            Mark::Gone => ("–", style().dim()),
        };
        let time = self.micros.map(duration).unwrap_or_default();
        let attempt = self.attempt.map(|attempt| format!("attempt {attempt}")).unwrap_or_default();
        let subject = format!("{:width$}", self.subject);
        let state = format!("{:<10}", self.state);
        let faint = if self.mark == Mark::Failed { style().red() } else { style().dim() };
        let tail = format!("{attempt:<9}  {}", self.note);
        let tail = tail.trim_end();
        let (sign, state) = (paint.apply_to(sign), paint.apply_to(state));
        let line = if tail.is_empty() {
            format!("  {sign} {subject}  {state} {time:>10}")
        } else {
            format!("  {sign} {subject}  {state} {time:>10}  {}", faint.apply_to(tail))
        };
        line.trim_end().to_owned()
    }
}

/// A time span as people say it.
#[allow(clippy::cast_precision_loss, reason = "it is rounded for reading")]
pub(crate) fn duration(micros: u64) -> String {
    let seconds = micros as f64 / 1e6;
    match micros {
        0..1_000 => "<1 ms".to_owned(),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..10_000_000 => format!("{seconds:.1} s"),
        10_000_000..60_000_000 => format!("{seconds:.0} s"),
        _ => {
            let seconds = micros / 1_000_000;
            match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
                (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
                (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
            }
        }
    }
}

/// A number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        let spans = [12, 2_400, 999_999, 1_250_000, 42_400_000, 61_000_000, 7_320_000_000];
        let texts = ["<1 ms", "2 ms", "999 ms", "1.2 s", "42 s", "1 min 01 s", "2 h 02 min"];
        assert_eq!(spans.map(duration), texts);
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        let line = Line::new(Mark::Done, "a", "completed").time(Some(2_000)).attempt(Some(1));
        assert!(line.render(3, true).contains("\u{1b}[32m"));
        assert_eq!(line.render(3, false), "  ✓ a    completed        2 ms  attempt 1");
    }
}
