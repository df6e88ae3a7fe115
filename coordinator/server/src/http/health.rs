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

/// NATS is connected, what is owned here is caught up with, and everything else has an owner.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    let Ok(cluster) = api.cluster() else {
        let body = json!({"status": "starting", "nats": "waiting", "reason": "waits for NATS"});
        return answer(StatusCode::SERVICE_UNAVAILABLE, &body);
    };
    let readiness = cluster.ready();
    let stopping = api.stop().is_cancelled() || readiness.leaving;
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
    let absent: BTreeMap<String, String> =
        readiness.absent.iter().map(|(partition, absence)| (partition.to_string(), absence.to_string())).collect();
    let incidents: BTreeMap<String, &String> =
        readiness.incidents.iter().map(|(partition, incident)| (partition.to_string(), incident)).collect();
    let body = json!({
        "status": status,
        "node": readiness.node,
        "nats": if readiness.connected { "connected" } else { "disconnected" },
        "coordinators": readiness.coordinators,
        "partitions": {
            "total": readiness.partitions,
            "owned": readiness.owned,
            "caught_up": readiness.caught_up,
            "absent": absent,
        },
        "reason": readiness.reason(),
        "incidents": incidents,
        "counts": {"ignored": ignored, "malformed": counts.malformed, "reissued": counts.reissued},
    });
    answer(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}
