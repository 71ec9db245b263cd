//! Settings as the reference lists them: its own first, with their rules as texts.

use forebay_model::ByteSize;
use forebay_model::settings::{SettingRegistry, SettingRule, SettingSpec};

/// Settings of the reference, without their common prefix.
const COMPATIBLE: [&str; 27] = [
    "local.encoding.compression.gzip.blockSize",
    "local.encoding.compression.gzip.concurrency",
    "local.encoding.compression.gzip.implementation",
    "local.encoding.compression.gzip.level",
    "local.encoding.compression.type",
    "local.encoding.encoder.concurrency",
    "local.encoding.encoder.type",
    "local.encoding.failedChunksThreshold",
    "local.encoding.inputBuffer",
    "local.encoding.maxChunkSize",
    "local.encoding.sync.checkInterval",
    "local.encoding.sync.compressedBytesTrigger",
    "local.encoding.sync.countTrigger",
    "local.encoding.sync.intervalTrigger",
    "local.encoding.sync.mode",
    "local.encoding.sync.uncompressedBytesTrigger",
    "local.encoding.sync.wait",
    "local.volume.assignment.count",
    "local.volume.assignment.preferredTypes",
    "staging.upload.trigger.count",
    "staging.upload.trigger.interval",
    "staging.upload.trigger.size",
    "target.import.trigger.count",
    "target.import.trigger.expiration",
    "target.import.trigger.interval",
    "target.import.trigger.size",
    "target.import.trigger.slicesCount",
];

/// The one with a lower bound that the reference does not mark as required.
const OPTIONAL: &str = "storage.level.local.encoding.compression.gzip.level";

/// Whether the reference has the setting too.
pub(crate) fn is_compatible(setting: &SettingSpec) -> bool {
    let name = setting.key.strip_prefix("storage.level.");
    name.is_some_and(|name| COMPATIBLE.contains(&name))
}

/// All settings: those of the reference sorted by key, then our own, sorted by key.
pub(crate) fn listed() -> impl Iterator<Item = &'static SettingSpec> {
    let all = SettingRegistry::all().iter();
    let own = all.clone().filter(|s| !is_compatible(s));
    all.filter(|s| is_compatible(s)).chain(own)
}

/// The rule of a setting as the reference writes it; `None` if any value of the type is allowed.
pub(crate) fn rule_text(setting: &SettingSpec) -> Option<String> {
    Some(match setting.rule {
        SettingRule::Any => return None,
        SettingRule::Int(0, max) => format!("min=0,max={max}"),
        SettingRule::Int(min, max) if setting.key == OPTIONAL => format!("min={min},max={max}"),
        SettingRule::Int(min, max) => format!("required,min={min},max={max}"),
        SettingRule::Size(ByteSize(0), max) => format!("maxBytes={max}"),
        SettingRule::Size(min, max) => {
            let min = min.to_string().replace("KB", "kB");
            format!("required,minBytes={min},maxBytes={max}")
        }
        SettingRule::Duration(min, max) => {
            let (min, max) = (min.short_text(), max.short_text());
            format!("required,minDuration={min},maxDuration={max}")
        }
        SettingRule::OneOf(names) => format!("required,oneof={}", names.join(" ")),
        SettingRule::Chars(max) => format!("max={max}"),
        SettingRule::NonEmptyList => "required,min=1".to_owned(),
        SettingRule::ListOf(names) => format!("unique,dive,oneof={}", names.join(" ")),
    })
}

/// Sort key of a setting's violation: of a trigger the count, then the size, then the interval.
pub(crate) fn violation_rank(key: &str) -> (String, usize) {
    let (group, name) = key.rsplit_once('.').unwrap_or(("", key));
    let order = ["count", "size", "interval"];
    let index = order.iter().position(|n| *n == name);
    (group.to_owned(), index.unwrap_or(order.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_begin_with_the_compatible_settings() {
        let listed: Vec<_> = listed().collect();
        assert_eq!(listed.len(), SettingRegistry::all().len());
        let (compatible, own) = listed.split_at(27);
        assert!(compatible.iter().all(|s| is_compatible(s)));
        assert!(own.iter().all(|s| !is_compatible(s)));
        assert!(compatible.is_sorted_by_key(|s| s.key));
        assert!(own.is_sorted_by_key(|s| s.key));
    }

    #[test]
    fn rules_have_the_text_of_the_compatible_api() {
        let text = |key: &str| {
            let setting = SettingRegistry::get(&format!("storage.level.{key}"));
            rule_text(setting.unwrap())
        };
        assert_eq!(text("local.encoding.sync.wait"), None);
        assert_eq!(
            text("local.encoding.compression.gzip.level").unwrap(),
            "min=1,max=9"
        );
        assert_eq!(text("local.encoding.inputBuffer").unwrap(), "maxBytes=16MB");
        assert_eq!(
            text("local.encoding.maxChunkSize").unwrap(),
            "required,minBytes=64kB,maxBytes=1MB"
        );
        assert_eq!(
            text("staging.upload.trigger.interval").unwrap(),
            "required,minDuration=1s,maxDuration=30m"
        );
        assert_eq!(
            text("target.import.trigger.interval").unwrap(),
            "required,minDuration=1s,maxDuration=24h"
        );
    }
}
