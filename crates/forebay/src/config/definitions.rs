//! `definitions`: sources and sinks that the server applies itself.

use std::path::PathBuf;

use forebay_model::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Definitions of sources and sinks that the server applies itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DefinitionsSection {
    /// Folder with definition files (`*.yaml`, `*.yml`). The server applies them at its start and when a
    /// file changes. Needs the role `api`. Default: no folder.
    pub(crate) dir: Option<PathBuf>,
    /// Set that the sources and sinks of the folder belong to. Default: the name of the folder.
    pub(crate) set: Option<String>,
    /// Delete sources and sinks of the set that are no longer in the folder.
    pub(crate) prune: bool,
    /// How often the folder is checked for changes; a change is applied when two checks have found the
    /// same files. 100ms to 1h.
    pub(crate) interval: HumanDuration,
}

impl Default for DefinitionsSection {
    fn default() -> Self {
        Self {
            dir: None,
            set: None,
            prune: false,
            interval: HumanDuration::secs(2),
        }
    }
}

impl DefinitionsSection {
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut ranges = super::ranges::RangeViolations::default();
        ranges.check(
            "interval",
            self.interval,
            HumanDuration::millis(100),
            HumanDuration::mins(60),
        );
        if let Some(set) = &self.set {
            ranges.check("set", set.chars().count(), 1, 64);
        }
        ranges.violations
    }
}
