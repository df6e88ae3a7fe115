//! Which fields there are, what each takes, and what it may not exceed.

use super::Report;
use super::language::{Field, LATER, STEP, SYNONYMS, Takes, WORKFLOW};
use crate::error::ErrorCode;
use crate::ids::StepId;
use crate::limits::{
    CONDITION_LENGTH_MAX, DURATION_MS_MAX, LABELS_MAX, RETENTION_MS_MAX, RETENTION_MS_MIN, SEARCHABLE_MAX, STEPS_MAX,
};
use crate::source::{Content, Member, Node};
use crate::suggestion::closest;

/// Whether a step has a field that says what it does in a later version, or that is meant to.
pub(super) fn is_meant_to_work(step: &Node) -> bool {
    let mut names = step.members().iter().map(|member| member.name.as_str());
    names.any(|name| LATER.contains(&name) || matches!(meant(name, STEP), Some("agent_id" | "capability" | "fan_in")))
}

/// Checks the whole tree.
pub(super) fn check(tree: &Node, report: &mut Report) {
    object(tree, "", WORKFLOW, "a workflow", report);
    let count = |name| tree.get(name).map_or(0, |steps: &Node| steps.elements().len());
    let (main, finally) = (count("steps"), count("finally"));
    if let Some(member) = tree.member("finally")
        && main.max(finally) <= STEPS_MAX
        && main + finally > STEPS_MAX
    {
        let all = main + finally;
        let message = format!("a workflow has 1 to {STEPS_MAX} steps, this one has {all} with those of `finally`");
        report.add("finally", member.place, message, "split it");
    }
}

fn object(node: &Node, path: &str, fields: &'static [Field], what: &str, report: &mut Report) {
    let Content::Object(members) = &node.content else {
        let message = format!("{what} is an object with fields, not {}", kind(node));
        report.add(path, node.place, message, shape(node, fields));
        return;
    };
    for field in fields.iter().filter(|field| field.required && node.get(field.name).is_none()) {
        report.add(path, node.place, format!("{what} has no `{}`", field.name), format!("add `{}`", field.name));
    }
    for member in members {
        let path = join(path, &member.name);
        match fields.iter().find(|field| field.name == member.name) {
            Some(_) if member.value.content == Content::Null => {
                let message = format!("`{}` is empty", member.name);
                let help = match member.name.as_str() {
                    "static_value" => "give it a value, or write `skip: true`: what reads the step then reads null",
                    _ => "give it a value or remove it",
                };
                report.add(path, member.place, message, help);
            }
            Some(field) => value(&member.value, &path, field, report),
            None => unknown(member, path, fields, what, report),
        }
    }
}

/// How something that is no object becomes one.
fn shape(node: &Node, fields: &'static [Field]) -> String {
    let has = |name: &str| fields.iter().any(|field| field.name == name);
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    match &node.content {
        _ if !required.is_empty() => format!("it has at least `{}`", required.join("`, `")),
        Content::String(text) if has("agent_id") && text.parse::<StepId>().is_ok() => {
            format!("as in {{agent_id: {text}}}")
        }
        Content::Number(number) if has("max_attempts") => format!("as in {{max_attempts: {number}}}"),
        _ => String::new(),
    }
}

fn unknown(member: &Member, path: String, fields: &'static [Field], what: &str, report: &mut Report) {
    let name = member.name.as_str();
    if LATER.contains(&name) {
        let message = format!("`{name}` is part of the language but this version does not run it yet");
        report.add(path, member.place, message, "remove it");
        return;
    }
    if name == "retryable" && what == "a step" {
        let help = "steps are retried; with `retry: {max_attempts: 1}` one runs at most once";
        report.add(path, member.place, format!("{what} has no field `{name}`"), help);
        return;
    }
    if what == "`fan_out`" && ["fan_out", "for_each", "foreach", "steps", "tasks"].contains(&name) {
        let message = "fan-outs do not nest: for each item the step's agent runs once";
        let help = "flatten the lists, as in `items: $.input.orders[*].lines[*]`, or give this step's output to another \
                    step with `fan_out`";
        report.add(path, member.place, message, help);
        return;
    }
    let help = match meant(name, fields) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if name == "<<" => "merge keys are not part of YAML 1.2; write the fields out".to_owned(),
        None => format!("the fields are {}", fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")),
    };
    report.add(path, member.place, format!("{what} has no field `{name}`"), help);
}

/// The field that an unknown name probably stands for.
fn meant(name: &str, fields: &'static [Field]) -> Option<&'static str> {
    let known = || fields.iter().map(|field| field.name);
    let synonym = SYNONYMS.iter().find(|(synonym, meant)| *synonym == name && known().any(|known| known == *meant));
    synonym.map(|(_, meant)| *meant).or_else(|| closest(name, known()))
}

fn value(node: &Node, path: &str, field: &'static Field, report: &mut Report) {
    let name = field.name;
    match &field.takes {
        Takes::Name => check_name(node, path, name, report),
        Takes::Text => match &node.content {
            Content::String(_) => {}
            Content::Number(_) | Content::Bool(_) => {
                wrong(node, path, &format!("`{name}` is a string"), "put it in quotes", report);
            }
            _ => wrong(node, path, &format!("`{name}` is a string"), "", report),
        },
        Takes::Flag if matches!(node.content, Content::Bool(_)) => {}
        Takes::Flag => wrong(node, path, &format!("`{name}` is true or false"), mend(name), report),
        Takes::Count { min, max } => {
            number(node, path, name, *min, *max, &format!("`{name}` is a whole number"), report);
        }
        Takes::Duration { min } => {
            let takes = format!("`{name}` is a whole number of milliseconds");
            number(node, path, name, *min, DURATION_MS_MAX, &takes, report);
        }
        Takes::Retention => {
            let takes = format!("`{name}` is a whole number of milliseconds");
            number(node, path, name, RETENTION_MS_MIN, RETENTION_MS_MAX, &takes, report);
        }
        Takes::Factor { min } => match float(node) {
            Some(factor) if factor >= *min => {}
            _ => wrong(node, path, &format!("`{name}` is a number of at least {min}"), mend(name), report),
        },
        Takes::Success => match float(node) {
            Some(share) if share > 0.0 && (share < 1.0 || share.fract() == 0.0) => {}
            _ => {
                let takes =
                    format!("`{name}` is a count of items (1, 2, …) or a share of them (more than 0, less than 1)");
                wrong(node, path, &takes, "", report);
            }
        },
        Takes::Word(words) => word(node, path, name, words, report),
        Takes::Codes => codes(node, path, name, report),
        Takes::Value => {}
        Takes::Schema => {
            if !matches!(node.content, Content::Object(_) | Content::Bool(_)) {
                wrong(node, path, &format!("`{name}` is a JSON Schema, an object"), "", report);
            }
        }
        Takes::Labels => labels(node, path, report),
        Takes::Searchable => searchable(node, path, report),
        Takes::Names { max } => names(node, path, name, *max, report),
        Takes::Object(fields) => object(node, path, fields, &format!("`{name}`"), report),
        Takes::Steps { min } => {
            let Content::List(steps) = &node.content else {
                let help = "each step starts with `- id: …`";
                return wrong(node, path, &format!("`{name}` is a list"), help, report);
            };
            if steps.len() < *min || steps.len() > STEPS_MAX {
                let message = format!("a workflow has 1 to {STEPS_MAX} steps, this one has {}", steps.len());
                report.add(path, node.place, message, if steps.is_empty() { "add one" } else { "split it" });
            }
            for (i, step) in steps.iter().enumerate() {
                object(step, &format!("{path}[{i}]"), STEP, "a step", report);
            }
        }
    }
}

const NAME_RULE: &str =
    "names have letters, digits, `_` and `-`, start with a letter or `_`, and have at most 64 characters";

fn check_name(node: &Node, path: &str, name: &str, report: &mut Report) {
    match node.as_str().map(str::parse::<StepId>) {
        Some(Ok(_)) => {}
        Some(Err(error)) => {
            let message = format!("`{}` cannot be a name: {error}", node.as_str().unwrap_or_default());
            report.add(path, node.place, message, NAME_RULE);
        }
        None => wrong(node, path, &format!("`{name}` is a name"), NAME_RULE, report),
    }
}

fn names(node: &Node, path: &str, name: &str, max: usize, report: &mut Report) {
    let Content::List(elements) = &node.content else {
        let help = if node.as_str().is_some() { "put it in brackets" } else { "" };
        return wrong(node, path, &format!("`{name}` is a list of step ids"), help, report);
    };
    if elements.len() > max {
        report.add(path, node.place, format!("`{name}` has at most {max} elements"), "");
    }
    for (i, element) in elements.iter().enumerate() {
        check_name(element, &format!("{path}[{i}]"), "a step's id", report);
        if let Some(text) = element.as_str()
            && elements[..i].iter().any(|earlier| earlier.as_str() == Some(text))
        {
            report.add(format!("{path}[{i}]"), element.place, format!("`{text}` is there twice"), "remove one");
        }
    }
}

fn word(node: &Node, path: &str, name: &str, words: &[&str], report: &mut Report) {
    match node.as_str() {
        Some(text) if words.contains(&text) => {}
        text => {
            let meant = text.and_then(|text| closest(text, words.iter().copied()));
            let help = meant.map_or(String::new(), |meant| format!("did you mean `{meant}`?"));
            wrong(node, path, &format!("`{name}` is one of {}", words.join(", ")), &help, report);
        }
    }
}

fn codes(node: &Node, path: &str, name: &str, report: &mut Report) {
    let Content::List(elements) = &node.content else {
        return wrong(node, path, &format!("`{name}` is a list of error codes"), "as in [TIMEOUT, LOST]", report);
    };
    let retryable = || ErrorCode::ALL.into_iter().filter(|code| !code.never_retryable()).map(ErrorCode::as_str);
    for (i, element) in elements.iter().enumerate() {
        let path = format!("{path}[{i}]");
        let known = ErrorCode::ALL.into_iter().find(|code| element.as_str() == Some(code.as_str()));
        match known {
            Some(code) if code.never_retryable() => {
                let message = format!("{code} is never retried: the same attempt would end the same way");
                report.add(path, element.place, message, "remove it");
            }
            Some(_) => {}
            None => {
                let codes: Vec<&str> = retryable().collect();
                let meant = element.as_str().and_then(|text| closest(text, codes.iter().copied()));
                let help = meant.map_or(String::new(), |meant| format!("did you mean {meant}?"));
                wrong(element, &path, &format!("codes that can be retried are {}", codes.join(", ")), &help, report);
            }
        }
    }
}

fn labels(node: &Node, path: &str, report: &mut Report) {
    let Content::Object(members) = &node.content else {
        return wrong(node, path, "`labels` is an object of strings", "", report);
    };
    if members.len() > LABELS_MAX {
        report.add(path, node.place, format!("there are at most {LABELS_MAX} labels, not {}", members.len()), "");
    }
    for member in members.iter().filter(|member| member.value.as_str().is_none()) {
        let takes = format!("the label `{}` is a string", member.name);
        wrong(&member.value, &join(path, &member.name), &takes, "put it in quotes", report);
    }
}

/// The form of `searchable`; its paths are compiled with the other expressions.
fn searchable(node: &Node, path: &str, report: &mut Report) {
    let Content::Object(members) = &node.content else {
        let help = "as in {order: $.input.order_id}";
        return wrong(node, path, "`searchable` is an object of names and paths", help, report);
    };
    if members.len() > SEARCHABLE_MAX {
        let message = format!("there are at most {SEARCHABLE_MAX} attributes, not {}", members.len());
        report.add(path, node.place, message, "");
    }
    for member in members {
        let path = join(path, &member.name);
        if let Err(error) = member.name.parse::<StepId>() {
            report.add(&path, member.place, format!("`{}` cannot be a name: {error}", member.name), NAME_RULE);
        }
        if member.value.as_str().is_none() {
            let takes = format!("the attribute `{}` is a path", member.name);
            wrong(&member.value, &path, &takes, "as in $.input.order_id", report);
        }
    }
}

fn number(node: &Node, path: &str, name: &str, min: u64, max: u64, takes: &str, report: &mut Report) {
    let number = match &node.content {
        Content::Number(number) => number.as_u64(),
        _ => None,
    };
    if !number.is_some_and(|number| (min..=max).contains(&number)) {
        wrong(node, path, &format!("{takes} from {min} to {max}"), mend(name), report);
    }
}

/// What the values at the edge of a policy mean, for who is beyond it.
fn mend(name: &str) -> &'static str {
    match name {
        "max_attempts" => "the first attempt counts: with 1 nothing is repeated",
        "backoff_ms" => "0 repeats at once",
        "backoff_multiplier" => "1 keeps the delay as it is",
        "jitter" => "true adds up to a quarter to each delay",
        _ => "",
    }
}

fn float(node: &Node) -> Option<f64> {
    match &node.content {
        Content::Number(number) => number.as_f64().filter(|number| number.is_finite()),
        _ => None,
    }
}

fn wrong(node: &Node, path: &str, takes: &str, help: &str, report: &mut Report) {
    report.add(path, node.place, format!("{takes}, not {}", kind(node)), help);
}

/// A value in words.
fn kind(node: &Node) -> String {
    match &node.content {
        Content::Null => "nothing".to_owned(),
        Content::Bool(value) => value.to_string(),
        Content::Number(number) => number.to_string(),
        Content::String(text) if text.len() > CONDITION_LENGTH_MAX => "a long string".to_owned(),
        Content::String(text) => format!("\"{text}\""),
        Content::List(_) => "a list".to_owned(),
        Content::Object(_) => "an object".to_owned(),
    }
}

/// The path of a member.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
