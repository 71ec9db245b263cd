//! Metrics of a running server: complete, documented, and right about sinks that fail.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_test_support::{HttpClient, HttpEndpoint, http_response};

use crate::job;
use crate::redirects::serving;
use crate::server::{Server, forebay, forebay_with, run, wait_for};

/// Value of the series with this name and these labels.
fn value(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = metrics.lines().find(|line| {
        let series = line.rsplit_once(' ').map_or("", |(series, _)| series);
        let (found, rest) = series.split_once('{').unwrap_or((series, ""));
        found == name && labels.iter().all(|label| rest.contains(label))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

fn metrics(server: &Server) -> String {
    server.get("/metrics").1
}

const SINK: [&str; 3] = ["project=\"1\"", "source=\"events\"", "sink=\"events\""];

#[test]
fn series_exist_from_the_start_and_all_of_them_are_documented() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let path = server.define();
    let zero = |name: &str, labels: &[&str]| {
        wait_for(name, || {
            value(&metrics(&server), name, labels).filter(|v| *v == 0.0)
        });
    };
    zero("forebay_imports_total", &[]);
    zero("forebay_rows_failed_total", &[]);
    zero("forebay_http_rejected_total", &["cause=\"quotaExceeded\""]);
    zero("forebay_http_requests_total", &["status=\"503\""]);
    zero("forebay_sinks", &["state=\"failing\""]);
    zero(
        "forebay_source_rows_total",
        &["source=\"events\"", "outcome=\"rejected\""],
    );
    for step in ["upload", "import"] {
        let step = format!("step=\"{step}\"");
        zero(
            "forebay_sink_failures_total",
            &[&SINK[..], &[&step]].concat(),
        );
        zero("forebay_sink_failing", &[&SINK[..], &[&step]].concat());
    }
    server.post(&path, "{\"n\": 1}");
    server.settled("events", "events", 1);
    let imported = [&SINK[..], &["outcome=\"imported\""]].concat();
    let shown = wait_for("the imported record", || {
        let shown = metrics(&server);
        (value(&shown, "forebay_sink_records_total", &imported) == Some(1.0)).then_some(shown)
    });
    values_are_right(&shown);
    all_are_documented(&shown);
    public_series_name_no_project(&server);
}

fn values_are_right(shown: &str) {
    for (name, labels, expected) in [
        ("forebay_sink_pending_records", &SINK[..], 0.0),
        ("forebay_sink_lag_seconds", &SINK[..], 0.0),
        ("forebay_sink_unbalanced", &SINK[..], 0.0),
        ("forebay_sinks", &["state=\"ok\""], 1.0),
        ("forebay_source_rows_total", &["outcome=\"accepted\""], 1.0),
        ("forebay_source_body_bytes_total", &[], 8.0),
        ("forebay_volume_latched", &[], 0.0),
        (
            "forebay_staging_calls_total",
            &["operation=\"write\"", "outcome=\"ok\""],
            1.0,
        ),
        (
            "forebay_staging_calls_total",
            &["operation=\"read\"", "outcome=\"failed\""],
            0.0,
        ),
        (
            "forebay_tasks_total",
            &["kind=\"api.create.source\"", "outcome=\"success\""],
            1.0,
        ),
        ("forebay_tasks_running", &[], 0.0),
        ("forebay_template_queued_records", &[], 0.0),
        ("forebay_templates_blocked", &[], 0.0),
        ("forebay_store_latched", &[], 0.0),
    ] {
        assert_eq!(
            value(shown, name, labels),
            Some(expected),
            "{name}\n{shown}"
        );
    }
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
        "forebay_process_disk_written_bytes_total",
        "forebay_volume_free_bytes",
        "forebay_volume_size_bytes",
        "forebay_volume_sync_seconds_count",
        "forebay_ack_seconds_count",
    ] {
        assert!(
            value(shown, name, &[]).is_some_and(|v| v > 0.0),
            "{name}\n{shown}"
        );
    }
}

fn all_are_documented(shown: &str) {
    let reference = forebay_with(&["reference", "metrics"]).stdout;
    let mut kinds = 0;
    for line in shown.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let documented = format!("| `{name}` | {kind} |");
        assert!(reference.contains(&documented), "{line} is not documented");
        kinds += 1;
    }
    assert!(kinds > 50, "{kinds}");
}

fn public_series_name_no_project(server: &Server) {
    // Without a token nothing about a project is shown.
    let response = HttpClient::new(server.api)
        .send("GET", "/metrics", &[], b"")
        .unwrap();
    let public = String::from_utf8(response.body).unwrap();
    assert!(public.contains("forebay_rows_accepted_total 1"), "{public}");
    assert!(!public.contains("events"), "{public}");
}

const TOPIC: &str =
    "sources: [{ name: events, sinks: [{ name: hooks, http: { provider: hook } }] }]";

#[test]
fn a_failing_sink_is_reported_once_and_so_is_its_recovery() {
    let is_open = Arc::new(AtomicBool::new(false));
    let opens = Arc::clone(&is_open);
    let endpoint = HttpEndpoint::start(move |_, _| match opens.load(Ordering::Relaxed) {
        true => http_response("200 OK", ""),
        false => http_response("503 Service Unavailable", ""),
    });
    let dir = tempfile::tempdir().unwrap();
    let server = serving(dir.path(), &endpoint.url("/in"), TOPIC);
    let path = server.path("events");
    server.post(&path, "{\"n\": 1}");
    let hooks = ["source=\"events\"", "sink=\"hooks\""];
    let delivers = [&hooks[..], &["step=\"deliver\""]].concat();
    let shown = wait_for("the failure", || {
        let shown = metrics(&server);
        (value(&shown, "forebay_sink_failing", &delivers) == Some(1.0)).then_some(shown)
    });
    assert_eq!(
        value(&shown, "forebay_sinks", &["state=\"failing\""]),
        Some(1.0)
    );
    assert_eq!(
        value(&shown, "forebay_sink_pending_records", &hooks),
        Some(1.0)
    );
    assert!(
        value(
            &shown,
            "forebay_sink_oldest_pending_timestamp_seconds",
            &hooks
        ) > Some(1e9)
    );
    assert!(
        value(
            &shown,
            "forebay_sink_failing_since_timestamp_seconds",
            &hooks
        ) > Some(1e9)
    );
    let line = server.logged("WARN", "sink failing");
    assert!(
        line.contains("events/hooks") && line.contains("503"),
        "{line}"
    );
    status_names_the_failure(&server);
    is_open.store(true, Ordering::Relaxed);
    let line = server.logged("INFO", "sink recovered");
    assert!(
        line.contains("events/hooks") && line.contains("duration"),
        "{line}"
    );
    let failing = server.log().matches("sink failing").count();
    assert_eq!(failing, 1, "{}", server.log());
    let healthy = server.ok(&["status", "--json"]);
    let healthy: serde_json::Value = serde_json::from_str(&healthy).unwrap();
    assert_eq!(healthy["healthy"], true);
    assert_eq!(healthy["sinks"][0]["imported"], 1);
    let shown = metrics(&server);
    assert_eq!(value(&shown, "forebay_sink_failing", &delivers), Some(0.0));
    assert_eq!(value(&shown, "forebay_sink_lag_seconds", &hooks), Some(0.0));
}

fn status_names_the_failure(server: &Server) {
    let status = run(&mut server.command(&["status"]));
    assert_eq!(status.code, Some(1), "{status:?}");
    for part in [
        "NOT HEALTHY: 1 sink needs attention",
        "events/hooks",
        "FAILING",
        "deliver has failed",
        "cause: ",
        "503",
        "volume ",
    ] {
        assert!(status.stdout.contains(part), "{part}: {status:?}");
    }
}

#[test]
fn jobs_and_buffers_show_metrics_in_a_file_and_on_a_port() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("a.jsonl"), job::lines(10)).unwrap();
    let definition = job::job(dir.path(), "{ type: files, paths: ['*.jsonl'] }");
    let ended = forebay_with(&[
        "job",
        "run",
        &definition,
        "--metrics-file",
        &file("job.prom"),
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let shown = std::fs::read_to_string(file("job.prom")).unwrap();
    for (name, labels, expected) in [
        (
            "forebay_job_records_total",
            &["outcome=\"written\""][..],
            10.0,
        ),
        ("forebay_job_records_total", &["outcome=\"dead\""], 0.0),
        ("forebay_job_running", &["job=\"job\""], 0.0),
        ("forebay_job_success", &[], 1.0),
    ] {
        assert_eq!(
            value(&shown, name, labels),
            Some(expected),
            "{name}\n{shown}"
        );
    }
    assert!(value(&shown, "forebay_job_end_timestamp_seconds", &[]).unwrap() > 1e9);

    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut command = forebay();
    command.args(["buffer", "send", "--topic", "t", "--dir", &file("buffer")]);
    command.args([
        "--file",
        &file("out"),
        "--metrics-file",
        &file("buffer.prom"),
    ]);
    command.args(["--metrics-listen", &address.to_string()]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"1\n2\n3\n").unwrap();
    let delivered = ["partition=\"t\"", "outcome=\"delivered\""];
    let is_delivered =
        |shown: &str| value(shown, "forebay_buffer_messages_total", &delivered) == Some(3.0);
    wait_for("the messages on the port", || {
        let response = HttpClient::new(address)
            .send("GET", "/metrics", &[], b"")
            .ok()?;
        is_delivered(&String::from_utf8(response.body).unwrap()).then_some(())
    });
    // The end of the input ends the command.
    drop(input);
    assert!(child.wait().unwrap().success());
    let shown = std::fs::read_to_string(file("buffer.prom")).unwrap();
    assert!(is_delivered(&shown), "{shown}");
    for name in [
        "forebay_buffer_waiting_messages",
        "forebay_buffer_failing",
        "forebay_buffer_disk_failed",
    ] {
        assert_eq!(value(&shown, name, &[]), Some(0.0), "{name}\n{shown}");
    }
}
