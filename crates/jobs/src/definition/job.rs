//! A job: its source, stages and destination.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::source::JobSource;
use super::stage::{HttpStage, JobDestination};

/// A job: records come from a source, are optionally processed, and go to a destination.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobDefinition {
    /// Name of the job, and of its state directory. Default: the name of the file.
    #[serde(default)]
    pub name: String,
    /// Source of the records.
    pub source: JobSource,
    /// An API whose response replaces the record.
    #[serde(default)]
    pub processing: Option<HttpStage>,
    /// Destination of the records.
    pub destination: JobDestination,
    /// Maximum number of records waiting between two stages. 1 to 100000.
    #[serde(default = "queue")]
    #[schemars(range(min = 1, max = 100_000))]
    pub queue: u32,
    /// Chunks of files parsed in parallel. 1 to 256. Default: the number of cores.
    #[serde(default)]
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: Option<u32>,
    /// Directory of the cursor, dead letters and cache, relative to the definition's folder. Default:
    /// `forebay-jobs/NAME`.
    #[serde(default)]
    pub state: Option<PathBuf>,
}

impl JobDefinition {
    /// The JSON schema of the file.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Chunks of files parsed in parallel.
    pub fn concurrency(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.concurrency.map_or_else(cores, |n| n as usize)
    }

    /// The state directory; [`Self::read`] resolves it against the definition's folder.
    pub fn state_dir(&self) -> PathBuf {
        let default = || PathBuf::from("forebay-jobs").join(&self.name);
        self.state.clone().unwrap_or_else(default)
    }
}

fn queue() -> u32 {
    1000
}
