//! `templates`: worker processes for template columns.

use forebay_ingest::template::PoolConfig;
use forebay_model::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ranges::RangeViolations;

/// Worker processes for template columns, and limits of a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TemplatesSection {
    /// Worker processes, plus one for templates that exceeded a limit; 0 means one per core. 0 to 256.
    pub(crate) workers: u32,
    /// CPU time limit of one evaluation. 10ms to 1m.
    pub(crate) time_limit: HumanDuration,
    /// Memory limit of evaluations in a process. 16MB to 16GB.
    pub(crate) memory_limit: ByteSize,
    /// Total size of records waiting or being evaluated; further requests wait. 1MB to 16GB.
    pub(crate) in_flight: ByteSize,
    /// Records waiting or being evaluated; further ones get 503. 1 to 1000000.
    pub(crate) queue: u32,
}

impl Default for TemplatesSection {
    fn default() -> Self {
        let pool = PoolConfig::default();
        Self {
            workers: 0,
            time_limit: HumanDuration(pool.time_limit),
            memory_limit: pool.memory_limit,
            in_flight: pool.in_flight,
            queue: u32::try_from(pool.queue).unwrap_or(u32::MAX),
        }
    }
}

impl TemplatesSection {
    pub(crate) fn resolve(&self) -> PoolConfig {
        let pool = PoolConfig::default();
        PoolConfig {
            workers: match self.workers {
                0 => pool.workers,
                n => n as usize,
            },
            time_limit: self.time_limit.0,
            memory_limit: self.memory_limit,
            in_flight: self.in_flight,
            queue: self.queue as usize,
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let mb = ByteSize::mb;
        let mut ranges = RangeViolations::default();
        ranges.check("workers", self.workers, 0, 256);
        ranges.check(
            "timeLimit",
            self.time_limit,
            HumanDuration::millis(10),
            HumanDuration::mins(1),
        );
        ranges.check("memoryLimit", self.memory_limit, mb(16), mb(16 << 10));
        ranges.check("inFlight", self.in_flight, mb(1), mb(16 << 10));
        ranges.check("queue", self.queue, 1, 1_000_000);
        ranges.violations
    }
}
