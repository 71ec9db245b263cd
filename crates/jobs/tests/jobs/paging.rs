//! Other forms of pagination, over real sockets: offset, page number, `Link` and a cursor as a parameter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{OriginalUri, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use forebay_jobs::{JobFailure, JobOutcome};
use serde_json::{Value, json};

use crate::apis::listen;
use crate::world::World;

const RECORDS: usize = 25;

/// Requests so far: path with query, and the token.
#[derive(Default)]
struct Asked(Mutex<Vec<(String, String)>>);

impl Asked {
    fn paths(&self) -> Vec<String> {
        let asked = self.0.lock().unwrap();
        asked.iter().map(|(path, _)| path.clone()).collect()
    }
}

fn records(from: usize, count: usize) -> Vec<Value> {
    (from..RECORDS.min(from + count))
        .map(|n| json!({ "id": n, "name": format!("n{n}") }))
        .collect()
}

/// Builds a page and its `Link` header from the parameters.
type Answer = fn(&HashMap<String, String>) -> (Value, Option<&'static str>);

/// Serves the pages that `answer` builds from the parameters.
async fn serve(asked: &Arc<Asked>, answer: Answer) -> String {
    let app = Router::new()
        .route(
            "/items",
            get(
                async move |State(asked): State<Arc<Asked>>,
                            OriginalUri(uri): OriginalUri,
                            Query(query): Query<HashMap<String, String>>,
                            headers: HeaderMap|
                            -> Response {
                    let token = headers.get("authorization");
                    let token = token.map_or("", |v| v.to_str().unwrap()).to_owned();
                    asked.0.lock().unwrap().push((uri.to_string(), token));
                    let (body, link) = answer(&query);
                    match link {
                        Some(link) => ([("link", link)], axum::Json(body)).into_response(),
                        None => axum::Json(body).into_response(),
                    }
                },
            ),
        )
        .with_state(Arc::clone(asked));
    format!("http://{}", listen(app).await)
}

fn number(query: &HashMap<String, String>, name: &str) -> usize {
    query.get(name).map_or(0, |v| v.parse().unwrap())
}

fn job(base: &str, paging: &str, more: &str) -> String {
    format!(
        "source:\n  type: http_api\n  baseUrl: {base}\n  path: /items\n  query: {{ kind: all }}\n\
         \x20 auth: {{ header: bearer, token: '${{TOKEN}}' }}\n  emptyPageWait: 1ms\n\
         \x20 paging: {paging}\n{more}\n\
         destination:\n  type: table\n  store: {{ type: sqlite, path: rows.db }}\n  table: products\n\
         \x20 columns: [{{ name: id, type: integer, key: true }}, {{ name: name }}]\n"
    )
}

/// Runs to the end: all records are in the table, and exactly these pages were requested.
async fn reads(world: &World, yaml: &str, asked: &Asked, pages: &[&str]) {
    let (end, summary) = world.run(&world.define(yaml)).await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, RECORDS as u64));
    assert_eq!(world.number("SELECT count(*) FROM products"), 25);
    assert_eq!(asked.paths(), pages);
    let tokens = asked.0.lock().unwrap();
    assert!(tokens.iter().all(|(_, t)| t == "Bearer s3cret-token"));
}

#[tokio::test]
async fn pages_by_offset() {
    let (world, asked) = (World::new(), Arc::default());
    let base = serve(&asked, |query| {
        let page = records(number(query, "skip"), number(query, "limit"));
        (json!({ "data": { "items": page } }), None)
    })
    .await;
    let yaml = job(
        &base,
        "{ type: offset, param: skip, size: 10 }",
        "  results: data.items\n  until: { emptyPage: true }",
    );
    let pages = [
        "/items?kind=all&skip=0&limit=10",
        "/items?kind=all&skip=10&limit=10",
        "/items?kind=all&skip=20&limit=10",
        "/items?kind=all&skip=25&limit=10",
    ];
    reads(&world, &yaml, &asked, &pages).await;
}

#[tokio::test]
async fn pages_by_number_until_a_number_of_records() {
    let (world, asked) = (World::new(), Arc::default());
    let base = serve(&asked, |query| {
        let page = number(query, "page");
        (Value::from(records((page - 1) * 10, 10)), None)
    })
    .await;
    let yaml = job(
        &base,
        "{ type: page }",
        "  results: ''\n  until: { records: 25 }",
    );
    let pages = [
        "/items?kind=all&page=1",
        "/items?kind=all&page=2",
        "/items?kind=all&page=3",
    ];
    reads(&world, &yaml, &asked, &pages).await;
}

#[tokio::test]
async fn pages_by_link_header() {
    let (world, asked) = (World::new(), Arc::default());
    let base = serve(&asked, |query| {
        let from = number(query, "from");
        let next = match from {
            0 => Some("</items?from=10>; rel=\"next\", </items>; rel=\"first\""),
            10 => Some("</items>; rel=\"first\", </items?from=20>; rel=next"),
            _ => Some("</items>; rel=\"first\""),
        };
        (json!({ "results": records(from, 10) }), next)
    })
    .await;
    let yaml = job(&base, "{ type: link }", "  until: { noNext: true }");
    let pages = ["/items?kind=all", "/items?from=10", "/items?from=20"];
    reads(&world, &yaml, &asked, &pages).await;
}

#[tokio::test]
async fn a_link_to_another_server_is_not_followed() {
    let (world, asked) = (World::new(), Arc::default());
    let base = serve(&asked, |_| {
        let next = "<http://127.0.0.1:1/items?from=10>; rel=\"next\"";
        (json!({ "results": records(0, 10) }), Some(next))
    })
    .await;
    let more = "  until: { noNext: true }\n  errorWait: 1ms\n  giveUpAfter: 2";
    let (end, _) = world
        .run(&world.define(&job(&base, "{ type: link }", more)))
        .await;
    let JobOutcome::Failed(JobFailure::Source(text)) = end else {
        panic!("{end:?}")
    };
    assert!(text.contains("127.0.0.1:1"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn pages_by_a_cursor_parameter() {
    let (world, asked) = (World::new(), Arc::default());
    let base = serve(&asked, |query| {
        let from = number(query, "after");
        let next = (from < 20).then(|| (from + 10).to_string());
        let page = json!({ "results": records(from, 10), "meta": { "next": next } });
        (page, None)
    })
    .await;
    let yaml = job(
        &base,
        "{ type: cursor, cursor: meta.next, param: after }",
        "  until: { noNext: true }",
    );
    let pages = [
        "/items?kind=all",
        "/items?kind=all&after=10",
        "/items?kind=all&after=20",
    ];
    reads(&world, &yaml, &asked, &pages).await;
}

#[tokio::test]
async fn a_cursor_that_no_page_has_is_an_error_that_names_it() {
    let (world, asked) = (World::new(), Arc::default());
    let base = serve(&asked, |query| {
        let from = number(query, "after");
        let next = (from < 20).then(|| (from + 10).to_string());
        let page = json!({ "results": records(from, 10), "meta": { "next": next } });
        (page, None)
    })
    .await;
    let wrong = job(
        &base,
        "{ type: cursor, cursor: meta.nextt, param: after }",
        "  until: { noNext: true }",
    );
    for run in 1..=2 {
        let (end, summary) = world.run(&world.define(&wrong)).await;
        let JobOutcome::Failed(JobFailure::Source(text)) = end else {
            panic!("{end:?}")
        };
        assert!(text.contains("`meta.nextt`"), "{text}");
        assert_eq!((summary.read, asked.paths().len()), (10, run));
    }
    // A single page is everything.
    let one = wrong.replace("noNext: true", "noNext: true, pages: 1");
    let (end, summary) = world.run(&world.define(&one)).await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 10));
    // With the right path everything is read, and null on the last page is the end.

    let right = wrong.replace("nextt", "next");
    let (end, summary) = world.run(&world.define(&right)).await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 25));
}

#[tokio::test]
async fn a_first_page_without_records_and_cursor_is_the_end() {
    let (world, asked) = (World::new(), Arc::default());
    let base = serve(&asked, |_| (json!({ "results": [] }), None)).await;
    let yaml = job(&base, "{ type: cursor }", "  until: { noNext: true }");
    let (end, summary) = world.run(&world.define(&yaml)).await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 0));
}
