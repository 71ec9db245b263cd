//! Imports that a table has confirmed and lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::silent::SilentTable;
use crate::world::*;
use forebay_delivery::import::TableRegistry;
use forebay_model::TableBackend;

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_its_table_has_lost_is_repeated_while_its_rows_exist() {
    let world = World::new().await;
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world.upload().await;
    // Only the importer runs, so that nothing is deleted: the process dies right after it.
    let table = world.tables.get(TableBackend::Sqlite).unwrap();
    let id = format!("cluster/{}", world.file);
    let now = world.clock.now_plus(1);
    world
        .repo
        .file_imported(&world.file, 20, now)
        .await
        .unwrap();
    assert_eq!(table.imported(&id).await.unwrap(), None);
    world
        .run_until(|| async { world.is_imported().await && world.log.streams().is_empty() })
        .await;
    // Nothing was deleted before the table was queried.
    assert_eq!(table.imported(&id).await.unwrap(), Some(20));
    let reconciliation = world.repo.reconciliation(&sink_key()).await.unwrap();
    assert!(reconciliation.holds());
    assert_eq!(world.rows().len(), 20);
    assert_eq!((reconciliation.imported, reconciliation.lost), (20, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_while_a_table_can_not_be_queried() {
    let mut world = World::new().await;
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world.upload().await;
    let now = world.clock.now_plus(1);
    world
        .repo
        .file_imported(&world.file, 20, now)
        .await
        .unwrap();
    let table = world.tables.get(TableBackend::Sqlite).unwrap();
    let silent = Arc::new(SilentTable {
        table: Arc::clone(table),
        is_silent: true.into(),
        unanswered: 0.into(),
    });
    world.tables = TableRegistry::new(TableBackend::Sqlite).with(silent.clone());
    // More than two calls: the collection after the first check is complete by then.
    world
        .run_until(|| async { silent.unanswered.load(Ordering::Relaxed) > 2 })
        .await;
    let object = world.staging.size(&world.slice.staging_path).await.unwrap();
    assert!(object.is_some() && world.log.streams().len() == 1);
    silent.is_silent.store(false, Ordering::Relaxed);
    world
        .run_until(|| async { world.is_imported().await && world.log.streams().is_empty() })
        .await;
    assert_eq!(world.rows().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_table_has_lost_count_as_lost_until_it_has_them_again() {
    let world = World::new().await;
    world.append(2, 10).await;
    world.close(20, csv_bytes(20)).await;
    world
        .run_until(|| async { world.is_imported().await && world.log.streams().is_empty() })
        .await;
    let lost = |n: u64| {
        let repo = &world.repo;
        move || async move {
            let b = repo.reconciliation(&sink_key()).await.unwrap();
            assert!(b.holds(), "{b:?}");
            (b.accepted, b.imported, b.lost) == (20, 20 - n, n)
        }
    };
    world.sql("CREATE TABLE kept AS SELECT * FROM _forebay_imports; DELETE FROM _forebay_imports;");
    world.run_until(lost(20)).await;
    // The right database is back.
    world.sql("INSERT INTO _forebay_imports SELECT * FROM kept");
    world.run_until(lost(0)).await;
    // A removed file stays counted as it was.
    world.sql("DELETE FROM _forebay_imports");
    world.run_until(lost(20)).await;
    world.repo.remove_imported(&world.file).await.unwrap();
    assert!(lost(20)().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_ledger_entries_of_removed_files_are_deleted() {
    let world = World::new().await;
    world.append(1, 10).await;
    world.close(10, csv_bytes(10)).await;
    world.run_until(|| world.is_imported()).await;
    let table = world.tables.get(TableBackend::Sqlite).unwrap();
    let id = format!("cluster/{}", world.file);
    assert_eq!(table.imported(&id).await.unwrap(), Some(10));
    world.sql("INSERT INTO _forebay_imports SELECT 'cluster/1/1/src/snk/2099-01-01T00:00:00.000Z', table_id, rows, replaced_cells, imported_at FROM _forebay_imports");
    world.repo.remove_imported(&world.file).await.unwrap();
    world
        .run_until(|| async { table.imported(&id).await.unwrap().is_none() })
        .await;
    let later = "cluster/1/1/src/snk/2099-01-01T00:00:00.000Z";
    assert_eq!(table.imported(later).await.unwrap(), Some(10));
    assert_eq!(world.rows().len(), 10);
}
