//! YAML text into a tree with places.

use std::borrow::Cow;
use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::{Budget, Content, Member, Node, Place, duplicate, scalar, too_deep};
use crate::limits::DEFINITION_DEPTH_MAX;
use crate::validate::Problem;

/// The tree of the only document in `text`.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Problem>> {
    let mut options = granit_parser::Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = DEFINITION_DEPTH_MAX + 1;
    options.block_nesting_limit = DEFINITION_DEPTH_MAX + 1;
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { parser, anchors: BTreeMap::new(), budget: Budget::new(), problems: Vec::new() };
    match reader.document() {
        Ok(node) if reader.problems.is_empty() => Ok(node),
        Ok(_) => Err(reader.problems),
        Err(problem) => {
            reader.problems.push(problem);
            Err(reader.problems)
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Finished nodes that aliases can stand for.
    anchors: BTreeMap<usize, Anchored>,
    budget: Budget,
    problems: Vec<Problem>,
}

struct Anchored {
    node: Node,
    depth: usize,
    nodes: usize,
    text: usize,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<Node, Problem> {
        let mut document = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => {
                    return document.ok_or_else(|| place.problem("the text is empty", ""));
                }
                Event::DocumentStart(..) if document.is_some() => {
                    return Err(place.problem("a second document starts here", "put each definition in its own text"));
                }
                Event::DocumentStart(..) => {
                    let (event, place) = self.next()?;
                    document = Some(self.node(event, place, 0)?);
                }
                _ => return Err(place.problem("a document is expected here", "")),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Place), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(&span))),
            Some(Err(error)) => Err(explain(&error)),
            None => Err(Place::default().problem("the text ends too early", "")),
        }
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Node, Problem> {
        if depth == DEFINITION_DEPTH_MAX {
            return Err(too_deep(place));
        }
        let (anchor, content) = match event {
            Event::Alias(id) => return self.alias(id, place, depth),
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(text, style, tag, place)?),
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "seq", place)?;
                (anchor, self.list(depth)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "map", place)?;
                (anchor, self.object(depth)?)
            }
            _ => return Err(place.problem("a value is expected here", "")),
        };
        let text = if let Content::String(text) = &content { text.len() } else { 0 };
        self.budget.take(1, text, place)?;
        let node = Node { place, content };
        if anchor > 0 {
            let (depth, nodes, text) = measure(&node);
            self.anchors.insert(anchor, Anchored { node: node.clone(), depth, nodes, text });
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, place: Place, depth: usize) -> Result<Node, Problem> {
        let Some(anchored) = self.anchors.get(&id) else {
            return Err(place.problem("an alias stands inside the value it stands for", "write the value out"));
        };
        if depth + anchored.depth > DEFINITION_DEPTH_MAX {
            return Err(too_deep(place));
        }
        self.budget.take(anchored.nodes, anchored.text, place)?;
        Ok(Node { place, ..anchored.node.clone() })
    }

    fn list(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut elements = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Content::List(elements));
            }
            elements.push(self.node(event, place, depth + 1)?);
        }
    }

    fn object(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut members = Vec::new();
        let mut places = BTreeMap::new();
        loop {
            let (event, place) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(Content::Object(members)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(place.problem("a name is expected here", "names of members are plain text")),
            };
            self.budget.take(0, name.len(), place)?;
            let (event, value_place) = self.next()?;
            let value = self.node(event, value_place, depth + 1)?;
            match places.get(&name) {
                Some(first) => self.problems.push(duplicate(&name, *first, place)),
                None => drop(places.insert(name.clone(), place)),
            }
            members.push(Member { name, place, value });
        }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<Cow<'_, Tag>>, place: Place) -> Result<Content, Problem> {
    let string = |text: Cow<'_, str>| Content::String(text.into_owned());
    let resolve =
        |text: &str| scalar::resolve(text).map_err(|message| place.problem(message, "quotes make it a string"));
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain { resolve(&text) } else { Ok(string(text)) };
    };
    let content = match tag.core_suffix() {
        Some("str") => return Ok(string(text)),
        Some("null" | "bool" | "int" | "float") => resolve(&text)?,
        _ if tag.original() == "!" => return Ok(string(text)),
        _ => return Err(unknown_tag(&tag, place)),
    };
    let fits = match tag.core_suffix() {
        Some("null") => content == Content::Null,
        Some("bool") => matches!(content, Content::Bool(_)),
        Some("int") => matches!(&content, Content::Number(number) if !number.is_f64()),
        _ => matches!(content, Content::Number(_)),
    };
    if fits {
        Ok(content)
    } else {
        Err(place.problem(format!("`{text}` is not what its tag {} says", tag.original()), ""))
    }
}

fn check_tag(tag: Option<&Tag>, expected: &str, place: Place) -> Result<(), Problem> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(expected) && tag.original() != "!" => Err(unknown_tag(tag, place)),
        _ => Ok(()),
    }
}

fn unknown_tag(tag: &Tag, place: Place) -> Problem {
    place.problem(format!("the tag {} has no meaning here", tag.original()), "remove it")
}

/// Depth, number of nodes and bytes of strings.
fn measure(node: &Node) -> (usize, usize, usize) {
    let text = if let Content::String(text) = &node.content { text.len() } else { 0 };
    let names: usize = node.members().iter().map(|member| member.name.len()).sum();
    let values = node.members().iter().map(|member| &member.value).chain(node.elements());
    let below = values.map(measure).fold((0, 0, 0), |all, one| (all.0.max(one.0), all.1 + one.1, all.2 + one.2));
    (below.0 + 1, below.1 + 1, below.2 + text + names)
}

fn place(span: &Span) -> Place {
    at(span.start.line(), span.start.col())
}

fn at(line: usize, column: usize) -> Place {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place { line: count(line.max(1)), column: count(column + 1) }
}

fn explain(error: &ScanError) -> Problem {
    let marker = error.marker();
    let message = error.info();
    let help = if message.contains("tab") { "indent with spaces" } else { "" };
    at(marker.line(), marker.col()).problem(format!("this is not YAML: {message}"), help)
}
