//! How APIs end their pages, and APIs that never do.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use forebay_jobs::{JobFailure, JobOutcome, JobSummary};
use serde_json::{Value, json};

use crate::apis::listen;
use crate::world::World;

/// Responds by path and query.
type Script = Box<dyn Fn(&str, &HeaderMap) -> Response + Send + Sync>;

pub(crate) struct Api {
    script: Script,
    /// Time and URL of each request.
    pub(crate) asked: Mutex<Vec<(Instant, String)>>,
}

impl Api {
    pub(crate) async fn serve(
        script: impl Fn(&str, &HeaderMap) -> Response + Send + Sync + 'static,
    ) -> (Arc<Self>, String) {
        let api = Arc::new(Self {
            script: Box::new(script),
            asked: Mutex::default(),
        });
        let answer = async |State(api): State<Arc<Self>>, request: Request| {
            let address = request.uri().to_string();
            api.asked
                .lock()
                .unwrap()
                .push((Instant::now(), address.clone()));
            (api.script)(&address, request.headers())
        };
        let app = Router::new().fallback(answer).with_state(Arc::clone(&api));
        (api, format!("http://{}", listen(app).await))
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(_, path)| path.clone()).collect()
    }
}

pub(crate) fn json(body: Value) -> Response {
    axum::Json(body).into_response()
}

/// Records with these ids.
pub(crate) fn page(numbers: std::ops::Range<usize>) -> Value {
    numbers.map(|n| json!({ "id": n })).collect()
}

pub(crate) fn job(base: &str, source: &str) -> String {
    format!(
        "source:\n  type: http_api\n  baseUrl: {base}\n  path: /items\n  emptyPageWait: 1ms\n\
         \x20 errorWait: 1ms\n  giveUpAfter: 3\n{source}\n\
         destination:\n  type: table\n  store: {{ type: sqlite, path: rows.db }}\n  table: products\n\
         \x20 columns: [{{ name: id, type: integer, key: true }}]\n"
    )
}

pub(crate) async fn run(world: &World, base: &str, source: &str) -> (JobOutcome, JobSummary) {
    world.run(&world.define(&job(base, source))).await
}

pub(crate) fn failure(end: JobOutcome) -> String {
    match end {
        JobOutcome::Failed(JobFailure::Source(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_records_of_the_last_page_are_read() {
    // Each form of a last page, with the settings for it.
    for (last, settings) in [
        (json!({ "cursor": null }), "  until: { noNext: true }"),
        (json!({ "cursor": false }), "  until: { noNext: true }"),
        (json!({ "cursor": 0 }), "  until: { noNext: true }"),
        (json!({ "cursor": "" }), "  until: { noNext: true }"),
        (json!({}), "  until: { noNext: true }"),
        (
            json!({ "cursor": -1 }),
            "  paging: { type: cursor, end: [-1] }\n  until: { noNext: true }",
        ),
        (
            json!({ "cursor": 9, "has_more": false }),
            "  until: { field: has_more }",
        ),
        (
            json!({ "cursor": 9, "has_more": false }),
            "  until: { field: has_more, equals: false }",
        ),
        (
            json!({ "has_more": false }),
            "  until: { field: has_more, equals: false }",
        ),
        (
            json!({ "cursor": 9, "left": 0 }),
            "  until: { field: left, equals: 0 }",
        ),
        (
            json!({ "cursor": 9 }),
            "  until: { field: has_more, equals: null }",
        ),
    ] {
        let more = last.clone();
        let (api, base) = Api::serve(move |address, _| {
            let mut answer = match address {
                "/items" => json!({ "cursor": 5, "has_more": true, "left": 4 }),
                _ => more.clone(),
            };
            answer["results"] = match address {
                "/items" => page(0..5),
                _ => page(5..9),
            };
            json(answer)
        })
        .await;
        let world = World::new();
        let (end, summary) = run(&world, &base, settings).await;
        assert_eq!(
            (end, summary.read),
            (JobOutcome::Complete, 9),
            "{settings} {last}"
        );
        assert_eq!(api.paths(), ["/items", "/items/5"], "{settings} {last}");
    }
}

#[tokio::test]
async fn null_and_no_content_are_empty_pages() {
    for (settings, no_content) in [
        ("  until: { emptyPage: true }", false),
        (
            "  paging: { type: page }\n  until: { emptyPage: true }",
            false,
        ),
        (
            "  paging: { type: page }\n  until: { emptyPage: true }",
            true,
        ),
        ("  until: { noNext: true }", true),
    ] {
        let (_, base) = Api::serve(move |address, _| match address {
            "/items" | "/items?page=1" => json(json!({ "results": page(0..5), "cursor": 5 })),
            _ if no_content => StatusCode::NO_CONTENT.into_response(),
            _ => json(json!({ "results": null, "cursor": 6 })),
        })
        .await;
        let world = World::new();
        let (end, summary) = run(&world, &base, settings).await;
        assert_eq!(
            (end, summary.read, summary.retries),
            (JobOutcome::Complete, 5, 0)
        );
    }
}

#[tokio::test]
async fn a_status_may_mean_that_a_page_does_not_exist() {
    let (api, base) = Api::serve(|address, _| match address {
        "/items?page=1" => json(json!({ "results": page(0..5) })),
        "/items?page=2" => json(json!({ "results": page(5..8) })),
        _ => (StatusCode::NOT_FOUND, "Invalid page.").into_response(),
    })
    .await;
    let world = World::new();
    let settings = "  paging: { type: page }\n  until: { status: [404, 416] }";
    let (end, summary) = run(&world, &base, settings).await;
    assert_eq!(
        (end, summary.read, summary.retries),
        (JobOutcome::Complete, 8, 0)
    );
    // The next run resumes there, and finds nothing new.
    let (end, summary) = run(&world, &base, settings).await;
    assert_eq!(
        (end, summary.read, summary.requests),
        (JobOutcome::Complete, 0, 1)
    );
    assert_eq!(api.paths().last().unwrap(), "/items?page=3");
    // The first page has to exist; and without the setting, the status is a failed request.
    let wrong = settings.replace("page }", "page, first: 7 }");
    assert!(failure(run(&World::new(), &base, &wrong).await.0).contains("404"));
    let without = "  paging: { type: page }\n  until: { emptyPage: true }";
    assert!(failure(run(&World::new(), &base, without).await.0).contains("404"));
}

#[tokio::test]
async fn an_api_that_ignores_the_page_number_is_detected() {
    for paging in ["page", "offset"] {
        let (api, base) = Api::serve(|_, _| json(json!({ "results": page(0..5), "at": 1 }))).await;
        let world = World::new();
        let settings = format!("  paging: {{ type: {paging} }}\n  until: {{ emptyPage: true }}");
        for run_number in 1..=2 {
            let (end, summary) = run(&world, &base, &settings).await;
            let text = failure(end);
            assert!(
                text.contains("the API loops") && text.contains("until.repeat"),
                "{text}"
            );
            // The records are read once, in any number of runs.
            assert_eq!(summary.read, if run_number == 1 { 5 } else { 0 });
            assert_eq!(api.paths().len(), run_number + 1);
        }
    }
    // After the last page, the API repeats the last one, or starts over.
    for clamped in [true, false] {
        let (_, base) = Api::serve(move |address, _| {
            let number: usize = address.rsplit('=').next().unwrap().parse().unwrap();
            let number = match clamped {
                true => number.min(3),
                false => (number - 1) % 3 + 1,
            };
            json(json!({ "results": page(number * 10..number * 10 + 10) }))
        })
        .await;
        let world = World::new();
        let settings = "  paging: { type: page }\n  until: { repeat: true }";
        let (end, summary) = run(&world, &base, settings).await;
        assert_eq!((end, summary.read), (JobOutcome::Complete, 30));
    }
}

#[tokio::test]
async fn equal_pages_can_be_allowed() {
    let (_, base) = Api::serve(|address, _| {
        let number: usize = address.rsplit('=').next().unwrap().parse().unwrap();
        let results = if number < 5 { page(0..1) } else { page(0..0) };
        json(json!({ "results": results }))
    })
    .await;
    let settings = "  paging: { type: page, repeats: true }\n  until: { emptyPage: true }";
    let (end, summary) = run(&World::new(), &base, settings).await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 4));
}

#[tokio::test]
async fn the_next_url_in_the_response_is_followed_on_the_same_server() {
    for (settings, address) in [
        (
            "  paging: { type: next, path: links.next }",
            "/items?page=2&k=a%20b",
        ),
        (
            "  paging: { type: next, path: links.next }",
            "?page=2&k=a%20b",
        ),
        (
            "  paging: { type: next, path: links.next }",
            "BASE/items?page=2&k=a%20b",
        ),
        (
            "  paging: { type: cursor, cursor: links.next }",
            "BASE/items?page=2&k=a%20b",
        ),
    ] {
        let (api, base) = Api::serve(move |asked, headers| {
            let host = headers["host"].to_str().unwrap();
            let next = address.replace("BASE", &format!("http://{host}"));
            let (results, next) = match asked {
                "/items" => (page(0..5), json!(next)),
                _ => (page(5..9), Value::Null),
            };
            json(json!({ "results": results, "links": { "next": next } }))
        })
        .await;
        let settings = format!("{settings}\n  until: {{ noNext: true }}");
        let (end, summary) = run(&World::new(), &base, &settings).await;
        assert_eq!((end, summary.read), (JobOutcome::Complete, 9), "{address}");
        assert_eq!(api.paths(), ["/items", "/items?page=2&k=a%20b"]);
    }
    // To another server, directly or by a redirect: the job fails without a request there.
    let (stranger, elsewhere) = Api::serve(|_, _| json(json!({ "results": [] }))).await;
    let to = elsewhere.clone();
    let (api, base) = Api::serve(move |asked, _| match asked {
        "/items" => json(json!({ "results": page(0..5), "next": format!("{to}/items") })),
        "/round" => json(json!({ "results": page(0..5), "next": "/away" })),
        _ => (StatusCode::FOUND, [("location", format!("{to}/items"))]).into_response(),
    })
    .await;
    let settings = "  paging: { type: next }\n  until: { noNext: true }";
    let text = failure(run(&World::new(), &base, settings).await.0);
    assert!(text.contains("another server"), "{text}");
    assert_eq!(api.paths(), ["/items"], "tried once");
    let settings = format!("{settings}\n  auth: {{ token: '${{TOKEN}}' }}");
    let yaml = job(&base, &settings).replace("path: /items", "path: /round");
    let world = World::new();
    let text = failure(world.run(&world.define(&yaml)).await.0);
    assert!(
        text.contains("another server") && !text.contains("s3cret"),
        "{text}"
    );
    assert_eq!(stranger.paths(), Vec::<String>::new());
}

#[tokio::test]
async fn a_link_to_another_scheme_ends_the_job() {
    let (api, base) = Api::serve(|_, headers| {
        let host = headers["host"].to_str().unwrap();
        let link = format!("<https://{host}/items?page=2>; rel=\"next\"");
        (
            [("link", link)],
            axum::Json(json!({ "results": page(0..5) })),
        )
            .into_response()
    })
    .await;
    let settings = "  paging: { type: link }\n  until: { noNext: true }";
    let text = failure(run(&World::new(), &base, settings).await.0);
    assert!(text.contains("begin with https://"), "{text}");
    assert_eq!(api.paths().len(), 1);
}

#[tokio::test]
async fn a_field_that_no_page_has_is_an_error_that_names_it() {
    let (_, base) = Api::serve(|address, _| {
        let results = if address == "/items?page=1" {
            page(0..5)
        } else {
            page(0..0)
        };
        json(json!({ "results": results, "hasMore": true }))
    })
    .await;
    let settings = "  paging: { type: page }\n  until: { field: has_more }";
    let text = failure(run(&World::new(), &base, settings).await.0);
    assert!(text.contains("`has_more` (source.until.field)"), "{text}");
}

#[test]
fn contradictory_settings_are_rejected() {
    let world = World::new();
    let rejected = |settings: &str, part: &str| {
        let text = world
            .try_define(&job("http://api.example", settings))
            .unwrap_err();
        assert!(text.contains(part), "{settings}\n--- {text}");
    };
    rejected(
        "  paging: { type: page }\n  until: { noNext: true }",
        "until.noNext never holds",
    );
    rejected(
        "  until: { equals: true }",
        "until.equals needs source.until.field",
    );
    rejected("  until: { field: '' }", "until.field is empty");
    rejected(
        "  until: { field: a, equals: [1] }",
        "until.equals has to be",
    );
    rejected(
        "  until: { status: [404, 500, 401] }",
        "until.status[1] is 500",
    );
    rejected("  until: { status: [429] }", "until.status[0] is 429");
    rejected(
        "  paging: { type: offset, repeats: true }\n  until: { repeat: true }",
        "until.repeat contradicts",
    );
    rejected(
        "  paging: { type: page }\n  query: { page: '1' }",
        "source.query.page is set by",
    );
    rejected(
        "  paging: { type: offset, param: limit }",
        "the same as another parameter",
    );
    rejected("  paging: { type: next, path: '' }", "paging.path is empty");
    rejected("  paging: { type: cursor, end: [{}] }", "paging.end[0]");
    rejected(
        "  paging: { type: next, cursor: next }",
        "paging.cursor is not a known key",
    );
    rejected("  retryAfterMax: 200h", "source.retryAfterMax is");
    for fine in [
        "  until: { field: has_more, equals: null }",
        "  until: { field: state, equals: done, emptyPage: true, status: [404] }",
        "  paging: { type: cursor, end: [0, '0', -1, null] }",
        "  paging: { type: page }\n  until: { repeat: true }",
    ] {
        world.define(&job("http://api.example", fine));
    }
    let plan = world
        .define(&job(
            "http://api.example",
            "  paging: { type: next }\n  until: { field: more, status: [404], repeat: true }",
        ))
        .plan()
        .join("\n");
    for part in [
        "by the URL at `next`",
        "`more` is false",
        "status 404",
        "a page repeats",
    ] {
        assert!(plan.contains(part), "{plan}");
    }
}
