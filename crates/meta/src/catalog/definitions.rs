//! Definitions: the common part of sources and sinks.

use std::error::Error;
use std::ops::ControlFlow;

use forebay_model::words::counted;
use forebay_model::{
    AuditStamp, BranchId, BranchKey, CountLimit, DefinitionVersion, ProjectId, SettingsPatch, Sink,
    SinkKey, SinkTarget, Source, SourceKey, SourceKind,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Repo;
use super::files::FileError;
use super::tables::TableRejection;
use super::transaction::either;
use crate::catalog::keys::{self, StoreKey};
use crate::kv::store::StoreError;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BranchDefinition {
    #[serde(flatten)]
    pub key: BranchKey,
    /// The branch that `default` refers to.
    pub is_default: bool,
    pub created: AuditStamp,
}

/// The part of a source that a user can change; stored with each version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceContent {
    #[serde(flatten)]
    pub kind: SourceKind,
    pub name: String,
    /// May be empty.
    pub description: String,
    /// Settings of the source.
    #[serde(default, skip_serializing_if = "SettingsPatch::is_empty")]
    pub settings: SettingsPatch,
    /// The definition set that created it; only it may delete it by pruning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition_set: Option<String>,
}

impl SourceContent {
    pub(crate) fn from_source(source: &Source) -> Self {
        Self {
            kind: source.kind.clone(),
            name: source.name.clone(),
            description: source.description.clone(),
            settings: source.settings.clone(),
            definition_set: source.definition_set.clone(),
        }
    }

    pub(super) fn write_into(self, source: &mut Source) {
        source.kind = self.kind;
        source.name = self.name;
        source.description = self.description;
        source.settings = self.settings;
        source.definition_set = self.definition_set;
    }

    pub fn hash(&self) -> String {
        hash(self)
    }
}

/// The part of a sink that a user can change; stored with each version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkContent {
    pub name: String,
    pub description: String,
    #[serde(flatten)]
    pub target: SinkTarget,
    #[serde(default, skip_serializing_if = "SettingsPatch::is_empty")]
    pub settings: SettingsPatch,
    /// The definition set that created it; only it may delete it by pruning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition_set: Option<String>,
}

impl SinkContent {
    pub(crate) fn from_sink(sink: &Sink) -> Self {
        Self {
            name: sink.name.clone(),
            description: sink.description.clone(),
            target: sink.target.clone(),
            settings: sink.settings.clone(),
            definition_set: sink.definition_set.clone(),
        }
    }

    pub(super) fn write_into(self, sink: &mut Sink) {
        sink.name = self.name;
        sink.description = self.description;
        sink.target = self.target;
        sink.settings = self.settings;
        sink.definition_set = self.definition_set;
    }

    pub fn hash(&self) -> String {
        hash(self)
    }
}

fn hash(content: &impl Serialize) -> String {
    // Content that can't be serialized can't be stored either: storing it returns the error.
    let json = serde_json::to_vec(content).unwrap_or_default();
    format!("{:.16x}", Sha256::digest(&json))
}

/// Resources with a maximum count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedResource {
    /// Sources of a branch.
    Sources,
    /// Sinks of a source.
    Sinks,
    SourceVersions,
    SinkVersions,
}

impl std::fmt::Display for LimitedResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sources => "source count",
            Self::Sinks => "sink count",
            Self::SourceVersions | Self::SinkVersions => "version count",
        })
    }
}

/// Error of finding or changing a definition.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    #[error("branch \"{0}\" not found")]
    BranchNotFound(BranchKey),
    /// The source doesn't exist or is deleted.
    #[error("source \"{0}\" not found")]
    SourceNotFound(SourceKey),
    /// The sink doesn't exist or is deleted.
    #[error("sink \"{0}\" not found")]
    SinkNotFound(SinkKey),
    /// The definition has no such version.
    #[error("version \"{0}\" not found")]
    VersionNotFound(u32),
    /// The id is in use.
    #[error("source \"{0}\" already exists")]
    SourceExists(SourceKey),
    /// The id is in use.
    #[error("sink \"{0}\" already exists")]
    SinkExists(SinkKey),
    /// Only topics can be paused.
    #[error("sink \"{0}\" is a table: only sinks of the types kafka and http can be paused")]
    NotATopic(SinkKey),
    /// The limit is reached.
    #[error("{what} limit reached, the maximum is {} (setting {})", bound.max, bound.setting)]
    LimitReached {
        /// Resource that is limited.
        what: LimitedResource,
        /// The limit.
        bound: CountLimit,
    },
    #[error("not imported yet: {} of the source", counted(*files, "file"))]
    InFlight { files: usize },
    /// The sink's project can't use its table.
    #[error(transparent)]
    Table(#[from] TableRejection),
    /// The caller's check rejected the change; nothing was changed.
    #[error(transparent)]
    Rejected(Box<dyn Error + Send + Sync>),
    #[error(transparent)]
    File(#[from] FileError),
    /// Too many concurrent changes; may be retried.
    #[error("too many concurrent changes, try again")]
    Conflict,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DefinitionError {
    /// Whether a retry may succeed without an operator.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict | Self::InFlight { .. } => true,
            Self::Store(e) => e.is_retryable(),
            Self::File(e) => e.is_retryable(),
            _ => false,
        }
    }
}

/// Error of a caller's check in `update_…`.
pub type UpdateRejection = Box<dyn Error + Send + Sync>;

impl Repo {
    /// Returns the version after `number`, within the limit of the resource.
    pub(super) fn next_version(
        &self,
        what: LimitedResource,
        number: u32,
        hash: String,
        description: &str,
        stamp: &AuditStamp,
    ) -> Result<DefinitionVersion, DefinitionError> {
        let max = self.limits.versions;
        if number >= max {
            let bound = CountLimit::new(max, "limits.versions");
            return Err(DefinitionError::LimitReached { what, bound });
        }
        Ok(DefinitionVersion {
            number: number + 1,
            hash,
            description: description.to_owned(),
            stamp: stamp.clone(),
        })
    }

    /// Rejects one more source than the limit of a branch.
    pub(super) async fn check_source_count(
        &self,
        branch: &BranchKey,
    ) -> Result<(), DefinitionError> {
        let bound = CountLimit::new(self.limits.sources_per_branch, "limits.sourcesPerBranch");
        let siblings = self.count(&keys::below(keys::SOURCES, branch)).await?;
        let what = LimitedResource::Sources;
        check_count(siblings, what, bound)
    }

    /// Rejects one more sink than the limit of a source.
    pub(super) async fn check_sink_count(&self, source: &SourceKey) -> Result<(), DefinitionError> {
        let bound = CountLimit::new(self.limits.sinks_per_source, "limits.sinksPerSource");
        let siblings = self.count(&keys::below(keys::SINKS, source)).await?;
        check_count(siblings, LimitedResource::Sinks, bound)
    }

    /// Returns the branch; creates it if it doesn't exist.
    pub async fn ensure_branch(
        &self,
        key: &BranchKey,
        is_default: bool,
        stamp: &AuditStamp,
    ) -> Result<BranchDefinition, DefinitionError> {
        let done = self.transact_if(|txn| {
            Box::pin(async move {
                if let Some(branch) = txn.read::<BranchDefinition>(StoreKey::Branch(key)).await? {
                    return Ok(ControlFlow::Break(branch));
                }
                let branch = BranchDefinition {
                    key: *key,
                    is_default,
                    created: stamp.clone(),
                };
                txn.put(StoreKey::Branch(key), &branch)?;
                Ok(ControlFlow::Continue(branch))
            })
        });
        done.await.map(|done| either(done).value)
    }

    /// Returns the default branch of a project, if there is one.
    pub async fn default_branch(&self, project: ProjectId) -> Result<Option<BranchId>, StoreError> {
        let prefix = keys::below(keys::BRANCHES, &project);
        let branches = self.read_all::<BranchDefinition>(&prefix).await?;
        let default = branches.iter().find(|b| b.is_default);
        Ok(default.map(|b| b.key.branch))
    }

    /// Reads a branch.
    pub async fn branch(&self, key: &BranchKey) -> Result<BranchDefinition, DefinitionError> {
        let found = self.read::<BranchDefinition>(StoreKey::Branch(key)).await?;
        found
            .map(|b| b.value)
            .ok_or(DefinitionError::BranchNotFound(*key))
    }
}

fn check_count(
    there: usize,
    what: LimitedResource,
    bound: CountLimit,
) -> Result<(), DefinitionError> {
    if there >= bound.max {
        return Err(DefinitionError::LimitReached { what, bound });
    }
    Ok(())
}
