//! Settings of a sink in typed form. A sink's effective settings are the node's defaults,
//! overridden by its source's, overridden by its own; they are fixed into each file when it is
//! opened.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::definition::SettingsPatch;

mod inert;
mod registry;
mod spec;
mod values;

pub use inert::InertSettings;
pub use registry::SettingRegistry;
pub use spec::{SettingRule, SettingScope, SettingSpec, SettingValueType, SettingViolation};
pub use values::{
    BlockCompression, CompressionType, ImportTrigger, RejectionAction, RejectionSettings,
    SinkSettings, SinkSyncMode, SyncSettings, UploadTrigger,
};

impl SinkSettings {
    /// Compression with its level.
    pub fn compression(&self) -> BlockCompression {
        match self.compression {
            CompressionType::None => BlockCompression::None,
            CompressionType::Gzip => BlockCompression::Gzip {
                level: self.compression_level,
            },
            CompressionType::Zstd => BlockCompression::Zstd {
                level: self.compression_level,
            },
        }
    }

    /// These settings overridden by `patch`. Values that the registry rejects are left out: a
    /// stored patch was validated, so that happens only after a downgrade.
    pub fn with(&self, patch: &SettingsPatch) -> Self {
        let mut settings = self.clone();
        for (key, value) in patch {
            if let Some(setting) = SettingRegistry::get(key) {
                // A rejected value leaves the setting unchanged, as intended here.
                drop(setting.apply(&mut settings, value));
            }
        }
        settings
    }

    /// The value of a setting as the API shows it.
    pub fn value(&self, setting: &SettingSpec) -> Value {
        (setting.get)(self)
    }
}

#[cfg(test)]
mod tests;

/// All settings by their names in the API. A missing one has the program's default, so that a new
/// setting needs no new version of a stored form.
impl Serialize for SinkSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let settings: SettingsPatch = SettingRegistry::sink_settings()
            .map(|s| (s.key.to_owned(), self.value(s)))
            .collect();
        settings.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SinkSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SettingsPatch::deserialize(deserializer).map(|settings| Self::default().with(&settings))
    }
}
