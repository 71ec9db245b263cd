//! Settings of sources and sinks.

use forebay_model::settings::SettingRegistry;
use serde_json::{Value, json};

use super::world::World;
use crate::compat::settings::is_compatible;

const SOURCE: &str = "/v1/branches/default/sources/my-source/settings";
const SINK: &str = "/v1/branches/default/sources/my-source/sinks/my-sink/settings";
const COUNT: &str = "storage.level.staging.upload.trigger.count";
const SIZE: &str = "storage.level.staging.upload.trigger.size";
const INTERVAL: &str = "storage.level.staging.upload.trigger.interval";

fn find(settings: &Value, key: &str) -> Value {
    let mut all = settings["settings"].as_array().unwrap().iter();
    all.find(|s| s["key"] == key).unwrap().clone()
}

fn set(key: &str, value: Value) -> Value {
    json!({ "settings": [{ "key": key, "value": value }] })
}

#[tokio::test]
async fn all_settings_are_shown_those_of_the_compatible_service_first() {
    let world = World::with_sink().await;
    for (path, count) in [(SOURCE, 34), (SINK, 30)] {
        let shown = world.get(path).await.ok();
        let keys: Vec<&str> = shown["settings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["key"].as_str().unwrap())
            .collect();
        assert_eq!(keys.len(), count);
        let (compatible, own) = keys.split_at(27);
        assert!(compatible.is_sorted() && own.is_sorted());
        assert_eq!(own.len(), count - 27);
        assert!(
            compatible
                .iter()
                .all(|k| is_compatible(SettingRegistry::get(k).unwrap()))
        );
        let fields: Vec<String> = find(&shown, SIZE)
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        let expected = [
            "key",
            "type",
            "description",
            "value",
            "defaultValue",
            "overwritten",
            "protected",
            "validation",
        ];
        assert_eq!(fields, expected);
        let wait = find(&shown, "storage.level.local.encoding.sync.wait");
        assert_eq!(
            (&wait["type"], &wait["value"]),
            (&json!("bool"), &json!(true))
        );
        assert_eq!(wait.get("validation"), None);
        let types = find(
            &shown,
            "storage.level.local.volume.assignment.preferredTypes",
        );
        assert_eq!(types["type"], "[]string");
        assert_eq!(
            (&types["value"], &types["protected"]),
            (&json!(["default"]), &json!(true))
        );
    }
}

#[tokio::test]
async fn a_sink_inherits_settings_until_it_overrides_them() {
    let world = World::with_sink().await;
    let task = world
        .done(world.patch(SOURCE, set(SIZE, json!("1MB"))).await)
        .await;
    assert_eq!(task["type"], "api.update.sourceSettings");
    assert_eq!(
        task["result"],
        "Source settings have been updated successfully."
    );
    let check = |shown: Value, value: &str, overwritten: bool| {
        let shown = find(&shown, SIZE);
        assert_eq!(shown["value"], value);
        assert_eq!(shown["defaultValue"], "5MB");
        assert_eq!(shown["overwritten"], overwritten);
    };
    check(world.get(SOURCE).await.ok(), "1MB", true);
    check(world.get(SINK).await.ok(), "1MB", false);
    let task = world
        .done(world.patch(SINK, set(SIZE, json!("2MB"))).await)
        .await;
    assert_eq!(task["type"], "api.update.sinkSettings");
    assert_eq!(
        task["result"],
        "Sink settings have been updated successfully."
    );
    check(world.get(SINK).await.ok(), "2MB", true);
    let reset =
        json!({ "settings": [{ "key": SIZE, "value": null }], "changeDescription": "Back." });
    world.done(world.patch(SINK, reset).await).await;
    check(world.get(SINK).await.ok(), "1MB", false);
    world
        .done(
            world
                .patch(SOURCE, json!({ "settings": [{ "key": SIZE }] }))
                .await,
        )
        .await;
    check(world.get(SINK).await.ok(), "5MB", false);
    let sink = world.get(SINK.trim_end_matches("/settings")).await.ok();
    assert_eq!(sink["version"]["number"], 3);
    assert_eq!(sink["version"]["description"], "Back.");
}

#[tokio::test]
async fn an_empty_patch_is_a_version_and_other_keys_stay() {
    let world = World::with_sink().await;
    world
        .done(world.patch(SINK, set(COUNT, json!(7))).await)
        .await;
    world.done(world.patch(SINK, json!({})).await).await;
    world
        .done(world.patch(SINK, set(INTERVAL, json!("2s"))).await)
        .await;
    let shown = world.get(SINK).await.ok();
    assert_eq!(find(&shown, COUNT)["value"], 7);
    assert_eq!(find(&shown, INTERVAL)["value"], "2s");
    let sink = world.get(SINK.trim_end_matches("/settings")).await.ok();
    assert_eq!(sink["version"]["number"], 4);
    assert_eq!(sink["version"]["description"], "Updated settings.");
}

#[tokio::test]
async fn invalid_values_are_reported_in_the_order_of_the_configuration() {
    let world = World::with_sink().await;
    let both = json!({ "settings": [
        { "key": INTERVAL, "value": "foo" }, { "key": SIZE, "value": "bar" },
    ] });
    let size = format!("Invalid \"{SIZE}\" value \"bar\": invalid syntax.");
    let interval = format!("Invalid \"{INTERVAL}\": time: invalid duration \"foo\".");
    let uint = format!("Invalid \"{COUNT}\" value: found type \"string\", expected \"uint64\".");
    for (body, message) in [
        (set(SIZE, json!("bar")), size.clone()),
        (set(INTERVAL, json!("foo")), interval.clone()),
        (both, format!("- {size}\n- {interval}")),
        (set(COUNT, json!("1")), uint),
    ] {
        for path in [SOURCE, SINK] {
            world
                .patch(path, body.clone())
                .await
                .is_error(400, "badRequest", &message);
        }
    }
    for (key, below, least, most, above) in [
        (
            SIZE,
            json!("99B"),
            json!("100B"),
            json!("50MB"),
            json!("51MB"),
        ),
        (
            COUNT,
            json!(0),
            json!(1),
            json!(10_000_000),
            json!(10_000_001),
        ),
        (
            INTERVAL,
            json!("999ms"),
            json!("1s"),
            json!("30m"),
            json!("30m1s"),
        ),
        (COUNT, json!(-1), json!(1), json!(1), json!(5.7)),
        (INTERVAL, json!(5), json!("1s"), json!("1s"), json!(true)),
    ] {
        for bad in [below, above] {
            let reply = world.patch(SINK, set(key, bad)).await;
            assert_eq!(reply.json()["error"], "stream.api.badRequest", "{reply:?}");
        }
        for good in [least, most] {
            world.done(world.patch(SINK, set(key, good)).await).await;
        }
    }
}

#[tokio::test]
async fn invalid_keys_are_rejected() {
    let world = World::with_sink().await;
    let keys = |keys: &[&str]| -> Value {
        let settings: Value = keys
            .iter()
            .map(|k| json!({ "key": k, "value": 1 }))
            .collect();
        json!({ "settings": settings })
    };
    let unknown = world.patch(SINK, keys(&["foo.bar", "abc"])).await;
    unknown.is_error(400, "badRequest", "Key not found: \"abc\", \"foo.bar\".");
    let twice = world.patch(SINK, keys(&[COUNT, COUNT])).await;
    let text = format!("Key \"{COUNT}\" is defined multiple times.");
    twice.is_error(400, "badRequest", &text);
    let slices = "storage.level.target.import.trigger.slicesCount";
    let level = "storage.level.local.encoding.compression.gzip.level";
    let protected = world.patch(SINK, keys(&[slices, level])).await;
    let text = format!("Cannot modify protected keys: \"{level}\", \"{slices}\".");
    protected.is_error(403, "forbidden", &text);
    let empty = world.patch(SINK, keys(&[""])).await;
    let text =
        "Length of body.settings[0].key must be greater or equal than 1 but got value \"\" (len=0)";
    empty.is_error(400, "invalidLength", text);
    let missing = json!({ "settings": [{ "key": COUNT, "value": 1 }, { "value": 1 }] });
    let missing = world.patch(SINK, missing).await;
    missing.is_error(
        400,
        "missingField",
        "\"key\" is missing from body.settings[1]",
    );
    let free = SettingRegistry::all()
        .iter()
        .filter(|s| !s.protected)
        .count();
    assert_eq!(free, 12);
}
