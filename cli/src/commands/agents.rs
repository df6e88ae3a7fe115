//! `agents`: who does steps.

use millstream_model::agent::{Agent, AgentStatus};
use serde_json::json;

use crate::arguments::{ApplyAgents, List};
use crate::outcome::Exit;
use crate::server_api::ServerApi;
use crate::{files, output};

pub(super) async fn list(arguments: List) -> anyhow::Result<Exit> {
    let api = ServerApi::new(&arguments.server.server)?;
    let agents = api.agents().await?;
    if arguments.json {
        output::json(&json!({ "agents": agents }))?;
    } else if agents.is_empty() {
        output::note("No agent is registered. `millstream agents apply FILE` registers one.");
    } else {
        output::table(
            &["id", "framework", "capabilities", "status", "version"],
            &agents.iter().map(row).collect::<Vec<_>>(),
        )?;
    }
    Ok(Exit::Success)
}

fn row(agent: &Agent) -> Vec<String> {
    let capabilities: Vec<&str> = agent.capabilities.iter().map(|capability| capability.as_str()).collect();
    let status = match agent.status {
        AgentStatus::Active => "ACTIVE",
        AgentStatus::Inactive => "INACTIVE",
    };
    vec![
        agent.id.to_string(),
        agent.framework.clone(),
        capabilities.join(", "),
        status.to_owned(),
        agent.version.clone(),
    ]
}

pub(super) async fn apply(arguments: ApplyAgents) -> anyhow::Result<Exit> {
    let agents = files::agents(&arguments.files)?;
    let api = ServerApi::new(&arguments.server.server)?;
    for agent in &agents {
        api.put_agent(agent).await?;
        output::line(&format!("Registered agent {}.", agent.id))?;
    }
    Ok(Exit::Success)
}
