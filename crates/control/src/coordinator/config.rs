//! Configuration of the coordinator: check intervals, timeouts and retention.

use forebay_model::{Backoff, HumanDuration, out_of_range};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rotation of files and slices, timeouts of each step, and retention of finished files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct CoordinatorConfig {
    /// Interval of checking rotation conditions. State changes are handled at once. 100ms to 30s.
    pub check_interval: HumanDuration,
    /// Minimum age of a slice before rotation, whatever its size. 1s to 30m.
    pub upload_min_interval: HumanDuration,
    /// Minimum age of a file before rotation, unless it has too many slices. 1s to 24h.
    pub import_min_interval: HumanDuration,
    /// Number of slices at which a file is rotated at once. 50 to 120.
    pub import_max_slices: u32,
    /// Maximum files of one sink that are closing or importing; further files stay open and grow. 1
    /// to 100.
    pub import_job_limit: u32,
    /// Maximum rotations per second caused by age alone, oldest first. With thousands of busy sinks
    /// this spreads the load over time. 1 to 100000.
    pub aged_rotations_per_second: u32,
    /// Timeout of a rotation. 30s to 15m.
    pub slice_rotation_timeout: HumanDuration,
    /// How long a closing slice may wait for the nodes to drain it before a warning; it is never
    /// uploaded incomplete. 10s to 10m.
    pub slice_close_timeout: HumanDuration,
    /// How long a closing file may wait for its slices before a warning. 10s to 10m.
    pub file_close_timeout: HumanDuration,
    /// Interval of removing old files and tasks. 1s to 24h.
    pub cleanup_interval: HumanDuration,
    /// Minimum retention of the metadata of an imported file. 1m to 720h.
    pub archived_file_expiration: HumanDuration,
    /// Number of newest imported files per sink that are always retained. 0 to 100.
    pub archived_file_retention_per_sink: u32,
    /// Retention of the audit log. 1h to 87600h.
    pub audit_retention: HumanDuration,
    /// Wait after the first failure; each further wait is `retryFactor` times longer.
    pub retry_initial: HumanDuration,
    /// Factor between consecutive waits. 1 to 10.
    pub retry_factor: u32,
    /// Maximum wait between two attempts; a failure that needs an operator always waits five times
    /// as long.
    pub retry_max: HumanDuration,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            check_interval: HumanDuration::millis(200),
            upload_min_interval: HumanDuration::secs(1),
            import_min_interval: HumanDuration::secs(1),
            import_max_slices: 100,
            import_job_limit: 2,
            aged_rotations_per_second: 200,
            slice_rotation_timeout: HumanDuration::mins(5),
            slice_close_timeout: HumanDuration::mins(1),
            file_close_timeout: HumanDuration::mins(1),
            cleanup_interval: HumanDuration::mins(10),
            archived_file_expiration: HumanDuration::hours(1),
            archived_file_retention_per_sink: 30,
            audit_retention: HumanDuration::hours(24 * 365),
            retry_initial: HumanDuration::secs(1),
            retry_factor: 2,
            retry_max: HumanDuration::mins(1),
        }
    }
}

impl CoordinatorConfig {
    pub fn backoff(&self) -> Backoff {
        Backoff {
            initial: self.retry_initial.0,
            factor: self.retry_factor,
            max: self.retry_max.0,
        }
    }

    /// All settings out of range: name, value and allowed range.
    pub fn violations(&self) -> Vec<String> {
        let (ms, s, m, h) = (
            HumanDuration::millis,
            HumanDuration::secs,
            HumanDuration::mins,
            HumanDuration::hours,
        );
        let c = self;
        let violations = [
            out_of_range("checkInterval", c.check_interval, ms(100), s(30)),
            out_of_range("uploadMinInterval", c.upload_min_interval, s(1), m(30)),
            out_of_range("importMinInterval", c.import_min_interval, s(1), h(24)),
            out_of_range(
                "sliceRotationTimeout",
                c.slice_rotation_timeout,
                s(30),
                m(15),
            ),
            out_of_range("sliceCloseTimeout", c.slice_close_timeout, s(10), m(10)),
            out_of_range("fileCloseTimeout", c.file_close_timeout, s(10), m(10)),
            out_of_range("cleanupInterval", c.cleanup_interval, s(1), h(24)),
            out_of_range(
                "archivedFileExpiration",
                c.archived_file_expiration,
                m(1),
                h(720),
            ),
            out_of_range("auditRetention", c.audit_retention, h(1), h(87_600)),
            out_of_range("retryInitial", c.retry_initial, ms(10), m(10)),
            out_of_range("retryMax", c.retry_max, ms(10), h(24)),
            out_of_range("importMaxSlices", c.import_max_slices, 50, 120),
            out_of_range("importJobLimit", c.import_job_limit, 1, 100),
            out_of_range(
                "agedRotationsPerSecond",
                c.aged_rotations_per_second,
                1,
                100_000,
            ),
            out_of_range(
                "archivedFileRetentionPerSink",
                c.archived_file_retention_per_sink,
                0,
                100,
            ),
            out_of_range("retryFactor", c.retry_factor, 1, 10),
        ];
        violations.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_violations_name_the_setting() {
        assert_eq!(
            CoordinatorConfig::default().violations(),
            Vec::<String>::new()
        );
        let config = CoordinatorConfig {
            check_interval: HumanDuration::millis(99),
            import_max_slices: 150,
            ..CoordinatorConfig::default()
        };
        assert_eq!(
            config.violations(),
            [
                "checkInterval is 99ms, allowed is 100ms to 30s",
                "importMaxSlices is 150, allowed is 50 to 120"
            ]
        );
    }
}
