//! A workflow in Graphviz's DOT language.

use std::fmt::Write as _;

use super::{Drawing, Kind};

pub(super) fn render(drawing: &Drawing) -> String {
    let mut text = String::new();
    write(&mut text, drawing).expect("a string takes any text");
    text
}

fn write(text: &mut String, drawing: &Drawing) -> std::fmt::Result {
    writeln!(text, "digraph {} {{", quoted(&drawing.title))?;
    writeln!(text, "  node [shape=box, style=rounded, fontname=\"sans-serif\"];")?;
    for (i, node) in drawing.nodes.iter().enumerate() {
        if node.finally && i.checked_sub(1).is_none_or(|before| !drawing.nodes[before].finally) {
            writeln!(
                text,
                "  subgraph cluster_finally {{\n  label=\"finally\"; fontname=\"sans-serif\"; style=dashed;"
            )?;
        }
        let shape = match node.kind {
            Kind::Single => "",
            Kind::FanOut => ", peripheries=2",
            Kind::FanIn => ", shape=invhouse, style=solid",
        };
        let style = if node.condition.is_some() { ", style=\"rounded,dashed\"" } else { "" };
        let tooltip = node.condition.as_ref().map(|c| format!(", tooltip={}", quoted(c))).unwrap_or_default();
        let label = format!("{}\n{}", node.id, node.doer);
        writeln!(text, "  {} [label={}{shape}{style}{tooltip}];", quoted(&node.id), quoted(label.trim_end()))?;
    }
    if drawing.nodes.last().is_some_and(|node| node.finally) {
        writeln!(text, "  }}")?;
    }
    for (from, to) in &drawing.after() {
        let (from, to) = (&drawing.nodes[*from].id, &drawing.nodes[*to].id);
        writeln!(text, "  {} -> {} [style=invis];", quoted(from), quoted(to))?;
    }
    for (from, to) in &drawing.edges {
        writeln!(text, "  {} -> {};", quoted(&drawing.nodes[*from].id), quoted(&drawing.nodes[*to].id))?;
    }
    writeln!(text, "}}")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{saga, sample};

    #[test]
    fn finally_is_a_box_below_the_rest() {
        let dot = saga().to_dot();
        let lines: Vec<&str> = dot.lines().collect();
        assert_eq!(
            lines[5..],
            [
                "  subgraph cluster_finally {",
                "  label=\"finally\"; fontname=\"sans-serif\"; style=dashed;",
                "  \"tidy\" [label=\"tidy\\njanitor\"];",
                "  \"tell\" [label=\"tell\\nchat, else skipped\"];",
                "  }",
                "  \"pay\" -> \"tidy\" [style=invis];",
                "  \"book\" -> \"pay\";",
                "  \"rate\" -> \"pay\";",
                "  \"tidy\" -> \"tell\";",
                "}",
            ]
        );
    }

    #[test]
    fn every_step_and_edge_is_there() {
        assert_eq!(
            sample().to_dot(),
            r#"digraph "invoices" {
  node [shape=box, style=rounded, fontname="sans-serif"];
  "list" [label="list\nerp"];
  "book" [label="book\nbilling for each of $.steps.list.output.items", peripheries=2, style="rounded,dashed", tooltip="size($.input.x) > 0"];
  "check" [label="check\nany audit"];
  "total" [label="total\nall in a list", shape=invhouse, style=solid];
  "list" -> "book";
  "list" -> "check";
  "book" -> "total";
  "check" -> "total";
}
"#
        );
    }
}
