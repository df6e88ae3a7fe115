//! Spans as their authors know them: recorded once, when they have ended.
//!
//! The tree of an execution, whose ids every process derives by itself:
//!
//! ```text
//! execute_workflow <workflow>       INTERNAL  SpanId::of_execution, parent = the caller's span
//! └─ send <capability>              PRODUCER  SpanId::of_attempt
//!    └─ process <capability>        CONSUMER  the worker's own, parent = the task's traceparent
//!       └─ POST                     CLIENT    a call of an http agent
//! ```

use std::borrow::Cow;
use std::sync::OnceLock;

use millstream_model::time::Timestamp;
use millstream_model::trace::{SpanId, TraceId, TraceParent};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

use crate::exporter::Exporter;

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// A span that has ended.
#[derive(Debug, Clone)]
pub struct Span {
    pub trace: TraceId,
    pub id: SpanId,
    pub parent: Option<SpanId>,
    /// Spans of other traces that caused this one.
    pub links: Vec<TraceParent>,
    pub kind: Kind,
    pub name: Cow<'static, str>,
    pub start: Timestamp,
    pub end: Timestamp,
    pub attributes: Vec<(&'static str, Value)>,
    /// What went wrong; `None` leaves the status unset.
    pub error: Option<String>,
}

/// Which side of which exchange a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(Cow<'static, str>),
    Integer(i64),
    Float(f64),
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(i64::from(number))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Integer(i64::from(number))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// Whether spans are exported at all; nothing else here costs anything when they are not.
pub fn enabled() -> bool {
    EXPORTER.get().is_some()
}

/// Whether the spans of `trace` are wanted: what goes into the `sampled` flag of a
/// [`TraceParent`]. `parent` is the caller's context, when the trace is the caller's.
pub fn sampled(trace: TraceId, parent: Option<&TraceParent>) -> bool {
    EXPORTER.get().is_some_and(|exporter| exporter.samples(trace, parent.map(|p| p.sampled)))
}

/// A span id that nobody else has.
pub fn new_id() -> SpanId {
    let id = RandomIdGenerator::default().new_span_id();
    id.to_string().parse().expect("the generator gives no zero")
}

/// Queues a span for export; does nothing when export is off or the queue is full.
///
/// A span with a parent is taken as sampled by it: whoever has a [`TraceParent`] asks its
/// `sampled` flag before building a span.
pub fn record(span: Span) {
    if let Some(exporter) = EXPORTER.get() {
        exporter.record(span);
    }
}

/// Queues a span that the SDK has built.
pub(crate) fn export(span: opentelemetry_sdk::trace::SpanData) {
    if let Some(exporter) = EXPORTER.get() {
        exporter.export(span);
    }
}

pub(crate) fn install(exporter: Exporter) {
    if let Err(second) = EXPORTER.set(exporter) {
        tracing::warn!("traces are exported already; the second exporter is not used");
        if let Err(error) = second.discard() {
            tracing::warn!(%error, "the second exporter did not stop");
        }
    }
}

pub(crate) fn shutdown() -> OTelSdkResult {
    EXPORTER.get().map_or(Ok(()), Exporter::shutdown)
}
