//! Limits of definitions: those that the configuration sets (`limits`), and the fixed ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::out_of_range;

/// Maximum columns of a mapping, whatever is configured: PostgreSQL's bound.
pub const COLUMNS_MAX: usize = 1600;
/// Maximum characters of a template, whatever is configured: bounds the parser's recursion.
pub const TEMPLATE_CHARS_MAX: usize = 4096;
/// Maximum bytes of the columns of a table or of the message of a topic, as JSON: a change of a sink
/// writes them several times in a transaction of the store.
pub const MAPPING_BYTES_MAX: usize = 256 << 10;
/// Maximum characters of a source's or sink's id, whatever is configured: ids are file names.
pub const ID_CHARS_MAX: usize = 100;
/// Maximum headers of a topic's message, whatever is configured.
pub const MESSAGE_HEADERS_MAX: usize = 1000;
/// Maximum characters of a topic's name: Kafka's bound.
pub const TOPIC_CHARS_MAX: usize = 249;
/// Maximum characters of a path.
pub const PATH_CHARS_MAX: usize = 4096;
/// Maximum nesting of filters, parentheses and functions in a path.
pub const PATH_NESTING_MAX: usize = 32;
/// Maximum bytes of a table's id.
pub const TABLE_ID_BYTES_MAX: usize = 512;
/// Number of characters of a source's secret, out of `[0-9a-zA-Z]`.
pub const SECRET_CHARS: usize = 48;

/// A limit, as shown in the configuration and the documents.
#[derive(Clone, Copy, Debug)]
pub struct LimitSpec {
    /// Full name, like `limits.sinksPerSource`.
    pub setting: &'static str,
    /// Default value.
    pub default: u32,
    /// Minimum value.
    pub min: u32,
    /// Maximum value.
    pub max: u32,
    /// Description of the counted items.
    pub what: &'static str,
    get: fn(&DefinitionLimits) -> u32,
}

impl LimitSpec {
    /// Name within the section.
    pub fn name(&self) -> &'static str {
        self.setting.rsplit('.').next().unwrap_or(self.setting)
    }

    /// Configured value.
    pub fn value_in(&self, limits: &DefinitionLimits) -> u32 {
        (self.get)(limits)
    }
}

macro_rules! definition_limits {
    ($($field:ident $name:literal $default:literal $min:literal $max:literal $what:literal;)+) => {
        /// Limits of sources, sinks and their parts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, rename_all = "camelCase", deny_unknown_fields)]
        pub struct DefinitionLimits {
            $(
                #[doc = concat!($what, ". ", stringify!($min), " to ", stringify!($max), ".")]
                pub $field: u32,
            )+
        }

        impl Default for DefinitionLimits {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl DefinitionLimits {
            /// All limits, in the order of the configuration.
            pub const ALL: &[LimitSpec] = &[
                $(LimitSpec {
                    setting: concat!("limits.", $name),
                    default: $default,
                    min: $min,
                    max: $max,
                    what: $what,
                    get: |limits| limits.$field,
                },)+
            ];
        }
    };
}

definition_limits! {
    sources_per_branch "sourcesPerBranch" 100000 1 1000000 "Sources of a branch, without deleted ones";
    sinks_per_source "sinksPerSource" 100000 1 1000000 "Sinks of a source, without deleted ones";
    versions "versions" 1000 2 1000000 "Versions of a source or sink; all of them are kept";
    columns_per_sink "columnsPerSink" 100 1 1600 "Columns of a sink's mapping";
    headers_per_message "headersPerMessage" 50 0 1000 "Headers of the message of a sink that is a topic";
    name_length "nameLength" 40 1 255 "Characters of the name of a source or sink";
    id_length "idLength" 48 1 100 "Characters of the id of a source or sink";
    description_length "descriptionLength" 4096 0 8192 "Characters of a description, also of that of a version";
    template_length "templateLength" 4096 1 4096 "Characters of a template";
    settings_per_patch "settingsPerPatch" 100 1 1000 "Settings that one request changes";
    tokens_per_project "tokensPerProject" 100 1 100000 "Tokens of a project that the server keeps";
    shares_per_table "sharesPerTable" 100 0 10000 "Projects that a table is shared with";
}

impl DefinitionLimits {
    /// All values out of range: name, value, allowed range.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let check = |l: &LimitSpec| out_of_range(l.name(), l.value_in(self), l.min, l.max);
        Self::ALL.iter().filter_map(check).collect()
    }
}

/// A limit with the setting that sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountLimit {
    /// Maximum count.
    pub max: usize,
    /// Full name of the setting.
    pub setting: &'static str,
}

impl CountLimit {
    /// Creates a limit from a value of [`DefinitionLimits`].
    pub fn new(max: u32, setting: &'static str) -> Self {
        Self {
            max: usize::try_from(max).unwrap_or(usize::MAX),
            setting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_violations_are_named() {
        assert_eq!(
            DefinitionLimits::default().violations(),
            Vec::<String>::new()
        );
        let limits = DefinitionLimits {
            sinks_per_source: 0,
            columns_per_sink: 1601,
            ..DefinitionLimits::default()
        };
        assert_eq!(
            limits.violations(),
            [
                "sinksPerSource is 0, allowed is 1 to 1000000",
                "columnsPerSink is 1601, allowed is 1 to 1600",
            ]
        );
    }

    #[test]
    fn names_are_those_of_the_configuration() {
        let tree = serde_json::to_value(DefinitionLimits::default()).unwrap();
        let names: Vec<&str> = DefinitionLimits::ALL.iter().map(LimitSpec::name).collect();
        assert_eq!(tree.as_object().unwrap().len(), names.len());
        for limit in DefinitionLimits::ALL {
            assert_eq!(tree[limit.name()], limit.default, "{}", limit.setting);
        }
        assert_eq!(
            usize::try_from(limit("columnsPerSink").max),
            Ok(COLUMNS_MAX)
        );
        assert_eq!(usize::try_from(limit("idLength").max), Ok(ID_CHARS_MAX));
        assert_eq!(
            usize::try_from(limit("templateLength").max),
            Ok(TEMPLATE_CHARS_MAX)
        );
        assert_eq!(
            usize::try_from(limit("headersPerMessage").max),
            Ok(MESSAGE_HEADERS_MAX)
        );
    }

    #[test]
    fn the_document_lists_all_limits() {
        let document = include_str!("../../../docs/reference/limits.md");
        for limit in DefinitionLimits::ALL {
            let row = document
                .lines()
                .find(|l| l.starts_with(&format!("| `{}` |", limit.setting)));
            let row = row.unwrap_or_else(|| panic!("limits.md does not list {}", limit.setting));
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            assert_eq!(cells[2], limit.default.to_string(), "{row}");
            assert_eq!(cells[4], format!("{} to {}", limit.min, limit.max), "{row}");
            assert_eq!(cells[5], limit.what, "{row}");
        }
    }

    fn limit(name: &str) -> &'static LimitSpec {
        DefinitionLimits::ALL
            .iter()
            .find(|l| l.name() == name)
            .unwrap()
    }
}
