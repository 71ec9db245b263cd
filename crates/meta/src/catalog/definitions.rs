//! Definitions: what sources and sinks have in common.

use std::error::Error;

use forebay_model::{
    AuditStamp, BranchId, BranchKey, CountLimit, DefinitionVersion, ProjectId, SettingsPatch, Sink,
    SinkKey, SinkTarget, Source, SourceKey, SourceKind,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::files::FileError;
use super::tables::TableRejection;
use super::{Repo, TxnAttempts, TxnBuilder};
use crate::catalog::keys::{self, StoreKey};
use crate::catalog::stored::definition::{SinkContentForm, SourceContentForm};
use crate::kv::store::StoreError;

/// A branch of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchDefinition {
    /// Which.
    pub key: BranchKey,
    /// The one that is meant when none is named.
    pub is_default: bool,
    /// Made when, by whom.
    pub created: AuditStamp,
}

/// What a user can change of a source; a version keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceContent {
    /// How records come in.
    pub kind: SourceKind,
    /// For people.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// Settings of its own.
    pub settings: SettingsPatch,
}

impl SourceContent {
    /// That of a source.
    #[must_use]
    pub fn from_source(source: &Source) -> Self {
        Self {
            kind: source.kind.clone(),
            name: source.name.clone(),
            description: source.description.clone(),
            settings: source.settings.clone(),
        }
    }

    pub(super) fn write_into(self, source: &mut Source) {
        source.kind = self.kind;
        source.name = self.name;
        source.description = self.description;
        source.settings = self.settings;
    }

    /// 16 hexadecimal digits that change with the content.
    #[must_use]
    pub fn hash(&self) -> String {
        hash(&SourceContentForm::from(self))
    }
}

/// What a user can change of a sink; a version keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkContent {
    /// For people.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
    /// Where its records go.
    pub target: SinkTarget,
    /// Settings of its own.
    pub settings: SettingsPatch,
}

impl SinkContent {
    /// That of a sink.
    #[must_use]
    pub fn from_sink(sink: &Sink) -> Self {
        Self {
            name: sink.name.clone(),
            description: sink.description.clone(),
            target: sink.target.clone(),
            settings: sink.settings.clone(),
        }
    }

    pub(super) fn write_into(self, sink: &mut Sink) {
        sink.name = self.name;
        sink.description = self.description;
        sink.target = self.target;
        sink.settings = self.settings;
    }

    /// 16 hexadecimal digits that change with the content.
    #[must_use]
    pub fn hash(&self) -> String {
        hash(&SinkContentForm::from(self))
    }
}

fn hash(content: &impl Serialize) -> String {
    // A form that is not JSON can't be stored either: whoever stores it says so.
    let json = serde_json::to_vec(content).unwrap_or_default();
    let digest = Sha256::digest(&json);
    digest.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// What there can't be any number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedResource {
    /// Sources of a branch.
    Sources,
    /// Sinks of a source.
    Sinks,
    /// Versions of a source.
    SourceVersions,
    /// Versions of a sink.
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

/// Why a definition was not changed or found.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// There is no such branch.
    #[error("branch \"{0}\" not found")]
    BranchNotFound(BranchKey),
    /// There is no such source, or it is deleted.
    #[error("source \"{0}\" not found")]
    SourceNotFound(SourceKey),
    /// There is no such sink, or it is deleted.
    #[error("sink \"{0}\" not found")]
    SinkNotFound(SinkKey),
    /// The definition has no such version.
    #[error("version \"{0}\" not found")]
    VersionNotFound(u32),
    /// There is one of that id already.
    #[error("source \"{0}\" already exists")]
    SourceExists(SourceKey),
    /// There is one of that id already.
    #[error("sink \"{0}\" already exists")]
    SinkExists(SinkKey),
    /// Only the delivery of a topic can be stopped.
    #[error("sink \"{0}\" is a table: only sinks of the types kafka and http can be paused")]
    NotATopic(SinkKey),
    /// No more of them are allowed.
    #[error("{what} limit reached, the maximum is {} (setting {})", bound.max, bound.setting)]
    LimitReached {
        /// Of what.
        what: LimitedResource,
        /// How many are allowed.
        bound: CountLimit,
    },
    /// Records are still on their way to their tables.
    #[error("{files} files of the source are still on their way to their tables")]
    InFlight {
        /// How many files.
        files: usize,
    },
    /// The sink's project can't use its table.
    #[error(transparent)]
    Table(#[from] TableRejection),
    /// The caller's own check said no; nothing was changed.
    #[error(transparent)]
    Rejected(Box<dyn Error + Send + Sync>),
    /// The sink's file could not be opened or closed with it.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others changed it again and again at the same time; it may be tried again.
    #[error("it is being changed by others at the same time, try again")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DefinitionError {
    /// Whether the same may succeed later without a person.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Conflict | Self::InFlight { .. } => true,
            Self::Store(e) => e.is_retryable(),
            Self::File(e) => e.is_retryable(),
            _ => false,
        }
    }
}

/// What a caller's own check says, in `update_…`: any error.
pub type UpdateRejection = Box<dyn Error + Send + Sync>;

impl Repo {
    /// The version after `number`, of what [`LimitedResource`] says.
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

    /// Refuses one more source of a branch than there may be.
    pub(super) async fn check_source_count(
        &self,
        branch: &BranchKey,
    ) -> Result<(), DefinitionError> {
        let bound = CountLimit::new(self.limits.sources_per_branch, "limits.sourcesPerBranch");
        let siblings = self.count(&keys::below(keys::SOURCES, branch)).await?;
        let what = LimitedResource::Sources;
        check_count(siblings, what, bound)
    }

    /// Refuses one more sink of a source than there may be.
    pub(super) async fn check_sink_count(&self, source: &SourceKey) -> Result<(), DefinitionError> {
        let bound = CountLimit::new(self.limits.sinks_per_source, "limits.sinksPerSource");
        let siblings = self.count(&keys::below(keys::SINKS, source)).await?;
        check_count(siblings, LimitedResource::Sinks, bound)
    }

    /// The branch, made if it is not there.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ensure_branch(
        &self,
        key: &BranchKey,
        is_default: bool,
        stamp: &AuditStamp,
    ) -> Result<BranchDefinition, DefinitionError> {
        let mut attempts = TxnAttempts::default();
        loop {
            if let Some(branch) = self.read::<BranchDefinition>(StoreKey::Branch(key)).await? {
                return Ok(branch.value);
            }
            let branch = BranchDefinition {
                key: *key,
                is_default,
                created: stamp.clone(),
            };
            let mut builder = TxnBuilder::default();
            builder.expect_absent(StoreKey::Branch(key));
            builder.put(StoreKey::Branch(key), &branch)?;
            if self.commit(builder).await?.is_some() {
                return Ok(branch);
            }
            attempts.retry().await?;
        }
    }

    /// The default branch of a project, if it was used already.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn default_branch(&self, project: ProjectId) -> Result<Option<BranchId>, StoreError> {
        let prefix = keys::below(keys::BRANCHES, &project);
        let branches = self.read_all::<BranchDefinition>(&prefix).await?;
        let default = branches.iter().find(|b| b.is_default);
        Ok(default.map(|b| b.key.branch))
    }

    /// A branch, if there is one.
    ///
    /// # Errors
    /// [`DefinitionError::BranchNotFound`], or when the store fails.
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
