//! Keys of the store: one variant for each kind of entry.
//!
//! Parts are separated by `/`, which no id contains. A prefix always ends with `/`, so that `src`
//! never matches `src2`. Each file and slice has one entry: its last transition moves it from
//! `active` to `imported`, so that active ones can be listed alone.

use std::fmt;

use forebay_model::{
    BranchKey, FileKey, NodeId, ProjectId, SinkKey, SliceKey, SourceKey, TableKey, VolumeId,
};

pub const BRANCHES: &str = "definition/branch/active/";
/// Sources that are not deleted.
pub const SOURCES: &str = "definition/source/active/";
pub const DELETED_SOURCES: &str = "definition/source/deleted/";
pub const SOURCE_VERSIONS: &str = "definition/source/version/";
/// Sinks that are not deleted.
pub const SINKS: &str = "definition/sink/active/";
pub const DELETED_SINKS: &str = "definition/sink/deleted/";
pub const SINK_VERSIONS: &str = "definition/sink/version/";
/// Files that are not imported.
pub const FILES: &str = "storage/file/active/";
/// Imported files that are still retained, with their slices.
pub const IMPORTED_FILES: &str = "storage/file/imported/";
/// Slices of files that are not imported.
pub const SLICES: &str = "storage/slice/active/";
/// Books of all sinks.
pub const SINK_STATES: &str = "storage/sink/state/";
/// Books of dead letters, by sink and volume.
pub const DEAD_LETTER_STATES: &str = "storage/dead-letter/state/";
/// Counts of dead letters, by sink and volume.
pub const DEAD_LETTER_COUNTS: &str = "storage/dead-letter/count/";
/// Streams that the store did not know and that were brought into a sink, by volume.
pub const DELIVERED_STREAMS: &str = "storage/delivered/";
/// Counts of slices that are still written.
pub const STATISTICS: &str = "storage/statistics/";
/// Volumes that can be written to.
pub const VOLUMES: &str = "storage/volume/writer/";
pub const TASKS: &str = "task/";
/// Unfinished tasks, by the node that runs them.
pub const UNFINISHED_TASKS: &str = "runtime/task/";
pub const TOKENS: &str = "definition/token/";
/// Projects that have tokens.
pub const PROJECTS: &str = "definition/project/";
/// Quotas set by operators.
pub const QUOTAS: &str = "definition/quota/";
/// Owners of tables.
pub const TABLES: &str = "definition/table/";
/// Audit of changes.
pub const AUDIT: &str = "audit/";
/// Live nodes.
pub const NODES: &str = "runtime/node/";
/// How far live source nodes are.
pub const PROCESSED: &str = "runtime/revision/source/";

/// An entry of the store; its text is the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKey<'k> {
    /// `definition/branch/active/<project>/<branch>`: a branch.
    Branch(&'k BranchKey),
    /// `definition/source/active/<source key>`: a source.
    Source(&'k SourceKey),
    /// `definition/source/deleted/<source key>`: a deleted source; it has no active entry.
    DeletedSource(&'k SourceKey),
    /// `definition/source/version/<source key>/<number, 10 digits>`: a version with its content.
    SourceVersion(&'k SourceKey, u32),
    /// `definition/sink/active/<sink key>`: a sink.
    Sink(&'k SinkKey),
    /// `definition/sink/deleted/<sink key>`: a deleted sink; it has no active entry.
    DeletedSink(&'k SinkKey),
    /// `definition/sink/version/<sink key>/<number, 10 digits>`: a version with its content.
    SinkVersion(&'k SinkKey, u32),
    /// `storage/sink/state/<sink key>`: which file is open, and what removed files held.
    SinkState(&'k SinkKey),
    /// `storage/file/active/<file key>`: a file that is not imported.
    File(&'k FileKey),
    /// `storage/file/imported/<file key>`: an imported file, with its slices.
    ImportedFile(&'k FileKey),
    /// `storage/slice/active/<slice key>`: a slice of a file that is not imported.
    Slice(&'k SliceKey),
    /// `storage/dead-letter/state/<sink key>/<volume>`: which dead letters are done with.
    DeadLetterState(&'k SinkKey, &'k VolumeId),
    /// `storage/dead-letter/count/<sink key>/<volume>`: how many dead letters the log has taken.
    DeadLetterCounts(&'k SinkKey, &'k VolumeId),
    /// `storage/delivered/<volume>/<stream>`: a stream that was delivered into a sink.
    DeliveredStream(&'k VolumeId, &'k str),
    /// `storage/statistics/<slice key>/<node>`: counts of a slice that is written, by node.
    Statistics(&'k SliceKey, &'k NodeId),
    /// `storage/volume/writer/<volume>`: a writable volume; on a lease.
    Volume(&'k VolumeId),
    /// `task/<project>/<task id>`: a task.
    Task(ProjectId, &'k str),
    /// `runtime/task/<node>/<project>/<task id>`: marks an unfinished task.
    UnfinishedTask(&'k NodeId, ProjectId, &'k str),
    /// `definition/token/<project>/<token id>`: a token of the management API.
    Token(ProjectId, &'k str),
    /// `definition/project/<project>`: settled by a project's first token.
    Project(ProjectId),
    /// `definition/quota/<project>`: quota of a project, set by an operator.
    Quota(ProjectId),
    /// `definition/table/<backend>/<name>`: the owner of a table.
    Table(&'k TableKey),
    /// `audit/<project>/<time>_<what>_<action>_<version>`: a change of a definition or token.
    Audit(ProjectId, &'k str),
    /// `runtime/node/<node>`: a live node; on a lease.
    Node(&'k NodeId),
    /// `runtime/revision/source/<node>`: how far a source node is; on a lease.
    Processed(&'k NodeId),
    /// `runtime/cluster`: the id of the cluster.
    Cluster,
}

impl fmt::Display for StoreKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(key) => write!(f, "{BRANCHES}{key}"),
            Self::Source(key) => write!(f, "{SOURCES}{key}"),
            Self::DeletedSource(key) => write!(f, "{DELETED_SOURCES}{key}"),
            Self::SourceVersion(key, n) => write!(f, "{SOURCE_VERSIONS}{key}/{n:010}"),
            Self::Sink(key) => write!(f, "{SINKS}{key}"),
            Self::DeletedSink(key) => write!(f, "{DELETED_SINKS}{key}"),
            Self::SinkVersion(key, n) => write!(f, "{SINK_VERSIONS}{key}/{n:010}"),
            Self::SinkState(key) => write!(f, "{SINK_STATES}{key}"),
            Self::File(key) => write!(f, "{FILES}{key}"),
            Self::ImportedFile(key) => write!(f, "{IMPORTED_FILES}{key}"),
            Self::Slice(key) => write!(f, "{SLICES}{key}"),
            Self::DeadLetterState(key, volume) => write!(f, "{DEAD_LETTER_STATES}{key}/{volume}"),
            Self::DeadLetterCounts(key, volume) => write!(f, "{DEAD_LETTER_COUNTS}{key}/{volume}"),
            Self::DeliveredStream(volume, stream) => {
                write!(f, "{DELIVERED_STREAMS}{volume}/{stream}")
            }
            Self::Statistics(key, node) => write!(f, "{STATISTICS}{key}/{node}"),
            Self::Volume(key) => write!(f, "{VOLUMES}{key}"),
            Self::Task(project, id) => write!(f, "{TASKS}{project}/{id}"),
            Self::UnfinishedTask(node, project, id) => {
                write!(f, "{UNFINISHED_TASKS}{node}/{project}/{id}")
            }
            Self::Token(project, id) => write!(f, "{TOKENS}{project}/{id}"),
            Self::Project(project) => write!(f, "{PROJECTS}{project}"),
            Self::Quota(project) => write!(f, "{QUOTAS}{project}"),
            Self::Table(key) => write!(f, "{TABLES}{key}"),
            Self::Audit(project, id) => write!(f, "{AUDIT}{project}/{id}"),
            Self::Node(node) => write!(f, "{NODES}{node}"),
            Self::Processed(node) => write!(f, "{PROCESSED}{node}"),
            Self::Cluster => f.write_str("runtime/cluster"),
        }
    }
}

impl From<StoreKey<'_>> for String {
    fn from(key: StoreKey<'_>) -> Self {
        key.to_string()
    }
}

/// Prefix of all entries of `parent` (a branch, source, sink or file) below `prefix`, one of this
/// module's constants.
pub fn below(prefix: &str, parent: &dyn fmt::Display) -> String {
    format!("{prefix}{parent}/")
}

/// Parses a [`StoreKey::Statistics`].
pub fn parse_statistics(key: &str) -> Option<(SliceKey, NodeId)> {
    let (slice, node) = key.strip_prefix(STATISTICS)?.rsplit_once('/')?;
    Some((slice.parse().ok()?, NodeId(node.to_owned())))
}

/// Parses a [`StoreKey::DeadLetterCounts`].
pub(crate) fn parse_dead_letter_counts(key: &str) -> Option<(SinkKey, VolumeId)> {
    let (sink, volume) = key.strip_prefix(DEAD_LETTER_COUNTS)?.rsplit_once('/')?;
    Some((sink.parse().ok()?, VolumeId(volume.to_owned())))
}

/// Parses a [`StoreKey::Audit`] into project and id.
pub(crate) fn parse_audit(key: &str) -> Option<(ProjectId, &str)> {
    let (project, id) = key.strip_prefix(AUDIT)?.split_once('/')?;
    Some((ProjectId(project.parse().ok()?), id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_model::TableBackend;

    #[test]
    fn keys_are_as_documented() {
        let slice: SliceKey = "1/2/src/snk/2026-11-21T05:01:49.120Z/vol/2026-11-21T05:01:50.000Z"
            .parse()
            .unwrap();
        let (file, node) = (&slice.file, NodeId("n1".to_owned()));
        let source = &file.sink.source;
        let table = "in.C-b.a/b".parse().unwrap();
        let table = TableKey::new(TableBackend::Keboola, &table, TableBackend::Sqlite);
        for (key, text) in [
            (
                StoreKey::Branch(&source.branch),
                "definition/branch/active/1/2",
            ),
            (
                StoreKey::SourceVersion(source, 7),
                "definition/source/version/1/2/src/0000000007",
            ),
            (
                StoreKey::DeletedSink(&file.sink),
                "definition/sink/deleted/1/2/src/snk",
            ),
            (
                StoreKey::ImportedFile(file),
                "storage/file/imported/1/2/src/snk/2026-11-21T05:01:49.120Z",
            ),
            (
                StoreKey::Statistics(&slice, &node),
                "storage/statistics/1/2/src/snk/2026-11-21T05:01:49.120Z/vol/2026-11-21T05:01:50.000Z/n1",
            ),
            (
                StoreKey::Table(&table),
                "definition/table/sqlite/in.c-b.a/b",
            ),
            (
                StoreKey::UnfinishedTask(&node, ProjectId(1), "a/b"),
                "runtime/task/n1/1/a/b",
            ),
        ] {
            assert_eq!(key.to_string(), text);
        }
        let statistics = StoreKey::Statistics(&slice, &node).to_string();
        assert_eq!(parse_statistics(&statistics), Some((slice.clone(), node)));
        assert_eq!(below(SINKS, source), "definition/sink/active/1/2/src/");
    }
}
