//! Access to S3 servers: keys and tokens, anonymous requests, TLS with a private authority.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use forebay_connect::staging::bucket;
use forebay_jobs::{JobFailure, JobOutcome};
use forebay_listener::{
    Listener, ListenerLimits, ListenerMetrics, ListenerOptions, LoadedTls, ReloadableTls,
    RouterService, TlsConfig,
};
use forebay_test_support::services;
use object_store::ObjectStoreExt;
use object_store::path::Path as Key;
use secrecy::ExposeSecret;

use crate::files::lines;
use crate::world::World;

/// Credentials of another account, as a shell may have them.
const OTHERS: &[(&str, &str)] = &[
    ("AWS_ACCESS_KEY_ID", "other"),
    ("AWS_SECRET_ACCESS_KEY", "other"),
    ("AWS_SESSION_TOKEN", "a token of another account"),
    ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
];

fn job(path: &str, s3: &str) -> String {
    format!(
        "source:\n  type: files\n  paths: ['{path}']\n  s3: {{ {s3} }}\n\
         destination:\n  type: table\n  store: {{ type: sqlite, path: rows.db }}\n  table: products\n\
         \x20 columns: [{{ name: id, type: integer, key: true }}, {{ name: name }}]\n"
    )
}

fn failure(end: JobOutcome) -> String {
    match end {
        JobOutcome::Failed(JobFailure::Source(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_session_token_of_other_keys_is_not_sent() {
    let Some(s3) = services::s3("the_session_token_of_other_keys_is_not_sent") else {
        return;
    };
    let (store, _) = bucket(&crate::s3::staging_of(&s3)).unwrap();
    let key = format!("pull-token-{}.jsonl", std::process::id());
    let bytes = lines(0, 10).into_bytes();
    store
        .put(&Key::from(key.as_str()), bytes.into())
        .await
        .unwrap();
    let path = format!("s3://{}/{key}", s3.bucket);
    let (id, secret) = (&s3.access_key, s3.secret_key.expose_secret());
    let keys = format!(
        "endpoint: '{}', accessKeyId: {id}, secretAccessKey: '{secret}'",
        s3.endpoint
    );
    let world = World::new();
    let (end, summary) = world
        .run_in(&world.define(&job(&path, &keys)), OTHERS)
        .await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 10));
    // The file's own token is sent with its keys; the server rejects this one.
    let world = World::new();
    let own = format!("{keys}, sessionToken: own");
    let (end, _) = world.run_in(&world.define(&job(&path, &own)), &[]).await;
    assert!(failure(end).contains("keys are not accepted"));
}

/// A bucket `b` with one object; records whether requests are signed.
fn server(asked: &Arc<Mutex<Vec<bool>>>) -> Router {
    let asked = Arc::clone(asked);
    Router::new().fallback(async move |request: Request| -> Response {
        let is_signed = request.headers().contains_key("authorization");
        asked.lock().unwrap().push(is_signed);
        let body = lines(0, 10);
        match request.uri().path() {
            "/b/a.jsonl" => ([("etag", "\"x\"")], body).into_response(),
            "/b" | "/b/" => format!(
                "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a.jsonl</Key>\
                 <Size>{}</Size><ETag>\"x\"</ETag></Contents></ListBucketResult>",
                body.len()
            )
            .into_response(),
            "/closed" | "/closed/" => {
                (StatusCode::FORBIDDEN, "<Code>AccessDenied</Code>").into_response()
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    })
}

#[tokio::test]
async fn a_public_bucket_is_read_without_keys() {
    let asked = Arc::default();
    let endpoint = format!("http://{}", crate::apis::listen(server(&asked)).await);
    let world = World::new();
    let public = format!("endpoint: '{endpoint}', anonymous: true");
    let (end, summary) = world
        .run_in(&world.define(&job("s3://b/*.jsonl", &public)), OTHERS)
        .await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 10));
    assert!(asked.lock().unwrap().iter().all(|is_signed| !is_signed));
    let (end, _) = world
        .run_in(&world.define(&job("s3://closed/", &public)), OTHERS)
        .await;
    assert!(failure(end).contains("not public"));
    // Without the setting, the error reports the missing keys.
    let bare = format!("endpoint: '{endpoint}'");
    let (end, _) = world
        .run_in(&world.define(&job("s3://b/", &bare)), &[])
        .await;
    let text = failure(end);
    assert!(
        text.contains("access key id") && text.contains("anonymous"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_with_a_private_authority_is_trusted_by_its_certificate() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../delivery/tests/fixtures");
    let (asked, limits) = (Arc::default(), ListenerLimits::default());
    let tls = LoadedTls::read(&TlsConfig {
        cert_file: fixtures.join("localhost.cert.pem"),
        key_file: fixtures.join("localhost.key.pem"),
    });
    let options = ListenerOptions {
        limits,
        tls: Some(ReloadableTls::new(tls.unwrap())),
        exempt: None,
        has_date: true,
        metrics: ListenerMetrics {
            connections: metrics::gauge!("connections"),
            rejected: metrics::counter!("refused"),
        },
    };
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let service = RouterService::new(server(&asked), "", &limits);
    let _listener = Listener::start(socket, options, service);
    let world = World::new();
    // Relative to the definition's folder.
    std::fs::copy(fixtures.join("localhost.cert.pem"), world.path("ca.pem")).unwrap();
    let keys = format!("endpoint: 'https://localhost:{port}', accessKeyId: a, secretAccessKey: b");
    let known = world.define(&job("s3://b/*.jsonl", &format!("{keys}, caFile: ca.pem")));
    let (end, summary) = world.run_in(&known, &[]).await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 10));
    assert!(asked.lock().unwrap().iter().all(|is_signed| *is_signed));
    let world = World::new();
    let (end, _) = world
        .run_in(&world.define(&job("s3://b/*.jsonl", &keys)), &[])
        .await;
    assert!(!failure(end).is_empty());
    let missing = world.define(&job("s3://b/", &format!("{keys}, caFile: none.pem")));
    let (end, _) = world.run_in(&missing, &[]).await;
    let text = failure(end);
    assert!(
        text.contains("source.s3.caFile") && text.contains("none.pem"),
        "{text}"
    );
}

#[test]
fn invalid_settings_are_rejected() {
    let world = World::new();
    for (s3, part) in [
        (
            "accessKeyId: a",
            "source.s3.accessKeyId and secretAccessKey have to be given together",
        ),
        ("sessionToken: a", "source.s3.sessionToken belongs to"),
        (
            "anonymous: true, accessKeyId: a, secretAccessKey: b",
            "source.s3.anonymous contradicts",
        ),
        ("endpoint: 'http://minio:9000'", "allowHttp: true"),
        ("endpoint: 'minio:9000'", "must begin with https://"),
        (
            "endpoint: 'https://10.0.0.1', pathStyle: false",
            "pathStyle: false",
        ),
        ("allow_http: true", "did you mean allowHttp?"),
    ] {
        let text = world.try_define(&job("s3://b/", s3)).unwrap_err();
        assert!(text.contains(part), "{s3}: {text}");
    }
    for fine in [
        "endpoint: 'http://minio:9000', allowHttp: true, pathStyle: true",
        "anonymous: true, region: eu-west-1",
        "accessKeyId: a, secretAccessKey: b, sessionToken: c, pathStyle: false",
    ] {
        world.define(&job("s3://b/", fine));
    }
}
