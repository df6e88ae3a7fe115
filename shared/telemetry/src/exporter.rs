//! OTLP export as the standard environment asks for it.

use std::env;
use std::time::{Duration, SystemTime};

use millstream_model::time::Timestamp;
use millstream_model::trace::{SpanId, TraceId, TraceParent};
use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Sampler, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use tokio::runtime::{Builder, Runtime};

use crate::spans::{Kind, Span, Value};

/// How long the last export may take when the process ends.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the environment's OTLP settings cannot be used: {0}")]
    Settings(#[from] ExporterBuildError),
    #[error("no thread for the OTLP connection: {source}")]
    Thread {
        #[source]
        source: std::io::Error,
    },
}

#[derive(Debug)]
pub(crate) struct Exporter {
    batches: BatchSpanProcessor,
    /// Drives the gRPC connection. Not the caller's runtime: [`Exporter::shutdown`] blocks the
    /// thread it is called on, and on that of a current-thread runtime nothing could be sent.
    connection: Option<Runtime>,
    resource: Resource,
    sampling: Sampling,
    scope: InstrumentationScope,
}

impl Exporter {
    /// The exporter that the environment describes; `None` when it asks for none.
    pub(crate) fn from_environment(service: &'static str, instance: &str) -> Result<Option<Self>, StartError> {
        if !wanted() {
            return Ok(None);
        }
        let (exporter, connection) = match protocol().as_str() {
            "grpc" => {
                let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build();
                let runtime = runtime.map_err(|source| StartError::Thread { source })?;
                let entered = runtime.enter();
                let exporter = SpanExporter::builder().with_tonic().build()?;
                drop(entered);
                (exporter, Some(runtime))
            }
            _ => (SpanExporter::builder().with_http().with_http_client(blocking_client()).build()?, None),
        };
        let mut batches = BatchSpanProcessor::builder(exporter).build();
        let resource = resource(service, instance);
        batches.set_resource(&resource);
        let scope = InstrumentationScope::builder("millstream").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Some(Self { batches, connection, resource, sampling: Sampling::from_environment(), scope }))
    }

    /// Whether a trace is recorded; `parent` is the `sampled` flag of the caller's context.
    pub(crate) fn samples(&self, trace: TraceId, parent: Option<bool>) -> bool {
        self.sampling.samples(trace, parent)
    }

    pub(crate) fn record(&self, span: Span) {
        if self.samples(span.trace, span.parent.map(|_| true)) {
            self.batches.on_end(self.span_data(span));
        }
    }

    /// Queues a span that the SDK has built.
    pub(crate) fn export(&self, span: SpanData) {
        self.batches.on_end(span);
    }

    /// What all spans of the process have in common.
    pub(crate) fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The environment's sampler, as the SDK takes it.
    pub(crate) fn sampler(&self) -> Sampler {
        match self.sampling.parent_based {
            true => Sampler::ParentBased(Box::new(self.sampling.root.clone())),
            false => self.sampling.root.clone(),
        }
    }

    pub(crate) fn shutdown(&self) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(SHUTDOWN_TIMEOUT)
    }

    /// Stops an exporter that was never used.
    pub(crate) fn discard(self) -> OTelSdkResult {
        let outcome = self.shutdown();
        if let Some(runtime) = self.connection {
            runtime.shutdown_background();
        }
        outcome
    }

    fn span_data(&self, span: Span) -> SpanData {
        let mut links = SpanLinks::default();
        links.links = span.links.iter().map(|to| Link::with_context(remote(to))).collect();
        SpanData {
            span_context: SpanContext::new(
                trace_id(span.trace),
                span_id(span.id),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: span.parent.map_or(opentelemetry::trace::SpanId::INVALID, span_id),
            parent_span_is_remote: span.parent.is_some() && span.kind == Kind::Consumer,
            span_kind: match span.kind {
                Kind::Internal => SpanKind::Internal,
                Kind::Server => SpanKind::Server,
                Kind::Client => SpanKind::Client,
                Kind::Producer => SpanKind::Producer,
                Kind::Consumer => SpanKind::Consumer,
            },
            name: span.name,
            start_time: system_time(span.start),
            end_time: system_time(span.end.max(span.start)),
            attributes: span.attributes.into_iter().map(|(key, value)| KeyValue::new(key, otel_value(value))).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// What decides whether a trace is recorded.
#[derive(Debug)]
struct Sampling {
    root: Sampler,
    parent_based: bool,
}

impl Sampling {
    fn from_environment() -> Self {
        let name = env::var("OTEL_TRACES_SAMPLER").unwrap_or_default();
        let argument = env::var("OTEL_TRACES_SAMPLER_ARG").unwrap_or_default();
        Self::parse(&name, &argument)
    }

    fn parse(name: &str, argument: &str) -> Self {
        let (parent_based, kind) = match name.strip_prefix("parentbased_") {
            Some(kind) => (true, kind),
            None => (name.is_empty(), name),
        };
        let root = match kind {
            "" | "always_on" => Sampler::AlwaysOn,
            "always_off" => Sampler::AlwaysOff,
            "traceidratio" => {
                let ratio = argument.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).unwrap_or_else(|| {
                    tracing::warn!(argument, "OTEL_TRACES_SAMPLER_ARG is not a number from 0 to 1; using 1");
                    1.0
                });
                Sampler::TraceIdRatioBased(ratio)
            }
            other => {
                tracing::warn!(sampler = other, "OTEL_TRACES_SAMPLER names an unknown sampler; recording all traces");
                return Self { root: Sampler::AlwaysOn, parent_based: true };
            }
        };
        Self { root, parent_based }
    }

    fn samples(&self, trace: TraceId, parent: Option<bool>) -> bool {
        match parent {
            Some(sampled) if self.parent_based => sampled,
            Some(_) | None => {
                let result = self.root.should_sample(None, trace_id(trace), "", &SpanKind::Internal, &[], &[]);
                result.decision == SamplingDecision::RecordAndSample
            }
        }
    }
}

fn wanted() -> bool {
    let set = |name: &str| env::var(name).is_ok_and(|value| !value.is_empty());
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value.eq_ignore_ascii_case(wanted));
    (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        && !is("OTEL_SDK_DISABLED", "true")
        && !is("OTEL_TRACES_EXPORTER", "none")
}

fn protocol() -> String {
    ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_default()
        .to_ascii_lowercase()
}

fn resource(service: &'static str, instance: &str) -> Resource {
    let mut builder = Resource::builder_empty().with_service_name(service);
    builder = builder.with_attribute(KeyValue::new("service.instance.id", instance.to_owned()));
    builder = builder.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    // The environment comes last: it has the last word.
    builder = builder.with_detector(Box::new(opentelemetry_sdk::resource::TelemetryResourceDetector));
    builder = builder.with_detector(Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new()));
    if let Ok(name) = env::var("OTEL_SERVICE_NAME")
        && !name.is_empty()
    {
        builder = builder.with_service_name(name);
    }
    builder.build()
}

/// The client of HTTP export. The batch thread has no reactor, so an asynchronous client would
/// panic there and lose every span; it is passed explicitly because another crate's features
/// could make that one the default. It is built on a thread of its own because building a
/// blocking client inside a runtime panics.
fn blocking_client() -> reqwest::blocking::Client {
    // Loses only to a provider that somebody installed before, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    std::thread::spawn(|| {
        let builder = || reqwest::blocking::Client::builder().timeout(export_timeout());
        builder().build().unwrap_or_else(|error| {
            tracing::warn!(%error, "no system certificates; traces can only be exported over plain HTTP");
            let without_roots = builder().tls_certs_only(std::iter::empty()).build();
            without_roots.expect("a client without root certificates depends on nothing outside")
        })
    })
    .join()
    .expect("the thread only builds a client")
}

fn export_timeout() -> Duration {
    let milliseconds = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]
        .into_iter()
        .find_map(|name| env::var(name).ok()?.parse().ok());
    Duration::from_millis(milliseconds.unwrap_or(10_000))
}

fn remote(context: &TraceParent) -> SpanContext {
    let flags = if context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    SpanContext::new(trace_id(context.trace), span_id(context.span), flags, true, TraceState::NONE)
}

fn trace_id(id: TraceId) -> opentelemetry::trace::TraceId {
    opentelemetry::trace::TraceId::from_bytes(id.to_bytes())
}

fn span_id(id: SpanId) -> opentelemetry::trace::SpanId {
    opentelemetry::trace::SpanId::from_bytes(id.to_bytes())
}

fn system_time(moment: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(moment.as_micros())
}

fn otel_value(value: Value) -> opentelemetry::Value {
    match value {
        Value::Text(text) => opentelemetry::Value::String(text.into()),
        Value::Integer(number) => number.into(),
        Value::Float(number) => number.into(),
        Value::Flag(flag) => flag.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(first: u8) -> TraceId {
        format!("{first:02x}{:030x}", 1).parse().expect("a trace id")
    }

    #[test]
    fn without_a_sampler_the_callers_flag_decides_and_a_root_is_recorded() {
        let sampling = Sampling::parse("", "");
        assert!(sampling.samples(trace(1), None));
        assert!(sampling.samples(trace(1), Some(true)));
        assert!(!sampling.samples(trace(1), Some(false)));
    }

    #[test]
    fn a_sampler_that_is_not_parent_based_ignores_the_callers_flag() {
        assert!(!Sampling::parse("always_off", "").samples(trace(1), Some(true)));
        assert!(Sampling::parse("always_on", "").samples(trace(1), Some(false)));
    }

    #[test]
    fn a_ratio_decides_by_the_trace_alone() {
        assert!(!Sampling::parse("traceidratio", "0").samples(trace(0), None));
        assert!(Sampling::parse("traceidratio", "1").samples(trace(0xff), None));
        let nonsense = Sampling::parse("parentbased_traceidratio", "many");
        assert!(nonsense.samples(trace(7), None));
        assert!(!nonsense.samples(trace(7), Some(false)));
    }
}
