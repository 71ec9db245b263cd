//! `quota`: limits of sources and projects.

use forebay_model::quota::{ProjectQuota, Quotas, SourceQuota};
use forebay_model::{HumanDuration, out_of_range};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits of sources and projects, per node (docs/reference/quotas.md).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct QuotaSection {
    /// Burst of a rate limit: what it allows in this time. Whole seconds, 1s to 1m.
    pub(crate) window: HumanDuration,
    pub(crate) source: SourceQuota,
    pub(crate) project: ProjectQuota,
}

impl Default for QuotaSection {
    fn default() -> Self {
        let Quotas {
            window,
            source,
            project,
        } = Quotas::default();
        Self {
            window,
            source,
            project,
        }
    }
}

impl QuotaSection {
    pub(crate) fn resolve(&self) -> Quotas {
        Quotas {
            window: self.window,
            source: self.source,
            project: self.project,
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let window = self.window;
        problems.extend(out_of_range(
            "window",
            window,
            HumanDuration::secs(1),
            HumanDuration::mins(1),
        ));
        if window.0.subsec_nanos() > 0 {
            problems.push(format!("window is {window}, allowed are whole seconds"));
        }
        let of = |name: &'static str, found: Vec<String>| {
            found.into_iter().map(move |p| format!("{name}.{p}"))
        };
        problems.extend(of("source", self.source.violations()));
        problems.extend(of("project", self.project.violations()));
        problems
    }
}
