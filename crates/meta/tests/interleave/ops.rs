//! All operations of the repository, on a few fixed keys.

use forebay_meta::catalog::dead_letters::{DeadLetterOutcome, DeadLetterResolution};
use forebay_meta::catalog::slices::StepFailure;
use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_meta::catalog::tokens::{ManagementToken, TokenOwner, TokenRole, TokenSecret};
use forebay_meta::{Repo, Versioned};
use forebay_model::{
    Backoff, BranchId, FileKey, FileState, ProjectId, SinkKey, SinkTarget, SliceKey, SliceState,
    SourceKey, Statistics, TaskEntry, TopicKind, TopicSink, VolumeId,
};

use crate::common::{at, branch, sink_key, source_key, stamp};

/// A call of the repository. Those at the end only read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    CreateSource,
    CreateOtherSource,
    UpdateSource,
    RollbackSource,
    DeleteSource,
    UndeleteSource,
    DisableSource,
    EnableSource,
    PurgeSource,
    CreateSink,
    CreateOtherSink,
    UpdateSink,
    TurnIntoTopic,
    MoveTable,
    CreateForeignSink,
    FillTable,
    BeginDrop,
    TableDropped,
    TableNotDropped,
    TransferTable,
    ShareTable,
    UnshareTable,
    ReleaseTables,
    DeleteSink,
    UndeleteSink,
    DisableSink,
    EnableSink,
    SettleSink,
    PauseTopic,
    ResumeTopic,
    DeleteTopic,
    ClearStatistics,
    RotateFile,
    RotateSlice,
    Report,
    Uploading,
    Uploaded,
    UploadedAgain,
    SliceFailed,
    Importing,
    Imported,
    FileFailed,
    RejectFile,
    ImportAgain,
    Lost,
    Remove,
    Replay,
    Drop,
    ReportLetters,
    ForgetLetters,
    CreateTask,
    FinishTask,
    FailAbandoned,
    RemoveTasks,
    CreateToken,
    FirstToken,
    FirstTokenElsewhere,
    RotateToken,
    RevokeToken,
    SetQuota,
    ResetQuota,
    Cluster,
    Statistics,
    LetterOwner,
    FilledTables,
    ActiveSink,
    KnownSlice,
    /// Not an operation of the repository: increments without a precondition.
    Careless,
}

impl Op {
    /// All operations of the repository.
    pub(crate) const ALL: [Self; 67] = [
        Self::CreateSource,
        Self::CreateOtherSource,
        Self::UpdateSource,
        Self::RollbackSource,
        Self::DeleteSource,
        Self::UndeleteSource,
        Self::DisableSource,
        Self::EnableSource,
        Self::PurgeSource,
        Self::CreateSink,
        Self::CreateOtherSink,
        Self::UpdateSink,
        Self::TurnIntoTopic,
        Self::MoveTable,
        Self::CreateForeignSink,
        Self::FillTable,
        Self::BeginDrop,
        Self::TableDropped,
        Self::TableNotDropped,
        Self::TransferTable,
        Self::ShareTable,
        Self::UnshareTable,
        Self::ReleaseTables,
        Self::DeleteSink,
        Self::UndeleteSink,
        Self::DisableSink,
        Self::EnableSink,
        Self::SettleSink,
        Self::PauseTopic,
        Self::ResumeTopic,
        Self::DeleteTopic,
        Self::ClearStatistics,
        Self::RotateFile,
        Self::RotateSlice,
        Self::Report,
        Self::Uploading,
        Self::Uploaded,
        Self::UploadedAgain,
        Self::SliceFailed,
        Self::Importing,
        Self::Imported,
        Self::FileFailed,
        Self::RejectFile,
        Self::ImportAgain,
        Self::Lost,
        Self::Remove,
        Self::Replay,
        Self::Drop,
        Self::ReportLetters,
        Self::ForgetLetters,
        Self::CreateTask,
        Self::FinishTask,
        Self::FailAbandoned,
        Self::RemoveTasks,
        Self::CreateToken,
        Self::FirstToken,
        Self::FirstTokenElsewhere,
        Self::RotateToken,
        Self::RevokeToken,
        Self::SetQuota,
        Self::ResetQuota,
        Self::Cluster,
        Self::Statistics,
        Self::LetterOwner,
        Self::FilledTables,
        Self::ActiveSink,
        Self::KnownSlice,
    ];
}

impl Op {
    /// Whether it concerns the owner of a table.
    pub(crate) fn is_of_a_table(self) -> bool {
        matches!(
            self,
            Self::FillTable
                | Self::BeginDrop
                | Self::TableDropped
                | Self::TableNotDropped
                | Self::TransferTable
                | Self::ShareTable
                | Self::UnshareTable
                | Self::ReleaseTables
        )
    }

    /// Whether it is one transaction or one read. Old tasks are removed one by one, and names of
    /// tables are released one by one.
    pub(crate) fn is_one_moment(self) -> bool {
        !matches!(self, Self::RemoveTasks | Self::ReleaseTables)
    }
}

pub(crate) fn source() -> SourceKey {
    source_key("src")
}

/// The sink of most operations.
pub(crate) fn sink() -> SinkKey {
    sink_key("src", "one")
}

/// Another sink, which stays a table.
pub(crate) fn other() -> SinkKey {
    sink_key("src", "two")
}

/// A topic sink.
pub(crate) fn topic() -> SinkKey {
    sink_key("src", "top")
}

pub(crate) fn volumes() -> Vec<VolumeId> {
    crate::common::volumes(2)
}

pub(crate) fn topic_target() -> SinkTarget {
    SinkTarget::Topic(TopicSink {
        kind: TopicKind::Http,
        provider: "p".to_owned(),
        topic: "t".to_owned(),
        batches: false,
        method: forebay_model::HttpMethod::default(),
        message: forebay_model::MessageMapping::default(),
    })
}

/// The file or slice of each operation: chosen before any actor runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    files: Vec<(FileState, FileKey)>,
    pub(crate) slices: Vec<(SliceState, SliceKey)>,
}

impl Targets {
    pub(crate) async fn of(repo: &Repo) -> Self {
        let mut targets = Self::default();
        for file in repo.active_files(Some(&sink())).await.unwrap() {
            let slices = file.slices.iter().map(|s| &s.slice);
            targets
                .slices
                .extend(slices.map(|s| (s.state, s.key.clone())));
            targets.files.push((file.file.state, file.file.key.clone()));
        }
        for file in repo.imported_files(Some(&sink())).await.unwrap() {
            targets.files.push((file.state, file.key.clone()));
        }
        targets
    }

    pub(crate) fn file(&self, state: FileState) -> Option<&FileKey> {
        let found = self.files.iter().find(|(s, _)| *s == state);
        found.map(|(_, key)| key)
    }

    /// Whether the slice's file is imported next.
    pub(crate) fn in_importing(&self, slice: &SliceKey) -> bool {
        self.file(FileState::Importing) == Some(&slice.file)
    }

    pub(crate) fn slice(&self, state: SliceState) -> Option<&SliceKey> {
        let found = self.slices.iter().find(|(s, _)| *s == state);
        found.map(|(_, key)| key)
    }
}

/// Result visible to a caller, without revisions.
pub(crate) type Outcome = Result<String, String>;

pub(crate) fn done<T>(result: Result<T, impl std::fmt::Display>) -> Outcome {
    result.map(|_| "done".to_owned()).map_err(|e| e.to_string())
}

pub(crate) fn shown<T: std::fmt::Debug>(result: Result<T, impl std::fmt::Display>) -> Outcome {
    result.map(|t| format!("{t:?}")).map_err(|e| e.to_string())
}

/// The value without the revision, which depends on other operations.
pub(crate) fn value<T>(read: Versioned<T>) -> T {
    read.value
}

pub(crate) fn counted(records: u64) -> Statistics {
    Statistics {
        records,
        ..Statistics::default()
    }
}

pub(crate) fn failure() -> StepFailure {
    StepFailure {
        reason: "it failed".to_owned(),
        terminal: false,
        backoff: Backoff::default(),
        random: 7,
    }
}

pub(crate) fn task(id: &str, millis: i64) -> TaskEntry {
    TaskEntry {
        project: ProjectId(1),
        id: id.to_owned(),
        kind: "k".to_owned(),
        created_at: at(millis),
        node: "n".to_owned(),
        source: source(),
        sink: None,
        end: None,
    }
}

pub(crate) fn token(millis: i64) -> ManagementToken {
    ManagementToken {
        id: "1-a".to_owned(),
        project: ProjectId(1),
        branch: branch().branch,
        role: TokenRole::Admin,
        description: String::new(),
        owner: TokenOwner::default(),
        created: stamp(millis),
        expires_at: None,
        secrets: vec![TokenSecret {
            sha256: "0".repeat(64),
            made_at: at(millis),
            valid_until: None,
        }],
    }
}

/// A token of a project that has nothing else.
pub(crate) fn other_token(id: &str, branch: u64, millis: i64) -> ManagementToken {
    ManagementToken {
        id: id.to_owned(),
        project: ProjectId(2),
        branch: BranchId(branch),
        ..token(millis)
    }
}

pub(crate) fn finished(end: DeadLetterOutcome) -> DeadLetterResolution {
    DeadLetterResolution {
        numbers: vec![1],
        lost: Vec::new(),
        counts: DeadLetterCounts { taken: 4, lost: 0 },
        end,
    }
}
