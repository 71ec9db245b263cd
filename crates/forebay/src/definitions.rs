//! Definitions of sources and sinks, in a file or as arguments.

mod apply;
mod column;
mod definition_lines;
mod file;
mod send;
mod topic;
mod verify;

pub(crate) use apply::{ApplyAction, ApplyPlan, ApplyStep};
pub(crate) use column::{ColumnDefinition, TYPES as COLUMN_TYPES, parse_column};
pub(crate) use file::{
    DefinitionFile, SinkDefinition, SourceDefinition, definition_error, parse_failure,
};
pub(crate) use send::{rejected_steps, run_all};
pub(crate) use topic::{MessageDefinition, TopicDefinition};
pub(crate) use verify::VerifyDefinition;
