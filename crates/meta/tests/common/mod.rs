//! Helpers of the repository's tests.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::Path;
use std::sync::Arc;

use forebay_meta::{
    DefinitionError, EmbeddedOptions, EmbeddedStore, Repo, Revision, SinkContent, SourceContent,
    Versioned,
};
use forebay_model::{
    Actor, AuditStamp, BranchId, BranchKey, ColumnKind, Mapping, MappingColumn, ProjectId, SinkId,
    SinkKey, SinkSettings, SinkTarget, Source, SourceId, SourceKey, SourceKind, TableBackend,
    TableSink, Timestamp, VolumeId,
};

pub(crate) fn open(dir: &Path) -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::open(dir, EmbeddedOptions::default()).unwrap())
}

/// A repository in a new directory, with the default branch.
pub(crate) async fn repo() -> (Repo, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::new(open(dir.path()), SinkSettings::default());
    repo.ensure_branch(&branch(), true, &stamp(0))
        .await
        .unwrap();
    (repo, dir)
}

pub(crate) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000 + millis)
}

pub(crate) fn stamp(millis: i64) -> AuditStamp {
    AuditStamp {
        at: at(millis),
        by: Actor::system(),
    }
}

pub(crate) fn branch() -> BranchKey {
    BranchKey {
        project: ProjectId(1),
        branch: BranchId(1),
    }
}

pub(crate) fn source_key(id: &str) -> SourceKey {
    SourceKey {
        branch: branch(),
        source: SourceId::from_raw(id),
    }
}

pub(crate) fn sink_key(source: &str, id: &str) -> SinkKey {
    SinkKey {
        source: source_key(source),
        sink: SinkId::from_raw(id),
    }
}

pub(crate) fn source_content(name: &str) -> SourceContent {
    SourceContent {
        kind: SourceKind::Http {
            secret: "s".repeat(48),
            verify: None,
        },
        name: name.to_owned(),
        description: String::new(),
        settings: [].into(),
        definition_set: None,
    }
}

pub(crate) fn sink_content(name: &str) -> SinkContent {
    SinkContent {
        name: name.to_owned(),
        description: String::new(),
        target: SinkTarget::Table(TableSink {
            backend: TableBackend::Sqlite,
            table: "in.c-b.t".parse().unwrap(),
            mapping: Mapping {
                columns: vec![MappingColumn::new("body", ColumnKind::Body)],
            },
        }),
        settings: [].into(),
        definition_set: None,
    }
}

pub(crate) fn volumes(count: usize) -> Vec<VolumeId> {
    (0..count).map(|i| VolumeId(format!("vol{i}"))).collect()
}

/// A repository with the source `src` and its sink `snk`, on one volume.
pub(crate) async fn with_sink() -> (Repo, tempfile::TempDir) {
    let (repo, dir) = repo().await;
    repo.create_source(
        &source_key("src"),
        source_content("Source"),
        "New source.",
        &stamp(0),
    )
    .await
    .unwrap();
    repo.create_sink(
        &sink_key("src", "snk"),
        sink_content("Sink"),
        "New sink.",
        &volumes(1),
        &stamp(0),
    )
    .await
    .unwrap();
    (repo, dir)
}

/// A staged object of that size.
pub(crate) fn staged(bytes: u64) -> forebay_model::StagedChecksum {
    forebay_model::StagedChecksum { bytes, crc32c: 7 }
}

/// Changes of a source, after which its sinks are settled.
pub(crate) trait SettledChanges {
    async fn delete_settled(
        &self,
        key: &SourceKey,
        stamp: &AuditStamp,
    ) -> Result<Revision, DefinitionError>;

    async fn undelete_settled(
        &self,
        key: &SourceKey,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError>;

    async fn disable_settled(
        &self,
        key: &SourceKey,
        reason: &str,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError>;

    async fn enable_settled(
        &self,
        key: &SourceKey,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError>;
}

impl SettledChanges for Repo {
    async fn delete_settled(
        &self,
        key: &SourceKey,
        stamp: &AuditStamp,
    ) -> Result<Revision, DefinitionError> {
        let deleted = self.delete_source(key, stamp).await?;
        self.settle_sinks(key, &[], stamp).await?;
        Ok(deleted)
    }

    async fn undelete_settled(
        &self,
        key: &SourceKey,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let restored = self.undelete_source(key, stamp).await?;
        self.settle_sinks(key, volumes, stamp).await?;
        Ok(restored)
    }

    async fn disable_settled(
        &self,
        key: &SourceKey,
        reason: &str,
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let disabled = self.disable_source(key, reason, stamp).await?;
        self.settle_sinks(key, &[], stamp).await?;
        Ok(disabled)
    }

    async fn enable_settled(
        &self,
        key: &SourceKey,
        volumes: &[VolumeId],
        stamp: &AuditStamp,
    ) -> Result<Versioned<Source>, DefinitionError> {
        let enabled = self.enable_source(key, stamp).await?;
        self.settle_sinks(key, volumes, stamp).await?;
        Ok(enabled)
    }
}
