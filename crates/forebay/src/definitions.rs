//! Sources and sinks as people write them: in a file, or as arguments.

mod apply;
mod column;
mod file;
mod place;
mod send;
mod topic;

pub(crate) use apply::{Change, Plan, Step};
pub(crate) use column::{ColumnDefinition, parse_column};
pub(crate) use file::{Definitions, SinkDefinition, SourceDefinition, listed};
pub(crate) use send::{refused, run_all};
pub(crate) use topic::TopicDefinition;
