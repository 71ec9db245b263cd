//! Objects and slices that are lost or damaged on their way.

use std::time::Duration;

use crate::world::*;
use bytes::Bytes;
use forebay_connect::staging::{S3Staging, StagingConfig};
use forebay_model::{BlockCompression, SliceState};
use forebay_record::{BlockEncoder, block};
use forebay_test_support::services;
use futures::stream::{self, StreamExt, TryStreamExt};

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_staging_has_lost_or_damaged_is_written_again() {
    let world = World::new().await;
    world.append(3, 100).await;
    world.close(300, csv_bytes(300)).await;
    let complete = world.repo.slice(&world.slice.key).await.unwrap();
    let object = world.uploader().upload(&complete).await.unwrap();
    assert_eq!(object.lost_records, 0);
    world
        .repo
        .slice_uploaded(&world.slice.key, object.staged, 0, world.clock.now_plus(1))
        .await
        .unwrap();
    let path = world
        .dir
        .path()
        .join("staging")
        .join(&world.slice.staging_path);
    std::fs::write(&path, b"not gzip").unwrap();
    world
        .repo
        .file_importing(&world.file, world.clock.now_plus(1))
        .await
        .unwrap();
    let failed_once = || async {
        let file = world.repo.file(&world.file).await.unwrap();
        file.retry.attempt > 0
    };
    world.run_until(failed_once).await;
    let reason = world
        .repo
        .file(&world.file)
        .await
        .unwrap()
        .retry
        .reason
        .clone()
        .unwrap();
    assert!(reason.contains("uploaded again"), "{reason}");
    world.clock.advance(Duration::from_secs(3));
    world.run_until(|| world.is_imported()).await;
    assert_eq!(world.rows().len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_whose_records_the_log_has_lost_holds_nothing_back() {
    let world = World::new().await;
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world.damage(2);
    world.run_until(|| world.is_imported()).await;
    assert_eq!(world.rows(), []);
    let reconciliation = world.repo.reconciliation(&sink_key()).await.unwrap();
    assert_eq!((reconciliation.accepted, reconciliation.lost), (20, 20));
    assert!(reconciliation.holds());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_lost_by_staging_and_log_are_counted_and_the_rest_is_imported() {
    let world = World::new().await;
    world.append(3, 10).await;
    world.close(30, csv_bytes(30)).await;
    let complete = world.repo.slice(&world.slice.key).await.unwrap();
    let object = world.uploader().upload(&complete).await.unwrap();
    world
        .repo
        .slice_uploaded(&world.slice.key, object.staged, 0, world.clock.now_plus(1))
        .await
        .unwrap();
    world
        .staging
        .delete(&world.slice.staging_path)
        .await
        .unwrap();
    world.damage(1);
    world
        .repo
        .file_importing(&world.file, world.clock.now_plus(1))
        .await
        .unwrap();
    let failed_once = || async {
        let file = world.repo.file(&world.file).await.unwrap();
        file.retry.attempt > 0
    };
    world.run_until(failed_once).await;
    world.clock.advance(Duration::from_secs(3));
    world.run_until(|| world.is_imported()).await;
    assert_eq!(world.rows().len(), 20);
    let reconciliation = world.repo.reconciliation(&sink_key()).await.unwrap();
    assert_eq!(
        (
            reconciliation.accepted,
            reconciliation.imported,
            reconciliation.lost
        ),
        (30, 20, 10)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_with_other_rows_than_the_log_counted_is_parked_and_not_imported() {
    let world = World::new().await;
    world.append(1, 5).await;
    world.close(6, csv_bytes(5)).await;
    let is_parked = || async {
        world
            .repo
            .slice(&world.slice.key)
            .await
            .unwrap()
            .retry
            .parked
    };
    world.run_until(is_parked).await;
    let slice = world.repo.slice(&world.slice.key).await.unwrap();
    assert_eq!(slice.state, SliceState::Uploading);
    assert!(
        slice.retry.reason.as_deref().unwrap().contains("5 records"),
        "{:?}",
        slice.retry.reason
    );
}

/// Damage to an object in staging, and its name.
type Damage = (&'static str, fn(&mut Vec<u8>));

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_other_bytes_than_were_uploaded_is_never_imported() {
    let damages: [Damage; 5] = [
        ("a cell has another letter", |b| {
            let at = b
                .iter()
                .position(|b| *b == b'x' || *b == b't')
                .unwrap_or(40);
            b[at] ^= 1;
        }),
        ("cut", |b| b.truncate(b.len() / 2)),
        ("without its last row", |b| {
            let end = b.len() - 1;
            let at = b[..end].iter().rposition(|b| *b == b'\n').unwrap_or(end);
            b.truncate(at + 1);
        }),
        ("longer", |b| b.extend_from_within(..)),
        ("empty", Vec::clear),
    ];
    for compression in ["none", "gzip", "zstd"] {
        for (what, damage) in damages {
            let world = World::with(compression).await;
            world.append(1, 50).await;
            world.close(50, csv_bytes(50)).await;
            world.upload().await;
            let path = world.dir.path().join("staging");
            let path = path.join(&world.slice.staging_path);
            let mut bytes = std::fs::read(&path).unwrap();
            let before = bytes.clone();
            damage(&mut bytes);
            assert_ne!(bytes, before);
            std::fs::write(&path, &bytes).unwrap();
            world
                .run_until(|| async { world.failure().await.is_some() })
                .await;
            let why = world.failure().await.unwrap();
            assert!(
                why.contains("uploaded again"),
                "{compression}, {what}: {why}"
            );
            assert_eq!(std::fs::read(&path).unwrap(), before);
            world.clock.advance(Duration::from_secs(3));
            world.run_until(|| world.is_imported()).await;
            let rows = world.rows();
            assert_eq!(rows.len(), 50, "{compression}, {what}");
            assert!(
                rows.iter()
                    .all(|(_, text)| text == "a \"text\"\nof two lines")
            );
        }
    }
}

/// Objects of the same length and compression, with the same rows but for one letter.
fn other_rows(object: &[u8], compression: BlockCompression) -> Vec<u8> {
    let raw = block::decode(object, compression, usize::try_from(csv_bytes(50)).unwrap()).unwrap();
    // Compressed, not every letter makes the same length.
    let other = (b'b'..=b'z')
        .filter(|b| !raw.contains(b))
        .find_map(|letter| {
            let swapped = |b: &u8| if *b == b'w' { letter } else { *b };
            let raw: Vec<u8> = raw.iter().map(swapped).collect();
            let encoded = BlockEncoder::new(compression)
                .unwrap()
                .encode(&raw)
                .unwrap();
            (encoded.len() == object.len()).then(|| encoded.to_vec())
        });
    other.unwrap()
}

/// The object with some bytes changed.
fn damaged(object: &[u8], _: BlockCompression) -> Vec<u8> {
    let mut bytes = object.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

/// Replacement of an object.
type Replacement = fn(&[u8], BlockCompression) -> Vec<u8>;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_other_bytes_of_the_same_length_on_s3_is_never_imported() {
    let Some(service) = services::s3("other bytes on S3") else {
        return;
    };
    let replacements: [(&str, Replacement); 2] = [("other rows", other_rows), ("damaged", damaged)];
    for compression in ["none", "gzip"] {
        for (what, replace) in replacements {
            let world = World::staging_in(compression, |dir| {
                let name = dir.file_name().unwrap().to_string_lossy();
                let mut config = S3Staging::new(&service.bucket, "us-east-1")
                    .with_endpoint(&service.endpoint)
                    .with_keys(&service.access_key, service.secret_key.clone());
                config.prefix = format!("test{name}/delivery");
                StagingConfig::S3(Box::new(config))
            })
            .await;
            world.append(1, 50).await;
            world.close(50, csv_bytes(50)).await;
            world.upload().await;
            let (staging, path) = (&world.staging, &world.slice.staging_path);
            let read = || async {
                let chunks: Vec<Bytes> = staging
                    .get(path)
                    .await
                    .unwrap()
                    .try_collect()
                    .await
                    .unwrap();
                chunks.concat()
            };
            let before = read().await;
            let other = replace(&before, world.slice.compression);
            assert_eq!(other.len(), before.len(), "{compression}, {what}");
            assert_ne!(other, before, "{compression}, {what}");
            let chunk = stream::iter([Ok(Bytes::from(other.clone()))]);
            staging.put(path, chunk.boxed()).await.unwrap();
            assert_eq!(read().await, other, "{compression}, {what}");
            world
                .run_until(|| async { world.failure().await.is_some() })
                .await;
            let why = world.failure().await.unwrap();
            assert!(
                why.contains("uploaded again"),
                "{compression}, {what}: {why}"
            );
            assert_eq!(world.rows_or_none(), [], "{compression}, {what}");
            assert_eq!(read().await, before, "{compression}, {what}");
            world.clock.advance(Duration::from_secs(3));
            world
                .run_until(|| async { world.is_imported().await && world.log.streams().is_empty() })
                .await;
            let rows = world.rows();
            assert_eq!(rows.len(), 50, "{compression}, {what}");
            assert!(
                rows.iter()
                    .all(|(_, text)| text == "a \"text\"\nof two lines")
            );
            staging.delete(path).await.unwrap();
        }
    }
}
