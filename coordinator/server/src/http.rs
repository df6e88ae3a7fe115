//! The REST API.
//!
//! [`routes`] is the table of what there is; handlers are grouped by noun. Every failure is a [`problem`] (RFC 9457).
//! The API can be served before the cluster is there: until [`Api::open`] everything but health answers 503.

pub mod limits;
pub mod problem;
pub mod routes;

mod agents;
mod audit;
mod entries;
mod events;
mod executions;
mod forks;
mod health;
mod json;
mod listen;
mod listing;
mod metrics;
mod provenance;
mod request;
mod resumes;
mod schemas;
mod splice;
mod submissions;
mod transcripts;
mod wait;
mod workflows;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use millstream_telemetry::requests;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::audit::AuditTrail;
use crate::catalog::Catalog;
use crate::cluster::Cluster;
use crate::history::History;
use problem::{Problem, ProblemKind};

pub use listen::serve;

/// What a caller is told to wait for something that passes by itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What handlers work with; cheap to clone.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    rooms: OnceLock<(Cluster, Catalog)>,
    audit: OnceLock<AuditTrail>,
    history: OnceLock<History>,
    stop: CancellationToken,
}

impl Api {
    /// An API whose cluster is not there yet. `stop` ends event streams and waits.
    pub fn starting(stop: CancellationToken) -> Self {
        Self {
            shared: Arc::new(Shared { rooms: OnceLock::new(), audit: OnceLock::new(), history: OnceLock::new(), stop }),
        }
    }

    /// From here on requests are served. The first call counts.
    pub fn open(&self, cluster: Cluster, catalog: Catalog) {
        self.shared.rooms.get_or_init(|| (cluster, catalog));
    }

    /// Where decisions are recorded; before [`Self::open`].
    pub fn open_audit(&self, audit: AuditTrail) {
        self.shared.audit.get_or_init(|| audit);
    }

    fn audit(&self) -> Result<&AuditTrail, Problem> {
        self.shared.audit.get().ok_or_else(starting)
    }

    /// Where executions are found that their owners have forgotten; before [`Self::open`].
    pub fn open_history(&self, history: History) {
        self.shared.history.get_or_init(|| history);
    }

    fn history(&self) -> Result<&History, Problem> {
        self.shared.history.get().ok_or_else(starting)
    }

    fn rooms(&self) -> Result<&(Cluster, Catalog), Problem> {
        self.shared.rooms.get().ok_or_else(starting)
    }

    fn cluster(&self) -> Result<&Cluster, Problem> {
        self.rooms().map(|(cluster, _)| cluster)
    }

    fn catalog(&self) -> Result<&Catalog, Problem> {
        self.rooms().map(|(_, catalog)| catalog)
    }

    fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }
}

fn starting() -> Problem {
    Problem::unavailable("the coordinator is starting: it waits for NATS", RETRY_AFTER)
}

/// The whole API as a service.
pub fn router(api: Api) -> Router {
    let mut router = Router::new();
    for route in routes::routes() {
        router = router.route(route.path, route.handler);
    }
    let router = router.fallback(no_route).method_not_allowed_fallback(no_method).with_state(api.clone());
    let router = router.layer(from_fn(same_site)).layer(from_fn_with_state(api, audit::refusals));
    router.layer(from_fn(traced))
}

/// Gives each request a span, below its caller's; probes have none.
async fn traced(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if route.is_empty() || route == "/metrics" || route.starts_with("/healthz") {
        return next.run(request).await;
    }
    let span = requests::server_span(request.method().as_str(), route, request::caller(request.headers()).as_ref());
    let response = next.run(request).instrument(span.clone()).await;
    requests::record_status(&span, response.status().as_u16());
    response
}

/// Refuses what a page of another site makes a browser ask for: only browsers send `Origin`, and an API on loopback
/// is in reach of every page.
async fn same_site(request: Request, next: Next) -> Result<Response, Problem> {
    let headers = request.headers();
    let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes);
    let host = headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let own = |origin: &[u8]| origin.rsplit(|&byte| byte == b'/').next() == Some(host);
    match origin {
        Some(origin) if !request.method().is_safe() && !own(origin) => {
            let detail = format!("a page of {} cannot change anything here", String::from_utf8_lossy(origin));
            Err(Problem::new(ProblemKind::CrossSite, detail))
        }
        Some(_) | None => Ok(next.run(request).await),
    }
}

async fn no_route(request: Request) -> Problem {
    let detail = format!("nothing is served at {}; GET /healthz/ready and GET /workflows are", request.uri().path());
    Problem::new(ProblemKind::RouteNotFound, detail)
}

async fn no_method(request: Request) -> Problem {
    let allowed = routes::methods_of(request.uri().path()).join(", ");
    let detail = format!("{} does not take {}, only {allowed}", request.uri().path(), request.method());
    let value = HeaderValue::from_str(&allowed).expect("methods are visible characters");
    Problem::new(ProblemKind::MethodNotAllowed, detail).with_header(axum::http::header::ALLOW, value)
}

/// An answer of JSON.
fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_string(body).expect("an answer always has a JSON form");
    (status, [(axum::http::header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests;
