//! `POST /workflows/{id}/execute`: a request becomes a submission with nothing left to decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use millstream_model::ids::{ExecutionId, WorkflowId};
use millstream_model::limits::{LABELS_MAX, REQUEST_BODY_MAX};
use millstream_model::plan::Plan;
use millstream_model::schema;
use millstream_model::view::ExecutionStatus;
use millstream_telemetry::requests;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::executions::{Acknowledged, document, location};
use super::limits::{
    IDEMPOTENCY_KEY_LENGTH_MAX, INLINE_PARSE_MAX, LABEL_NAME_LENGTH_MAX, LABEL_VALUE_LENGTH_MAX, VIOLATIONS_MAX,
    WAIT_MAX,
};
use super::problem::{Problem, ProblemKind};
use super::request::{Id, Json, Parameters, caller};
use super::wait::Wait;
use super::{Api, agents, answer, workflows};
use crate::cluster::{Accepted, Cluster, Submission, SubmitError};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Pause before events are asked for again when their feed broke off.
const FEED_RETRY_DELAY: Duration = Duration::from_millis(100);

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
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
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

    let mut labels = plan.definition.labels.clone();
    labels.extend(body.labels);
    if labels.len() > LABELS_MAX {
        let detail =
            format!("with the workflow's own labels there are {}, and at most {LABELS_MAX} allowed", labels.len());
        return Err(Problem::new(ProblemKind::InvalidBody, detail));
    }
    let input = body.input.unwrap_or_else(empty_object);
    check_schemas(&plan, &input, body.context.as_deref()).await?;
    let routing = catalog.resolve(&plan).await.map_err(agents::unknown)?.map_err(|problems| {
        let detail = match problems.as_slice() {
            [only] => only.message.clone(),
            several => format!("{} steps have no agent that can run them", several.len()),
        };
        Problem::new(ProblemKind::UnresolvedAgents, detail).listing(&problems)
    })?;

    let submission = Submission {
        plan,
        input,
        context: body.context,
        idempotency_key,
        labels,
        trace: requests::current().or_else(|| caller(&headers)),
        agents: routing.agents,
        routes: routing.routes,
    };
    let cluster = api.cluster()?;
    let accepted = cluster.submit(submission).await.map_err(submit_problem)?;
    if let Some(Wait(duration)) = parameters.wait
        && ends_within(&api, cluster, accepted.execution, duration.min(WAIT_MAX)).await
    {
        return document(&api, accepted.execution).await;
    }
    acknowledge(cluster, accepted).await
}

async fn acknowledge(cluster: &Cluster, accepted: Accepted) -> Result<Response, Problem> {
    let id = accepted.execution;
    let status = match accepted.repeated {
        false => ExecutionStatus::Running,
        true => match cluster.execution(id).await {
            Ok(Some(view)) => view.status,
            // What was accepted stays accepted, also when its state cannot be told at the moment.
            Ok(None) | Err(_) => ExecutionStatus::Running,
        },
    };
    let mut response = answer(StatusCode::ACCEPTED, &Acknowledged::new(id, status.as_str()));
    let location = HeaderValue::from_str(&location(id)).expect("an id is visible characters");
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

fn submit_problem(error: SubmitError) -> Problem {
    match error {
        SubmitError::Conflict { execution } => {
            let detail = format!("the key belongs to execution {execution}, which was asked for with another body");
            Problem::new(ProblemKind::IdempotencyConflict, detail).about(location(execution))
        }
        SubmitError::Unavailable { reason, retry_after } => Problem::unavailable(reason, retry_after),
    }
}

/// Whether the execution's terminal event comes in time.
async fn ends_within(api: &Api, cluster: &Cluster, execution: ExecutionId, duration: Duration) -> bool {
    let deadline = Instant::now() + duration;
    let end = api.stop().run_until_cancelled(sees_the_end(cluster, execution));
    matches!(timeout_at(deadline, end).await, Ok(Some(())))
}

async fn sees_the_end(cluster: &Cluster, execution: ExecutionId) {
    let mut seen = None;
    loop {
        if let Ok(Some(mut feed)) = cluster.events(execution, seen).await {
            for event in feed.backlog {
                if event.kind.is_terminal() {
                    return;
                }
                seen = event.id.or(seen);
            }
            while let Some(event) = feed.live.recv().await {
                if event.kind.is_terminal() {
                    return;
                }
                seen = event.id.or(seen);
            }
        }
        sleep(FEED_RETRY_DELAY).await;
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.as_bytes();
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_LENGTH_MAX || !key.iter().all(u8::is_ascii_graphic) {
        let detail = format!("an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} visible ASCII characters");
        return Err(Problem::new(ProblemKind::InvalidRequest, detail));
    }
    Ok(Some(key.iter().copied().map(char::from).collect()))
}

/// The caller's trace. A damaged header means a trace of our own, as W3C Trace Context asks.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Problem> {
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

/// A place in the body that breaks the workflow's schema.
#[derive(Debug, Serialize)]
struct Violation {
    /// JSON Pointer into the request's body.
    path: String,
    message: String,
}

async fn check_schemas(plan: &Arc<Plan>, input: &RawValue, context: Option<&RawValue>) -> Result<(), Problem> {
    let definition = &plan.definition;
    if definition.input_schema.is_none() && definition.context_schema.is_none() {
        return Ok(());
    }
    let size = input.get().len() + context.map_or(0, |context| context.get().len());
    let violations = if size <= INLINE_PARSE_MAX {
        violations(plan, input, context)
    } else {
        let (plan, input, context) = (Arc::clone(plan), input.to_owned(), context.map(ToOwned::to_owned));
        tokio::task::spawn_blocking(move || violations(&plan, &input, context.as_deref()))
            .await
            .map_err(|_| Problem::new(ProblemKind::Internal, "the check of the input was aborted"))?
    };
    if violations.is_empty() {
        return Ok(());
    }
    let first = &violations[0];
    let detail = match violations.len() {
        1 => format!("{}: {}", first.path, first.message),
        several => format!("{}: {}; and {} more", first.path, first.message, several - 1),
    };
    Err(Problem::new(ProblemKind::InvalidInput, detail).listing(&violations[..violations.len().min(VIOLATIONS_MAX)]))
}

/// An absent context is checked as an empty object, so that what it lacks is named.
fn violations(plan: &Plan, input: &RawValue, context: Option<&RawValue>) -> Vec<Violation> {
    let definition = &plan.definition;
    let empty = empty_object();
    let checks = [
        ("input", &definition.input_schema, input),
        ("context", &definition.context_schema, context.unwrap_or(&empty)),
    ];
    let mut violations = Vec::new();
    for (name, schema, text) in checks {
        let Some(schema) = schema else { continue };
        let value: Value = serde_json::from_str(text.get()).expect("the body was read as JSON");
        if let Err(found) = schema::check(schema, &value) {
            violations.extend(found.into_iter().map(|violation| Violation {
                path: format!("/{name}{}", violation.instance_path),
                message: violation.message,
            }));
        }
    }
    violations
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("this is JSON")
}
