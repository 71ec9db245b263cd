//! Quotas as clients and operators see them.

use std::time::Duration;

use forebay_ingest::dispatch::{BranchRoute, RouteTable};
use forebay_ingest::quota::LimiterRegistry;
use forebay_ingest::source::http::HttpSourceConfig;
use forebay_model::quota::{ProjectQuota, QuotaOverrides, Quotas, SourceQuota};
use forebay_model::{ByteSize, ColumnKind, HumanDuration, ProjectId};
use serde_json::json;
use tokio::time::Instant;

use crate::client::{Answer, post};
use crate::node::{Machine, stamp};
use crate::world::{SECRET, World, config, stream};

const NOTHING: Quotas = Quotas {
    window: HumanDuration::secs(1),
    source: SourceQuota::NONE,
    project: ProjectQuota::NONE,
};

/// A source with these quotas; time is paused while there is anything to do.
async fn limited(config: HttpSourceConfig, quotas: Quotas) -> World {
    let world = World::timed(config).await;
    let limiters = LimiterRegistry::new(quotas);
    let branch = BranchRoute {
        key: world.sinks[0].key().source.clone(),
        disabled: false,
        verifier: None,
        handshakes: {
            let mut handshakes = forebay_model::HandshakeSettings::default();
            handshakes.set_names(&["dropbox".to_owned()]);
            handshakes
        },
        sinks: world.sinks.clone(),
    };
    let mut builder = limiters.builder();
    world.dispatcher.set_table(RouteTable::with_limiters(
        [(SECRET.to_owned(), branch)],
        |project, source| {
            builder.source_limiter(project, source, quotas.source, &QuotaOverrides::default())
        },
    ));
    world
}

fn requests(per_second: u64) -> Quotas {
    let source = SourceQuota {
        requests_per_second: per_second,
        ..SourceQuota::NONE
    };
    Quotas { source, ..NOTHING }
}

fn bytes(per_second: u64) -> Quotas {
    let source = SourceQuota {
        bytes_per_second: ByteSize(per_second),
        ..SourceQuota::NONE
    };
    Quotas { source, ..NOTHING }
}

#[track_caller]
fn is_over(answer: &Answer, status: u16, message: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["statusCode"], status);
    assert_eq!(body["error"], "stream.in.quotaExceeded");
    let rest = " is used up. Nothing of this request was stored, send it again later.";
    assert_eq!(body["message"], format!("{message}{rest}"));
}

fn retry_after(answer: &Answer) -> Duration {
    Duration::from_secs(answer.header("retry-after").unwrap().parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn requests_over_the_quota_are_told_when_to_retry_and_store_nothing() {
    let w = limited(config(), requests(3)).await;
    let mut client = w.client().await;
    for left in (0..3).rev() {
        let answer = client.post(&stream(), "{}").await;
        assert_eq!(answer.status, 200);
        let shown = format!("\"source-requests\";r={left};t=1");
        assert_eq!(answer.header("ratelimit"), Some(shown.as_str()));
        let policy = answer.header("ratelimit-policy");
        assert_eq!(policy, Some("\"source-requests\";q=3;w=1"));
    }
    let answer = client.post(&stream(), "{}").await;
    is_over(&answer, 429, "The source's quota of 3 requests a second");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.header("ratelimit"),
        Some("\"source-requests\";r=0;t=1")
    );
    // A client that waits as told is served, on the same connection.
    tokio::time::sleep(retry_after(&answer)).await;
    assert_eq!(client.post(&stream(), "{}").await.status, 200);
    assert_eq!(w.rows("k").await.len(), 4);
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_counts_as_a_request() {
    let w = limited(config(), requests(2)).await;
    let mut client = w.client().await;
    let ask = format!("GET {}?challenge=1 HTTP/1.1\r\nHost: t\r\n\r\n", stream());
    for left in (0..2).rev() {
        let answer = client.send(ask.as_bytes()).await;
        let shown = format!("\"source-requests\";r={left};t=1");
        assert_eq!((answer.status, answer.text()), (200, "1"));
        assert_eq!(answer.header("ratelimit"), Some(shown.as_str()));
    }
    let answer = client.send(ask.as_bytes()).await;
    is_over(&answer, 429, "The source's quota of 2 requests a second");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ignores_429_gets_the_rate_and_is_throttled() {
    let w = limited(config(), requests(3)).await;
    let mut client = w.client().await;
    let begun = Instant::now();
    let (mut accepted, mut rejected) = (0, 0);
    while begun.elapsed() < Duration::from_secs(20) {
        match client.post(&stream(), "{}").await.status {
            200 => accepted += 1,
            _ => rejected += 1,
        }
    }
    assert!((3 * 20..=3 * 22).contains(&accepted), "{accepted}");
    // Between two that are accepted there is time for three delays.
    assert!(
        rejected <= 5 * accepted,
        "{rejected} rejected, {accepted} accepted"
    );
    assert_eq!(w.rows("k").await.len(), accepted);
}

#[tokio::test(start_paused = true)]
async fn bodies_are_paid_for_before_they_are_read() {
    let w = limited(config(), bytes(1000)).await;
    let mut client = w.client().await;
    let send = async |client: &mut crate::client::Client, size: usize| {
        client.send(&post(&stream(), "", &vec![b'x'; size])).await
    };
    assert_eq!(send(&mut client, 400).await.status, 200);
    // What exceeds the rest of the quota is admitted, and owed.
    assert_eq!(send(&mut client, 2600).await.status, 200);
    let answer = send(&mut client, 1).await;
    is_over(&answer, 429, "The source's quota of 1000B a second");
    assert_eq!(retry_after(&answer), Duration::from_secs(3));
    // A client that sends `Expect` is told at once.
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        stream()
    );
    let mut asking = w.client().await;
    assert_eq!(asking.send(head.as_bytes()).await.status, 429);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(send(&mut client, 1).await.status, 200);
    // Batches count by their bytes.
    let batch = format!("[{}]", vec!["{}"; 900].join(","));
    let path = format!("{}?batch=true", stream());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(client.post(&path, &batch).await.status, 200);
    assert_eq!(client.post(&path, "[{}]").await.status, 429);
    assert_eq!(w.rows("k").await.len(), 903);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_undeclared_length_pays_as_it_arrives() {
    let mut config = config();
    config.max_request_body_size = ByteSize(2000);
    let w = limited(config, bytes(1000)).await;
    let chunked = |size: usize, times: usize| {
        let mut request = format!(
            "POST {} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n",
            stream()
        );
        for _ in 0..times {
            request.push_str(&format!("{size:x}\r\n{}\r\n", "x".repeat(size)));
        }
        request.push_str("0\r\n\r\n");
        request
    };
    // One body may owe as much as the maximum of a body.
    let mut client = w.client().await;
    assert_eq!(client.send(chunked(500, 4).as_bytes()).await.status, 200);
    let answer = client.send(chunked(1, 1).as_bytes()).await;
    is_over(&answer, 429, "The source's quota of 1000B a second");
    assert!(client.is_closed().await, "its body was not read");
    tokio::time::sleep(retry_after(&answer)).await;
    let mut client = w.client().await;
    assert_eq!(client.send(chunked(1, 1).as_bytes()).await.status, 200);
    assert_eq!(w.rows("k").await.len(), 2);
    assert_eq!(w.limiter.held(), 0);
}

#[tokio::test]
async fn connections_count_for_the_project_of_their_last_request() {
    let project = ProjectQuota {
        connections: 2,
        ..ProjectQuota::NONE
    };
    let w = limited(config(), Quotas { project, ..NOTHING }).await;
    let (mut a, mut b) = (w.client().await, w.client().await);
    // Without a request, a connection counts for no project.
    let _silent = w.client().await;
    assert_eq!(a.post(&stream(), "{}").await.status, 200);
    assert_eq!(b.post(&stream(), "{}").await.status, 200);
    let mut c = w.client().await;
    let answer = c.post(&stream(), "{}").await;
    is_over(&answer, 429, "The project's quota of 2 open connections");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(c.is_closed().await);
    assert_eq!(a.post(&stream(), "{}").await.status, 200);
    drop(a);
    loop {
        let mut d = w.client().await;
        if d.post(&stream(), "{}").await.status == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn connections_of_one_client() {
    let mut config = config();
    config.max_connections_per_client = 2;
    let w = World::bodies(config).await;
    let (mut a, mut b) = (w.client().await, w.client().await);
    assert_eq!(a.post(&stream(), "{}").await.status, 200);
    assert_eq!(b.post(&stream(), "{}").await.status, 200);
    let answer = w.client().await.answer().await.unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    drop(b);
    loop {
        let mut c = w.client().await;
        c.write(&post(&stream(), "", b"{}")).await;
        match c.answer().await.map(|a| a.status) {
            Some(200) => break,
            Some(503) | None => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
}

/// Posts until the response has that status.
async fn until(node: &crate::node::Node, status: u16) -> Answer {
    let mut client = node.client().await;
    loop {
        let answer = client.post(&stream(), "{}").await;
        if answer.status == status {
            return answer;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn quotas_change_while_the_node_runs() {
    let mut machine = Machine::new();
    machine.quotas = NOTHING;
    let mut node = machine.start().await;
    node.create_source().await;
    node.create_sink("k", &[ColumnKind::Body]).await;
    assert_eq!(until(&node, 200).await.header("ratelimit-policy"), None);
    let set = async |own: QuotaOverrides| {
        let project = ProjectId(1);
        node.repo.set_quota(project, &own, &stamp()).await.unwrap();
    };
    let own = QuotaOverrides {
        requests_per_second: Some(1),
        ..QuotaOverrides::default()
    };
    set(own).await;
    let over = until(&node, 429).await;
    is_over(&over, 429, "The project's quota of 1 requests a second");
    set(QuotaOverrides::default()).await;
    while until(&node, 200).await.header("ratelimit-policy").is_some() {}
    // A source can have its own.
    let key = "1/2/s".parse().unwrap();
    let quota = "source.quota.requestsPerSecond";
    let update = async |value: Option<u64>| {
        let stamp = stamp();
        let changed = node.repo.update_source(&key, "Quota.", &stamp, |content| {
            match value {
                Some(n) => content.settings.insert(quota.to_owned(), json!(n)),
                None => content.settings.remove(quota),
            };
            Ok(())
        });
        changed.await.unwrap();
    };
    update(Some(1)).await;
    let over = until(&node, 429).await;
    is_over(&over, 429, "The source's quota of 1 requests a second");
    update(None).await;
    while until(&node, 200).await.header("ratelimit-policy").is_some() {}
    machine.stop(node).await;
}

#[tokio::test]
async fn a_project_over_its_disk_quota_is_rejected_also_after_a_restart() {
    let mut machine = Machine::new();
    machine.quotas.project.disk_bytes = ByteSize(1);
    let mut node = machine.start().await;
    node.create_source().await;
    node.create_sink("k", &[ColumnKind::Body]).await;
    assert_eq!(until(&node, 200).await.status, 200);
    node.disk.measure();
    let answer = node.client().await.post(&stream(), "{}").await;
    is_over(&answer, 503, "The project's quota of 1B on disk");
    assert_eq!(retry_after(&answer), Duration::from_secs(10));
    machine.stop(node).await;
    let node = machine.start().await;
    // Until it has reconciled, the node knows no source.
    let mut client = node.client().await;
    let first = loop {
        let answer = client.post(&stream(), "{}").await;
        if answer.status != 404 {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    is_over(&first, 503, "The project's quota of 1B on disk");
    // A larger quota takes effect at once.
    let own = QuotaOverrides {
        disk_bytes: Some(ByteSize::mb(1)),
        ..QuotaOverrides::default()
    };
    let project = ProjectId(1);
    node.repo.set_quota(project, &own, &stamp()).await.unwrap();
    until(&node, 200).await;
    machine.stop(node).await;
}

#[tokio::test(start_paused = true)]
async fn the_decoded_size_of_a_body_is_paid_for_as_if_it_had_been_sent() {
    use std::io::Write;
    let w = limited(config(), bytes(100_000)).await;
    let mut client = w.client().await;
    for becomes in [50_000, 200_000] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b'1'; becomes]).unwrap();
        let body = encoder.finish().unwrap();
        assert!(body.len() < 1000);
        let header = "Content-Encoding: gzip\r\n";
        assert_eq!(
            client.send(&post(&stream(), header, &body)).await.status,
            200
        );
    }
    // A quarter of a megabyte is owed, less the window's allowance.
    let answer = client.send(&post(&stream(), "", b"1")).await;
    is_over(&answer, 429, "The source's quota of 100000B a second");
    assert_eq!(retry_after(&answer), Duration::from_secs(2));
    assert_eq!(w.rows("k").await.len(), 2);
}
