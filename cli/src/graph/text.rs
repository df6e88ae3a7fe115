//! A workflow as lines: level by level, what can run at the same time together.

use std::fmt::Write as _;

use super::{Drawing, Kind, Node, shortened};

/// Dependencies that are named in a line; of more only the number is told.
const NAMED_MAX: usize = 4;
/// Characters of the name of a dependency, and of a line of a condition.
const NAME_LENGTH: usize = 32;
const CONDITION_WIDTH: usize = 88;

pub(super) fn render(drawing: &Drawing) -> String {
    let mut text = String::new();
    write(&mut text, drawing).expect("a string takes any text");
    text
}

fn write(text: &mut String, drawing: &Drawing) -> std::fmt::Result {
    let (steps, main) = (drawing.nodes.len(), drawing.main_levels());
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let finally = drawing.nodes.iter().filter(|node| node.finally).count();
    let and_finally = if finally > 0 { format!(", and {finally} in finally") } else { String::new() };
    let before = steps - finally;
    writeln!(
        text,
        "{} · {before} step{} in {main} level{}{and_finally}\n",
        drawing.title,
        plural(before),
        plural(main)
    )?;
    let width = drawing.nodes.iter().map(|node| node.id.chars().count()).max().unwrap_or(0);
    let doers = drawing.nodes.iter().map(|node| node.doer.chars().count()).max().unwrap_or(0);
    let mut above: Vec<Vec<&str>> = vec![Vec::new(); steps];
    for (from, to) in &drawing.edges {
        above[*to].push(&drawing.nodes[*from].id);
    }
    for level in 0..drawing.level_count() {
        if level == main {
            writeln!(text, "finally")?;
        }
        let members: Vec<usize> = (0..steps).filter(|node| drawing.nodes[*node].level == level).collect();
        for (place, &index) in members.iter().enumerate() {
            let node = &drawing.nodes[index];
            let bracket = match (place, members.len()) {
                (_, 1) => "──",
                (0, _) => "┬─",
                (last, count) if last + 1 == count => "└─",
                _ => "├─",
            };
            let level = if level < main { level } else { level - main };
            let number = if place == 0 { (level + 1).to_string() } else { String::new() };
            let tail = dependencies(&above[index]);
            let line = format!("{number:>4} {bracket} {} {:width$}  {:doers$}{tail}", symbol(node), node.id, node.doer);
            writeln!(text, "{}", line.trim_end())?;
            if let Some(condition) = &node.condition {
                let bar = if place + 1 < members.len() { "│" } else { " " };
                for (number, line) in wrapped(condition).iter().enumerate() {
                    let word = if number == 0 { "if" } else { "  " };
                    writeln!(text, "     {bar}    {:width$}  {word} {line}", "")?;
                }
            }
        }
    }
    writeln!(text, "\n{}", legend(drawing))
}

fn symbol(node: &Node) -> char {
    match (node.kind, &node.condition) {
        (Kind::FanOut, _) => '⋔',
        (Kind::FanIn, _) => '⋎',
        (Kind::Single, Some(_)) => '◇',
        (Kind::Single, None) => '●',
    }
}

fn dependencies(above: &[&str]) -> String {
    let named = if above.len() <= NAMED_MAX { above.len() } else { NAMED_MAX - 1 };
    let names: Vec<String> = above[..named].iter().map(|name| shortened(name, NAME_LENGTH)).collect();
    match above.len() - named {
        _ if above.is_empty() => String::new(),
        0 => format!("  ← {}", names.join(", ")),
        more => format!("  ← {} and {more} more", names.join(", ")),
    }
}

/// The text in lines that break between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a first line");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > CONDITION_WIDTH {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

fn legend(drawing: &Drawing) -> String {
    let known = [('●', "step"), ('◇', "if its condition holds"), ('⋔', "fan-out"), ('⋎', "fan-in")];
    let used = known.iter().filter(|(sign, _)| drawing.nodes.iter().any(|node| symbol(node) == *sign));
    used.map(|(sign, meaning)| format!("{sign} {meaning}")).collect::<Vec<_>>().join("   ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{saga, sample};

    #[test]
    fn what_happens_on_failures_and_in_the_end_is_said() {
        assert_eq!(
            saga().to_text(),
            "order · 3 steps in 2 levels, and 2 in finally\n\
             \n   \
             1 ┬─ ● book  crm, undone by unbook\n     \
             └─ ● rate  rates, else a fixed output\n   \
             2 ── ● pay   bank, else any pay, irreversible  ← book, rate\n\
             finally\n   \
             1 ── ● tidy  janitor\n   \
             2 ── ● tell  chat, else skipped                ← tidy\n\
             \n\
             ● step\n"
        );
    }

    #[test]
    fn a_long_condition_breaks_between_words() {
        let words = ["aaaa"; 40].join(" ");
        let lines = super::wrapped(&words);
        assert!(
            lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= super::CONDITION_WIDTH),
            "{lines:?}"
        );
        assert_eq!(lines.join(" "), words);
    }

    #[test]
    fn levels_are_drawn_as_brackets() {
        assert_eq!(
            sample().to_text(),
            "invoices · 4 steps in 3 levels\n\
             \n   \
             1 ── ● list   erp\n   \
             2 ┬─ ⋔ book   billing for each of $.steps.list.output.items  ← list\n     \
             │           if size($.input.x) > 0\n     \
             └─ ● check  any audit                                      ← list\n   \
             3 ── ⋎ total  all in a list                                  ← book, check\n\
             \n\
             ● step   ⋔ fan-out   ⋎ fan-in\n"
        );
    }
}
