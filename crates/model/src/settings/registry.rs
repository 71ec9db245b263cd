//! The registry of settings.

mod list;

use super::spec::{SettingScope, SettingSpec};
use list::SETTINGS;

/// The list of settings.
#[derive(Clone, Copy, Debug)]
pub struct SettingRegistry;

impl SettingRegistry {
    /// All settings, sorted by key.
    pub fn all() -> &'static [SettingSpec] {
        SETTINGS
    }

    /// Settings of sinks, sorted by key.
    pub fn sink_settings() -> impl Iterator<Item = &'static SettingSpec> {
        SETTINGS.iter().filter(|s| s.scope == SettingScope::Sink)
    }

    /// The setting with this name.
    pub fn get(key: &str) -> Option<&'static SettingSpec> {
        SETTINGS
            .binary_search_by(|s| s.key.cmp(key))
            .ok()
            .map(|i| &SETTINGS[i])
    }
}
