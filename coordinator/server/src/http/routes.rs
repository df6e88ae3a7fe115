//! Every route of the API. Documents and tests are checked against this table.

use axum::routing::{self, MethodRouter};

use super::{
    Api, agents, audit, entries, events, executions, forks, health, listing, metrics, resumes, submissions, workflows,
};

/// One method of one path.
pub struct Route {
    pub method: &'static str,
    /// With parameters in braces, as in OpenAPI.
    pub path: &'static str,
    pub summary: &'static str,
    pub(super) handler: MethodRouter<Api>,
}

/// The table.
#[rustfmt::skip]
pub fn routes() -> Vec<Route> {
    vec![
        get("/workflows", "Lists definitions", routing::get(workflows::list)),
        post("/workflows", "Stores a new definition", routing::post(workflows::create)),
        get("/workflows/{id}", "Shows a definition", routing::get(workflows::show)),
        put("/workflows/{id}", "Stores a definition or replaces it", routing::put(workflows::replace)),
        delete("/workflows/{id}", "Deletes a definition", routing::delete(workflows::remove)),
        post("/workflows/{id}/execute", "Submits an execution", routing::post(submissions::execute)),

        get("/executions", "Lists executions", routing::get(listing::list)),
        get("/executions/{id}", "Shows an execution", routing::get(executions::show)),
        delete("/executions/{id}", "Cancels an execution", routing::delete(executions::cancel)),
        post("/executions/{id}/resume", "Lets a failed execution go on", routing::post(resumes::resume)),
        post("/executions/{id}/fork", "Starts a new execution from a step of an old one", routing::post(forks::fork)),
        get("/executions/{id}/events", "Streams or lists the events of an execution", routing::get(events::events)),
        get("/executions/{id}/entries", "Lists or exports the entries of an execution", routing::get(entries::entries)),

        get("/agents", "Lists agents", routing::get(agents::list)),
        post("/agents", "Registers a new agent", routing::post(agents::create)),
        get("/agents/{id}", "Shows an agent", routing::get(agents::show)),
        put("/agents/{id}", "Registers an agent or replaces it", routing::put(agents::replace)),
        delete("/agents/{id}", "Deletes an agent", routing::delete(agents::remove)),

        get("/audit", "Lists what was decided", routing::get(audit::list)),

        get("/metrics", "Figures for Prometheus", routing::get(metrics::metrics)),
        get("/healthz/started", "Whether the process is up", routing::get(health::started)),
        get("/healthz/live", "Whether the process answers", routing::get(health::live)),
        get("/healthz/ready", "Whether the cluster takes requests", routing::get(health::ready)),
    ]
}

/// The methods of the paths that `path` is an instance of.
pub fn methods_of(path: &str) -> Vec<&'static str> {
    let mut methods: Vec<&str> =
        routes().into_iter().filter(|route| is_instance(path, route.path)).map(|route| route.method).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods
}

fn is_instance(path: &str, template: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let pattern: Vec<&str> = template.split('/').collect();
    parts.len() == pattern.len() && parts.iter().zip(pattern).all(|(part, name)| name.starts_with('{') || *part == name)
}

fn get(path: &'static str, summary: &'static str, handler: MethodRouter<Api>) -> Route {
    Route { method: "GET", path, summary, handler }
}

fn post(path: &'static str, summary: &'static str, handler: MethodRouter<Api>) -> Route {
    Route { method: "POST", path, summary, handler }
}

fn put(path: &'static str, summary: &'static str, handler: MethodRouter<Api>) -> Route {
    Route { method: "PUT", path, summary, handler }
}

fn delete(path: &'static str, summary: &'static str, handler: MethodRouter<Api>) -> Route {
    Route { method: "DELETE", path, summary, handler }
}
