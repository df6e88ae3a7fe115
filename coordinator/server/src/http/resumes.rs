//! `POST /executions/{id}/resume`: a failed execution goes on from where it stopped.

use axum::extract::State;
use axum::response::Response;
use millstream_model::ids::ExecutionId;
use millstream_model::view::ExecutionStatus;
use serde::Deserialize;
use serde_json::json;

use super::executions::{Acknowledged, document, location, not_found, query_problem};
use super::limits::RESUME_SIZE_MAX;
use super::problem::{Problem, ProblemKind};
use super::request::{Id, Json, Parameters};
use super::submissions::{accepted_at, unresolved};
use super::wait::Wait;
use super::{Api, RETRY_AFTER, agents, audit, provenance, workflows};
use crate::audit::decisions::{self, Asked, Chosen};
use crate::cluster::ResumeError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResumeParameters {
    wait: Option<Wait>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResumeBody {
    by: Option<String>,
    reason: Option<String>,
}

pub(super) async fn resume(
    State(api): State<Api>,
    Id(id): Id<ExecutionId>,
    Parameters(parameters): Parameters<ResumeParameters>,
    Json(body): Json<ResumeBody, RESUME_SIZE_MAX>,
) -> Result<Response, Problem> {
    provenance::check(ProblemKind::InvalidBody, body.by.as_deref(), body.reason.as_deref())?;
    let (cluster, catalog) = (api.cluster()?, api.catalog()?);
    let view = cluster.execution(id).await.map_err(query_problem)?.ok_or_else(|| not_found(id))?;
    // The fold has the last word; this spares the caller the agents of an execution that cannot go on anyway.
    if !matches!(view.status, ExecutionStatus::Failed | ExecutionStatus::Timeout) {
        return Err(not_resumable(id, view.status));
    }
    let plan = catalog.plan(view.definition).await.map_err(|error| workflows::plan_problem(&error))?;
    let routing = catalog.resolve(&plan).await.map_err(agents::unknown)?.map_err(|found| unresolved(&found))?;

    let asked = Asked { by: body.by.as_deref(), reason: body.reason.as_deref() };
    let resumed = json!({"status": view.status});
    let resumed = decisions::admin_of_execution("execution.resume", id, Some(view.trace_id), asked, resumed);
    let mut intent = audit::intend_submission(&api, &plan, Chosen::Inherited, &routing, Some(resumed)).await?;
    intent.about(id, view.trace_id);
    let outcome = cluster.resume(id, body.by, body.reason, routing).await.map_err(|error| match error {
        ResumeError::NotFound => not_found(id),
        ResumeError::NotResumable { status } => not_resumable(id, status),
        ResumeError::NotOwner => {
            Problem::unavailable("the partition of the execution has no owner at the moment", RETRY_AFTER)
        }
        ResumeError::Unavailable { reason, retry_after } => Problem::unavailable(reason, retry_after),
    });
    audit::settle(intent, &outcome);
    outcome?;
    if let Some(wait) = parameters.wait
        && wait.for_the_end(&api, cluster, id).await
    {
        return document(&api, id).await;
    }
    Ok(accepted_at(id, &Acknowledged::new(id, ExecutionStatus::Running.as_str())))
}

fn not_resumable(id: ExecutionId, status: ExecutionStatus) -> Problem {
    let instead = match status {
        ExecutionStatus::Pending | ExecutionStatus::Running => {
            format!("wait for its end, or end it with DELETE /executions/{id}")
        }
        ExecutionStatus::Completed => {
            format!("there is nothing left to do; POST /executions/{id}/fork runs it again from any step")
        }
        ExecutionStatus::Cancelled => {
            format!("somebody asked for its end; POST /executions/{id}/fork starts a new one from any of its steps")
        }
        ExecutionStatus::Failed | ExecutionStatus::Timeout => {
            format!("it changed its state meanwhile; look at GET /executions/{id} and try again")
        }
    };
    let detail =
        format!("only FAILED and TIMEOUT executions can be resumed, and this one is {}: {instead}", status.as_str());
    Problem::new(ProblemKind::NotResumable, detail).about(location(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_resume_is_told_the_state_and_what_to_do_instead() {
        let id: ExecutionId = "01934567-89ab-7cde-8f01-234567890a03".parse().expect("an id");
        for (status, instead) in [
            (ExecutionStatus::Running, "wait for its end"),
            (ExecutionStatus::Completed, "/fork"),
            (ExecutionStatus::Cancelled, "/fork"),
        ] {
            let problem = not_resumable(id, status);
            assert_eq!(problem.kind(), ProblemKind::NotResumable);
            assert!(problem.detail().contains(status.as_str()), "{}", problem.detail());
            assert!(problem.detail().contains(instead), "{}", problem.detail());
        }
    }
}
