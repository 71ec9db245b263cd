//! Settings of sources and sinks.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// All settings of a source or sink: first those of Keboola Stream sorted by key, then those of
/// Forebay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SettingsResult)]
pub struct SettingsView {
    /// All settings, in this order.
    pub settings: Vec<SettingView>,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SettingResult)]
#[serde(rename_all = "camelCase")]
pub struct SettingView {
    /// Full name of the setting.
    #[schema(example = "storage.level.staging.upload.trigger.size")]
    pub key: String,
    /// Type of the value.
    pub r#type: SettingTypeName,
    /// Meaning of the setting.
    pub description: String,
    /// The value in force.
    pub value: Value,
    /// The server's default.
    pub default_value: Value,
    /// Set on this source or sink.
    pub overwritten: bool,
    /// Can't be changed with the API.
    pub protected: bool,
    /// Rule of valid values.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub validation: Option<String>,
}

/// Type of a setting. Sizes and durations are strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SettingType)]
pub enum SettingTypeName {
    /// Text, a size or a duration.
    #[serde(rename = "string")]
    String,
    /// A whole number.
    #[serde(rename = "int")]
    Int,
    /// True or false.
    #[serde(rename = "bool")]
    Bool,
    /// A list of texts.
    #[serde(rename = "[]string")]
    StringList,
}

/// Changes of settings; others are unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SettingsPatch)]
#[serde(rename_all = "camelCase")]
pub struct SettingsChange {
    /// Description of the new version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096, nullable = false)]
    pub change_description: Option<String>,
    /// Settings to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100, nullable = false)]
    pub settings: Option<Vec<SettingChange>>,
}

/// Change of a setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SettingPatch)]
pub struct SettingChange {
    /// Full name of the setting.
    #[schema(min_length = 1)]
    pub key: String,
    /// The new value; null resets to the inherited value.
    #[serde(default)]
    #[schema(required = false)]
    pub value: Value,
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
