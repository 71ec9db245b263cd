//! Settings of sources and sinks.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// All settings of a source or sink: first those of Keboola Stream sorted by key, then those of
/// Forebay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettingsResult)]
pub(crate) struct SettingsView {
    pub(crate) settings: Vec<SettingView>,
}

/// A setting.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettingResult)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettingView {
    #[schema(example = "storage.level.staging.upload.trigger.size")]
    pub(crate) key: &'static str,
    pub(crate) r#type: SettingTypeName,
    pub(crate) description: &'static str,
    /// The value in force.
    pub(crate) value: Value,
    /// The server's default.
    pub(crate) default_value: Value,
    /// Set on this source or sink.
    pub(crate) overwritten: bool,
    /// Can't be changed with the API.
    pub(crate) protected: bool,
    /// Rule of valid values.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) validation: Option<String>,
}

/// Type of a setting. Sizes and durations are strings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SettingType)]
pub(crate) enum SettingTypeName {
    #[serde(rename = "string")]
    String,
    #[serde(rename = "int")]
    Int,
    #[serde(rename = "bool")]
    Bool,
    #[serde(rename = "[]string")]
    StringList,
}

impl From<forebay_model::settings::SettingValueType> for SettingTypeName {
    fn from(kind: forebay_model::settings::SettingValueType) -> Self {
        use forebay_model::settings::SettingValueType as T;
        match kind {
            T::String => Self::String,
            T::Int => Self::Int,
            T::Bool => Self::Bool,
            T::StringList => Self::StringList,
        }
    }
}

/// Changes of settings; others are unchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SettingsPatch)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SettingsChange {
    /// Description of the new version.
    #[schema(max_length = 4096, nullable = false)]
    pub(crate) change_description: Option<String>,
    #[schema(max_items = 100, nullable = false)]
    pub(crate) settings: Option<Vec<SettingChange>>,
}

/// Change of a setting.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SettingPatch)]
pub(crate) struct SettingChange {
    #[schema(min_length = 1)]
    pub(crate) key: String,
    /// The new value; null resets to the inherited value.
    #[serde(default)]
    #[schema(required = false)]
    pub(crate) value: Value,
}
