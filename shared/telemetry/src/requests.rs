//! Spans of requests to our own API: the one place where a unit of work begins and ends in one process, so that
//! `tracing` spans fit. They become OTLP spans by `tracing-opentelemetry`.

use std::time::Duration;

use millstream_model::trace::{SpanId, TraceId, TraceParent};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanProcessor};
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::exporter::Exporter;
use crate::spans;

/// Target of the spans that are exported; those of libraries are not.
const TARGET: &str = "millstream::request";

/// A SERVER span for a request, below its caller's span. Disabled when traces are not exported.
///
/// `route` is the template of the path, such as `/executions/{id}`.
pub fn server_span(method: &str, route: &str, caller: Option<&TraceParent>) -> Span {
    if !spans::enabled() {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    if let Some(caller) = caller {
        let parent = Context::new().with_remote_span_context(remote(caller));
        if let Err(error) = span.set_parent(parent) {
            tracing::debug!(%error, "a request is not joined to its caller's trace");
        }
    }
    span
}

/// Notes how the request was answered.
pub fn record_status(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// The context of the request that is being handled, for what it causes.
pub fn current() -> Option<TraceParent> {
    if !spans::enabled() {
        return None;
    }
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    if !span.is_valid() {
        return None;
    }
    let trace: TraceId = span.trace_id().to_string().parse().ok()?;
    let id: SpanId = span.span_id().to_string().parse().ok()?;
    Some(TraceParent { trace, span: id, sampled: span.is_sampled() })
}

/// The layer that exports request spans; `None` when traces are not exported.
pub(crate) fn layer<S>(exporter: Option<&Exporter>) -> Option<impl Layer<S> + use<S>>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let exporter = exporter?;
    let provider = SdkTracerProvider::builder()
        .with_resource(exporter.resource().clone())
        .with_sampler(exporter.sampler())
        .with_span_processor(ToExporter)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("millstream"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false);
    Some(layer.with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET)))
}

/// Hands ended spans to the process's one exporter, which others use too.
#[derive(Debug)]
struct ToExporter;

impl SpanProcessor for ToExporter {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        spans::export(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn remote(caller: &TraceParent) -> SpanContext {
    let flags = if caller.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let trace = opentelemetry::trace::TraceId::from_bytes(caller.trace.to_bytes());
    let span = opentelemetry::trace::SpanId::from_bytes(caller.span.to_bytes());
    SpanContext::new(trace, span, flags, true, TraceState::NONE)
}
