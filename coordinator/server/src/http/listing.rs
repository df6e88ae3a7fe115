//! `GET /executions`: lists and figures, from the index.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use millstream_model::ids::ExecutionId;
use millstream_model::time;
use millstream_model::view::{Counts, ExecutionError, ExecutionStatus};
use serde::Serialize;
use serde_json::Value;

use super::executions::location;
use super::problem::Problem;
use super::request::Parameters;
use super::transcripts::index_problem;
use super::{Api, answer};
use crate::history::{Durations, Found, Metrics, Page};

mod parameters;

use parameters::ListParameters;

#[derive(Serialize)]
struct Listed {
    executions: Vec<Row>,
    /// Begins the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Whether the index has all of the history; it has not for a while after a start.
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Summary>,
    links: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Row {
    id: ExecutionId,
    workflow_id: String,
    definition: String,
    status: ExecutionStatus,
    partial: bool,
    /// It waits for long and is not in memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    parked: bool,
    #[serde(with = "time::rfc3339")]
    started_at: time::Timestamp,
    #[serde(with = "time::rfc3339_option", skip_serializing_if = "Option::is_none")]
    ended_at: Option<time::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    labels: BTreeMap<String, String>,
    attributes: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ExecutionError>,
    counts: Counts,
    steps_total: u32,
    resumes_total: u32,
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fork_of: Option<ExecutionId>,
    links: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Summary {
    total: u64,
    by_status: BTreeMap<&'static str, u64>,
    success_rate: Option<f64>,
    duration_ms: Option<DurationsJson>,
}

#[derive(Serialize)]
struct DurationsJson {
    avg: f64,
    p50: f64,
    p95: f64,
    max: f64,
}

pub(super) async fn list(
    State(api): State<Api>,
    uri: Uri,
    Parameters(pairs): Parameters<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let ListParameters { query, filter, limit, summary } = ListParameters::read(&pairs)?;
    let history = api.history()?;
    if history.is_complete() {
        history.settled().await;
    }
    let page = match limit {
        0 => Page { executions: Vec::new(), next: None },
        _ => history.list(query).await.map_err(|error| index_problem(&error))?,
    };
    let summary = match summary {
        true => Some(history.metrics(filter).await.map_err(|error| index_problem(&error))?),
        false => None,
    };
    let own = uri.path_and_query().map_or_else(|| "/executions".to_owned(), ToString::to_string);
    let mut links = BTreeMap::from([("self", own)]);
    let next = page.next.map(|next| next.to_string());
    if let Some(next) = &next {
        links.insert("next", link(uri.query().unwrap_or_default(), next));
    }
    let executions = page.executions.into_iter().map(Row::of).collect();
    let summary = summary.map(Summary::of);
    Ok(answer(StatusCode::OK, &Listed { executions, next, complete: history.is_complete(), summary, links }))
}

/// The URL of the next page.
fn link(query: &str, next: &str) -> String {
    let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    let pairs: Vec<String> = kept.map(ToOwned::to_owned).chain([format!("cursor={next}")]).collect();
    format!("/executions?{}", pairs.join("&"))
}

impl Row {
    fn of(found: Found) -> Self {
        let Found { summary, parked, record: _ } = found;
        let id = summary.execution;
        let links = BTreeMap::from([
            ("self", location(id)),
            ("events", format!("/executions/{id}/events")),
            ("workflow", format!("/workflows/{}", summary.workflow)),
        ]);
        Self {
            id,
            workflow_id: summary.workflow.to_string(),
            definition: summary.definition.to_string(),
            status: summary.status,
            partial: summary.partial,
            parked,
            started_at: summary.started_at,
            ended_at: summary.ended_at,
            duration_ms: summary.ended_at.map(|end| end.millis_since(summary.started_at)),
            labels: summary.labels,
            attributes: summary.attributes,
            error: summary.error,
            counts: summary.counts,
            steps_total: summary.steps,
            resumes_total: summary.round,
            trace_id: summary.trace.to_string(),
            fork_of: summary.fork_of,
            links,
        }
    }
}

impl Summary {
    fn of(metrics: Metrics) -> Self {
        let Metrics { total, by_status, success_rate, duration } = metrics;
        Self {
            total,
            by_status: by_status.into_iter().map(|(status, count)| (status.as_str(), count)).collect(),
            success_rate,
            duration_ms: duration.map(|Durations { average, p50, p95, max }| DurationsJson {
                avg: average,
                p50,
                p95,
                max,
            }),
        }
    }
}
