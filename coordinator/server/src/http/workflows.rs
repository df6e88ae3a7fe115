//! `/workflows`: definitions.

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use millstream_broker::{RequestError, StoreError};
use millstream_model::audit::Decision;
use millstream_model::hash::ContentHash;
use millstream_model::ids::WorkflowId;
use millstream_model::limits::DEFINITION_SIZE_MAX;
use millstream_model::plan::Plan;
use millstream_model::time;
use millstream_model::validate::Gap;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::audit::Provenance;
use super::problem::{Problem, ProblemKind};
use super::request::{Id, Parameters, Text};
use super::{Api, RETRY_AFTER, answer, audit};
use crate::audit::decisions::{self, Asked};
use crate::catalog::{CompileTextError, Compiled, CreateDefinitionError, PlanError, Written, compile_text};

#[derive(Serialize)]
struct WorkflowJson<'a> {
    id: &'a WorkflowId,
    version: &'a str,
    hash: ContentHash,
    #[serde(with = "time::rfc3339_option", skip_serializing_if = "Option::is_none")]
    updated_at: Option<time::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<&'a RawValue>,
    /// What is not wrong and deserves a look; told to who stores the definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<&'a [Gap]>,
    links: Links,
}

#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    this: String,
    execute: String,
}

impl Links {
    fn of(id: &WorkflowId) -> Self {
        Self { this: format!("/workflows/{id}"), execute: format!("/workflows/{id}/execute") }
    }
}

pub(super) async fn list(State(api): State<Api>) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List<'a> {
        workflows: Vec<WorkflowJson<'a>>,
    }
    let definitions = api.catalog()?.definitions().await.map_err(|error| store_problem(&error))?;
    let workflows = definitions.iter().map(|(id, record)| WorkflowJson {
        id,
        version: &record.version,
        hash: record.hash,
        updated_at: Some(record.updated_at),
        definition: None,
        warnings: None,
        links: Links::of(id),
    });
    Ok(answer(StatusCode::OK, &List { workflows: workflows.collect() }))
}

pub(super) async fn create(
    State(api): State<Api>,
    Parameters(provenance): Parameters<Provenance>,
    Text(text): Text<DEFINITION_SIZE_MAX>,
) -> Result<Response, Problem> {
    let compiled = compile(text).await?;
    let intent = audit::intend(&api, changed("workflow.create", &compiled.plan, provenance.asked()?)).await?;
    let outcome = api.catalog()?.create_definition(&compiled.plan).await.map_err(|error| match error {
        CreateDefinitionError::Exists { id } => {
            let detail = format!("workflow {id} exists already; PUT /workflows/{id} replaces it");
            Problem::new(ProblemKind::WorkflowExists, detail).about(format!("/workflows/{id}"))
        }
        CreateDefinitionError::Store(error) => store_problem(&error),
    });
    audit::settle(intent, &outcome);
    outcome?;
    Ok(written(&compiled, StatusCode::CREATED))
}

pub(super) async fn show(State(api): State<Api>, Id(id): Id<WorkflowId>) -> Result<Response, Problem> {
    let stored = api.catalog()?.definition(&id).await.map_err(|error| plan_problem(&error))?;
    let stored = stored.ok_or_else(|| not_found(&id))?;
    let workflow = WorkflowJson {
        id: &id,
        version: &stored.record.version,
        hash: stored.record.hash,
        updated_at: Some(stored.record.updated_at),
        definition: Some(&stored.definition),
        warnings: None,
        links: Links::of(&id),
    };
    Ok(answer(StatusCode::OK, &workflow))
}

pub(super) async fn replace(
    State(api): State<Api>,
    Id(id): Id<WorkflowId>,
    Parameters(provenance): Parameters<Provenance>,
    Text(text): Text<DEFINITION_SIZE_MAX>,
) -> Result<Response, Problem> {
    let compiled = compile(text).await?;
    let plan = &compiled.plan;
    if plan.definition.id != id {
        let detail = format!("the path names workflow {id}, the definition {}", plan.definition.id);
        return Err(Problem::new(ProblemKind::InvalidDefinition, detail));
    }
    let intent = audit::intend(&api, changed("workflow.put", plan, provenance.asked()?)).await?;
    let outcome = api.catalog()?.put_definition(plan).await.map_err(|error| store_problem(&error));
    audit::settle(intent, &outcome);
    match outcome? {
        Written::Created => Ok(written(&compiled, StatusCode::CREATED)),
        Written::Replaced => Ok(written(&compiled, StatusCode::OK)),
    }
}

pub(super) async fn remove(
    State(api): State<Api>,
    Id(id): Id<WorkflowId>,
    Parameters(provenance): Parameters<Provenance>,
) -> Result<Response, Problem> {
    let target = format!("workflow {id}");
    let deleted = decisions::admin("workflow.delete", target, provenance.asked()?, json!({}));
    let intent = audit::intend(&api, deleted).await?;
    let outcome = match api.catalog()?.delete_definition(&id).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(false) => Err(not_found(&id)),
        Err(error) => Err(store_problem(&error)),
    };
    audit::settle(intent, &outcome);
    outcome
}

/// A definition that is stored.
fn changed(action: &str, plan: &Plan, asked: Asked<'_>) -> Decision {
    let definition = &plan.definition;
    let context = json!({"definition": plan.hash, "version": definition.version, "steps": definition.steps.len()});
    decisions::admin(action, format!("workflow {}", definition.id), asked, context)
}

/// Checks and compiles the text of a definition.
pub(super) async fn compile(text: String) -> Result<Compiled, Problem> {
    compile_text(text).await.map_err(|error| match error {
        CompileTextError::Invalid(problems) => {
            let detail = match problems.as_slice() {
                [only] => only.to_string(),
                several => format!("the definition has {} problems", several.len()),
            };
            Problem::new(ProblemKind::InvalidDefinition, detail).listing(&problems)
        }
        CompileTextError::Aborted => Problem::new(ProblemKind::Internal, "the compilation was aborted"),
    })
}

fn written(compiled: &Compiled, status: StatusCode) -> Response {
    let Compiled { plan, warnings } = compiled;
    let id = &plan.definition.id;
    let links = Links::of(id);
    let location = HeaderValue::from_str(&links.this).expect("an id is visible characters");
    let version = &plan.definition.version;
    let warnings = Some(warnings.as_slice());
    let body = WorkflowJson { id, version, hash: plan.hash, updated_at: None, definition: None, warnings, links };
    let mut response = answer(status, &body);
    if status == StatusCode::CREATED {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

pub(super) fn not_found(id: &WorkflowId) -> Problem {
    let detail = format!("no workflow is stored as {id}; GET /workflows lists those that are");
    Problem::new(ProblemKind::WorkflowNotFound, detail)
}

pub(super) fn plan_problem(error: &PlanError) -> Problem {
    if error.is_retryable() {
        return Problem::unavailable(error.to_string(), RETRY_AFTER);
    }
    tracing::error!(%error, "a stored definition cannot be used");
    Problem::new(ProblemKind::Internal, error.to_string())
}

pub(super) fn store_problem(error: &StoreError) -> Problem {
    if let StoreError::Request { source: RequestError::TooLarge { size, max, .. }, .. } = error {
        let detail = format!("stored it would have {size} bytes, and NATS takes at most {max} (its max_payload)");
        return Problem::new(ProblemKind::BodyTooLarge, detail);
    }
    if error.is_retryable() {
        return Problem::unavailable(error.to_string(), RETRY_AFTER);
    }
    tracing::error!(%error, "a record cannot be read or written");
    Problem::new(ProblemKind::Internal, error.to_string())
}
