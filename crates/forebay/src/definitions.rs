//! Definitions of sources and sinks, in a file or as arguments.

mod apply;
mod column;
mod definition_lines;
mod file;
mod send;
mod topic;
mod verify;

pub(crate) use apply::{ApplyAction, ApplyPlan, ApplyStep};
pub(crate) use column::{ColumnDefinition, parse_column};
pub(crate) use file::{DefinitionFile, SinkDefinition, SourceDefinition, definition_error};
pub(crate) use send::{rejected_steps, run_all};
pub(crate) use topic::TopicDefinition;
pub(crate) use verify::VerifyDefinition;
