//! Files in S3, on a real server.

use std::collections::BTreeMap;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use forebay_connect::staging::{S3Staging, bucket};
use forebay_jobs::{JobFailure, JobOutcome};
use forebay_test_support::poll_until;
use forebay_test_support::services;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use secrecy::ExposeSecret;

use crate::files::{gzip, lines};
use crate::world::World;

pub(crate) fn staging_of(s3: &services::S3Service) -> S3Staging {
    S3Staging::new(&s3.bucket, "us-east-1")
        .with_endpoint(&s3.endpoint)
        .with_keys(&s3.access_key, s3.secret_key.clone())
}

fn definition(s3: &services::S3Service, bucket: &str, secret: &str, pattern: &str) -> String {
    format!(
        "source:\n  type: files\n  paths: ['s3://{bucket}/{pattern}']\n  chunkSize: 8KB\n\
         \x20 s3: {{ region: us-east-1, endpoint: '{}', accessKeyId: {}, secretAccessKey: '{secret}' }}\n\
         destination:\n  type: table\n  store: {{ type: sqlite, path: rows.db }}\n  table: products\n\
         \x20 columns: [{{ name: id, type: integer, key: true }}, {{ name: name }}]\n",
        s3.endpoint, s3.access_key
    )
}

#[tokio::test]
async fn objects_are_loaded() {
    let Some(s3) = services::s3("objects_are_loaded") else {
        return;
    };
    let (store, _) = bucket(&staging_of(&s3)).unwrap();
    let prefix = format!("pull-{}", std::process::id());
    let put = async |name: &str, bytes: Vec<u8>| {
        let path = Path::from(format!("{prefix}/{name}"));
        store.put(&path, bytes.into()).await.unwrap();
    };
    put("products-1.jsonl", lines(0, 5000).into_bytes()).await;
    // Read in several segments of 128 KB.
    put("products-3.jsonl", lines(100_000, 120_000).into_bytes()).await;
    put("products-2.jsonl.gz", gzip(lines(5000, 9000).as_bytes())).await;
    put("other.jsonl", lines(20_000, 20_001).into_bytes()).await;
    put(
        "deeper/products-3.jsonl",
        lines(30_000, 30_001).into_bytes(),
    )
    .await;
    let world = World::new();
    let secret = s3.secret_key.expose_secret().to_owned();
    let pattern = format!("{prefix}/products-*");
    let job = world.define(&definition(&s3, &s3.bucket, &secret, &pattern));
    let (end, summary) = world.run(&job).await;
    assert_eq!((end, summary.read), (JobOutcome::Complete, 29_000));
    assert_eq!(world.number("SELECT count(*) FROM products"), 29_000);
    // Killed and resumed: the rest of the objects is read by range.
    let running = world.start(&job);
    let progress = std::sync::Arc::clone(&running.progress);
    let written = || progress.summary(std::time::Duration::from_secs(1)).written;
    poll_until("some rows", || written() > 2000 || running.is_over()).await;
    running.kill().await;
    let (end, _) = world.run(&job).await;
    assert_eq!(end, JobOutcome::Complete);
    assert_eq!(world.number("SELECT count(*) FROM products"), 29_000);

    for (bucket, secret, message) in [
        ("no-such-bucket-here", secret.as_str(), "no such bucket"),
        (s3.bucket.as_str(), "wrong-secret", "keys are not accepted"),
    ] {
        let world = World::new();
        let job = world.define(&definition(&s3, bucket, secret, &pattern));
        let (end, _) = world.run(&job).await;
        let JobOutcome::Failed(JobFailure::Source(text)) = end else {
            panic!("{end:?}")
        };
        assert!(text.contains(message), "{text}");
        assert!(!text.contains("wrong-secret"), "{text}");
    }
}

#[tokio::test]
async fn prefixes_and_keys_may_have_any_characters() {
    let Some(s3) = services::s3("prefixes_and_keys_may_have_any_characters") else {
        return;
    };
    let (store, _) = bucket(&staging_of(&s3)).unwrap();
    let prefix = format!("pull-odd-{}", std::process::id());
    let secret = s3.secret_key.expose_secret().to_owned();
    for (id, name) in (0..).zip([
        "données", "#1", "~x", "100%", "a{b}", "a b+c", "&=?", "exp [1]", "日本",
    ]) {
        for key in [format!("{name}/x.jsonl"), format!("{name}/{name}.jsonl")] {
            let path = Path::parse(format!("{prefix}/{key}")).unwrap();
            let text = lines(id, id + 1);
            store.put(&path, text.into()).await.unwrap();
        }
        let path = Path::parse(format!("{prefix}/{name}/._x.jsonl")).unwrap();
        store.put(&path, "oops\n".into()).await.unwrap();
        let escaped = name.replace('?', "[?]");
        for (pattern, read) in [
            (format!("{prefix}/{escaped}/"), 2),
            (format!("{prefix}/{escaped}/x.jsonl"), 1),
            (format!("{prefix}/{escaped}/*.jsonl"), 2),
        ] {
            let world = World::new();
            let job = world.define(&definition(&s3, &s3.bucket, &secret, &pattern));
            let (end, summary) = world.run(&job).await;
            let got = (end, summary.read, summary.dead);
            assert_eq!(got, (JobOutcome::Complete, read, 0), "{pattern}");
        }
    }
}

/// A server whose keys are opaque strings, as in S3; a page of a listing has three.
async fn server_with_opaque_keys(objects: BTreeMap<&'static str, String>) -> String {
    let encoded = |key: &str| -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
        let byte = |b: u8| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        };
        key.bytes().map(byte).collect()
    };
    let decoded = |text: &str| -> String {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(b) = rest.next() {
            let hex = |rest: &mut std::str::Bytes<'_>| {
                let pair = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&pair).unwrap(), 16).unwrap()
            };
            bytes.push(if b == b'%' { hex(&mut rest) } else { b });
        }
        String::from_utf8(bytes).unwrap()
    };
    let app = Router::new().fallback(async move |request: Request| -> Response {
        let uri = request.uri();
        let key = decoded(uri.path().strip_prefix("/b/").unwrap());
        let Some(query) = uri.query() else {
            let Some(text) = objects.get(key.as_str()) else {
                return StatusCode::NOT_FOUND.into_response();
            };
            let range = request
                .headers()
                .get(header::RANGE)
                .map(|v| v.to_str().unwrap());
            let Some(range) = range.and_then(|r| r.strip_prefix("bytes=")) else {
                return ([(header::ETAG, "\"1\"")], text.clone()).into_response();
            };
            let (from, to) = range.split_once('-').unwrap();
            let to = to
                .parse()
                .map_or(text.len(), |to: usize| (to + 1).min(text.len()));
            let part = text.get(from.parse().unwrap()..to).unwrap().to_owned();
            return (StatusCode::PARTIAL_CONTENT, part).into_response();
        };
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|p| p.split_once('='));
            decoded(pairs.find(|(n, _)| *n == name).map_or("", |(_, v)| v))
        };
        let (prefix, after) = (value("prefix"), value("continuation-token"));
        let wanted = |key: &&&str| key.starts_with(&prefix) && **key > after.as_str();
        let page: Vec<_> = objects.keys().filter(wanted).take(4).collect();
        let mut body = "<ListBucketResult><EncodingType>url</EncodingType>".to_owned();
        for key in page.iter().take(3) {
            let (size, key) = (objects[*key].len(), encoded(key));
            body += &format!("<Contents><Key>{key}</Key><Size>{size}</Size></Contents>");
        }
        if page.len() > 3 {
            let token = page[2];
            body += &format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>",
                token.replace('&', "&amp;").replace('<', "&lt;")
            );
        }
        (body + "</ListBucketResult>").into_response()
    });
    format!("http://{}", crate::apis::listen(app).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_keys_are_read_or_reported() {
    let object = |id: i64| lines(id * 20_000, (id + 1) * 20_000);
    let mut objects = BTreeMap::from([
        ("logs/a.jsonl", object(0)),
        ("logs//b.jsonl", object(1)),
        ("logs//readme.txt", "no record".to_owned()),
        ("logs/line\nfeed.jsonl", object(2)),
        ("/lead.jsonl", object(3)),
        ("logs/x/", String::new()),
        ("logs/z&<+ %2B.jsonl", object(4)),
        ("logs/é/y.jsonl", object(5)),
        ("other.jsonl", object(6)),
    ]);
    let job = |endpoint: &str, path: &str| {
        format!(
            "source:\n  type: files\n  paths: ['s3://b{path}']\n\
             \x20 s3: {{ endpoint: '{endpoint}', accessKeyId: a, secretAccessKey: b }}\n\
             destination:\n  type: table\n  store: {{ type: sqlite, path: rows.db }}\n  table: products\n\
             \x20 columns: [{{ name: id, type: integer, key: true }}, {{ name: name }}]\n"
        )
    };
    let endpoint = server_with_opaque_keys(objects.clone()).await;
    for (path, files) in [
        ("/logs/*.jsonl", 3),
        ("/logs//*.jsonl", 1),
        ("/logs/", 5),
        ("/", 7),
        ("", 7),
        ("/**/*.jsonl", 7),
        ("//lead.jsonl", 1),
    ] {
        let world = World::new();
        let (end, summary) = world.run(&world.define(&job(&endpoint, path))).await;
        assert_eq!(
            (end, summary.read),
            (JobOutcome::Complete, files * 20_000),
            "{path}"
        );
        let rows = world.number("SELECT count(*) FROM products");
        assert_eq!(rows, i64::try_from(files).unwrap() * 20_000);
    }
    objects.insert("logs/./c.jsonl", object(7));
    objects.insert("logs/../d.jsonl", object(8));
    let endpoint = server_with_opaque_keys(objects).await;
    for path in ["/logs/", "/logs/**/*.jsonl"] {
        let world = World::new();
        let (end, summary) = world.run(&world.define(&job(&endpoint, path))).await;
        let JobOutcome::Failed(JobFailure::Source(text)) = end else {
            panic!("{end:?}")
        };
        assert_eq!(summary.read, 5 * 20_000, "all others are read");
        for key in ["s3://b/logs/./c.jsonl", "s3://b/logs/../d.jsonl"] {
            assert!(text.contains(key), "{text}");
        }
    }
}
