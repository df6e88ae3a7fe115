//! `/audit`: what was decided; and how handlers have their decisions recorded.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use millstream_model::audit::{AuditKind, Decision};
use millstream_model::ids::ExecutionId;
use millstream_model::plan::Plan;
use millstream_model::time::Timestamp;
use millstream_model::trace::TraceId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::limits::{AUDIT_PAGE, AUDIT_PAGE_MAX};
use super::problem::{Problem, ProblemKind, Told};
use super::request::Parameters;
use super::{Api, RETRY_AFTER, answer, provenance};
use crate::audit::decisions::{self, Asked, Chosen};
use crate::audit::{AuditBusy, Filter, FindError, Intent, Outcome};
use crate::catalog::Routing;
use crate::cluster::Accepted;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditParameters {
    trace: Option<TraceId>,
    execution: Option<ExecutionId>,
    kind: Option<AuditKind>,
    actor: Option<String>,
    #[serde(default, deserialize_with = "moment")]
    after: Option<Timestamp>,
    #[serde(default, deserialize_with = "moment")]
    before: Option<Timestamp>,
    cursor: Option<u64>,
    limit: Option<usize>,
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Timestamp::from_rfc3339(&text).map(Some).ok_or_else(|| D::Error::custom("a moment is written as RFC 3339"))
}

#[derive(Serialize)]
struct Listed {
    records: Vec<Box<RawValue>>,
    /// `cursor` of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
    /// The newest record, as `audit verify --expect-head` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    /// The first thing that is wrong with the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Parameters(parameters): Parameters<AuditParameters>,
) -> Result<Response, Problem> {
    let AuditParameters { trace, execution, kind, actor, after, before, cursor, limit } = parameters;
    let limit = limit.unwrap_or(AUDIT_PAGE);
    if !(1..=AUDIT_PAGE_MAX).contains(&limit) {
        return Err(Problem::new(ProblemKind::InvalidRequest, format!("limit is 1 to {AUDIT_PAGE_MAX}")));
    }
    let filter = Filter { trace, execution, kind, actor, after, before, cursor, limit };
    let page = api.audit()?.find(filter).await.map_err(|error| find_problem(&error))?;

    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    let full = page.lines.len() == limit;
    let last = page.lines.last().filter(|_| full);
    let next = last.and_then(|line| serde_json::from_str::<Numbered>(line).ok()).map(|record| record.seq);
    let records = page.lines.into_iter().filter_map(|line| RawValue::from_string(line).ok()).collect();
    let broken = page.broken.map(|bad| bad.to_string());
    let head = page.head.map(|head| head.to_string());
    Ok(answer(StatusCode::OK, &Listed { records, next, head, broken }))
}

fn find_problem(error: &FindError) -> Problem {
    match error {
        FindError::TraceNeeded => Problem::new(ProblemKind::InvalidRequest, error.to_string()),
        FindError::NotReady => Problem::unavailable(error.to_string(), RETRY_AFTER),
        FindError::Gone | FindError::Database(_) | FindError::File { .. } => {
            tracing::error!(%error, "the audit trail cannot be asked");
            Problem::new(ProblemKind::Internal, error.to_string())
        }
    }
}

/// Who changes something, and why, as a query says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provenance {
    by: Option<String>,
    reason: Option<String>,
}

impl Provenance {
    pub(super) fn asked(&self) -> Result<Asked<'_>, Problem> {
        provenance::check(ProblemKind::InvalidRequest, self.by.as_deref(), self.reason.as_deref())?;
        Ok(Asked { by: self.by.as_deref(), reason: self.reason.as_deref() })
    }
}

/// Takes a place in the audit trail for what is about to be done.
pub(super) async fn intend(api: &Api, decision: Decision) -> Result<Intent, Problem> {
    api.audit()?.intend(vec![decision]).await.map_err(|error| busy(&error))
}

/// As [`intend`], for a new execution, which may have more to record than its plan and routes.
pub(super) async fn intend_submission(
    api: &Api,
    plan: &Plan,
    chosen: Chosen,
    routing: &Routing,
    more: Option<Decision>,
) -> Result<Intent, Problem> {
    let audit = api.audit()?;
    let mut recorded: Vec<Decision> = more.into_iter().collect();
    if audit.records_submissions() {
        let view = api.catalog()?.agents().await.map_err(super::agents::unknown)?;
        recorded.push(decisions::plan(plan, chosen));
        recorded.extend(decisions::routing(plan, routing, &view));
    }
    audit.intend(recorded).await.map_err(|error| busy(&error))
}

fn busy(error: &AuditBusy) -> Problem {
    Problem::unavailable(error.to_string(), RETRY_AFTER)
}

/// Records what was intended when it was done, and when nobody knows whether it was.
pub(super) fn settle<T>(intent: Intent, outcome: &Result<T, Problem>) {
    intent.settle(match outcome {
        Ok(_) => Outcome::Done,
        Err(problem) if problem.kind() == ProblemKind::Unavailable => {
            Outcome::Unknown { reason: problem.detail().to_owned() }
        }
        Err(_) => Outcome::Refused,
    });
}

/// As [`settle`], for a new execution. An execution that a key had made before is recorded already.
pub(super) fn settle_submission(mut intent: Intent, trace: Option<TraceId>, outcome: &Result<Accepted, Problem>) {
    match outcome {
        Ok(accepted) if accepted.repeated => intent.settle(Outcome::Refused),
        Ok(accepted) => {
            intent.about(accepted.execution, trace.unwrap_or_else(|| TraceId::of(accepted.execution)));
            intent.settle(Outcome::Done);
        }
        Err(_) => settle(intent, outcome),
    }
}

/// Records what a rule refuses.
pub(super) async fn refusals(State(api): State<Api>, request: Request, next: Next) -> Response {
    let asked = (!request.method().is_safe()).then(|| format!("{} {}", request.method(), request.uri().path()));
    let response = next.run(request).await;
    if let Some(asked) = asked
        && let Some(Told { kind, detail }) = response.extensions().get::<Told>()
        && kind.is_rule()
        && let Ok(audit) = api.audit()
        && audit.record_decision(decisions::refusal(kind.slug(), &asked, detail)).await.is_err()
    {
        tracing::warn!(request = asked, rule = kind.slug(), "a refusal is not in the audit trail: its queue is full");
    }
    response
}
