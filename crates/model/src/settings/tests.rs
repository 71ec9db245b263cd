use super::*;
use crate::units::HumanDuration;
use serde_json::json;

fn violation(key: &str, value: Value) -> String {
    let setting = SettingRegistry::get(key).unwrap();
    let mut settings = SinkSettings::default();
    let error = setting
        .apply(&mut settings, &value)
        .unwrap_err()
        .to_string();
    assert_eq!(
        settings,
        SinkSettings::default(),
        "a rejected value must change nothing"
    );
    error
}

#[test]
fn the_registry_is_sorted_and_has_the_keys_of_sinks_and_sources() {
    let keys: Vec<_> = SettingRegistry::all().iter().map(|s| s.key).collect();
    assert!(keys.is_sorted());
    assert_eq!(keys.len(), 34);
    assert_eq!(SettingRegistry::sink_settings().count(), 30);
    assert_eq!(
        SettingRegistry::all()
            .iter()
            .filter(|s| !s.protected)
            .count(),
        12
    );
    assert!(SettingRegistry::get("storage.level.nothing").is_none());
}

#[test]
fn every_default_passes_its_own_rule_and_reads_back() {
    let defaults = SinkSettings::default();
    for setting in SettingRegistry::all() {
        let mut settings = defaults.clone();
        let value = defaults.value(setting);
        setting.apply(&mut settings, &value).unwrap();
        assert_eq!(settings, defaults, "{}", setting.key);
    }
}

#[test]
fn values_outside_the_rules_are_rejected_with_the_allowed_values() {
    let interval = "storage.level.staging.upload.trigger.interval";
    let size = "storage.level.staging.upload.trigger.size";
    let count = "storage.level.staging.upload.trigger.count";
    let mode = "storage.level.local.encoding.sync.mode";
    for (key, value, expected) in [
        (
            size,
            json!("bar"),
            format!("Invalid \"{size}\" value \"bar\": invalid syntax."),
        ),
        (
            size,
            json!("1GB"),
            format!("Invalid \"{size}\" value \"1GB\": must be between 100B and 50MB."),
        ),
        (
            interval,
            json!("foo"),
            format!("Invalid \"{interval}\": time: invalid duration \"foo\"."),
        ),
        (
            interval,
            json!("10h"),
            format!("Invalid \"{interval}\" value \"10h\": must be between 1s and 30m."),
        ),
        (
            count,
            json!("5"),
            format!("Invalid \"{count}\" value: found type \"string\", expected \"uint64\"."),
        ),
        (
            count,
            json!(0),
            format!(
                "Invalid \"{count}\" value \"0\": must be a whole number between 1 and 10000000."
            ),
        ),
        (
            count,
            json!(-1),
            format!(
                "Invalid \"{count}\" value \"-1\": must be a whole number between 1 and 10000000."
            ),
        ),
        (
            count,
            json!(5.7),
            format!(
                "Invalid \"{count}\" value \"5.7\": must be a whole number between 1 and 10000000."
            ),
        ),
        (
            interval,
            json!(5),
            format!("Invalid \"{interval}\" value: found type \"int\", expected \"string\"."),
        ),
        (
            mode,
            json!("never"),
            format!("Invalid \"{mode}\" value \"never\": must be one of disk, cache."),
        ),
    ] {
        assert_eq!(violation(key, value), expected);
    }
}

#[test]
fn limits_are_inclusive() {
    let setting = SettingRegistry::get("storage.level.staging.upload.trigger.interval").unwrap();
    let mut settings = SinkSettings::default();
    for (text, fine) in [
        ("1s", true),
        ("999ms", false),
        ("30m", true),
        ("30m1ms", false),
    ] {
        assert_eq!(
            setting.apply(&mut settings, &json!(text)).is_ok(),
            fine,
            "{text}"
        );
    }
}

#[test]
fn a_patch_overrides_other_settings() {
    let patch: SettingsPatch = [(
        "storage.level.target.import.trigger.interval".to_owned(),
        json!("7s"),
    )]
    .into();
    let settings = SinkSettings::default().with(&patch);
    assert_eq!(settings.import.interval, HumanDuration::secs(7));
    assert_eq!(settings.upload, SinkSettings::default().upload);
}

#[test]
fn lists_of_names_have_known_names_once() {
    let key = "source.handshake.kinds";
    for (value, expected) in [
        (
            json!(["hub", "twitter"]),
            "value \"twitter\": each item must be one of cloudevents, dropbox, head, hub, microsoft_graph, okta, put, slack.",
        ),
        (
            json!(["hub", "hub"]),
            "value \"hub\": must be in the list once.",
        ),
        (
            json!("hub"),
            "value: found type \"string\", expected \"[]string\".",
        ),
        (
            json!([1]),
            "value: found type \"int\", expected \"string\".",
        ),
    ] {
        assert_eq!(
            violation(key, value),
            format!("Invalid \"{key}\" {expected}")
        );
    }
    let mut settings = SinkSettings::default();
    let setting = SettingRegistry::get(key).unwrap();
    setting
        .apply(&mut settings, &json!(["slack", "hub"]))
        .unwrap();
    assert_eq!(settings.value(setting), json!(["slack", "hub"]));
    setting.apply(&mut settings, &json!([])).unwrap();
    assert_eq!(settings, SinkSettings::default());
    let token = "source.handshake.verifyToken";
    let long = violation(token, json!("x".repeat(257)));
    assert!(
        long.ends_with("…\": must have at most 256 characters."),
        "{long}"
    );
}
