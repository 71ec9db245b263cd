//! Files in S3: a real server.

use forebay_pull::{End, Failure};
use forebay_remote::services;
use forebay_remote::staging::bucket;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use secrecy::ExposeSecret;

use crate::files::{gzip, lines};
use crate::world::World;

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
async fn objects_are_in_the_table() {
    let Some(s3) = services::s3("objects_are_in_the_table") else {
        return;
    };
    let (store, _) = bucket(&s3.staging("")).unwrap();
    let prefix = format!("pull-{}", std::process::id());
    let put = async |name: &str, bytes: Vec<u8>| {
        let path = Path::from(format!("{prefix}/{name}"));
        store.put(&path, bytes.into()).await.unwrap();
    };
    put("products-1.jsonl", lines(0, 5000).into_bytes()).await;
    // Read in several pieces of 128 KB.
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
    assert_eq!((end, summary.read), (End::Complete, 29_000));
    assert_eq!(world.number("SELECT count(*) FROM products"), 29_000);
    // Killed and continued: the rest of the objects is read by range.
    let running = world.start(&job);
    let progress = std::sync::Arc::clone(&running.progress);
    let written = || progress.summary(std::time::Duration::from_secs(1)).written;
    crate::world::until("some rows", || written() > 2000 || running.is_over()).await;
    running.kill().await;
    let (end, _) = world.run(&job).await;
    assert_eq!(end, End::Complete);
    assert_eq!(world.number("SELECT count(*) FROM products"), 29_000);

    for (bucket, secret, said) in [
        ("no-such-bucket-here", secret.as_str(), "no such bucket"),
        (s3.bucket.as_str(), "wrong-secret", "keys are not accepted"),
    ] {
        let world = World::new();
        let job = world.define(&definition(&s3, bucket, secret, &pattern));
        let (end, _) = world.run(&job).await;
        let End::Failed(Failure::Source(text)) = end else {
            panic!("{end:?}")
        };
        assert!(text.contains(said), "{text}");
        assert!(!text.contains("wrong-secret"), "{text}");
    }
}
