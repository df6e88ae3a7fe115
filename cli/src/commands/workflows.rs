//! `workflows`: stored definitions.

use serde_json::json;

use crate::arguments::{List, Workflow};
use crate::outcome::Exit;
use crate::output;
use crate::server_api::{ServerApi, StoredWorkflow};

pub(super) async fn list(arguments: List) -> anyhow::Result<Exit> {
    let api = ServerApi::new(&arguments.server.server)?;
    let workflows = api.workflows().await?;
    if arguments.json {
        output::json(&json!({ "workflows": workflows }))?;
    } else if workflows.is_empty() {
        output::note("No workflow is stored. `millstream run FILE` stores and runs one.");
    } else {
        output::table(&["id", "version", "hash", "updated"], &workflows.iter().map(row).collect::<Vec<_>>())?;
    }
    Ok(Exit::Success)
}

fn row(workflow: &StoredWorkflow) -> Vec<String> {
    let hash: String = workflow.hash.chars().take(12).collect();
    vec![workflow.id.clone(), workflow.version.clone(), hash, workflow.updated_at.clone()]
}

pub(super) async fn get(arguments: Workflow) -> anyhow::Result<Exit> {
    let api = ServerApi::new(&arguments.server.server)?;
    output::json(&api.workflow(&arguments.id).await?)?;
    Ok(Exit::Success)
}

pub(super) async fn delete(arguments: Workflow) -> anyhow::Result<Exit> {
    let api = ServerApi::new(&arguments.server.server)?;
    api.delete_workflow(&arguments.id).await?;
    output::line(&format!("Deleted workflow {}.", arguments.id))?;
    Ok(Exit::Success)
}
