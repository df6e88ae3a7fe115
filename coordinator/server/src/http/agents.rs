//! `/agents`: manifests.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use millstream_model::agent::Agent;
use millstream_model::audit::Decision;
use millstream_model::ids::AgentId;
use serde::Serialize;
use serde_json::json;

use super::audit::Provenance;
use super::limits::AGENT_SIZE_MAX;
use super::problem::{Problem, ProblemKind};
use super::request::{Id, Json, Parameters};
use super::workflows::store_problem;
use super::{Api, RETRY_AFTER, answer, audit};
use crate::audit::decisions::{self, Asked};
use crate::catalog::{AgentsUnknown, RegisterError, UnregisterError, Written};

pub(super) async fn list(State(api): State<Api>) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List {
        agents: Vec<Arc<Agent>>,
    }
    let view = api.catalog()?.agents().await.map_err(unknown)?;
    let agents = view.iter().map(|registered| Arc::clone(&registered.agent)).collect();
    Ok(answer(StatusCode::OK, &List { agents }))
}

pub(super) async fn create(
    State(api): State<Api>,
    Parameters(provenance): Parameters<Provenance>,
    Json(agent): Json<Agent, AGENT_SIZE_MAX>,
) -> Result<Response, Problem> {
    let intent = audit::intend(&api, changed("agent.create", &agent, provenance.asked()?)).await?;
    let outcome = api.catalog()?.create_agent(&agent).await.map_err(register_problem);
    audit::settle(intent, &outcome);
    outcome?;
    Ok(written(&agent, Written::Created))
}

pub(super) async fn show(State(api): State<Api>, Id(id): Id<AgentId>) -> Result<Response, Problem> {
    let view = api.catalog()?.agents().await.map_err(unknown)?;
    let registered = view.get(&id).ok_or_else(|| not_found(&id))?;
    Ok(answer(StatusCode::OK, &registered.agent))
}

pub(super) async fn replace(
    State(api): State<Api>,
    Id(id): Id<AgentId>,
    Parameters(provenance): Parameters<Provenance>,
    Json(agent): Json<Agent, AGENT_SIZE_MAX>,
) -> Result<Response, Problem> {
    if agent.id != id {
        let detail = format!("the path names agent {id}, the manifest {}", agent.id);
        return Err(Problem::new(ProblemKind::InvalidAgent, detail));
    }
    let intent = audit::intend(&api, changed("agent.put", &agent, provenance.asked()?)).await?;
    let outcome = api.catalog()?.put_agent(&agent).await.map_err(register_problem);
    audit::settle(intent, &outcome);
    Ok(written(&agent, outcome?))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Id(id): Id<AgentId>,
    Parameters(provenance): Parameters<Provenance>,
) -> Result<Response, Problem> {
    let deleted = decisions::admin("agent.delete", format!("agent {id}"), provenance.asked()?, json!({}));
    let intent = audit::intend(&api, deleted).await?;
    let outcome = match api.catalog()?.delete_agent(&id).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(false) => Err(not_found(&id)),
        Err(UnregisterError::Store(error)) => Err(store_problem(&error)),
        Err(error @ UnregisterError::StillVisible) => Err(Problem::unavailable(error.to_string(), RETRY_AFTER)),
    };
    audit::settle(intent, &outcome);
    outcome
}

/// A manifest that is stored.
fn changed(action: &str, agent: &Agent, asked: Asked<'_>) -> Decision {
    let context = json!({
        "manifest": agent.hash(), "framework": agent.framework, "capabilities": agent.capabilities,
        "status": agent.status, "version": agent.version,
    });
    decisions::admin(action, format!("agent {}", agent.id), asked, context)
}

fn written(agent: &Agent, outcome: Written) -> Response {
    let status = match outcome {
        Written::Created => StatusCode::CREATED,
        Written::Replaced => StatusCode::OK,
    };
    let mut response = answer(status, agent);
    if outcome == Written::Created {
        let location = format!("/agents/{}", agent.id);
        let location = HeaderValue::from_str(&location).expect("an id is visible characters");
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn not_found(id: &AgentId) -> Problem {
    let detail = format!("no agent is registered as {id}; GET /agents lists those that are");
    Problem::new(ProblemKind::AgentNotFound, detail)
}

pub(super) fn unknown(error: AgentsUnknown) -> Problem {
    Problem::unavailable(error.to_string(), RETRY_AFTER)
}

fn register_problem(error: RegisterError) -> Problem {
    match error {
        RegisterError::Invalid(problems) => {
            let detail = format!("the manifest has {} problem(s)", problems.len());
            Problem::new(ProblemKind::InvalidAgent, detail).listing(&problems)
        }
        RegisterError::Exists { id } => {
            let detail = format!("agent {id} exists already; PUT /agents/{id} replaces it");
            Problem::new(ProblemKind::AgentExists, detail).about(format!("/agents/{id}"))
        }
        error @ RegisterError::TooManyCapabilities { .. } => {
            Problem::new(ProblemKind::TooManyCapabilities, error.to_string())
        }
        RegisterError::Unknown(error) => unknown(error),
        error @ RegisterError::NotVisible => Problem::unavailable(error.to_string(), RETRY_AFTER),
        RegisterError::Store(error) => store_problem(&error),
    }
}
