//! Staging: the same behavior in a local folder and on a real S3 server.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

use std::io;

use bytes::Bytes;
use forebay_connect::staging::{LocalStaging, Staging, StagingConfig, StagingErrorKind};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

/// More than two parts of 8 MiB, in chunks of an unaligned size.
const BIG: usize = 21_000_001;

type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Pseudo-random bytes by position and `seed`, generated on demand.
fn chunks(length: usize, seed: usize) -> Chunks {
    const CHUNK: usize = 70_003;
    let chunk = move |start: usize| {
        let end = length.min(start + CHUNK);
        let bytes: Vec<u8> = (start..end)
            .map(|i| u8::try_from((i / 251 + i * 7 + seed) % 256).unwrap())
            .collect();
        Ok(Bytes::from(bytes))
    };
    stream::iter((0..length).step_by(CHUNK).map(chunk)).boxed()
}

async fn joined(chunks: Chunks) -> Vec<u8> {
    chunks.map_ok(|c| c.to_vec()).try_concat().await.unwrap()
}

async fn read(staging: &Staging, path: &str) -> Vec<u8> {
    let object = staging.get(path).await.unwrap();
    object.map_ok(|c| c.to_vec()).try_concat().await.unwrap()
}

async fn paths(staging: &Staging, prefix: &str) -> Vec<String> {
    let objects = staging.list(prefix).map_ok(|o| o.path);
    let mut paths: Vec<String> = objects.try_collect().await.unwrap();
    paths.sort();
    paths
}

/// The behavior of every kind of storage.
async fn run_suite(staging: &Staging) {
    staging.check().await.unwrap();
    assert_eq!(paths(staging, "").await, Vec::<String>::new());
    for (path, length) in [
        ("a/empty.csv", 0),
        ("a/small.csv.gz", 3000),
        ("b/c/big", BIG),
    ] {
        assert_eq!(staging.size(path).await.unwrap(), None);
        for seed in [1, 2, 2] {
            let written = staging.put(path, chunks(length, seed)).await.unwrap();
            assert_eq!(written, length as u64);
        }
        assert_eq!(staging.size(path).await.unwrap(), Some(length as u64));
        assert!(read(staging, path).await == joined(chunks(length, 2)).await);
    }
    assert_eq!(
        paths(staging, "").await,
        ["a/empty.csv", "a/small.csv.gz", "b/c/big"]
    );
    assert_eq!(paths(staging, "b/c").await, ["b/c/big"]);
    assert_eq!(paths(staging, "none").await, Vec::<String>::new());

    failed_input_leaves_the_object_unchanged(staging).await;

    for path in ["a/empty.csv", "a/small.csv.gz", "b/c/big", "b/c/big"] {
        staging.delete(path).await.unwrap();
        assert_eq!(staging.size(path).await.unwrap(), None);
    }
    let missing = staging.get("b/c/big").await.err().unwrap();
    assert_eq!(missing.kind(), StagingErrorKind::Missing);
    assert!(
        missing.to_string().contains("can't read b/c/big"),
        "{missing}"
    );
    let invalid = staging.put("a//b", chunks(1, 1)).await.unwrap_err();
    assert_eq!(invalid.kind(), StagingErrorKind::Terminal);
    let outside = staging.get("../secret").await.err().unwrap();
    assert_eq!(outside.kind(), StagingErrorKind::Terminal);
}

async fn failed_input_leaves_the_object_unchanged(staging: &Staging) {
    for length in [10, BIG] {
        let broken = || io::Error::other("block 7 is damaged");
        let input = chunks(length, 3).chain(stream::once(async move { Err(broken()) }));
        let error = staging
            .put("a/small.csv.gz", input.boxed())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StagingErrorKind::Input);
        assert!(error.to_string().contains("block 7 is damaged"), "{error}");
        assert_eq!(staging.size("a/small.csv.gz").await.unwrap(), Some(3000));
    }
    // An upload that is dropped in the middle.
    let endless = chunks(BIG, 3).chain(stream::pending());
    let put = staging.put("a/small.csv.gz", endless.boxed());
    let limit = std::time::Duration::from_millis(500);
    tokio::time::timeout(limit, put).await.unwrap_err();
    assert_eq!(staging.size("a/small.csv.gz").await.unwrap(), Some(3000));
}

mod local {
    use super::*;

    fn open(dir: &std::path::Path) -> Staging {
        Staging::open(&StagingConfig::Local(LocalStaging::new(dir))).unwrap()
    }

    fn files(dir: &std::path::Path) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                found.extend(files(&entry.path()));
            } else {
                found.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        found
    }

    #[tokio::test]
    async fn passes_the_suite_and_leaves_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("not/yet/there");
        let staging = open(&root);
        run_suite(&staging).await;
        // The dropped upload is cleaned up in the background.
        for _ in 0..100 {
            if files(&root).is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("left: {:?}", files(&root));
    }

    #[tokio::test]
    async fn leftovers_of_a_killed_upload_are_not_listed_and_deleted_with_the_object() {
        let dir = tempfile::tempdir().unwrap();
        let staging = open(dir.path());
        staging.put("a/x.csv", chunks(5, 1)).await.unwrap();
        for name in ["a/x.csv#1", "a/x.csv#12", "a/x.csvx#1"] {
            std::fs::write(dir.path().join(name), "part").unwrap();
        }
        staging.put("a/x.csv", chunks(5, 1)).await.unwrap();
        assert_eq!(paths(&staging, "").await, ["a/x.csv"]);
        staging.delete("a/x.csv").await.unwrap();
        assert_eq!(files(dir.path()), ["x.csvx#1"]);
    }

    #[tokio::test]
    async fn a_folder_that_can_not_be_created_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let config = StagingConfig::Local(LocalStaging::new(file.join("staging")));
        let error = Staging::open(&config).unwrap_err();
        assert!(!error.is_retryable());
        assert!(
            error.to_string().contains(&*file.to_string_lossy()),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_deleted_root_is_recreated() {
        let dir = tempfile::tempdir().unwrap();
        let staging = open(&dir.path().join("root"));
        std::fs::remove_dir(dir.path().join("root")).unwrap();
        staging.check().await.unwrap();
    }
}

#[cfg(feature = "s3")]
mod s3 {
    use super::*;
    use std::time::Duration;

    use forebay_connect::staging::S3Staging;
    use forebay_test_support::cut_proxy::{Cut, Proxy};
    use forebay_test_support::services::{self, S3Service};
    use forebay_test_support::{HttpEndpoint, http_response};

    fn open(config: S3Staging) -> Staging {
        Staging::open(&StagingConfig::S3(Box::new(config))).unwrap()
    }

    fn staging_of(service: &S3Service, prefix: &str) -> S3Staging {
        let mut config = S3Staging::new(&service.bucket, "us-east-1")
            .with_endpoint(&service.endpoint)
            .with_keys(&service.access_key, service.secret_key.clone());
        config.prefix = prefix.to_owned();
        config
    }

    /// A prefix that no other test or earlier run uses.
    fn prefix() -> String {
        let dir = tempfile::tempdir().unwrap();
        let name = dir
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        format!("test{name}/staging")
    }

    fn impatient(mut config: S3Staging) -> S3Staging {
        config.retries = 1;
        config.connect_timeout = Duration::from_secs(1);
        config.request_timeout = Duration::from_secs(5);
        config.retry_timeout = Duration::from_secs(5);
        config
    }

    #[tokio::test]
    async fn passes_the_suite() {
        let Some(service) = services::s3("staging on S3") else {
            return;
        };
        run_suite(&open(staging_of(&service, &prefix()))).await;
    }

    #[tokio::test]
    async fn prefixes_are_separate() {
        let Some(service) = services::s3("prefixes on S3") else {
            return;
        };
        let (one, other) = (
            open(staging_of(&service, &prefix())),
            open(staging_of(&service, &prefix())),
        );
        one.put("x", chunks(5, 1)).await.unwrap();
        assert_eq!(other.size("x").await.unwrap(), None);
        assert_eq!(paths(&other, "").await, Vec::<String>::new());
        one.delete("x").await.unwrap();
    }

    #[tokio::test]
    async fn a_missing_bucket_is_reported() {
        let Some(service) = services::s3("a missing S3 bucket") else {
            return;
        };
        let mut config = staging_of(&service, "");
        config.bucket = "not-there".to_owned();
        let staging = open(config);
        let error = staging.check().await.unwrap_err();
        assert!(
            error.to_string().contains("bucket does not exist"),
            "{error}"
        );
        // Writes may also report that access is denied.
        for error in [
            error,
            staging.put("x", chunks(5, 1)).await.unwrap_err(),
            staging.put("x", chunks(BIG, 1)).await.unwrap_err(),
            staging.get("x").await.err().unwrap(),
        ] {
            assert_eq!(error.kind(), StagingErrorKind::Terminal, "{error}");
            let text = error.to_string();
            let is_said = text.contains("bucket does not exist") || text.contains("missing");
            assert!(text.contains("not-there") && is_said, "{text}");
        }
    }

    #[tokio::test]
    async fn wrong_keys_are_distinguished_and_not_shown() {
        let Some(service) = services::s3("wrong S3 keys") else {
            return;
        };
        let secret = "not-the-secret";
        for (id, word) in [
            (service.access_key.as_str(), "secret access key is wrong"),
            ("nobody", "does not know the access key"),
        ] {
            let staging = open(staging_of(&service, "").with_keys(id, secret));
            let error = staging.check().await.unwrap_err();
            assert_eq!(error.kind(), StagingErrorKind::Terminal, "{error}");
            assert!(error.to_string().contains(word), "{error}");
            assert!(!format!("{error:?}").contains(secret));
        }
    }

    #[tokio::test]
    async fn interrupted_transfers_are_resumed() {
        let Some(service) = services::s3("cut S3 transfers") else {
            return;
        };
        let target = service
            .endpoint
            .trim_start_matches("http://")
            .parse()
            .unwrap();
        let proxy = Proxy::start("127.0.0.1", target).await.unwrap();
        let config = staging_of(&service, &prefix());
        let staging = open(config.with_endpoint(format!("http://{}", proxy.address())));
        // An upload is cut before the server receives a part: the part is sent again.
        proxy.arm(Cut::Before(b"partNumber=2".to_vec()));
        let written = staging.put("big", chunks(BIG, 1)).await.unwrap();
        assert_eq!((written, proxy.is_armed()), (BIG as u64, false));
        // The last response of an upload is lost: the upload is complete anyway, or fails with a
        // retryable error.
        proxy.arm(Cut::AfterAnswerTo(b"<CompleteMultipartUpload".to_vec()));
        match staging.put("big", chunks(BIG, 1)).await {
            Ok(written) => assert_eq!(written, BIG as u64),
            Err(e) => {
                assert!(e.is_retryable(), "{e}");
                staging.put("big", chunks(BIG, 1)).await.unwrap();
            }
        }
        assert!(!proxy.is_armed());
        // A download is cut in the middle: the rest is requested.
        proxy.arm(Cut::AfterBytes(5_000_000));
        let bytes = read(&staging, "big").await;
        assert!(!proxy.is_armed());
        assert!(bytes == joined(chunks(BIG, 1)).await);
        staging.delete("big").await.unwrap();
    }

    #[tokio::test]
    async fn a_redirected_upload_fails() {
        // Redirects each request for the bucket, and responds 200 to any other.
        let server = HttpEndpoint::start(|request, _| {
            let status = match request.line.contains(" /b") {
                true => "302 Found\r\nlocation: /page",
                false => "200 OK\r\netag: \"page\"",
            };
            http_response(status, "")
        });
        let config = S3Staging::new("b", "us-east-1")
            .with_endpoint(server.url(""))
            .with_keys("id", "secret");
        let staging = open(impatient(config));
        for error in [
            staging.put("x", chunks(5, 1)).await.unwrap_err(),
            staging.put("x", chunks(BIG, 1)).await.unwrap_err(),
            staging.delete("x").await.unwrap_err(),
        ] {
            assert!(error.is_retryable(), "{error}");
            assert!(error.to_string().contains("302"), "{error}");
        }
        let lines = server.lines();
        assert!(!lines.iter().any(|line| line.contains("GET")), "{lines:?}");
    }

    #[tokio::test]
    async fn an_unavailable_server_is_retryable() {
        // Bound and not listening: the port stays reserved, and connections are refused.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let config = S3Staging::new("b", "us-east-1")
            .with_endpoint(format!("http://127.0.0.1:{port}"))
            .with_keys("id", "secret");
        let staging = open(impatient(config));
        for error in [
            staging.check().await.unwrap_err(),
            staging.get("x").await.err().unwrap(),
            staging.size("x").await.unwrap_err(),
            staging.delete("x").await.unwrap_err(),
        ] {
            assert!(error.is_retryable(), "{error}");
            assert!(error.to_string().contains("can't be reached"), "{error}");
        }
    }
}
