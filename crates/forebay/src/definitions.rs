//! Definitions of sources and sinks, in files or as arguments.

mod column;
mod column_argument;
mod diff;
mod export;
mod file;
mod follower;
mod plan;
mod problem;
mod read;
mod report;
mod schema;
mod send;
mod step;
mod topic;
mod validated;
mod verify;
mod wire_fields;

pub(crate) use column::ColumnDefinition;
pub(crate) use column_argument::parse_column;
pub(crate) use diff::FieldDifference;
pub(crate) use export::{export_sources, yaml_text};
pub(crate) use file::{DefinitionFile, SinkDefinition, SourceDefinition};
pub(crate) use follower::{DefinitionFollower, FollowerState};
pub(crate) use plan::{ApplyPlan, PlanOptions};
pub(crate) use problem::DefinitionProblem;
pub(crate) use read::{DefinitionSet, invalid_files, problems_error, read_texts, set_of_folder};
pub(crate) use report::ApplyReport;
pub(crate) use schema::editor_schema;
pub(crate) use send::{StepOutcome, rejected_steps, run_all};
pub(crate) use step::{ApplyAction, ApplyStep};
pub(crate) use topic::{MessageDefinition, TopicDefinition};
pub(crate) use validated::ApplyFailure;
pub(crate) use verify::{VERIFY_ENCODINGS, VERIFY_HASHES, VERIFY_TYPES, VerifyDefinition};
