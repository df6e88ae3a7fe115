//! The parameters of a list: read all at once, so that everything that is wrong is told at once.

use millstream_model::ids::StepId;
use millstream_model::time::Timestamp;
use millstream_model::view::ExecutionStatus;
use serde::Serialize;

use crate::history::{Comparison, Cursor, Filter, Is, Query, Relation, Sort, SortBy};
use crate::http::limits::{LIST_LIMIT, LIST_LIMIT_MAX};
use crate::http::problem::{Problem, ProblemKind};

/// What a list is asked for.
#[derive(Debug)]
pub(super) struct ListParameters {
    pub query: Query,
    pub filter: Filter,
    pub limit: usize,
    pub summary: bool,
}

/// What is wrong with a parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Wrong {
    parameter: String,
    /// What is wrong and what is allowed.
    message: String,
}

const ALLOWED: [&str; 13] = [
    "workflow",
    "status",
    "started_after",
    "started_before",
    "ended_after",
    "ended_before",
    "partial",
    "label",
    "attribute",
    "sort",
    "limit",
    "cursor",
    "summary",
];

/// What can be given several times.
const SEVERAL: [&str; 4] = ["workflow", "status", "label", "attribute"];

const STATUSES: [ExecutionStatus; 5] = [
    ExecutionStatus::Running,
    ExecutionStatus::Completed,
    ExecutionStatus::Failed,
    ExecutionStatus::Cancelled,
    ExecutionStatus::Timeout,
];

#[derive(Debug, Default)]
struct Reading {
    filter: Filter,
    sort: Sort,
    cursor: Option<Cursor>,
    limit: Option<usize>,
    summary: bool,
}

impl ListParameters {
    pub(super) fn read(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let mut reading = Reading::default();
        let mut wrongs = Vec::new();
        for (i, (name, value)) in pairs.iter().enumerate() {
            let once = !SEVERAL.contains(&name.as_str());
            let read = match pairs[..i].iter().any(|(earlier, _)| earlier == name) && once {
                true => Err("it is there twice, and is given once".to_owned()),
                false => reading.take(name, value),
            };
            if let Err(message) = read {
                wrongs.push(Wrong { parameter: name.clone(), message });
            }
        }
        let Reading { filter, sort, cursor, limit, summary } = reading;
        let limit = limit.unwrap_or(LIST_LIMIT);
        if wrongs.is_empty() {
            match Query::new(filter.clone(), sort, cursor, limit) {
                Ok(query) => return Ok(Self { query, filter, limit, summary }),
                Err(foreign) => {
                    let message = format!("{foreign}; leave it out to begin from the start");
                    wrongs.push(Wrong { parameter: "cursor".to_owned(), message });
                }
            }
        }
        let sentences: Vec<String> =
            wrongs.iter().map(|wrong| format!("{}: {}", wrong.parameter, wrong.message)).collect();
        Err(Problem::new(ProblemKind::InvalidRequest, sentences.join("; ")).listing(&wrongs))
    }
}

impl Reading {
    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let filter = &mut self.filter;
        match name {
            "workflow" => filter.workflows.push(value.parse().map_err(|error| format!("'{value}': {error}"))?),
            "status" => filter.statuses.push(status(value)?),
            "started_after" => filter.started.after = Some(moment(value)?),
            "started_before" => filter.started.before = Some(moment(value)?),
            "ended_after" => filter.ended.after = Some(moment(value)?),
            "ended_before" => filter.ended.before = Some(moment(value)?),
            "partial" => filter.partial = Some(flag(value)?),
            "label" => match value.split_once(':') {
                Some((name, value)) => filter.labels.push((name.to_owned(), value.to_owned())),
                None => return Err(format!("'{value}' is no name and value joined by a colon, as in team:billing")),
            },
            "attribute" => filter.attributes.push(comparison(value)?),
            "sort" => self.sort = sort(value)?,
            "limit" => match value.parse() {
                Ok(limit) if limit <= LIST_LIMIT_MAX => self.limit = Some(limit),
                Ok(_) | Err(_) => return Err(format!("'{value}' is no number from 0 to {LIST_LIMIT_MAX}")),
            },
            "cursor" => self.cursor = Some(value.parse().map_err(|error| format!("{error}"))?),
            "summary" => self.summary = flag(value)?,
            _ => return Err(format!("there is no such parameter; there are {}", ALLOWED.join(", "))),
        }
        Ok(())
    }
}

fn status(text: &str) -> Result<ExecutionStatus, String> {
    STATUSES.into_iter().find(|status| status.as_str() == text).ok_or_else(|| {
        let states = STATUSES.map(ExecutionStatus::as_str).join(", ");
        format!("'{text}' is no state that is listed; the states are {states}")
    })
}

fn moment(text: &str) -> Result<Timestamp, String> {
    // In a URL a plus is a space unless it is escaped, which nobody remembers.
    Timestamp::from_rfc3339(&text.replace(' ', "+"))
        .ok_or_else(|| format!("'{text}' is no RFC 3339 time, as 2026-11-20T14:25:12Z"))
}

fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("'{text}' is neither true nor false"))
}

fn sort(text: &str) -> Result<Sort, String> {
    let (name, descending) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
    match SortBy::ALL.into_iter().find(|by| by.as_str() == name) {
        Some(by) => Ok(Sort { by, descending }),
        None => {
            let orders = SortBy::ALL.map(SortBy::as_str).join(", ");
            Err(format!("'{text}' is no order; the orders are {orders}, with a minus before it the other way round"))
        }
    }
}

fn comparison(text: &str) -> Result<Comparison, String> {
    const FORMS: &str = "write name:value, or name>=5 (also <=, <, >) for a number";
    let end = text.find([':', '<', '>']).ok_or_else(|| format!("'{text}' compares nothing; {FORMS}"))?;
    let (name, rest) = text.split_at(end);
    name.parse::<StepId>().map_err(|error| format!("'{name}': {error}"))?;
    let is = if let Some(value) = rest.strip_prefix(':') {
        Is::Equal(value.to_owned())
    } else {
        let (relation, value) = if let Some(value) = rest.strip_prefix(">=") {
            (Relation::GreaterOrEqual, value)
        } else if let Some(value) = rest.strip_prefix("<=") {
            (Relation::LessOrEqual, value)
        } else if let Some(value) = rest.strip_prefix('>') {
            (Relation::Greater, value)
        } else {
            (Relation::Less, &rest[1..])
        };
        let number = value.parse().ok().filter(|number: &f64| number.is_finite());
        let number = number.ok_or_else(|| format!("'{value}' is no number, and only numbers are compared; {FORMS}"))?;
        Is::Number(relation, number)
    };
    Ok(Comparison { name: name.to_owned(), is })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Range;

    fn read(query: &str) -> Result<ListParameters, Problem> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs: Vec<(String, String)> =
            pairs.filter_map(|pair| pair.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        ListParameters::read(&pairs)
    }

    #[test]
    fn every_parameter_is_read() {
        let query = "workflow=orders&status=FAILED&status=TIMEOUT&started_after=2026-11-20T00:00:00Z\
                     &ended_before=2026-11-21T00:00:00 01:00&partial=true&label=team:a:b&attribute=order:o-1\
                     &attribute=total>=2.5&attribute=total<9&sort=-duration&limit=7&summary=true";
        let ListParameters { filter, limit, summary, query } = read(query).expect("parameters");
        let moment = |text: &str| Timestamp::from_rfc3339(text);
        let number = |relation, number| Comparison { name: "total".to_owned(), is: Is::Number(relation, number) };
        let expected = Filter {
            workflows: vec!["orders".parse().expect("a name")],
            statuses: vec![ExecutionStatus::Failed, ExecutionStatus::Timeout],
            started: Range { after: moment("2026-11-20T00:00:00Z"), before: None },
            ended: Range { after: None, before: moment("2026-11-20T23:00:00Z") },
            partial: Some(true),
            labels: vec![("team".to_owned(), "a:b".to_owned())],
            attributes: vec![
                Comparison { name: "order".to_owned(), is: Is::Equal("o-1".to_owned()) },
                number(Relation::GreaterOrEqual, 2.5),
                number(Relation::Less, 9.0),
            ],
        };
        assert_eq!((filter.clone(), limit, summary), (expected, 7, true));
        let sort = Sort { by: SortBy::Duration, descending: true };
        assert_eq!(query, Query::new(filter, sort, None, 7).expect("a query"));
        assert_eq!(read("").expect("none is needed").limit, LIST_LIMIT);
    }

    #[test]
    fn a_wrong_parameter_is_named_with_what_is_allowed() {
        for (query, message) in [
            ("status=DONE", "status: 'DONE' is no state that is listed; the states are RUNNING, COMPLETED, "),
            ("started_after=yesterday", "started_after: 'yesterday' is no RFC 3339 time"),
            ("workflow=a b", "workflow: 'a b': a name has only letters"),
            ("partial=yes", "partial: 'yes' is neither true nor false"),
            ("label=team", "label: 'team' is no name and value joined by a colon"),
            ("attribute=total", "attribute: 'total' compares nothing; write name:value"),
            ("attribute=total>many", "attribute: 'many' is no number"),
            ("attribute=a b:1", "attribute: 'a b': a name has only letters"),
            ("sort=name", "sort: 'name' is no order; the orders are started_at, ended_at, duration, workflow"),
            ("limit=501", "limit: '501' is no number from 0 to 500"),
            ("limit=1&limit=2", "limit: it is there twice"),
            ("cursor=xyz", "cursor: this is no cursor that a list has given"),
            ("stat=RUNNING", "stat: there is no such parameter; there are workflow, status, "),
        ] {
            let problem = read(query).expect_err(query);
            assert_eq!(problem.kind(), ProblemKind::InvalidRequest);
            assert!(problem.detail().starts_with(message), "{}", problem.detail());
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let problem = read("limit=x&sort=y").expect_err("refused");
        assert!(problem.detail().contains("limit: ") && problem.detail().contains("; sort: "), "{}", problem.detail());
    }
}
