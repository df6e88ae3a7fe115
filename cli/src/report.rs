//! Problems of a file as a compiler would show them.

use std::fmt::Write as _;

use console::Style;
use millstream_model::plan::Plan;
use millstream_model::validate::{self, Problem};

use crate::files::Source;
use crate::output;

/// Renders each problem with the line it is in, and a count.
pub(crate) fn render(file: &str, source: &str, problems: &[Problem], colour: bool) -> String {
    let paint = Paint::new(colour);
    let mut text = String::new();
    for problem in problems {
        one(&mut text, file, source, problem, "error", &paint).expect("a string takes any text");
    }
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    let verdict = format!("{file} is not valid: {count}");
    writeln!(text, "{}", paint.error.apply_to(verdict)).expect("a string takes any text");
    text
}

/// Renders what is valid and unwise.
pub(crate) fn render_warnings(file: &str, source: &str, warnings: &[Problem], colour: bool) -> String {
    let style = Style::new().force_styling(colour);
    let paint = Paint { error: style.yellow().bold(), ..Paint::new(colour) };
    let mut text = String::new();
    for warning in warnings {
        one(&mut text, file, source, warning, "warning", &paint).expect("a string takes any text");
    }
    text
}

/// Tells what is valid and unwise about a definition.
pub(crate) fn warn(source: &Source, plan: &Plan) {
    let warnings: Vec<Problem> = validate::gaps_in(&source.text, plan).iter().map(Problem::from).collect();
    if !warnings.is_empty() {
        output::note(render_warnings(&source.name, &source.text, &warnings, colour_on_stderr()).trim_end());
    }
}

/// Whether stderr takes colours.
pub(crate) fn colour_on_stderr() -> bool {
    console::Term::stderr().features().colors_supported()
}

struct Paint {
    error: Style,
    strong: Style,
    frame: Style,
    help: Style,
}

impl Paint {
    fn new(colour: bool) -> Self {
        let style = || Style::new().force_styling(colour);
        Self {
            error: style().red().bold(),
            strong: style().bold(),
            frame: style().blue().bold(),
            help: style().cyan().bold(),
        }
    }
}

fn one(
    text: &mut String,
    file: &str,
    source: &str,
    problem: &Problem,
    severity: &str,
    paint: &Paint,
) -> std::fmt::Result {
    let Problem { path, line, column, message, help } = problem;
    writeln!(text, "{}{}", paint.error.apply_to(severity), paint.strong.apply_to(format!(": {message}")))?;
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let bar = paint.frame.apply_to("|");
    writeln!(text, "{margin}{} {file}:{line}:{column}", paint.frame.apply_to("-->"))?;
    if let Some(excerpt) = Excerpt::of(source, *line, *column) {
        writeln!(text, "{margin} {bar}")?;
        writeln!(text, "{} {bar} {}", paint.frame.apply_to(&number), excerpt.line)?;
        writeln!(text, "{margin} {bar} {}{}", excerpt.indent, paint.error.apply_to(excerpt.carets))?;
    }
    if !path.is_empty() {
        writeln!(text, "{margin} {} in {path}", paint.frame.apply_to("="))?;
    }
    if !help.is_empty() {
        writeln!(text, "{margin} {} {}: {help}", paint.frame.apply_to("="), paint.help.apply_to("help"))?;
    }
    writeln!(text)
}

/// A line of the source and what stands below it.
struct Excerpt {
    line: String,
    indent: String,
    carets: String,
}

/// Characters of a line that are shown.
const WIDTH_MAX: usize = 160;

impl Excerpt {
    /// Lines and columns count from 1; columns are characters.
    fn of(source: &str, line: u32, column: u32) -> Option<Self> {
        let text = source.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?.replace('\t', " ");
        let start = usize::try_from(column).ok()?.checked_sub(1)?;
        let characters: Vec<char> = text.chars().collect();
        // A long line is shown from a little before the place.
        let from = if characters.len() > WIDTH_MAX { start.saturating_sub(WIDTH_MAX / 2) } else { 0 };
        let shown: String = characters.iter().skip(from).take(WIDTH_MAX).collect();
        let length = token_length(characters.get(start..).unwrap_or_default()).min(WIDTH_MAX);
        Some(Self { line: shown, indent: " ".repeat(start - from), carets: "^".repeat(length) })
    }
}

/// How many characters belong to the word, or to the quoted text, at the beginning of `rest`.
fn token_length(rest: &[char]) -> usize {
    let length = match rest.first() {
        Some(quote @ ('"' | '\'')) => rest[1..].iter().position(|c| c == quote).map_or(rest.len(), |at| at + 2),
        _ => rest.iter().take_while(|c| !c.is_whitespace() && !",:]}[{#".contains(**c)).count(),
    };
    length.max(1)
}

/// A line of text with a caret below one of its characters (column from 1), for expressions given on the command line.
pub(crate) fn point(text: &str, column: usize) -> String {
    let before = column.saturating_sub(1).min(text.chars().count());
    format!("  {text}\n  {}^", " ".repeat(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_and_how_to_mend_it() {
        let source = "id: invoices\nsteps:\n  - id: book\n    depends_on: [lst]\n";
        let problem = Problem {
            path: "steps[0].depends_on[0]".into(),
            line: 4,
            column: 18,
            message: "there is no step \"lst\"".into(),
            help: "did you mean \"list\"?".into(),
        };
        assert_eq!(
            render("invoices.yaml", source, &[problem], false),
            "error: there is no step \"lst\"\n \
             --> invoices.yaml:4:18\n  \
             |\n\
             4 |     depends_on: [lst]\n  \
             |                  ^^^\n  \
             = in steps[0].depends_on[0]\n  \
             = help: did you mean \"list\"?\n\
             \n\
             invoices.yaml is not valid: 1 problem\n"
        );
    }

    #[test]
    fn a_warning_looks_like_a_problem_and_does_not_say_that_the_file_is_wrong() {
        let source = "id: w\non_failure: compensate\nsteps:\n  - {id: a, agent_id: x}\n  - {id: b, agent_id: x, depends_on: [a]}\n";
        let plan = millstream_model::validate::definition(source).expect("a valid definition");
        let gaps = millstream_model::validate::gaps_in(source, &plan);
        let warnings: Vec<Problem> = gaps.iter().map(Problem::from).collect();
        assert_eq!(
            render_warnings("w.yaml", source, &warnings, false),
            "warning: `a` has no `compensate`: what it did stays when `b` fails\n \
             --> w.yaml:4:10\n  \
             |\n\
             4 |   - {id: a, agent_id: x}\n  \
             |          ^\n  \
             = in steps[0]\n  \
             = help: add `compensate`, or `irreversible: true` if nothing undoes it; a step that changes nothing may stay as it is\n\n"
        );
    }

    #[test]
    fn a_problem_behind_the_end_of_the_file_has_no_excerpt() {
        let problem =
            Problem { path: String::new(), line: 9, column: 1, message: "it ends early".into(), help: String::new() };
        assert_eq!(
            render("f", "a: 1\n", &[problem], false),
            "error: it ends early\n --> f:9:1\n\nf is not valid: 1 problem\n"
        );
    }

    #[test]
    fn a_caret_points_into_long_and_quoted_text() {
        let long = format!("{}\"a b\": 1", "x".repeat(400));
        let excerpt = Excerpt::of(&long, 1, 401).expect("an excerpt");
        assert_eq!(excerpt.carets, "^^^^^");
        assert_eq!(excerpt.line.chars().nth(excerpt.indent.len()), Some('"'));
        assert_eq!(point("$.a[", 5), "  $.a[\n      ^");
    }
}
