//! A whole node with a jumping clock: acknowledged records are still imported, without delay.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use forebay_api::source::SourceView;
use forebay_control::auth::{ConfiguredTokens, TokenConfig};
use forebay_model::Timestamp;
use serde_json::json;

use super::*;
use crate::api_client::{ApiClient, SOURCES};
use crate::clock::SystemClock;
use crate::config::{self, ConfigSources};

const DAY_MILLIS: i64 = 86_400_000;
const TOKEN: &str = "1-token-of-the-test";
/// Far less than a day, but more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The system clock plus an offset.
#[derive(Debug, Default)]
struct JumpingClock(AtomicI64);

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        let off = self.0.load(Ordering::SeqCst);
        Timestamp::from_millis(SystemClock.now().as_millis() + off)
    }
}

async fn start(dir: &Path, clock: Arc<JumpingClock>) -> RunningNode {
    let flags = [
        ("dataDir", dir.to_str().unwrap()),
        ("api.listen", "127.0.0.1:0"),
        ("source.http.listen", "127.0.0.1:0"),
    ];
    let flags = flags.map(|(key, value)| ("the test", key.to_owned(), value.to_owned()));
    let sources = ConfigSources {
        flags: flags.to_vec(),
        ..ConfigSources::default()
    };
    let config = config::load(&sources).unwrap().config;
    let own = TokenConfig {
        id: "main".to_owned(),
        project: 1,
        branch: 1,
        description: String::new(),
        admin: true,
        operator: false,
        owner_id: None,
        owner_name: None,
        sha256: ConfiguredTokens::hash(TOKEN.as_bytes()),
    };
    let auth = ConfiguredTokens::new(&[own]).unwrap();
    let environment = Environment::default();
    let node = RunningNode::start(&config, &environment, clock, auth, None);
    Box::pin(node).await.unwrap()
}

fn api(node: &RunningNode) -> ApiClient {
    ApiClient::for_address(&format!("http://{}", node.api), TOKEN).unwrap()
}

/// Creates a source with one sink; returns its URL.
async fn define(api: &ApiClient) -> String {
    let source = json!({"type": "http", "name": "Clock", "sourceId": "clock"});
    api.run_task(reqwest::Method::POST, SOURCES, Some(&source))
        .await
        .unwrap();
    let sink = json!({"type": "table", "name": "n", "sinkId": "n", "table": {"type": "keboola",
        "tableId": "in.clock.n", "mapping": {"columns": [{"type": "path", "name": "n", "path": "n"}]}}});
    let sinks = format!("{SOURCES}/clock/sinks");
    api.run_task(reqwest::Method::POST, &sinks, Some(&sink))
        .await
        .unwrap();
    let source: SourceView = api.get(&format!("{SOURCES}/clock")).await.unwrap();
    source.http.unwrap().url
}

#[expect(
    clippy::disallowed_methods,
    reason = "an ordinary sender, not Forebay's client"
)]
async fn post(url: &str, records: u64) {
    let http = reqwest::Client::new();
    for n in 0..records {
        let request = http.post(url).json(&json!({"n": n}));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

/// Waits until that many records are in the table and none is in flight.
async fn imported(api: &ApiClient, records: u64, when: &str) {
    let path = format!("{SOURCES}/clock/sinks/n/statistics/reconciliation");
    let mut balance = serde_json::Value::Null;
    let settled = async {
        loop {
            balance = api.get(&path).await.unwrap();
            if balance["imported"] == records && balance["inFlight"] == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, settled).await;
    assert!(in_time.is_ok(), "{when}: {records} expected, {balance}");
    assert_eq!(balance["holds"], true, "{when}: {balance}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_a_day_forward_or_back_delays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(JumpingClock::default());
    let node = start(dir.path(), Arc::clone(&clock)).await;
    let client = api(&node);
    let url = define(&client).await;
    post(&url, 5).await;
    imported(&client, 5, "before").await;
    let jumps = [
        ("a day forwards", DAY_MILLIS),
        ("a day back", 0),
        ("another day back", -DAY_MILLIS),
    ];
    let mut all = 5;
    for (when, off) in jumps {
        // Records of one slice before and after the jump.
        post(&url, 5).await;
        clock.0.store(off, Ordering::SeqCst);
        post(&url, 5).await;
        all += 10;
        imported(&client, all, when).await;
        // The next slice starts with the new clock.
        post(&url, 5).await;
        all += 5;
        imported(&client, all, when).await;
    }
    // Also while the process is down: its files were opened in the future.
    post(&url, 5).await;
    assert!(node.stop(PATIENCE).await);
    clock.0.store(-2 * DAY_MILLIS, Ordering::SeqCst);
    let node = start(dir.path(), clock).await;
    imported(&api(&node), all + 5, "a day back while it was down").await;
    assert!(node.stop(PATIENCE).await);
}
