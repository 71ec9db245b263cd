//! Rows are imported in order, once, and a file that can't be imported lets later ones pass.

use std::time::Duration;

use crate::world::*;
use forebay_model::{DeadLetterEdit, DeadLetterReplay, DeadLetterSelection, TableBackend};
use futures::stream;

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_imported_in_order_and_the_stream_is_deleted() {
    let world = World::new().await;
    world.append(50, 7).await;
    world.close(350, csv_bytes(350)).await;
    world
        .run_until(|| async {
            world.is_imported().await && world.log.find(&world.slice.key.to_string()).is_none()
        })
        .await;
    let rows = world.rows();
    assert_eq!(rows.len(), 350);
    assert!(
        rows.iter()
            .enumerate()
            .all(|(i, (id, text))| *id == i.to_string() && text == "a \"text\"\nof two lines")
    );
    assert_eq!(
        world.staging.size(&world.slice.staging_path).await.unwrap(),
        None
    );
    let reconciliation = world.repo.reconciliation(&sink_key()).await.unwrap();
    assert_eq!(
        (
            reconciliation.accepted,
            reconciliation.imported,
            reconciliation.in_flight,
            reconciliation.holds()
        ),
        (350, 350, 0, true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn later_rows_pass_a_slice_whose_stream_the_log_lacks() {
    let mut world = World::new().await;
    let (stuck, lacking) = (world.file.clone(), world.slice.key.clone());
    world.close(5, csv_bytes(5)).await;
    let open = world.repo.active_files(Some(&sink_key())).await.unwrap();
    let next = open.iter().find(|f| f.file.key != stuck).unwrap();
    (world.file, world.slice) = (next.file.key.clone(), next.slices[0].slice.value.clone());
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world.run_until(|| world.is_imported()).await;
    assert_eq!(world.rows().len(), 20);
    let slice = world.repo.slice(&lacking).await.unwrap();
    assert!(slice.retry.parked, "{:?}", slice.retry);
    // Missing records are not forgotten.
    let reconciliation = world.repo.reconciliation(&sink_key()).await.unwrap();
    assert!(reconciliation.holds(), "{reconciliation:?}");
    assert_eq!((reconciliation.imported, reconciliation.in_flight), (20, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_done_before_a_crash_is_not_repeated() {
    let world = World::new().await;
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world.run_until(|| world.is_imported()).await;
    // The store forgets the import: as if the process had died between the two commits.
    let world_before = world.rows();
    let import = forebay_connect::table::Import {
        id: format!("cluster/{}", world.file),
        table: "in.b.t".parse().unwrap(),
        mapping: mapping(),
    };
    let table = world.tables.get(TableBackend::Keboola).unwrap();
    let rows = stream::empty();
    let again = table.import(&import, Box::pin(rows)).await.unwrap();
    assert!(again.already_done);
    assert_eq!(again.rows, 20);
    assert_eq!(world.rows(), world_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_file_follows_its_sink() {
    for (columns, table) in [(["id", "note"], "in.b.t"), (["id", "text"], "in.b.other")] {
        let world = World::new().await;
        world.own_table().await;
        world.sql("CREATE TABLE \"in.b.t\" (id TEXT, text INTEGER)");
        world.append(1, 10).await;
        world.close(10, csv_bytes(10)).await;
        let parked = || async {
            let file = world.repo.file(&world.file).await;
            file.is_ok_and(|f| f.retry.parked)
        };
        world.run_until(parked).await;
        let why = world.failure().await.unwrap();
        assert!(why.contains("has type INTEGER"), "{why}");
        // Columns that do not fit its rows change nothing.
        world.define(&["id", "text", "more"], "in.b.t").await;
        world.clock.advance(Duration::from_secs(400));
        world.run_until(parked).await;
        world.define(&columns, table).await;
        world.run_until(|| world.is_imported()).await;
        let sql = format!(
            "CREATE TABLE seen AS SELECT {} AS x FROM \"{table}\"",
            columns[1]
        );
        world.sql(&sql);
        let db = rusqlite::Connection::open(sqlite(world.dir.path()).path).unwrap();
        let sql = "SELECT count(*) FROM seen WHERE x LIKE 'a \"text\"%'";
        let n: i64 = db.query_row(sql, [], |r| r.get(0)).unwrap();
        assert_eq!(n, 10, "{table}");
        assert!(
            world
                .repo
                .reconciliation(&sink_key())
                .await
                .unwrap()
                .holds()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_table_rejects_become_dead_letters_once_and_can_be_replayed() {
    let world = World::new().await;
    world.own_table().await;
    world.sql("CREATE TABLE \"in.b.t\" (id TEXT, text TEXT CHECK (id <> '3'))");
    world.append(3, 10).await;
    world.close(30, csv_bytes(30)).await;
    let parked = || async {
        let file = world.repo.file(&world.file).await;
        file.is_ok_and(|f| f.retry.parked)
    };
    assert!(
        world.repo.reject_file(&world.file, &stamp()).await.is_err(),
        "only a parked file can be rejected"
    );
    world.run_until(parked).await;
    world.repo.reject_file(&world.file, &stamp()).await.unwrap();
    world.run_until(|| world.is_imported()).await;
    let counts = || async {
        let b = world.repo.reconciliation(&sink_key()).await.unwrap();
        assert!(b.holds(), "{b:?}");
        (b.accepted, b.imported, b.dead, b.in_flight)
    };
    assert_eq!(counts().await, (30, 0, 30, 0));
    assert_eq!(world.rows(), []);
    let dead_letters = world.dead_letters();
    let kept = dead_letters
        .list(&sink_key(), &DeadLetterSelection::ALL.into(), 100)
        .await
        .unwrap()
        .0;
    assert_eq!(kept.len(), 30);
    let shown = std::str::from_utf8(&kept[3].dead_letter.body).unwrap();
    assert_eq!(shown, r#"{"id": "3", "text": "a \"text\"\nof two lines"}"#);
    assert!(
        kept[3].dead_letter.message.contains("constraint"),
        "{:?}",
        kept[3].dead_letter
    );
    // All but that one, into the file that is open now.
    let good: Vec<u64> = kept.iter().map(|k| k.number).filter(|n| *n != 3).collect();
    let replayed = dead_letters
        .replay(&sink_key(), &DeadLetterSelection::These(good).into())
        .await
        .unwrap();
    assert_eq!((replayed.replayed, replayed.rejected), (29, Vec::new()));
    assert_eq!(counts().await, (30, 0, 1, 29));
    // That one with another cell; an object of other columns is rejected.
    for (body, replayed) in [
        (r#"{"id": "3"}"#, 0),
        (r#"{"id": "3", "text": "short"}"#, 1),
    ] {
        let edit = DeadLetterEdit {
            body: Some(body.as_bytes().to_vec()),
            headers: None,
        };
        let edited = DeadLetterReplay::of_edits([(3, edit)].into());
        let done = dead_letters.replay(&sink_key(), &edited).await.unwrap();
        assert_eq!(done.replayed, replayed, "{done:?}");
    }
    assert_eq!(counts().await, (30, 0, 0, 30));
}
