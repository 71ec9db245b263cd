//! Owners of tables.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{
    SettledChanges as _, branch, repo, sink_content, sink_key, source_content, source_key, stamp,
    volumes,
};
use forebay_meta::catalog::table_drop::{DropDecision, FilledTable};
use forebay_meta::catalog::tables::{TableFillState, TableOwnerError, TableRejection};
use forebay_meta::{DefinitionError, Repo, SinkContent};
use forebay_model::{FileState, ProjectId, SinkKey, SourceKey, TableBackend, TableId};

const SQLITE: TableBackend = TableBackend::Sqlite;
const ONE: ProjectId = ProjectId(1);
const TWO: ProjectId = ProjectId(2);

fn id(text: &str) -> TableId {
    text.parse().unwrap()
}

fn filled(table: &str) -> FilledTable {
    FilledTable {
        backend: SQLITE,
        table: id(table),
    }
}

fn source_of(project: ProjectId, name: &str) -> SourceKey {
    let mut key = source_key(name);
    key.branch.project = project;
    key
}

fn into(table: &str) -> SinkContent {
    let mut content = sink_content("Sink");
    if let forebay_model::SinkTarget::Table(target) = &mut content.target {
        target.table = id(table);
    }
    content
}

/// Two projects, each with the sources `src` and `more`.
async fn two_projects() -> (Repo, tempfile::TempDir) {
    let (repo, dir) = repo().await;
    for project in [ONE, TWO] {
        for name in ["src", "more"] {
            let key = source_of(project, name);
            repo.ensure_branch(&key.branch, true, &stamp(0))
                .await
                .unwrap();
            repo.create_source(&key, source_content(name), "", &stamp(0))
                .await
                .unwrap();
        }
    }
    (repo, dir)
}

async fn create(
    repo: &Repo,
    source: &SourceKey,
    sink: &str,
    table: &str,
) -> Result<SinkKey, DefinitionError> {
    let key = SinkKey {
        source: source.clone(),
        sink: forebay_model::SinkId::from_raw(sink),
    };
    repo.create_sink(&key, into(table), "", &volumes(1), &stamp(1))
        .await
        .map(|_| key)
}

async fn fill(repo: &Repo, project: ProjectId, table: &str) -> Result<(), TableOwnerError> {
    repo.fill_table(project, SQLITE, &id(table), false, &stamp(2))
        .await
}

/// Finishes all active files, without rows.
async fn arrive(repo: &Repo) {
    for file in repo.active_files(None).await.unwrap() {
        if file.file.state == FileState::Writing {
            continue;
        }
        for slice in &file.slices {
            let none = forebay_model::Statistics::default();
            let key = &slice.slice.key;
            repo.slice_uploading(key, none, common::at(600))
                .await
                .unwrap();
        }
        repo.file_importing(&file.file.key, common::at(601))
            .await
            .unwrap();
    }
}

fn is_foreign<T: std::fmt::Debug>(result: Result<T, DefinitionError>) -> bool {
    matches!(
        result,
        Err(DefinitionError::Table(TableRejection::Foreign(_)))
    )
}

#[tokio::test]
async fn a_table_belongs_to_its_first_project_only() {
    let (repo, _dir) = two_projects().await;
    let (one, two) = (source_of(ONE, "src"), source_of(TWO, "src"));
    create(&repo, &one, "a", "in.c.t").await.unwrap();
    assert!(is_foreign(create(&repo, &two, "a", "in.c.t").await));
    // SQLite table names are case-insensitive.
    assert!(is_foreign(create(&repo, &two, "a", "in.C.T").await));
    let sink = create(&repo, &two, "a", "in.c.mine").await.unwrap();
    let take = |content: &mut SinkContent| {
        *content = into("in.c.t");
        Ok(())
    };
    let taken = repo
        .update_sink(&sink, "", &volumes(1), &stamp(3), take)
        .await;
    assert!(is_foreign(taken));
    let filled = fill(&repo, TWO, "in.c.t").await.unwrap_err();
    assert!(matches!(
        filled,
        TableOwnerError::Rejected(TableRejection::Foreign(_))
    ));
    let filling = repo.table_fill_state(ONE, SQLITE, &id("in.c.t")).await;
    assert_eq!(filling, Ok(TableFillState::First { may_exist: false }));
    fill(&repo, ONE, "in.c.t").await.unwrap();
    let filling = repo.table_fill_state(ONE, SQLITE, &id("in.c.t")).await;
    assert_eq!(filling, Ok(TableFillState::Again));
    // Its sinks are deleted, its rows are not: the project still owns it.
    repo.delete_settled(&one, &stamp(4)).await.unwrap();
    arrive(&repo).await;
    assert!(is_foreign(create(&repo, &two, "b", "in.c.t").await));
    assert_eq!(repo.release_tables().await.unwrap(), 0);
}

#[tokio::test]
async fn the_default_backend_is_an_alias() {
    let (repo, _dir) = two_projects().await;
    create(&repo, &source_of(ONE, "src"), "a", "in.c.t")
        .await
        .unwrap();
    let mut content = into("in.c.t");
    if let forebay_model::SinkTarget::Table(target) = &mut content.target {
        target.backend = TableBackend::Keboola;
    }
    let key = SinkKey {
        source: source_of(TWO, "src"),
        sink: forebay_model::SinkId::from_raw("a"),
    };
    let made = repo
        .create_sink(&key, content, "", &volumes(1), &stamp(1))
        .await;
    assert!(is_foreign(made));
}

#[tokio::test]
async fn a_name_that_was_never_filled_is_free_without_sinks() {
    let (repo, _dir) = two_projects().await;
    let (one, two) = (source_of(ONE, "src"), source_of(TWO, "src"));
    let sink = create(&repo, &one, "a", "in.c.t").await.unwrap();
    repo.delete_sink(&sink, &stamp(2)).await.unwrap();
    // Its last file is active.
    assert!(is_foreign(create(&repo, &two, "a", "in.c.t").await));
    arrive(&repo).await;
    create(&repo, &two, "a", "in.c.t").await.unwrap();
    // So the first sink can't be restored.
    let back = repo.undelete_sink(&sink, &volumes(1), &stamp(3)).await;
    assert!(is_foreign(back));
    assert_eq!(repo.release_tables().await.unwrap(), 0);
    repo.delete_settled(&two, &stamp(4)).await.unwrap();
    arrive(&repo).await;
    assert_eq!(repo.release_tables().await.unwrap(), 1);
    assert!(repo.table_entries().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_restored_sink_is_disabled_if_its_table_has_another_owner() {
    let (repo, _dir) = two_projects().await;
    let one = source_of(ONE, "src");
    let lost = create(&repo, &one, "lost", "in.c.lost").await.unwrap();
    let kept = create(&repo, &one, "kept", "in.c.kept").await.unwrap();
    fill(&repo, ONE, "in.c.lost").await.unwrap();
    repo.delete_settled(&one, &stamp(2)).await.unwrap();
    arrive(&repo).await;
    repo.transfer_table(SQLITE, &id("in.c.lost"), TWO, false, &stamp(3))
        .await
        .unwrap();
    repo.undelete_settled(&one, &volumes(1), &stamp(4))
        .await
        .unwrap();
    assert!(repo.sink(&kept).await.unwrap().is_active());
    let sink = repo.sink(&lost).await.unwrap();
    let disabled = sink.disabled.as_ref().unwrap();
    assert!(disabled.reason.starts_with("Switched off: "), "on its own");
    assert!(
        disabled.reason.contains("belongs to another project"),
        "{disabled:?}"
    );
    let files = repo.active_files(Some(&lost)).await.unwrap();
    assert!(files.iter().all(|f| f.file.state != FileState::Writing));
    assert!(is_foreign(
        repo.enable_sink(&lost, &volumes(1), &stamp(5)).await
    ));
    let rollback = repo.rollback_sink(&lost, 1, &volumes(1), &stamp(5)).await;
    assert!(rollback.is_ok(), "nothing that it has not named already");
    assert!(!repo.sink(&lost).await.unwrap().is_active());
}

#[tokio::test]
async fn shares_and_transfers_are_in_both_audits() {
    let (repo, _dir) = two_projects().await;
    let (one, two) = (source_of(ONE, "src"), source_of(TWO, "src"));
    let table = id("in.c.t");
    let unowned = repo.share_table(SQLITE, &table, TWO, &stamp(1)).await;
    assert!(matches!(unowned, Err(TableOwnerError::NotFound(_))));
    create(&repo, &one, "a", "in.c.t").await.unwrap();
    repo.share_table(SQLITE, &table, TWO, &stamp(2))
        .await
        .unwrap();
    let theirs = create(&repo, &two, "a", "in.c.t").await.unwrap();
    fill(&repo, TWO, "in.c.t").await.unwrap();
    let in_use = repo
        .unshare_table(SQLITE, &table, TWO, false, &stamp(3))
        .await;
    let Err(TableOwnerError::InUse {
        project,
        sinks,
        files,
        ..
    }) = in_use
    else {
        panic!("{in_use:?}");
    };
    assert_eq!((project, sinks, files), (TWO, 1, 1));
    let in_use = repo
        .transfer_table(SQLITE, &table, TWO, false, &stamp(3))
        .await;
    assert!(matches!(
        in_use,
        Err(TableOwnerError::InUse { project: ONE, .. })
    ));
    let forced = repo
        .transfer_table(SQLITE, &table, TWO, true, &stamp(4))
        .await
        .unwrap();
    assert_eq!((forced.owner, forced.shared_with.len()), (TWO, 0));
    assert!(is_foreign(create(&repo, &one, "b", "in.c.t").await));
    create(&repo, &two, "b", "in.c.t").await.unwrap();
    assert!(repo.sink(&theirs).await.is_ok());
    for (project, actions) in [
        (ONE, &["share", "transfer"][..]),
        (TWO, &["share", "transfer"]),
    ] {
        let audit = repo.audit(project, "", 100).await.unwrap().items;
        let tables = audit
            .iter()
            .filter(|c| c.to_owned().id().contains("_table."));
        let done: Vec<_> = tables.map(|c| c.action.name()).collect();
        assert_eq!(done, actions, "{project}");
    }
}

#[tokio::test]
async fn a_table_is_dropped_only_without_other_holders() {
    let (repo, _dir) = two_projects().await;
    let (src, more) = (source_of(ONE, "src"), source_of(ONE, "more"));
    let far = source_of(TWO, "src");
    create(&repo, &src, "a", "in.c.t").await.unwrap();
    fill(&repo, ONE, "in.c.t").await.unwrap();
    let second = create(&repo, &more, "a", "in.c.t").await.unwrap();
    repo.share_table(SQLITE, &id("in.c.t"), TWO, &stamp(2))
        .await
        .unwrap();
    let shared = create(&repo, &far, "a", "in.c.t").await.unwrap();
    repo.delete_settled(&src, &stamp(3)).await.unwrap();
    let table = filled("in.c.t");
    let decision = async || repo.begin_drop(&src, &table, &stamp(4)).await.unwrap();
    assert_eq!(decision().await, DropDecision::Held);
    arrive(&repo).await;
    assert_eq!(decision().await, DropDecision::Held, "two sinks");
    repo.delete_sink(&second, &stamp(5)).await.unwrap();
    repo.delete_settled(&more, &stamp(5)).await.unwrap();
    arrive(&repo).await;
    repo.purge_source(&more, &stamp(6)).await.unwrap();
    assert_eq!(decision().await, DropDecision::Held, "shared");
    repo.delete_sink(&shared, &stamp(7)).await.unwrap();
    assert_eq!(decision().await, DropDecision::Held, "rows in flight");
    arrive(&repo).await;
    assert_eq!(decision().await, DropDecision::Held, "it can be restored");
    // A project that only shares the table drops nothing.
    repo.delete_settled(&far, &stamp(8)).await.unwrap();
    let foreign = repo.begin_drop(&far, &table, &stamp(8)).await.unwrap();
    assert_eq!(foreign, DropDecision::Foreign);
    repo.purge_source(&far, &stamp(8)).await.unwrap();
    assert_eq!(decision().await, DropDecision::Drop);
    // From now on no sink can hold it, not even one of the source itself.
    let more = source_of(ONE, "more");
    repo.create_source(&more, source_content("more"), "", &stamp(9))
        .await
        .unwrap();
    let early = create(&repo, &more, "b", "in.c.t").await;
    assert!(matches!(
        early,
        Err(DefinitionError::Table(TableRejection::Dropping(_)))
    ));
    let filling = repo.table_fill_state(ONE, SQLITE, &table.table).await;
    assert!(matches!(
        filling,
        Err(TableOwnerError::Rejected(TableRejection::Dropping(_)))
    ));
    assert_eq!(
        decision().await,
        DropDecision::Drop,
        "it continues after a crash"
    );
    repo.table_not_dropped(&src, &table).await.unwrap();
    let late = create(&repo, &more, "b", "in.c.t").await.unwrap();
    assert_eq!(
        decision().await,
        DropDecision::Held,
        "a sink created before the mark prevents it"
    );
    repo.delete_sink(&late, &stamp(10)).await.unwrap();
    repo.delete_settled(&more, &stamp(10)).await.unwrap();
    arrive(&repo).await;
    repo.purge_source(&more, &stamp(10)).await.unwrap();
    assert_eq!(decision().await, DropDecision::Drop);
    repo.table_dropped(&src, &table).await.unwrap();
    assert_eq!(decision().await, DropDecision::Nothing);
    // The name is free again; the repeated deletion leaves the new table alone.
    let far = source_of(TWO, "more");
    create(&repo, &far, "a", "in.c.t").await.unwrap();
    assert_eq!(decision().await, DropDecision::Foreign);
}

#[tokio::test]
async fn an_existing_table_is_assigned_by_an_operator_and_never_dropped() {
    let (repo, _dir) = two_projects().await;
    let src = source_of(ONE, "src");
    let table = id("in.c.hand");
    repo.adopt_table(ONE, SQLITE, &table, &stamp(1))
        .await
        .unwrap();
    let filling = repo.table_fill_state(ONE, SQLITE, &table).await;
    assert_eq!(filling, Ok(TableFillState::First { may_exist: true }));
    let adopted = repo.adopt_table(TWO, SQLITE, &table, &stamp(1)).await;
    assert!(matches!(adopted, Err(TableOwnerError::Rejected(_))));
    create(&repo, &src, "a", "in.c.hand").await.unwrap();
    repo.fill_table(ONE, SQLITE, &table, true, &stamp(2))
        .await
        .unwrap();
    repo.delete_settled(&src, &stamp(3)).await.unwrap();
    arrive(&repo).await;
    let decision = repo.begin_drop(&src, &filled("in.c.hand"), &stamp(4)).await;
    assert_eq!(decision.unwrap(), DropDecision::Found);
    assert_eq!(sink_key("src", "a").source.branch, branch());
}
