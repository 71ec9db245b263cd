//! Differences between two configurations.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::catalog;
use super::layers::AssignedValue;

/// Values by key, including secrets.
#[derive(Clone, Default)]
pub(crate) struct KeyAssignments(BTreeMap<&'static str, Value>);

impl fmt::Debug for KeyAssignments {
    /// Omits the values, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl KeyAssignments {
    pub(super) fn new(assigned: &BTreeMap<&'static str, AssignedValue>) -> Self {
        let values = assigned.iter().map(|(path, a)| (*path, a.value.clone()));
        Self(values.collect())
    }

    /// This configuration, with the values of `other` for the keys that `taken` selects.
    pub(crate) fn with(&self, other: &Self, taken: impl Fn(&str) -> bool) -> Self {
        let mut all = self.0.clone();
        all.retain(|key, _| !taken(key));
        let more = other.0.iter().filter(|(key, _)| taken(key));
        all.extend(more.map(|(key, value)| (*key, value.clone())));
        Self(all)
    }

    /// Keys with different values. A key that is not set has its default.
    pub(crate) fn changed(&self, other: &Self) -> Vec<&'static str> {
        let keys = catalog::root().keys().into_iter();
        let differs = |key: &&catalog::ConfigKey| {
            let of = |all: &Self| all.0.get(key.path.as_str()).unwrap_or(&key.default).clone();
            of(self) != of(other)
        };
        keys.filter(differs).map(|key| key.path.as_str()).collect()
    }
}
