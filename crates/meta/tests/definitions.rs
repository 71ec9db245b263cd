//! Sources and sinks in the repository, and the effect of their changes on files.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::pin::Pin;

use common::{
    SettledChanges as _, at, branch, repo, sink_content, sink_key, source_content, source_key,
    stamp, volumes, with_sink,
};
use forebay_meta::{DefinitionError, FileError, Repo};
use forebay_model::{DefinitionLimits, FileState, SinkKey, SinkTarget, SliceState};

async fn create_source(repo: &Repo, id: &str) {
    repo.create_source(
        &source_key(id),
        source_content(id),
        "New source.",
        &stamp(1),
    )
    .await
    .unwrap();
}

async fn create_sink(repo: &Repo, key: &SinkKey, volume_count: usize) {
    let content = sink_content("Sink");
    repo.create_sink(key, content, "New sink.", &volumes(volume_count), &stamp(1))
        .await
        .unwrap();
}

/// States of a sink's files, oldest first.
async fn states(repo: &Repo, sink: &SinkKey) -> Vec<FileState> {
    let files = repo.active_files(Some(sink)).await.unwrap();
    files.iter().map(|f| f.file.state).collect()
}

#[tokio::test]
async fn a_source_is_created_once_and_listed() {
    let (repo, _dir) = repo().await;
    for id in ["b", "a", "a2", "c"] {
        create_source(&repo, id).await;
    }
    let again = repo
        .create_source(&source_key("a"), source_content("x"), "", &stamp(2))
        .await;
    assert!(matches!(again, Err(DefinitionError::SourceExists(_))));
    let page = repo.sources(&branch(), "", 2).await.unwrap();
    let ids = |items: &[forebay_model::Source]| -> Vec<String> {
        items.iter().map(|s| s.key.source.to_string()).collect()
    };
    assert_eq!(
        (ids(&page.items), page.total),
        (vec!["a".into(), "a2".into()], 4)
    );
    let page = repo.sources(&branch(), "a2", 100).await.unwrap();
    assert_eq!(
        (ids(&page.items), page.total),
        (vec!["b".into(), "c".into()], 4)
    );
    assert!(
        repo.sources(&branch(), "z", 9)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let missing = repo.source(&source_key(&"x".repeat(5000))).await;
    assert!(matches!(missing, Err(DefinitionError::SourceNotFound(_))));
}

#[tokio::test]
async fn an_update_is_a_version_that_can_be_rolled_back() {
    let (repo, _dir) = repo().await;
    create_source(&repo, "s").await;
    let key = source_key("s");
    let update = repo
        .update_source(&key, "Renamed.", &stamp(2), |content| {
            content.name = "New name".to_owned();
            Ok(())
        })
        .await;
    let updated = update.unwrap();
    assert_eq!(
        (updated.version.number, updated.name.as_str()),
        (2, "New name")
    );
    let same = repo
        .update_source(&key, "Updated.", &stamp(3), |_| Ok(()))
        .await;
    let same = same.unwrap();
    assert_eq!(same.version.number, 3);
    assert_eq!(same.version.hash, updated.version.hash);
    let back = repo.rollback_source(&key, 1, &stamp(4)).await.unwrap();
    assert_eq!((back.version.number, back.name.as_str()), (4, "s"));
    assert_eq!(back.version.description, "Rollback to version \"1\".");
    let versions = repo.source_versions(&key).await.unwrap();
    let numbers: Vec<u32> = versions.iter().map(|v| v.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(versions[0].hash, versions[3].hash);
    assert_ne!(versions[0].hash, versions[1].hash);
    let none = repo.rollback_source(&key, 9, &stamp(5)).await;
    assert!(matches!(none, Err(DefinitionError::VersionNotFound(9))));
}

#[tokio::test]
async fn a_change_rejected_by_the_caller_has_no_effect() {
    let (repo, _dir) = with_sink().await;
    let key = sink_key("src", "snk");
    let result = repo
        .update_sink(&key, "Updated.", &volumes(1), &stamp(2), |content| {
            content.name = "changed".to_owned();
            Err("not that".into())
        })
        .await;
    assert!(matches!(&result, Err(DefinitionError::Rejected(e)) if e.to_string() == "not that"));
    assert_eq!(repo.sink(&key).await.unwrap().version.number, 1);
    assert_eq!(states(&repo, &key).await, [FileState::Writing]);
}

#[tokio::test]
async fn concurrent_updates_all_get_a_version() {
    let (repo, _dir) = repo().await;
    create_source(&repo, "s").await;
    let mut actors = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let repo = repo.clone();
        actors.spawn(async move {
            let key = source_key("s");
            let update = repo
                .update_source(&key, "Updated.", &stamp(2), |content| {
                    content.description.push('x');
                    Ok(())
                })
                .await;
            update.map(drop)
        });
    }
    while let Some(done) = actors.join_next().await {
        done.unwrap().unwrap();
    }
    let source = repo.source(&source_key("s")).await.unwrap();
    assert_eq!((source.version.number, source.description.len()), (9, 8));
}

#[tokio::test]
async fn each_change_of_a_sink_has_the_documented_effect_on_its_file() {
    use FileState::{Closing, Writing};
    let (repo, _dir) = with_sink().await;
    let key = sink_key("src", "snk");
    assert_eq!(states(&repo, &key).await, [Writing]);
    let update = repo
        .update_sink(&key, "Updated.", &volumes(1), &stamp(2), |content| {
            if let SinkTarget::Table(table) = &mut content.target {
                table.table = "in.c-b.other".parse()?;
            }
            Ok(())
        })
        .await;
    update.unwrap();
    let files = repo.active_files(Some(&key)).await.unwrap();
    assert_eq!(states(&repo, &key).await, [Closing, Writing]);
    assert_eq!(files[0].file.table.table.to_string(), "in.c-b.t");
    assert_eq!(files[1].file.table.table.to_string(), "in.c-b.other");
    repo.delete_sink(&key, &stamp(3)).await.unwrap();
    assert_eq!(states(&repo, &key).await, [Closing, Closing]);
    repo.undelete_sink(&key, &volumes(1), &stamp(4))
        .await
        .unwrap();
    assert_eq!(states(&repo, &key).await, [Closing, Closing, Writing]);
    repo.delete_settled(&key.source, &stamp(5)).await.unwrap();
    assert_eq!(states(&repo, &key).await, [Closing; 3]);
    repo.undelete_settled(&key.source, &volumes(1), &stamp(6))
        .await
        .unwrap();
    let now = [Closing, Closing, Closing, Writing];
    assert_eq!(states(&repo, &key).await, now);
    let source = repo
        .update_source(&key.source, "Settings.", &stamp(7), |content| {
            let count = "storage.level.staging.upload.trigger.count".to_owned();
            content.settings.insert(count, 77.into());
            Ok(())
        })
        .await;
    source.unwrap();
    assert_eq!(states(&repo, &key).await, now);
    let update = repo.rollback_sink(&key, 1, &volumes(1), &stamp(8)).await;
    update.unwrap();
    let files = repo.active_files(Some(&key)).await.unwrap();
    assert_eq!(files[3].file.settings.upload.count, 10_000);
    assert_eq!(files[4].file.settings.upload.count, 77);
    for file in &files[..4] {
        assert_eq!(file.slices[0].slice.state, SliceState::Closing);
    }
}

#[tokio::test]
async fn without_a_volume_no_sink_is_created() {
    let (repo, _dir) = repo().await;
    create_source(&repo, "src").await;
    let key = sink_key("src", "snk");
    for (volumes, expected) in [
        (vec![], FileError::NoVolumes),
        (volumes(17), FileError::BadVolumes(17)),
        ([volumes(1), volumes(1)].concat(), FileError::BadVolumes(2)),
    ] {
        let made = repo
            .create_sink(&key, sink_content("s"), "", &volumes, &stamp(1))
            .await;
        match made.unwrap_err() {
            DefinitionError::File(e) => assert_eq!(e, expected),
            e => panic!("{e}"),
        }
    }
    assert!(repo.sink(&key).await.is_err());
    assert_eq!(states(&repo, &key).await, []);
}

#[tokio::test]
async fn a_source_is_deleted_and_restored_with_its_sinks_only() {
    let (repo, _dir) = repo().await;
    create_source(&repo, "src").await;
    for id in ["before", "with"] {
        create_sink(&repo, &sink_key("src", id), 1).await;
    }
    repo.delete_sink(&sink_key("src", "before"), &stamp(2))
        .await
        .unwrap();
    let source = source_key("src");
    repo.delete_settled(&source, &stamp(3)).await.unwrap();
    assert!(repo.source(&source).await.is_err());
    assert_eq!(repo.sinks(&source, "", 100).await.unwrap().total, 0);
    assert!(repo.sink(&sink_key("src", "with")).await.is_err());
    let deleted = repo.deleted_sinks(&source, "", 100).await.unwrap().items;
    assert_eq!(deleted.len(), 1, "deleted on its own");
    let deleted = repo.all_deleted_sinks(&source).await.unwrap();
    let deleted: Vec<_> = deleted.iter().map(|s| s.key.sink.as_str()).collect();
    assert_eq!(deleted, ["before", "with"]);
    let alone = repo.delete_sink(&sink_key("src", "with"), &stamp(4)).await;
    assert!(matches!(alone, Err(DefinitionError::SourceNotFound(_))));
    let lone = repo
        .undelete_sink(&sink_key("src", "with"), &volumes(1), &stamp(4))
        .await;
    assert!(matches!(lone, Err(DefinitionError::SourceNotFound(_))));
    let back = repo
        .undelete_settled(&source, &volumes(1), &stamp(5))
        .await
        .unwrap();
    assert_eq!(back.version.number, 2);
    assert_eq!(back.version.description, "Undeleted to version \"1\".");
    let sinks = repo.sinks(&source, "", 100).await.unwrap().items;
    assert_eq!(sinks.len(), 1);
    assert_eq!(
        (sinks[0].key.sink.as_str(), sinks[0].version.number),
        ("with", 1)
    );
}

#[tokio::test]
async fn a_recreated_id_continues_its_version_numbers() {
    let (repo, _dir) = with_sink().await;
    let (source, sink) = (source_key("src"), sink_key("src", "snk"));
    repo.delete_settled(&source, &stamp(5)).await.unwrap();
    let made = repo
        .create_source(&source, source_content("Again"), "New source.", &stamp(6))
        .await;
    let made = made.unwrap();
    assert_eq!((made.version.number, made.created.at), (2, at(0)));
    assert_eq!(made.version.description, "New source.");
    assert_eq!(
        repo.deleted_sources(&branch(), "", 9).await.unwrap().total,
        0
    );
    // Its old sinks stay deleted, also when the source is restored later.
    assert_eq!(repo.sinks(&source, "", 9).await.unwrap().total, 0);
    repo.delete_settled(&source, &stamp(7)).await.unwrap();
    repo.undelete_settled(&source, &volumes(1), &stamp(8))
        .await
        .unwrap();
    assert_eq!(repo.sinks(&source, "", 9).await.unwrap().total, 0);
    create_sink(&repo, &sink, 1).await;
    let sink = repo.sink(&sink).await.unwrap();
    assert_eq!((sink.version.number, sink.created.at), (2, at(0)));
}

/// Low limits, so that a test reaches them.
fn few() -> DefinitionLimits {
    DefinitionLimits {
        sources_per_branch: 5,
        sinks_per_source: 3,
        versions: 2,
        ..DefinitionLimits::default()
    }
}

#[tokio::test]
async fn limits_hold_for_concurrent_creations() {
    let (repo, _dir) = repo().await;
    let repo = repo.with_limits(few());
    for i in 0..4 {
        create_source(&repo, &format!("s{i}")).await;
    }
    let mut actors = tokio::task::JoinSet::new();
    for i in 0..4 {
        let repo = repo.clone();
        actors.spawn(async move {
            let key = source_key(&format!("late{i}"));
            repo.create_source(&key, source_content("x"), "", &stamp(1))
                .await
        });
    }
    let mut made = 0;
    while let Some(done) = actors.join_next().await {
        match done.unwrap() {
            Ok(_) => made += 1,
            Err(e) => assert_eq!(
                e.to_string(),
                "source count limit reached, the maximum is 5 (setting limits.sourcesPerBranch)"
            ),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn limits_of_sinks_and_versions_hold() {
    let (repo, _dir) = repo().await;
    let repo = repo.with_limits(few());
    create_source(&repo, "src").await;
    for i in 0..3 {
        create_sink(&repo, &sink_key("src", &format!("s{i}")), 1).await;
    }
    let (key, content) = (sink_key("src", "more"), sink_content("x"));
    let more = repo
        .create_sink(&key, content, "", &volumes(1), &stamp(1))
        .await;
    assert_eq!(
        more.unwrap_err().to_string(),
        "sink count limit reached, the maximum is 3 (setting limits.sinksPerSource)"
    );
    let source = source_key("src");
    repo.disable_settled(&source, "API", &stamp(2))
        .await
        .unwrap();
    let third = repo.enable_settled(&source, &volumes(1), &stamp(2)).await;
    assert_eq!(
        third.unwrap_err().to_string(),
        "version count limit reached, the maximum is 2 (setting limits.versions)"
    );
}

/// Number of sinks of a source that don't fit into one transaction.
const MANY: usize = 1000;

#[tokio::test]
async fn a_source_with_a_thousand_sinks_is_disabled_deleted_and_restored() {
    let (repo, _dir) = repo().await;
    create_source(&repo, "src").await;
    for i in 0..MANY {
        create_sink(&repo, &sink_key("src", &format!("s{i}")), 1).await;
    }
    let source = source_key("src");
    let writing = async |state: FileState| {
        let files = repo.active_files(None).await.unwrap();
        files.iter().filter(|f| f.file.state == state).count()
    };
    repo.disable_settled(&source, "API", &stamp(2))
        .await
        .unwrap();
    assert_eq!(writing(FileState::Writing).await, 0);
    repo.enable_settled(&source, &volumes(1), &stamp(3))
        .await
        .unwrap();
    assert_eq!(writing(FileState::Writing).await, MANY);
    repo.delete_settled(&source, &stamp(4)).await.unwrap();
    assert_eq!(writing(FileState::Closing).await, 2 * MANY);
    assert_eq!(repo.sinks(&source, "", 9).await.unwrap().total, 0);
    repo.undelete_settled(&source, &volumes(1), &stamp(5))
        .await
        .unwrap();
    assert_eq!(repo.sinks(&source, "", 9).await.unwrap().total, MANY);
    assert_eq!(writing(FileState::Writing).await, MANY);
}

/// After an interruption between any two of the transactions that settle sinks, the next call settles
/// the others.
#[tokio::test]
async fn interrupted_changes_of_files_continue() {
    let (repo, _dir) = repo().await;
    create_source(&repo, "src").await;
    for i in 0..4 {
        create_sink(&repo, &sink_key("src", &format!("s{i}")), 1).await;
    }
    let source = source_key("src");
    let open = async || {
        let files = repo.active_files(None).await.unwrap();
        let open = files.iter().filter(|f| f.file.state == FileState::Writing);
        open.count()
    };
    let one = volumes(1);
    // Each await of the call may be its last one; a transaction that was sent is still applied.
    for polls in 1..40 {
        let by = stamp(10 * polls);
        let times = usize::try_from(polls).unwrap();
        let settle = || Box::pin(repo.settle_sinks(&source, &one, &by));
        repo.disable_source(&source, "API", &by).await.unwrap();
        interrupted(times, settle()).await;
        settle().await.unwrap();
        assert_eq!(open().await, 0, "disabled, {polls}");
        repo.enable_source(&source, &by).await.unwrap();
        interrupted(times, settle()).await;
        settle().await.unwrap();
        assert_eq!(open().await, 4, "enabled, {polls}");
        repo.delete_source(&source, &by).await.unwrap();
        interrupted(times, settle()).await;
        settle().await.unwrap();
        assert_eq!(open().await, 0, "deleted, {polls}");
        repo.undelete_source(&source, &by).await.unwrap();
        interrupted(times, settle()).await;
        settle().await.unwrap();
        assert_eq!(open().await, 4, "restored, {polls}");
    }
}

/// The sinks of a deleted source are moved in several transactions when its id is used again.
#[tokio::test]
async fn a_source_with_many_deleted_sinks_is_created_again() {
    let (repo, _dir) = repo().await;
    create_source(&repo, "src").await;
    for i in 0..150 {
        create_sink(&repo, &sink_key("src", &format!("s{i}")), 1).await;
    }
    let source = source_key("src");
    repo.delete_settled(&source, &stamp(2)).await.unwrap();
    let again = repo
        .create_source(&source, source_content("Again"), "New source.", &stamp(3))
        .await
        .unwrap();
    assert_eq!(again.version.number, 2);
    assert_eq!(repo.sinks(&source, "", 9).await.unwrap().total, 0);
    let deleted = repo.deleted_sinks(&source, "", 9).await.unwrap();
    assert_eq!(deleted.total, 150);
    let at = deleted.items[0].deleted.as_ref().unwrap().stamp.at;
    assert_eq!(at, common::at(2), "when the source was deleted");
}

/// Polls a call that many times, and then drops it.
async fn interrupted<T>(steps: usize, mut call: Pin<Box<impl Future<Output = T>>>) {
    let mut left = steps;
    std::future::poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(());
        }
        left -= 1;
        call.as_mut().poll(context).map(drop)
    })
    .await;
}
