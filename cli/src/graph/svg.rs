//! A workflow as one self-contained SVG, light or dark as its viewer is.

use std::fmt::Write as _;

use dagre::graph::{Graph, GraphOptions};
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, RankDir, Ranker};

use super::curve::{self, Point};
use super::{Drawing, Kind, Node, shortened};

const HEIGHT: f64 = 46.0;
const WIDTH_MIN: f64 = 120.0;
const PADDING: f64 = 14.0;
const MARGIN: f64 = 20.0;
/// Width of a character of the name (13 px monospace) and of the line below it (11 px sans-serif).
const NAME_ADVANCE: f64 = 7.9;
const DOER_ADVANCE: f64 = 6.1;
const NAME_LENGTH: usize = 44;
const DOER_LENGTH: usize = 48;
/// Above this many steps the exact placement takes too long for what it adds.
const EXACT_MAX: usize = 300;

/// Colours stand here as they are, and once more for the dark: not every viewer knows variables.
const STYLE: &str = "
  .paper { fill: #ffffff; } .card { fill: #f8fafc; stroke-width: 1.5; } .name { fill: #1f2933; } .doer { fill: #64748b; }
  .edge { fill: none; stroke: #94a3b8; stroke-width: 1.4; } .head { fill: #94a3b8; }
  .single { stroke: #3b82f6; } .fan-out { stroke: #8b5cf6; } .fan-in { stroke: #0d9488; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0f172a; } .card { fill: #1e293b; } .name { fill: #e2e8f0; } .doer { fill: #94a3b8; }
    .edge { stroke: #64748b; } .head { fill: #64748b; }
    .single { stroke: #60a5fa; } .fan-out { stroke: #a78bfa; } .fan-in { stroke: #2dd4bf; }
  }
  .conditional { stroke-dasharray: 5 3; } .finally { stroke: #94a3b8; }
  .name { font: 600 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
  .doer { font: 11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
  text { text-anchor: middle; }";

/// Where everything is.
struct Layout {
    /// Centre and width, by node.
    places: Vec<(Point, f64)>,
    /// Points, by edge.
    lines: Vec<Vec<Point>>,
}

pub(super) fn render(drawing: &Drawing) -> String {
    let layout = Layout::of(drawing);
    let mut text = String::new();
    write(&mut text, drawing, &layout).expect("a string takes any text");
    text
}

impl Layout {
    fn of(drawing: &Drawing) -> Self {
        let mut graph: Graph<NodeLabel, EdgeLabel> =
            Graph::with_options(GraphOptions { directed: true, multigraph: false, compound: false });
        let widths: Vec<f64> = drawing.nodes.iter().map(width).collect();
        for (node, width) in drawing.nodes.iter().zip(&widths) {
            graph.set_node(node.id.clone(), Some(NodeLabel { width: *width, height: HEIGHT, ..NodeLabel::default() }));
        }
        let ends = |(from, to): &(usize, usize)| (drawing.nodes[*from].id.as_str(), drawing.nodes[*to].id.as_str());
        for (from, to) in drawing.edges.iter().map(ends) {
            graph.set_edge(from, to, Some(EdgeLabel::default()), None);
        }
        let ranker = if drawing.nodes.len() > EXACT_MAX { Ranker::LongestPath } else { Ranker::NetworkSimplex };
        let options = LayoutOptions {
            rankdir: RankDir::TB,
            nodesep: 28.0,
            edgesep: 14.0,
            ranksep: 44.0,
            ranker,
            ..LayoutOptions::default()
        };
        for (from, to) in drawing.after().iter().map(ends) {
            graph.set_edge(from, to, Some(EdgeLabel::default()), None);
        }
        dagre::layout(&mut graph, Some(options));

        let places = drawing.nodes.iter().zip(widths).map(|(node, width)| {
            let label = graph.node(&node.id);
            let along = |of: fn(&NodeLabel) -> Option<f64>| label.and_then(of).unwrap_or_default();
            (Point { x: along(|l| l.x), y: along(|l| l.y) }, width)
        });
        let lines = drawing.edges.iter().map(ends).map(|(from, to)| {
            let points = graph.edge(from, to, None).map(|label| label.points.as_slice()).unwrap_or_default();
            points.iter().map(|point| Point { x: point.x, y: point.y }).collect()
        });
        Self { places: places.collect(), lines: lines.collect() }
    }

    /// The upper left and lower right corners of everything: lines can lie outside of all nodes.
    fn corners(&self) -> (Point, Point) {
        let boxes = self.places.iter().flat_map(|(centre, width)| {
            [(-0.5, -0.5), (0.5, 0.5)].map(|(h, v)| Point { x: centre.x + h * width, y: centre.y + v * HEIGHT })
        });
        let all = boxes.chain(self.lines.iter().flatten().copied());
        let start = (Point { x: f64::MAX, y: f64::MAX }, Point { x: f64::MIN, y: f64::MIN });
        let (low, high) = all.fold(start, |(low, high), p| {
            (Point { x: low.x.min(p.x), y: low.y.min(p.y) }, Point { x: high.x.max(p.x), y: high.y.max(p.y) })
        });
        if low.x > high.x { (Point { x: 0.0, y: 0.0 }, Point { x: 0.0, y: 0.0 }) } else { (low, high) }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a number of characters")]
fn width(node: &Node) -> f64 {
    let length = |text: &str, most: usize, advance: f64| text.chars().count().min(most) as f64 * advance;
    let name = length(&node.id, NAME_LENGTH, NAME_ADVANCE);
    let doer = length(&node.doer, DOER_LENGTH, DOER_ADVANCE);
    (name.max(doer) + 2.0 * PADDING).max(WIDTH_MIN)
}

fn write(text: &mut String, drawing: &Drawing, layout: &Layout) -> std::fmt::Result {
    let (low, high) = layout.corners();
    let (x, y) = (low.x - MARGIN, low.y - MARGIN);
    let (w, h) = (high.x - low.x + 2.0 * MARGIN, high.y - low.y + 2.0 * MARGIN);
    writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{x:.0} {y:.0} {w:.0} {h:.0}\" \
         width=\"{w:.0}\" height=\"{h:.0}\" role=\"img\">"
    )?;
    writeln!(text, "<title>{}</title>\n<style>{STYLE}\n</style>", escaped(&drawing.title))?;
    writeln!(
        text,
        "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path class=\"head\" d=\"M0,0.5 L8,4 L0,7.5 Z\"/></marker></defs>"
    )?;
    writeln!(text, "<rect class=\"paper\" x=\"{x:.0}\" y=\"{y:.0}\" width=\"{w:.0}\" height=\"{h:.0}\" rx=\"12\"/>")?;
    for line in &layout.lines {
        writeln!(text, "<path class=\"edge\" marker-end=\"url(#arrow)\" d=\"{}\"/>", curve::path(line))?;
    }
    for (node, (centre, width)) in drawing.nodes.iter().zip(&layout.places) {
        card(text, node, *centre, *width)?;
    }
    writeln!(text, "</svg>")
}

fn card(text: &mut String, node: &Node, centre: Point, width: f64) -> std::fmt::Result {
    let (kind, radius) = match node.kind {
        Kind::Single => ("single", 8.0),
        Kind::FanOut => ("fan-out", 8.0),
        Kind::FanIn => ("fan-in", HEIGHT / 2.0),
    };
    let conditional = if node.condition.is_some() { " conditional" } else { "" };
    let finally = if node.finally { " finally" } else { "" };
    let class = format!("card {kind}{conditional}{finally}");
    let (x, y) = (centre.x - width / 2.0, centre.y - HEIGHT / 2.0);
    let rect = |text: &mut String, shift: f64| {
        let (x, y) = (x + shift, y + shift);
        writeln!(
            text,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{HEIGHT}\" rx=\"{radius}\"/>"
        )
    };
    let condition = node.condition.as_ref().map(|c| format!("\nif {c}")).unwrap_or_default();
    let last = if node.finally { "\nfinally" } else { "" };
    writeln!(text, "<g><title>{}</title>", escaped(&format!("{}\n{}{condition}{last}", node.id, node.doer)))?;
    if node.kind == Kind::FanOut {
        rect(text, 6.0)?;
        rect(text, 3.0)?;
    }
    rect(text, 0.0)?;
    let (name, doer) = (shortened(&node.id, NAME_LENGTH), shortened(&node.doer, DOER_LENGTH));
    let name_y = if doer.is_empty() { centre.y + 4.5 } else { centre.y - 3.0 };
    writeln!(text, "<text class=\"name\" x=\"{:.1}\" y=\"{name_y:.1}\">{}</text>", centre.x, escaped(&name))?;
    if !doer.is_empty() {
        let doer_y = centre.y + 13.5;
        writeln!(text, "<text class=\"doer\" x=\"{:.1}\" y=\"{doer_y:.1}\">{}</text>", centre.x, escaped(&doer))?;
    }
    writeln!(text, "</g>")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{saga, sample};
    use super::*;

    #[test]
    fn finally_is_drawn_below_the_rest_without_lines_to_it() {
        let drawing = saga();
        let layout = Layout::of(&drawing);
        let lowest = |finally| {
            let places = drawing.nodes.iter().zip(&layout.places).filter(move |(node, _)| node.finally == finally);
            places.map(|(_, (centre, _))| centre.y)
        };
        assert!(lowest(true).fold(f64::MAX, f64::min) > lowest(false).fold(f64::MIN, f64::max));
        let svg = drawing.to_svg();
        assert_eq!(svg.matches("<path class=\"edge\"").count(), 3);
        assert_eq!(svg.matches("class=\"card single finally\"").count(), 2);
    }

    #[test]
    fn every_step_and_edge_is_drawn_within_the_picture() {
        let drawing = sample();
        let layout = Layout::of(&drawing);
        let (low, high) = layout.corners();
        assert!(layout.lines.iter().all(|line| line.len() >= 2), "{:?}", layout.lines);
        for point in layout.lines.iter().flatten() {
            assert!(low.x <= point.x && point.x <= high.x && low.y <= point.y && point.y <= high.y);
        }
        let svg = drawing.to_svg();
        assert_eq!(svg.matches("<path class=\"edge\"").count(), 4);
        assert_eq!(svg.matches("class=\"name\"").count(), 4);
        assert!(svg.contains("if size($.input.x) &gt; 0"));
    }

    #[test]
    fn no_two_steps_overlap() {
        let layout = Layout::of(&sample());
        for (i, (a, a_width)) in layout.places.iter().enumerate() {
            for (b, b_width) in &layout.places[..i] {
                let apart = (a.x - b.x).abs() >= (a_width + b_width) / 2.0 || (a.y - b.y).abs() >= HEIGHT;
                assert!(apart, "{a:?} {b:?}");
            }
        }
    }
}
