//! `/executions`: what became of a submission.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use millstream_model::ids::ExecutionId;
use serde::{Deserialize, Serialize};

use super::limits::REASON_LENGTH_MAX;
use super::problem::{Problem, ProblemKind};
use super::request::{Id, Parameters};
use super::{Api, answer, splice};
use crate::cluster::{CancelAnswer, CancelError, QueryError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelParameters {
    reason: Option<String>,
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

pub(super) async fn show(State(api): State<Api>, Id(id): Id<ExecutionId>) -> Result<Response, Problem> {
    document(&api, id).await
}

pub(super) async fn cancel(
    State(api): State<Api>,
    Id(id): Id<ExecutionId>,
    Parameters(parameters): Parameters<CancelParameters>,
) -> Result<Response, Problem> {
    if parameters.reason.as_ref().is_some_and(|reason| reason.len() > REASON_LENGTH_MAX) {
        let detail = format!("the reason may have at most {REASON_LENGTH_MAX} bytes");
        return Err(Problem::new(ProblemKind::InvalidRequest, detail));
    }
    match api.cluster()?.cancel(id, parameters.reason).await {
        Ok(CancelAnswer::Requested) => Ok(answer(StatusCode::ACCEPTED, &Acknowledged::new(id, "cancel_requested"))),
        Ok(CancelAnswer::AlreadyEnded(status)) => {
            let detail = format!("the execution has ended already, it is {}", status.as_str());
            Err(Problem::new(ProblemKind::ExecutionEnded, detail).about(location(id)))
        }
        Err(CancelError::NotFound) => Err(not_found(id)),
        Err(CancelError::Unavailable { reason, retry_after }) => Err(Problem::unavailable(reason, retry_after)),
    }
}

/// The execution as JSON.
pub(super) async fn document(api: &Api, id: ExecutionId) -> Result<Response, Problem> {
    let cluster = api.cluster()?;
    let view = cluster.execution(id).await.map_err(query_problem)?;
    let mut view = view.ok_or_else(|| not_found(id))?;
    view.links = BTreeMap::from([
        ("self".to_owned(), location(id)),
        ("events".to_owned(), format!("/executions/{id}/events")),
        ("workflow".to_owned(), format!("/workflows/{}", view.workflow_id)),
    ]);
    splice::answer(cluster.broker(), view).await
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
