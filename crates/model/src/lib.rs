//! The domain model of Forebay: sources, sinks, files and slices with their states and limits. No
//! IO and no async; all other crates use these types.

#![warn(missing_docs)]

pub mod backoff;
pub mod calendar;
pub mod column;
pub mod data_type;
pub mod dead_letter;
pub mod decimal;
pub mod definition;
pub mod failpoint;
pub mod file;
pub mod handshake;
pub mod id;
pub mod imported_file;
pub mod limits;
pub mod metric;
pub mod micros;
pub mod quota;
pub mod retry;
pub mod settings;
pub mod signature;
pub mod slice;
pub mod statistics;
pub mod table;
pub mod task;
mod text_form;
pub mod time;
pub mod topic;
pub mod transition;
pub mod units;
mod usual_time;
pub mod words;

pub use backoff::Backoff;
pub use column::{
    ColumnKind, Mapping, MappingColumn, MappingViolation, PathColumn, PathColumnUse, PathUse,
    TemplateColumn,
};
pub use data_type::{CellConversion, CellText, DataType, InvalidValue, JsonScalar, TypedValue};
pub use dead_letter::{
    CauseGroup, CauseId, CauseReport, DeadLetterEdit, DeadLetterFacts, DeadLetterFilter,
    DeadLetterQuery, DeadLetterReplay, DeadLetterSelection, DiscardReport, InvalidCauseId,
    ReplayReport, ReplayedRow, ResolvedRanges,
};
pub use definition::{
    Actor, ActorKind, AuditStamp, DefinitionVersion, DeletionInfo, DisableInfo, PauseInfo,
    SettingsPatch, Sink, SinkTarget, Source, SourceKind, TableSink,
};
pub use file::{DeadRows, File, FileState};
pub use handshake::{HandshakeKind, HandshakeSettings};
pub use id::{
    BranchId, BranchKey, DeadLetterId, FileKey, InvalidId, InvalidKey, NodeId, ProjectId, SinkId,
    SinkKey, SliceKey, SourceId, SourceKey, VolumeId,
};
pub use imported_file::{ImportedFile, ImportedSlice};
pub use limits::{CountLimit, DefinitionLimits};
pub use metric::{MetricDefinition, MetricFamily, MetricKind};
pub use micros::{EpochUnit, InvalidTime, ParsedTime, TimestampMicros};
pub use retry::RetryState;
pub use settings::{BlockCompression, SinkSettings};
pub use signature::{
    SignatureEncoding, SignatureHash, SignatureHeader, SignatureSettings, SignatureType,
    SigningSecret,
};
pub use slice::{Slice, SliceState, StagedChecksum};
pub use statistics::{Reconciliation, Statistics};
pub use table::{InvalidTableId, TableBackend, TableId, TableKey};
pub use task::{TaskEnd, TaskEntry};
pub use time::{Clock, ManualClock, Timestamp, TimestampText};
pub use topic::{
    HttpMethod, MessageMapping, MessageValue, TopicKind, TopicSink, TopicState, TopicStatistics,
    is_own_http_header,
};
pub use transition::InvalidTransition;
pub use units::{ByteSize, HumanDuration, out_of_range};
pub use usual_time::TimeText;
