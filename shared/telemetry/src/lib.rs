//! Logs and OTLP traces.
//!
//! Logs go to stderr. Traces go wherever the standard `OTEL_*` environment says, and cost one
//! load of a pointer per span when it says nothing. Spans are not made of `tracing` spans: a
//! span of an execution outlives polls, processes and failovers, so each is recorded once, when
//! it has ended, with ids and times that its author knows (see [`spans`]).

mod exporter;
mod logs;
pub mod requests;
pub mod spans;

use exporter::Exporter;

/// Keeps what the process says about itself flowing until [`Telemetry::shutdown`].
#[must_use = "spans that were not exported yet are lost without `shutdown`"]
#[derive(Debug)]
pub struct Telemetry(());

/// Starts logs, and traces when the environment asks for them.
///
/// `service` becomes `service.name` unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES`
/// names another, `instance` becomes `service.instance.id`. What counts is the first call of a
/// process.
///
/// Logs: filter from `MILLSTREAM_LOG`, else `RUST_LOG`, else `info`; JSON with
/// `MILLSTREAM_LOG_FORMAT=json`. Traces: on when `OTEL_EXPORTER_OTLP_ENDPOINT` or
/// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set, unless `OTEL_SDK_DISABLED=true` or
/// `OTEL_TRACES_EXPORTER=none`; `OTEL_EXPORTER_OTLP_PROTOCOL` is `http/protobuf` (the default)
/// or `grpc`; `OTEL_TRACES_SAMPLER` and the `OTEL_BSP_*` settings are honoured.
pub fn init(service: &'static str, instance: &str) -> Telemetry {
    let exporter = logs::meanwhile(|| match Exporter::from_environment(service, instance) {
        Ok(exporter) => exporter,
        Err(error) => {
            tracing::error!(%error, "traces are not exported");
            None
        }
    });
    logs::init(requests::layer(exporter.as_ref()));
    if let Some(exporter) = exporter {
        spans::install(exporter);
    }
    Telemetry(())
}

impl Telemetry {
    /// Exports what is still queued. Spans recorded afterwards are dropped.
    pub fn shutdown(self) {
        if let Err(error) = spans::shutdown() {
            tracing::warn!(%error, "the last spans could not be exported");
        }
    }
}
