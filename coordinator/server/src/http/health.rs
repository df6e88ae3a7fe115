//! Health: what probes ask.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::{Api, answer};

/// The process is up and listens.
pub(super) async fn started() -> Response {
    answer(StatusCode::OK, &json!({"status": "started"}))
}

/// The event loop answers: this is the answer.
pub(super) async fn live() -> Response {
    answer(StatusCode::OK, &json!({"status": "live"}))
}

/// NATS is connected and every partition is caught up with.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    let Ok(cluster) = api.cluster() else {
        let body = json!({"status": "starting", "nats": "waiting", "reason": "waits for NATS"});
        return answer(StatusCode::SERVICE_UNAVAILABLE, &body);
    };
    let readiness = cluster.ready();
    let stopping = api.stop().is_cancelled();
    let ready = readiness.is_ready() && !stopping;
    let status = if stopping {
        "stopping"
    } else if ready {
        "ready"
    } else {
        "not ready"
    };
    let counts = &readiness.counts;
    let ignored: BTreeMap<&str, u64> = counts.ignored.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    let body = json!({
        "status": status,
        "nats": if readiness.connected { "connected" } else { "disconnected" },
        "partitions": {"total": readiness.partitions, "caught_up": readiness.caught_up},
        "reason": readiness.reason,
        "counts": {"ignored": ignored, "malformed": counts.malformed, "reissued": counts.reissued},
    });
    answer(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}
