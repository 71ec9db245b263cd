//! The nouns of Forebay: what a source, a sink, a file and a slice are, which states they go
//! through and which limits hold. No IO and no async; every other crate speaks in these types.

pub mod calendar;
pub mod column;
pub mod decimal;
pub mod definition;
pub mod failpoint;
pub mod file;
pub mod handshake;
pub mod id;
pub mod limits;
pub mod micros;
pub mod quota;
pub mod retry;
pub mod settings;
pub mod slice;
pub mod statistics;
pub mod table;
pub mod task;
pub mod time;
pub mod topic;
pub mod units;

pub use column::{
    Column, ColumnKind, Mapping, MappingProblem, PathColumn, PathColumnUse, PathUse, TemplateColumn,
};
pub use definition::{
    By, ByKind, Deleted, Disabled, Paused, SettingsPatch, Sink, SinkTarget, Source, SourceKind,
    Stamp, TableSink, Version,
};
pub use file::{DeadRows, File, FileState, InvalidTransition};
pub use handshake::{Handshake, Handshakes};
pub use id::{
    BranchId, BranchKey, FileKey, InvalidId, InvalidKey, LetterId, NodeId, ProjectId, SinkId,
    SinkKey, SliceKey, SourceId, SourceKey, VolumeId,
};
pub use micros::{EpochUnit, InvalidTime, ReadTime, TimestampMicros};
pub use retry::{Backoff, Retry};
pub use settings::{Compression, SinkSettings};
pub use slice::{Slice, SliceState, Staged};
pub use statistics::{Balance, Statistics};
pub use table::{InvalidTableId, TableBackend, TableId, TableKey};
pub use task::{Task, TaskEnd};
pub use time::{Clock, ManualClock, Timestamp, TimestampText};
pub use topic::{
    HttpMethod, MessageMapping, MessageValue, TopicKind, TopicSink, TopicState, TopicStatistics,
    is_own_http_header, is_reserved_http_header,
};
pub use units::{ByteSize, Span, out_of_range};
