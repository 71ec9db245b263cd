//! Export of metrics and traces by OTLP, to a receiver that decodes them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_test_support::{HttpEndpoint, http_response};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::server::{Server, forebay_with, wait_for};

/// Value of a sum without labels in the newest export.
fn sum(receiver: &HttpEndpoint, name: &str) -> Option<f64> {
    let requests = receiver.requests();
    let newest = requests
        .iter()
        .rfind(|r| r.line == "POST /otel/v1/metrics")?;
    let request = ExportMetricsServiceRequest::decode(&*newest.bytes).unwrap();
    let resource = &request.resource_metrics[0];
    let metrics = &resource.scope_metrics[0].metrics;
    let Some(Data::Sum(sum)) = &metrics.iter().find(|m| m.name == name)?.data else {
        panic!("{name} is no sum");
    };
    match sum.data_points[0].value? {
        Value::AsDouble(value) => Some(value),
        Value::AsInt(_) => None,
    }
}

fn spans(receiver: &HttpEndpoint) -> Vec<Span> {
    let requests = receiver.requests();
    let traces = requests
        .iter()
        .filter(|r| r.line == "POST /otel/v1/traces")
        .map(|r| ExportTraceServiceRequest::decode(&*r.bytes).unwrap());
    traces
        .flat_map(|t| t.resource_spans)
        .flat_map(|r| r.scope_spans)
        .flat_map(|s| s.spans)
        .collect()
}

#[test]
fn metrics_and_spans_of_a_record_reach_the_receiver() {
    let receiver = HttpEndpoint::start(|_, _| http_response("200 OK", ""));
    let endpoint = format!("telemetry.otlp.endpoint={}", receiver.url("/otel/"));
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        "--set",
        &endpoint,
        "--set",
        "telemetry.otlp.headers=api-key=hush",
        "--set",
        "telemetry.otlp.tracePercent=100",
        "--set",
        "telemetry.otlp.interval=1s",
    ];
    let server = Server::start_with(dir.path(), &settings);
    let path = server.define();
    server.post(&path, "{\"n\": 1}");
    server.settled("events", "events", 1);
    wait_for("the exported record", || {
        (sum(&receiver, "forebay_imported_rows_total") == Some(1.0)).then_some(())
    });
    let wanted: BTreeSet<&str> = [
        "commit",
        "import",
        "request",
        "task",
        "transaction",
        "upload",
    ]
    .into();
    let spans = wait_for("all spans", || {
        let spans = spans(&receiver);
        let names: BTreeSet<&str> = spans.iter().map(|s| &*s.name).collect();
        names.is_superset(&wanted).then(|| spans.clone())
    });
    let request = spans.iter().find(|s| s.name == "request").unwrap();
    let source = request.attributes.iter().find(|a| a.key == "source");
    assert!(format!("{source:?}").contains("events"), "{request:?}");
    assert!(request.end_time_unix_nano > request.start_time_unix_nano);
    let secret = path.rsplit('/').next().unwrap();
    for request in receiver.requests() {
        assert!(request.has("api-key: hush"), "{request:?}");
        assert!(request.has("content-type: application/x-protobuf"));
        assert!(!request.body.contains(secret), "the secret was exported");
    }
    // Children have their parent's trace.
    let nested = spans.iter().find(|s| !s.parent_span_id.is_empty()).unwrap();
    let parent = spans.iter().find(|s| s.span_id == nested.parent_span_id);
    assert_eq!(parent.map(|p| &p.trace_id), Some(&nested.trace_id));
}

#[test]
fn a_receiver_that_fails_is_reported_once_and_stops_nothing() {
    let is_up = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&is_up);
    let receiver = HttpEndpoint::start(move |_, _| match state.load(Ordering::Relaxed) {
        true => http_response("200 OK", ""),
        false => http_response("503 Service Unavailable", ""),
    });
    let endpoint = format!("telemetry.otlp.endpoint={}", receiver.url(""));
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(
        dir.path(),
        &["--set", &endpoint, "--set", "telemetry.otlp.interval=1s"],
    );
    let line = server.logged("WARN", "exporting by OTLP fails");
    assert!(line.contains("503"), "{line}");
    let path = server.define();
    server.post(&path, "{\"n\": 1}");
    server.settled("events", "events", 1);
    let failed = "forebay_otlp_exports_total{signal=\"metrics\",outcome=\"failed\"}";
    assert!(server.get("/metrics").1.contains(failed));
    is_up.store(true, Ordering::Relaxed);
    server.logged("INFO", "exporting by OTLP succeeds again");
}

#[test]
fn bad_settings_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    for (setting, said) in [
        (
            "endpoint=collector:4318",
            "telemetry.otlp.endpoint is no URL, allowed are http://",
        ),
        (
            "headers=hush",
            "telemetry.otlp.headers is not valid, allowed is name=value",
        ),
        (
            "tracePercent=101",
            "telemetry.otlp.tracePercent is 101, allowed is 0 to 100",
        ),
    ] {
        let setting = format!("telemetry.otlp.{setting}");
        let ended = forebay_with(&["serve", "--data-dir", data, "--set", &setting]);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        assert!(!ended.stderr.contains("hush"), "{}", ended.stderr);
    }
}
