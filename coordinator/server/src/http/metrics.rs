//! `GET /metrics`: figures for Prometheus.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::problem::Problem;
use crate::metrics;

/// OpenMetrics 1.0, which Prometheus reads.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let cluster = api.cluster()?;
    let text = metrics::encode(&cluster.leases().view().borrow(), &cluster.ready(), &cluster.statuses());
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}
