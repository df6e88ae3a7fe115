//! What a collector receives when the standard environment asks for export.
//!
//! The environment belongs to a process, so the exporting side is this test binary started once
//! more: it runs [`the_exporting_side`], which records spans inside a Tokio runtime.

use std::process::Stdio;
use std::time::Duration;

use millstream_model::time::Timestamp;
use millstream_telemetry::spans::{self, Kind, Span};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span as Received;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ROOT: &str = "b7ad6b7169203331";
const RUN: &str = "00f067aa0ba902b7";
const CHILD: &str = "MILLSTREAM_TEST_EXPORTING_SIDE";

#[tokio::test]
async fn a_grpc_collector_receives_the_spans_as_they_were_recorded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, receiver) = mpsc::unbounded_channel();
    let service = TraceServiceServer::new(Collector(sender));
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    check("grpc", &format!("http://{address}"), receiver).await;
}

#[tokio::test]
async fn an_http_collector_receives_the_spans_as_they_were_recorded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(serve_http(listener, sender));
    check("http/protobuf", &format!("http://{address}"), receiver).await;
}

#[tokio::test]
async fn nothing_is_exported_when_the_sdk_is_disabled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, mut receiver) = mpsc::unbounded_channel();
    tokio::spawn(serve_http(listener, sender));
    export(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}")),
        ("OTEL_SDK_DISABLED", "true"),
        ("MILLSTREAM_TEST_EXPECT", "off"),
    ])
    .await;
    assert!(receiver.try_recv().is_err());
}

#[tokio::test]
async fn a_collector_that_is_down_stops_nobody() {
    export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "500")]).await;
}

/// Records a root span and a run below it when started by the tests above; else does nothing.
#[tokio::test]
async fn the_exporting_side() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let telemetry = millstream_telemetry::init("millstream-test", "node-1");
    assert_eq!(spans::enabled(), std::env::var_os("MILLSTREAM_TEST_EXPECT").is_none());
    let trace = TRACE.parse().expect("a trace id");
    spans::record(Span {
        trace,
        id: RUN.parse().expect("a span id"),
        parent: Some(ROOT.parse().expect("a span id")),
        links: Vec::new(),
        kind: Kind::Consumer,
        name: "process http".into(),
        start: Timestamp::from_micros(1_763_648_712_000_345),
        end: Timestamp::from_micros(1_763_648_712_000_999),
        attributes: vec![("millstream.step.id", "fetch".into()), ("millstream.attempt", 2_u32.into())],
        error: Some("it broke".into()),
    });
    spans::record(Span {
        trace,
        id: ROOT.parse().expect("a span id"),
        parent: None,
        links: vec![format!("00-{TRACE}-{RUN}-01").parse().expect("a traceparent")],
        kind: Kind::Internal,
        name: "execute_workflow invoices".into(),
        start: Timestamp::from_millis(1_763_648_712_000),
        end: Timestamp::from_millis(1_763_648_713_000),
        attributes: Vec::new(),
        error: None,
    });
    telemetry.shutdown();
}

async fn check(protocol: &str, endpoint: &str, mut receiver: mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]).await;
    let request = receiver.try_recv().expect("the process has flushed before it ended");
    let group = &request.resource_spans[0];
    let resource = &group.resource.as_ref().expect("a resource").attributes;
    assert_eq!(text(resource, "service.name"), "millstream-test");
    assert_eq!(text(resource, "service.instance.id"), "node-1");
    let spans = &group.scope_spans[0].spans;
    let [run, root] = &spans[..] else { panic!("two spans, in the order they were recorded: {spans:?}") };
    assert_eq!(
        (hex(&run.trace_id), hex(&run.span_id), hex(&run.parent_span_id)),
        (TRACE.into(), RUN.into(), ROOT.into())
    );
    assert_eq!(
        (hex(&root.trace_id), hex(&root.span_id), hex(&root.parent_span_id)),
        (TRACE.into(), ROOT.into(), String::new())
    );
    assert_eq!((run.kind(), root.kind()), (SpanKind::Consumer, SpanKind::Internal));
    assert_eq!((run.name.as_str(), root.name.as_str()), ("process http", "execute_workflow invoices"));
    assert_eq!(run.start_time_unix_nano, 1_763_648_712_000_345_000);
    assert_eq!(run.end_time_unix_nano, 1_763_648_712_000_999_000);
    assert_eq!(text(&run.attributes, "millstream.step.id"), "fetch");
    assert_eq!(hex(&root.links[0].span_id), RUN);
    let status = |span: &Received| span.status.clone().map(|s| (s.code(), s.message)).unwrap_or_default();
    assert_eq!(status(run), (StatusCode::Error, "it broke".to_owned()));
    assert_eq!(status(root), (StatusCode::Unset, String::new()));
}

/// Runs the exporting side in a process with exactly this OTLP environment.
async fn export(environment: &[(&str, &str)]) {
    let inherited = std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("OTEL_"));
    let mut command = tokio::process::Command::new(std::env::current_exe().expect("this test"));
    command.args(["--exact", "the_exporting_side", "--nocapture"]).env_clear().envs(inherited);
    command.env(CHILD, "1").envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await;
    let output = output.expect("the process ends by itself").expect("this test starts once more");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("panicked"), "{}{said}", String::from_utf8_lossy(&output.stdout));
}

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.send(request.into_inner()).map_err(|_| tonic::Status::unavailable("the test is over"))?;
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn serve_http(listener: TcpListener, sender: mpsc::UnboundedSender<ExportTraceServiceRequest>) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Some(request) = read_request(stream).await {
            sender.send(request).expect("the test listens");
        }
    }
}

/// Reads one `POST /v1/traces` with a `content-length` and answers 200.
async fn read_request(mut stream: TcpStream) -> Option<ExportTraceServiceRequest> {
    let mut bytes = Vec::new();
    let (body, length) = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces "), "{head}");
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
        break (end + 4, length);
    };
    while bytes.len() < body + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).await.ok()?;
    ExportTraceServiceRequest::decode(&bytes[body..body + length]).ok()
}

fn text(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> String {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key} is {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
