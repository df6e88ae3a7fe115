//! `POST /executions/{id}/fork`: a new execution that begins where an old one was, with something changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use millstream_broker::Broker;
use millstream_model::ids::{ExecutionId, StepId, WorkflowId};
use millstream_model::limits::{DEFINITION_SIZE_MAX, REQUEST_BODY_MAX};
use millstream_model::payload::{Body, Payload};
use millstream_model::plan::{Plan, StepIndex};
use millstream_model::view::{ExecutionView, Held};
use millstream_telemetry::requests;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::executions::{Acknowledged, document, not_found, query_problem};
use super::problem::{Problem, ProblemKind};
use super::request::{Id, Json, Parameters, caller};
use super::splice::payload_problem;
use super::submissions::{
    accepted_at, check_labels, idempotency_key, present, state_of, submit_problem, unresolved, with_own_labels,
};
use super::wait::Wait;
use super::{Api, agents, audit, provenance, schemas, workflows};
use crate::audit::decisions::{self, Asked, Chosen};
use crate::catalog::{Catalog, nearest};
use crate::cluster::{Forking, Submission};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForkParameters {
    wait: Option<Wait>,
}

/// What is absent is as it was in the old execution.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForkBody {
    /// The first step that runs anew; absent: all do.
    from: Option<StepId>,
    #[serde(default, deserialize_with = "present")]
    input: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    context: Option<Box<RawValue>>,
    /// The definition in force under this id.
    workflow_id: Option<WorkflowId>,
    /// A definition for this execution alone: a text of YAML or JSON, or an object.
    definition: Option<Box<RawValue>>,
    labels: Option<BTreeMap<String, String>>,
    by: Option<String>,
    reason: Option<String>,
}

#[derive(Serialize)]
struct Forked {
    #[serde(flatten)]
    acknowledged: Acknowledged,
    forked_from: ExecutionId,
    /// Steps that do not run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<Vec<StepId>>,
}

pub(super) async fn fork(
    State(api): State<Api>,
    Id(of): Id<ExecutionId>,
    Parameters(parameters): Parameters<ForkParameters>,
    headers: HeaderMap,
    Json(body): Json<ForkBody, REQUEST_BODY_MAX>,
) -> Result<Response, Problem> {
    let idempotency_key = idempotency_key(&headers)?;
    provenance::check(ProblemKind::InvalidBody, body.by.as_deref(), body.reason.as_deref())?;
    let (cluster, catalog) = (api.cluster()?, api.catalog()?);
    let old = cluster.execution(of).await.map_err(query_problem)?.ok_or_else(|| not_found(of))?;
    let chosen = match (&body.workflow_id, &body.definition) {
        (Some(_), _) => Chosen::InForce,
        (None, Some(_)) => Chosen::Brought,
        (None, None) => Chosen::Inherited,
    };
    let plan = plan(catalog, &old, body.workflow_id, body.definition.as_deref()).await?;
    let from = body.from.as_ref().map(|step| find(&plan, step)).transpose()?;

    let labels = body.labels.unwrap_or_else(|| old.labels.clone());
    check_labels(&labels)?;
    let labels = with_own_labels(&plan, labels)?;
    let broker = cluster.broker();
    let input = match body.input {
        Some(input) => input,
        None => text_of(broker, of, &old.input).await?,
    };
    let context = match (body.context, &old.context) {
        (Some(context), _) => Some(context),
        (None, Some(context)) => Some(text_of(broker, of, context).await?),
        (None, None) => None,
    };
    schemas::check(&plan, &input, context.as_deref()).await?;
    let routing = catalog.resolve(&plan).await.map_err(agents::unknown)?.map_err(|found| unresolved(&found))?;
    let kept = cluster.kept_for_fork(of, Arc::clone(&plan), from).await.map_err(query_problem)?;
    let kept = kept.ok_or_else(|| not_found(of))?;
    let kept_ids: Vec<StepId> = kept.iter().map(|(step, _)| step.clone()).collect();
    if body.definition.is_some() {
        catalog.keep_definition(&plan).await.map_err(|error| workflows::store_problem(&error))?;
    }

    let asked = Asked { by: body.by.as_deref(), reason: body.reason.as_deref() };
    let taken = json!({"forked": of, "from": body.from, "kept": kept_ids.len()});
    let forked = decisions::admin("execution.fork", format!("execution {of}"), asked, taken);
    let intent = audit::intend_submission(&api, &plan, chosen, &routing, Some(forked)).await?;
    let trace = requests::current().or_else(|| caller(&headers));
    let submission = Submission {
        plan,
        input,
        context,
        idempotency_key,
        labels,
        trace,
        routing,
        fork: Some(Forking { of, from: body.from, by: body.by, reason: body.reason, kept }),
    };
    let accepted = cluster.submit(submission).await.map_err(submit_problem);
    audit::settle_submission(intent, trace.map(|parent| parent.trace), &accepted);
    let accepted = accepted?;
    if let Some(wait) = parameters.wait
        && wait.for_the_end(&api, cluster, accepted.execution).await
    {
        return document(&api, accepted.execution).await;
    }
    let status = state_of(cluster, accepted).await;
    let forked = Forked {
        acknowledged: Acknowledged::new(accepted.execution, status.as_str()),
        forked_from: of,
        // The execution of the first request keeps what was there then.
        kept: (!accepted.repeated).then_some(kept_ids),
    };
    Ok(accepted_at(accepted.execution, &forked))
}

/// The plan of the new execution: another workflow's, one of its own, or the old execution's as it was pinned.
async fn plan(
    catalog: &Catalog,
    old: &ExecutionView<Held>,
    workflow: Option<WorkflowId>,
    definition: Option<&RawValue>,
) -> Result<Arc<Plan>, Problem> {
    match (workflow, definition) {
        (Some(_), Some(_)) => {
            let detail = "a fork has either a workflow_id or a definition of its own";
            Err(Problem::new(ProblemKind::InvalidBody, detail))
        }
        (Some(id), None) => {
            let plan = catalog.plan_in_force(&id).await.map_err(|error| workflows::plan_problem(&error))?;
            plan.ok_or_else(|| workflows::not_found(&id))
        }
        (None, Some(definition)) => Ok(workflows::compile(definition_text(definition)?).await?.plan),
        (None, None) => catalog.plan(old.definition).await.map_err(|error| workflows::plan_problem(&error)),
    }
}

/// The text of an inline definition.
fn definition_text(definition: &RawValue) -> Result<String, Problem> {
    let json = definition.get();
    let text = match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).expect("the body was read as JSON"),
        Some(b'{') => json.to_owned(),
        Some(_) | None => {
            let detail = "a definition is an object, or a text of YAML or JSON";
            return Err(Problem::new(ProblemKind::InvalidBody, detail));
        }
    };
    if text.len() > DEFINITION_SIZE_MAX {
        let detail = format!("a definition may have at most {DEFINITION_SIZE_MAX} bytes");
        return Err(Problem::new(ProblemKind::BodyTooLarge, detail));
    }
    Ok(text)
}

/// The step to begin from.
fn find(plan: &Plan, step: &StepId) -> Result<StepIndex, Problem> {
    let refuse = |detail: String| Err(Problem::new(ProblemKind::UnknownStep, detail));
    let workflow = &plan.definition.id;
    match plan.find(step) {
        Some(index) if plan.is_finally(index) => {
            refuse(format!("{step} is a final step of {workflow}: it runs in any case; name one of `steps`"))
        }
        Some(index) => Ok(index),
        None => {
            let steps = || plan.definition.steps.iter().map(|step| step.id.as_str());
            let meant = nearest(step.as_str(), steps()).map(|name| format!("; did you mean {name}?"));
            let listed = || format!("; it has {}", steps().take(STEPS_LISTED).collect::<Vec<_>>().join(", "));
            refuse(format!("workflow {workflow} has no step {step}{}", meant.unwrap_or_else(listed)))
        }
    }
}

/// Steps that a caller who named none of them is told.
const STEPS_LISTED: usize = 20;

/// The JSON text of a value of an execution.
async fn text_of(broker: &Broker, execution: ExecutionId, value: &Held) -> Result<Box<RawValue>, Problem> {
    let payload = match value {
        Held::One(payload) => payload,
        Held::List(_) => unreachable!("an input and a context are single values"),
    };
    match payload {
        Payload { enc: Some(coding), .. } => {
            let detail = format!("a value of the old execution is coded as {coding}, give it anew");
            Err(Problem::new(ProblemKind::PayloadUnavailable, detail))
        }
        Payload { body: Body::Inline(text), .. } => Ok((**text).to_owned()),
        Payload { body: Body::Stored(reference), .. } => {
            broker.get_payload(execution, *reference).await.map_err(|error| payload_problem(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_model::validate;

    use super::*;

    #[test]
    fn an_inline_definition_is_an_object_or_a_text() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).expect("JSON");
        assert_eq!(definition_text(&raw(r#""id: w\nsteps: []\n""#)).expect("a text"), "id: w\nsteps: []\n");
        assert_eq!(definition_text(&raw(r#"{"id": "w"}"#)).expect("a text"), r#"{"id": "w"}"#);
        assert_eq!(definition_text(&raw("7")).expect_err("no").kind(), ProblemKind::InvalidBody);
    }

    #[test]
    fn a_step_that_is_none_is_refused_with_what_may_be_meant() {
        let text = "
id: w
steps:
  - {id: fetch, agent_id: a}
  - {id: book, agent_id: a}
finally:
  - {id: tell, agent_id: a}
";
        let plan = validate::definition(text).expect("a definition");
        let refusal = |step: &str| {
            let problem = find(&plan, &step.parse().expect("a name")).expect_err("refused");
            assert_eq!(problem.kind(), ProblemKind::UnknownStep);
            problem.detail().to_owned()
        };
        assert_eq!(find(&plan, &"book".parse().expect("a name")).expect("a step"), StepIndex(1));
        assert_eq!(refusal("boook"), "workflow w has no step boook; did you mean book?");
        assert_eq!(refusal("something"), "workflow w has no step something; it has fetch, book");
        assert_eq!(refusal("tell"), "tell is a final step of w: it runs in any case; name one of `steps`");
    }
}
