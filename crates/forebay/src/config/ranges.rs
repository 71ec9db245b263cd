//! Ranges of values.

use std::fmt::Display;

use forebay_model::out_of_range;

/// Collects values out of range.
#[derive(Debug, Default)]
pub(crate) struct RangeViolations {
    /// Violations, each starting with the name of its key.
    pub(crate) violations: Vec<String>,
}

impl RangeViolations {
    /// Checks that a value is within `min` to `max`.
    pub(crate) fn check<T: PartialOrd + Display>(&mut self, name: &str, value: T, min: T, max: T) {
        self.violations.extend(out_of_range(name, value, min, max));
    }

    pub(crate) fn add_violation(&mut self, problem: &str) {
        self.violations.push(problem.to_owned());
    }
}
