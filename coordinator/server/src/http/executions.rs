//! `/executions`: what became of a submission.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use millstream_model::ids::ExecutionId;
use millstream_model::view::{CancelView, ExecutionPhase, ExecutionView, Held};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::entries::position;
use super::problem::{Problem, ProblemKind};
use super::request::{Id, Parameters};
use super::wait::Wait;
use super::{Api, RETRY_AFTER, answer, audit, provenance, splice, transcripts};
use crate::audit::decisions::{self, Asked};
use crate::cluster::{CancelError, CancelOrder, Cancelling, QueryError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelParameters {
    by: Option<String>,
    reason: Option<String>,
    #[serde(default)]
    compensate: bool,
    wait: Option<Wait>,
}

/// The answer to a request that goes on after it.
#[derive(Serialize)]
pub(super) struct Acknowledged {
    pub execution_id: ExecutionId,
    pub status: &'static str,
    pub links: BTreeMap<&'static str, String>,
}

impl Acknowledged {
    pub(super) fn new(execution_id: ExecutionId, status: &'static str) -> Self {
        let links = BTreeMap::from([
            ("self", location(execution_id)),
            ("events", format!("/executions/{execution_id}/events")),
            ("cancel", location(execution_id)),
        ]);
        Self { execution_id, status, links }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowParameters {
    at: Option<String>,
}

pub(super) async fn show(
    State(api): State<Api>,
    Id(id): Id<ExecutionId>,
    Parameters(parameters): Parameters<ShowParameters>,
) -> Result<Response, Problem> {
    let Some(at) = parameters.at else { return document(&api, id).await };
    let at = position("at", &at)?;
    let transcript = transcripts::transcript(&api, id).await?;
    let execution = transcripts::refold(&api, transcript, Some(at)).await?;
    shown(&api, execution.view(), format!("{}?at={at}", location(id))).await
}

/// The answer to a cancel: how far it is.
#[derive(Serialize)]
struct Cancelled {
    #[serde(flatten)]
    acknowledged: Acknowledged,
    phase: ExecutionPhase,
    cancel: CancelView,
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Id(id): Id<ExecutionId>,
    Parameters(parameters): Parameters<CancelParameters>,
) -> Result<Response, Problem> {
    let CancelParameters { by, reason, compensate, wait } = parameters;
    provenance::check(ProblemKind::InvalidRequest, by.as_deref(), reason.as_deref())?;
    let cluster = api.cluster()?;
    let asked = Asked { by: by.as_deref(), reason: reason.as_deref() };
    let cancelled = json!({"compensate": compensate});
    let cancelled = decisions::admin_of_execution("execution.cancel", id, None, asked, cancelled);
    let intent = audit::intend(&api, cancelled).await?;
    let order = CancelOrder { by, reason, compensate };
    let outcome = cluster.cancel(id, order).await.map_err(|error| cancel_problem(id, error));
    audit::settle(intent, &outcome);
    let mut cancelling = outcome?;
    if let Some(wait) = wait
        && !cancelling.status.is_terminal()
        && wait.for_the_end(&api, cluster, id).await
        && let Some(view) = cluster.execution(id).await.map_err(query_problem)?
        && let Some(cancel) = view.cancel
    {
        cancelling = Cancelling { status: view.status, phase: view.phase, cancel };
    }
    let Cancelling { status, phase, cancel } = cancelling;
    let code = if status.is_terminal() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let acknowledged = Acknowledged::new(id, status.as_str());
    Ok(answer(code, &Cancelled { acknowledged, phase, cancel }))
}

fn cancel_problem(id: ExecutionId, error: CancelError) -> Problem {
    match error {
        CancelError::NotFound => not_found(id),
        CancelError::Ended { status } => {
            let detail = format!("the execution has ended already, it is {}", status.as_str());
            Problem::new(ProblemKind::ExecutionEnded, detail).about(location(id))
        }
        CancelError::Decided { phase } => {
            let why = match phase {
                ExecutionPhase::Compensating => "what it completed is being undone, which is not left half done",
                ExecutionPhase::Finalizing => "its final steps run",
                ExecutionPhase::Running
                | ExecutionPhase::Aggregating
                | ExecutionPhase::Stopping
                | ExecutionPhase::Ended => "it stops what runs",
            };
            let detail = format!(
                "the outcome is decided and cannot become CANCELLED: the execution is {}, {why}; it ends by itself",
                phase.as_str()
            );
            Problem::new(ProblemKind::OutcomeDecided, detail).about(location(id))
        }
        CancelError::NotOwner => {
            Problem::unavailable("the partition of the execution has no owner at the moment", RETRY_AFTER)
        }
        CancelError::Unavailable { reason, retry_after } => Problem::unavailable(reason, retry_after),
    }
}

/// The execution as JSON.
pub(super) async fn document(api: &Api, id: ExecutionId) -> Result<Response, Problem> {
    let view = api.cluster()?.execution(id).await.map_err(query_problem)?;
    shown(api, view.ok_or_else(|| not_found(id))?, location(id)).await
}

async fn shown(api: &Api, mut view: ExecutionView<Held>, own: String) -> Result<Response, Problem> {
    let id = view.id;
    view.links = BTreeMap::from([
        ("self".to_owned(), own),
        ("entries".to_owned(), format!("/executions/{id}/entries")),
        ("events".to_owned(), format!("/executions/{id}/events")),
        ("workflow".to_owned(), format!("/workflows/{}", view.workflow_id)),
        ("fork".to_owned(), format!("/executions/{id}/fork")),
    ]);
    if view.partial_result.as_ref().is_some_and(|result| result.recovery_plan.resumable) {
        view.links.insert("resume".to_owned(), format!("/executions/{id}/resume"));
    }
    splice::answer(api.cluster()?.broker(), view).await
}

pub(super) fn location(id: ExecutionId) -> String {
    format!("/executions/{id}")
}

pub(super) fn not_found(id: ExecutionId) -> Problem {
    Problem::new(ProblemKind::ExecutionNotFound, format!("there is no execution {id}"))
}

pub(super) fn query_problem(error: QueryError) -> Problem {
    match error {
        QueryError::Unavailable { reason, retry_after } => Problem::unavailable(reason, retry_after),
    }
}
