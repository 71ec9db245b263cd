//! Profiles: named sets of defaults. Explicit settings override them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Profile {
    /// Rows are in the table within seconds; listens on this machine only.
    #[default]
    Forebay,
    /// Defaults of Keboola Stream.
    Keboola,
}

/// Keys and values of `keboola`; `docs/compat.md` explains the differences.
pub(crate) const KEBOOLA: [(&str, &str); 16] = [
    ("api.listen", "0.0.0.0:8000"),
    ("api.rawString", "false"),
    ("limits.sourcesPerBranch", "100"),
    ("limits.sinksPerSource", "100"),
    ("source.http.listen", "0.0.0.0:7000"),
    ("source.http.maxConnections", "200000"),
    ("storage.level.staging.upload.trigger.interval", "30s"),
    ("storage.level.target.import.trigger.interval", "1m"),
    ("coordinator.checkInterval", "1s"),
    ("coordinator.uploadMinInterval", "10s"),
    ("coordinator.importMinInterval", "1m"),
    ("coordinator.retryInitial", "2m"),
    ("coordinator.retryFactor", "4"),
    ("coordinator.retryMax", "3h"),
    ("upload.checkInterval", "2s"),
    ("garbageCollection.interval", "5m"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigSources, catalog, load};

    fn loaded(flags: &[(&'static str, &str, &str)]) -> crate::config::LoadedConfig {
        let flags = flags
            .iter()
            .map(|(flag, key, text)| (*flag, (*key).to_owned(), (*text).to_owned()));
        load(&ConfigSources {
            flags: flags.collect(),
            ..ConfigSources::default()
        })
        .unwrap()
    }

    #[test]
    fn the_profile_sets_its_keys_and_explicit_settings_override_them() {
        let plain = serde_json::to_value(Config::default()).unwrap();
        let set = loaded(&[
            ("--set", "profile", "keboola"),
            ("--set", "coordinator.retryFactor", "3"),
        ]);
        assert_eq!(set.config.profile, Profile::Keboola);
        assert_eq!(set.config.coordinator.retry_factor, 3);
        let tree = serde_json::to_value(&set.config).unwrap();
        for (path, _) in KEBOOLA {
            assert!(
                catalog::root().keys().iter().any(|k| k.path == path),
                "{path}"
            );
            let pointer = format!("/{}", path.replace('.', "/"));
            if !path.starts_with("storage.level.") {
                assert_ne!(tree.pointer(&pointer), plain.pointer(&pointer), "{path}");
            }
        }
        let settings = &set.config.storage.level.0;
        assert_eq!(settings.upload.interval.0.as_secs(), 30);
        assert_eq!(settings.import.interval.0.as_secs(), 60);
        assert_eq!(loaded(&[]).config.profile, Profile::Forebay);
    }

    #[test]
    fn the_document_matches_the_profile() {
        let document = include_str!("../../../../docs/compat.md");
        for (path, value) in KEBOOLA {
            let row = document
                .lines()
                .find(|l| l.starts_with(&format!("| `{path}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/compat.md does not list {path}"));
            assert!(row.contains(&format!("| `{value}` |")), "{row}");
        }
    }
}
