//! `POST /workflows/{id}/execute`: a request becomes a submission with nothing left to decide.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use millstream_model::ids::{ExecutionId, WorkflowId};
use millstream_model::limits::{LABELS_MAX, REQUEST_BODY_MAX};
use millstream_model::plan::Plan;
use millstream_model::validate::Problem as FoundProblem;
use millstream_model::view::ExecutionStatus;
use millstream_telemetry::requests;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::executions::{Acknowledged, document, location};
use super::limits::{IDEMPOTENCY_KEY_LENGTH_MAX, LABEL_NAME_LENGTH_MAX, LABEL_VALUE_LENGTH_MAX};
use super::problem::{Problem, ProblemKind};
use super::request::{Id, Json, Parameters, caller};
use super::splice::payload_problem;
use super::wait::Wait;
use super::{Api, RETRY_AFTER, agents, answer, audit, schemas, workflows};
use crate::audit::decisions::Chosen;
use crate::cluster::{Accepted, Cluster, Submission, SubmitError};
use crate::owner::command::Limit;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecuteParameters {
    wait: Option<Wait>,
}

/// Absent input is `{}`, absent context null; `null` is null.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecuteBody {
    #[serde(default, deserialize_with = "present")]
    input: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    context: Option<Box<RawValue>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// `Option<Box<RawValue>>` by itself reads a JSON null as absence.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

pub(super) async fn execute(
    State(api): State<Api>,
    Id(workflow): Id<WorkflowId>,
    Parameters(parameters): Parameters<ExecuteParameters>,
    headers: HeaderMap,
    Json(body): Json<ExecuteBody, REQUEST_BODY_MAX>,
) -> Result<Response, Problem> {
    let idempotency_key = idempotency_key(&headers)?;
    check_labels(&body.labels)?;
    let catalog = api.catalog()?;
    let plan = catalog.plan_in_force(&workflow).await.map_err(|error| workflows::plan_problem(&error))?;
    let plan = plan.ok_or_else(|| workflows::not_found(&workflow))?;

    let labels = with_own_labels(&plan, body.labels)?;
    let input = body.input.unwrap_or_else(empty_object);
    schemas::check(&plan, &input, body.context.as_deref()).await?;
    let routing = catalog.resolve(&plan).await.map_err(agents::unknown)?.map_err(|found| unresolved(&found))?;

    let intent = audit::intend_submission(&api, &plan, Chosen::InForce, &routing, None).await?;
    let trace = requests::current().or_else(|| caller(&headers));
    let submission =
        Submission { plan, input, context: body.context, idempotency_key, labels, trace, routing, fork: None };
    let cluster = api.cluster()?;
    let accepted = cluster.submit(submission).await.map_err(submit_problem);
    audit::settle_submission(intent, trace.map(|parent| parent.trace), &accepted);
    let accepted = accepted?;
    if let Some(wait) = parameters.wait
        && wait.for_the_end(&api, cluster, accepted.execution).await
    {
        return document(&api, accepted.execution).await;
    }
    acknowledge(cluster, accepted).await
}

/// The labels of an execution: those of its definition, and what its caller adds or sets anew.
pub(super) fn with_own_labels(
    plan: &Plan,
    given: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problem> {
    let mut labels = plan.definition.labels.clone();
    labels.extend(given);
    if labels.len() > LABELS_MAX {
        let detail =
            format!("with the workflow's own labels there are {}, and at most {LABELS_MAX} allowed", labels.len());
        return Err(Problem::new(ProblemKind::InvalidBody, detail));
    }
    Ok(labels)
}

/// Steps that nobody can run.
pub(super) fn unresolved(problems: &[FoundProblem]) -> Problem {
    let detail = match problems {
        [only] => only.message.clone(),
        several => format!("{} agents are missing, inactive or without the capability", several.len()),
    };
    Problem::new(ProblemKind::UnresolvedAgents, detail).listing(problems)
}

/// Answers that an execution is accepted, with its state.
pub(super) async fn state_of(cluster: &Cluster, accepted: Accepted) -> ExecutionStatus {
    if !accepted.repeated {
        return ExecutionStatus::Running;
    }
    match cluster.execution(accepted.execution).await {
        Ok(Some(view)) => view.status,
        // What was accepted stays accepted, also when its state cannot be told at the moment.
        Ok(None) | Err(_) => ExecutionStatus::Running,
    }
}

async fn acknowledge(cluster: &Cluster, accepted: Accepted) -> Result<Response, Problem> {
    let id = accepted.execution;
    let status = state_of(cluster, accepted).await;
    Ok(accepted_at(id, &Acknowledged::new(id, status.as_str())))
}

/// 202 with the place of an execution.
pub(super) fn accepted_at(id: ExecutionId, body: &impl Serialize) -> Response {
    let mut response = answer(StatusCode::ACCEPTED, body);
    let location = HeaderValue::from_str(&location(id)).expect("an id is visible characters");
    response.headers_mut().insert(LOCATION, location);
    response
}

pub(super) fn submit_problem(error: SubmitError) -> Problem {
    match error {
        SubmitError::Conflict { execution } => {
            let detail = format!("the key belongs to execution {execution}, which was asked for with another body");
            Problem::new(ProblemKind::IdempotencyConflict, detail).about(location(execution))
        }
        error @ (SubmitError::TooLarge { .. } | SubmitError::KeptTooLarge { .. }) => {
            Problem::new(ProblemKind::BodyTooLarge, error.to_string())
        }
        SubmitError::Kept { source } => payload_problem(&source),
        SubmitError::NotOwner => Problem::unavailable("the partition has no owner at the moment", RETRY_AFTER),
        SubmitError::Busy { reason, limit: Limit::Executions, retry_after } => Problem::busy(reason, retry_after),
        SubmitError::Busy { reason, limit: Limit::Storage, retry_after } => Problem::unavailable(reason, retry_after),
        SubmitError::Unavailable { reason, retry_after } => Problem::unavailable(reason, retry_after),
    }
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.as_bytes();
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_LENGTH_MAX || !key.iter().all(u8::is_ascii_graphic) {
        let detail = format!("an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} visible ASCII characters");
        return Err(Problem::new(ProblemKind::InvalidRequest, detail));
    }
    Ok(Some(key.iter().copied().map(char::from).collect()))
}

pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Problem> {
    let refuse = |detail: String| Err(Problem::new(ProblemKind::InvalidBody, detail));
    if labels.len() > LABELS_MAX {
        return refuse(format!("an execution has at most {LABELS_MAX} labels, these are {}", labels.len()));
    }
    for (name, value) in labels {
        if name.is_empty() || name.chars().count() > LABEL_NAME_LENGTH_MAX {
            return refuse(format!("the name of a label has 1 to {LABEL_NAME_LENGTH_MAX} characters: '{name}'"));
        }
        if value.chars().count() > LABEL_VALUE_LENGTH_MAX {
            return refuse(format!("the value of label {name} has more than {LABEL_VALUE_LENGTH_MAX} characters"));
        }
    }
    Ok(())
}

pub(super) fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("this is JSON")
}
