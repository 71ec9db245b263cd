//! The HTTP API source and the stages after it.

use std::time::{Duration, Instant};

use forebay_jobs::{JobFailure, JobOutcome};
use forebay_test_support::poll_until;
use serde_json::{Value, json};

use crate::apis::{Fault, Messages, PostApi};
use crate::world::{World, dead};

fn echo(record: Value) -> String {
    record.to_string()
}

fn processed(mut record: Value) -> String {
    record["processed"] = json!(true);
    record.to_string()
}

fn into_http(source: &str, extra: &str, storage: &str) -> String {
    format!(
        "source:\n  type: http_api\n  baseUrl: {source}\n  errorWait: 5ms\n  emptyPageWait: 20ms\n{extra}\n\
         destination:\n  type: http\n  url: {storage}\n  retry: {{ wait: 5ms }}\n"
    )
}

fn into_table(source: &str, extra: &str) -> String {
    format!(
        "source:\n  type: http_api\n  baseUrl: {source}\n  errorWait: 5ms\n  emptyPageWait: 5ms\n{extra}\n\
         destination:\n  type: table\n  store: {{ type: sqlite, path: rows.db }}\n  table: products\n  columns:\n\
         \x20   - {{ name: id, type: integer, key: true }}\n    - {{ name: name }}\n"
    )
}

const UNTIL_EMPTY: &str = "  until: { emptyPage: true }\n";

#[tokio::test]
async fn each_record_passes_processing_and_storage_once() {
    let world = World::new();
    let api = Messages::with(250, 40);
    let (work, storage) = (PostApi::new(processed), PostApi::new(echo));
    let processing = format!(
        "{UNTIL_EMPTY}processing: {{ url: {}, workers: 4 }}",
        work.serve().await
    );
    let definition = world.define(&into_http(
        &api.serve().await,
        &processing,
        &storage.serve().await,
    ));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(end, JobOutcome::Complete);
    assert_eq!(storage.ids(), (0..250).collect::<Vec<_>>());
    assert!(
        storage
            .accepted
            .lock()
            .unwrap()
            .iter()
            .all(|r| r["processed"] == true)
    );
    assert_eq!(
        (summary.read, summary.processed, summary.written),
        (250, 250, 250)
    );
    assert_eq!(api.cursors(), [0, 40, 80, 120, 160, 200, 240, 250]);
    // The next run resumes after the last page.
    let (end, summary) = world.run(&definition).await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 0));
    api.records.lock().unwrap().push(json!({ "id": 250 }));
    let (_, summary) = world.run(&definition).await;
    assert_eq!((summary.read, storage.count()), (1, 251));
}

#[tokio::test]
async fn rows_of_an_api_are_in_the_table() {
    let world = World::new();
    let api = Messages::with(500, 100);
    let definition = world.define(&into_table(&api.serve().await, UNTIL_EMPTY));
    let (end, summary) = world.run(&definition).await;
    assert_eq!((end, summary.written), (JobOutcome::Complete, 500));
    assert_eq!(world.number("SELECT count(*) FROM products"), 500);
    assert_eq!(
        world.number("SELECT count(*) FROM products WHERE name = 'n' || id"),
        500
    );
}

#[tokio::test]
async fn a_failed_page_is_requested_again_after_a_wait() {
    let world = World::new();
    let api = Messages::with(30, 10);
    for fault in [
        Fault::Status(500, "oops"),
        Fault::Html,
        Fault::RetryAfter("0"),
        Fault::RetryAfter("Sat, 01 Jan 2000 00:00:00 GMT"),
        Fault::Status(404, "gone?"),
    ] {
        api.fault(fault);
    }
    let definition = world.define(&into_table(&api.serve().await, UNTIL_EMPTY));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(
        (end, summary.written, summary.retries),
        (JobOutcome::Complete, 30, 5)
    );
    assert_eq!(api.cursors(), [0, 0, 0, 0, 0, 0, 10, 20, 30]);
}

#[tokio::test]
async fn a_job_gives_up_after_the_configured_failures() {
    let world = World::new();
    let api = Messages::with(30, 10);
    *api.always.lock().unwrap() = Some(Fault::Html);
    let extra = format!("{UNTIL_EMPTY}  giveUpAfter: 4");
    let definition = world.define(&into_table(&api.serve().await, &extra));
    let (end, _) = world.run(&definition).await;
    let JobOutcome::Failed(JobFailure::Source(text)) = end else {
        panic!("{end:?}")
    };
    assert!(
        text.contains("failed 4 times") && text.contains("Maintenance"),
        "{text}"
    );
    assert_eq!(api.requests(), 4);
}

#[tokio::test]
async fn a_retry_after_limits_requests_to_an_api_that_always_returns_429() {
    let world = World::new();
    let api = Messages::with(30, 10);
    *api.always.lock().unwrap() = Some(Fault::RetryAfter("3600"));
    let definition = world.define(&into_table(&api.serve().await, UNTIL_EMPTY));
    let job = world.start(&definition);
    poll_until("the first request", || api.requests() == 1).await;
    // The job waits for an hour, and ends immediately when stopped.
    job.stop.cancel();
    let (end, _) = job.end().await;
    assert_eq!((end, api.requests()), (JobOutcome::Stopped, 1));
}

#[tokio::test]
async fn a_cursor_loop_is_detected_and_nothing_is_read_twice() {
    let world = World::new();
    let api = Messages::with(30, 10);
    for next in [10, 20, 10] {
        api.fault(Fault::NextCursor(next));
    }
    let definition = world.define(&into_table(&api.serve().await, UNTIL_EMPTY));
    for _ in 0..2 {
        let (end, _) = world.run(&definition).await;
        let JobOutcome::Failed(JobFailure::Source(text)) = end else {
            panic!("{end:?}")
        };
        assert!(text.contains("the API loops"), "{text}");
    }
    assert_eq!(
        api.cursors(),
        [0, 10, 20],
        "the second run makes no request"
    );
    assert_eq!(world.number("SELECT count(*) FROM products"), 30);
}

#[tokio::test]
async fn a_page_with_its_own_cursor_is_detected() {
    let world = World::new();
    let api = Messages::with(30, 10);
    api.fault(Fault::NextCursor(10));
    *api.always.lock().unwrap() = Some(Fault::NextCursor(10));
    let definition = world.define(&into_table(&api.serve().await, UNTIL_EMPTY));
    let (end, _) = world.run(&definition).await;
    assert!(
        matches!(end, JobOutcome::Failed(JobFailure::Source(_))),
        "{end:?}"
    );
    assert_eq!(world.number("SELECT count(*) FROM products"), 20);
}

#[tokio::test]
async fn no_request_is_made_while_all_consumers_are_busy() {
    let world = World::new();
    let api = Messages::with(1000, 2);
    let storage = PostApi::new(echo);
    // Requests of the storage API hang.
    let held = storage.permits.acquire_many(1000).await.unwrap();
    let definition = world.define(&into_http(
        &api.serve().await,
        UNTIL_EMPTY,
        &storage.serve().await,
    ));
    let job = world.start(&definition);
    // Three workers: two records, one of the next page; then all are busy.
    poll_until("all workers are busy", || api.requests() == 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(api.requests(), 2);
    drop(held);
    poll_until("more requests", || api.requests() > 10).await;
    job.stop.cancel();
    let (end, summary) = job.end().await;
    assert_eq!(end, JobOutcome::Stopped);
    assert_eq!(storage.count() as u64, summary.written);
    assert!(summary.written < 1000, "{summary:?}");
    let (end, _) = world.run(&definition).await;
    assert_eq!(
        (end, storage.ids()),
        (JobOutcome::Complete, (0..1000).collect())
    );
}

#[tokio::test]
async fn three_attempts_and_then_a_dead_letter() {
    let world = World::new();
    let api = Messages::with(10, 10);
    let storage = PostApi::new(echo);
    *storage.reject.lock().unwrap() = [(3, 2), (7, 99)].into();
    let definition = world.define(&into_http(
        &api.serve().await,
        UNTIL_EMPTY,
        &storage.serve().await,
    ));
    let (end, summary) = world.run(&definition).await;
    assert_eq!(end, JobOutcome::Complete);
    assert_eq!((summary.written, summary.dead, summary.retries), (9, 1, 4));
    assert_eq!(
        storage.reject.lock().unwrap()[&7],
        96,
        "three attempts in all"
    );
    let dead_letters = dead(&definition.state_dir()).await;
    let dead_letter = &dead_letters[0];
    assert_eq!(
        (dead_letters.len(), dead_letter.status, dead_letter.attempts),
        (1, Some(500), 3)
    );
    assert!(dead_letter.error.contains("not now") && dead_letter.request.starts_with("POST http"));
    assert_eq!(
        (dead_letter.stage.as_str(), dead_letter.origin.as_str()),
        ("storage", "record 8")
    );
}

#[tokio::test]
async fn a_killed_job_resumes() {
    let world = World::new();
    let api = Messages::with(400, 20);
    let storage = PostApi::new(echo);
    let definition = world.define(&into_http(
        &api.serve().await,
        UNTIL_EMPTY,
        &storage.serve().await,
    ));
    for kill_at in [50, 130, 250] {
        let job = world.start(&definition);
        poll_until("some records", || storage.count() >= kill_at).await;
        job.kill().await;
    }
    let (end, _) = world.run(&definition).await;
    assert_eq!(end, JobOutcome::Complete);
    let mut ids = storage.ids();
    let sent = ids.len();
    ids.dedup();
    assert_eq!(ids, (0..400).collect::<Vec<_>>(), "nothing is skipped");
    // Records that an API accepted without an acknowledgement in the state are sent again with the same key:
    // bounded by the records in flight.
    assert!(sent <= 400 + 3 * 600, "{sent}");
    let keys = storage.keys.lock().unwrap();
    assert_eq!(keys.len(), 400, "a repeat has the key of the first");
    drop(keys);
    let mut cursors = api.cursors();
    let asked = cursors.len();
    cursors.dedup();
    // A page is requested again only if the kill came before its response was stored.
    assert!(asked - cursors.len() <= 3, "{asked} {cursors:?}");
}

#[tokio::test]
async fn the_rate_limit_holds_in_every_window_and_is_fully_used() {
    let world = World::new();
    let api = Messages::with(60, 1);
    let limit = format!("{UNTIL_EMPTY}  rateLimit: {{ requests: 20, period: 1s }}");
    let definition = world.define(&into_table(&api.serve().await, &limit));
    let begin = Instant::now();
    let (end, _) = world.run(&definition).await;
    assert_eq!(end, JobOutcome::Complete);
    let asked = api.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 61);
    for window in asked.windows(21) {
        let between = window[20].0 - window[0].0;
        assert!(between >= Duration::from_secs(1), "{between:?}");
    }
    // 61 requests are three allowances of 20 before the last: not much more than three periods.
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_rejected_token_is_reported_and_not_shown() {
    let world = World::new();
    let api = Messages {
        token: Some("s3cret-token"),
        page: 5,
        ..Messages::default()
    };
    let api = std::sync::Arc::new(api);
    let url = api.serve().await;
    let with =
        |token: &str| format!("{UNTIL_EMPTY}  giveUpAfter: 1\n  auth: {{ token: \"{token}\" }}");
    let good = world.define(&into_table(&url, &with("${TOKEN}")));
    assert!(!format!("{good:?} {:?}", good.plan()).contains("s3cret"));
    assert_eq!(world.run(&good).await.0, JobOutcome::Complete);
    let bad = world.define(&into_table(&url, &with("wrong-token")));
    let (end, _) = world.run(&bad).await;
    let text = format!("{end:?}");
    assert!(
        text.contains("401") && !text.contains("wrong-token"),
        "{text}"
    );
}

#[tokio::test]
async fn a_table_with_other_columns_ends_the_job_before_it_reads() {
    let world = World::new();
    rusqlite::Connection::open(world.path("rows.db"))
        .unwrap()
        .execute_batch("CREATE TABLE products (id INTEGER PRIMARY KEY, name INTEGER)")
        .unwrap();
    let api = Messages::with(30, 10);
    let definition = world.define(&into_table(&api.serve().await, UNTIL_EMPTY));
    let (end, _) = world.run(&definition).await;
    let JobOutcome::Failed(JobFailure::Destination(text)) = end else {
        panic!("{end:?}")
    };
    assert!(text.contains("\"name\" of type integer"), "{text}");
    assert_eq!(api.requests(), 0);
}

#[tokio::test]
async fn only_one_process_runs_a_job() {
    let world = World::new();
    let api = Messages::with(1, 1);
    let definition = world.define(&into_table(&api.serve().await, ""));
    let job = world.start(&definition);
    let second = forebay_jobs::state::JobState::open(&definition.state_dir());
    let said = second.err().unwrap().to_string();
    assert!(said.contains("running in another process"), "{said}");
    job.stop.cancel();
    assert_eq!(job.end().await.0, JobOutcome::Stopped);
}
