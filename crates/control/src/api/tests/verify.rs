//! Signatures that a source requires: definition, change, views, and that secrets stay secret.

use serde_json::{Value, json};

use super::sample::source;
use super::world::{S, World};

const OLD: &str = "an-old-secret-of-the-sender";
const NEW: &str = "a-new-secret-of-the-sender";

fn with(verify: Value) -> Value {
    let mut body = source("Hooks");
    body["verify"] = verify;
    body
}

#[tokio::test]
async fn a_requirement_is_set_changed_and_removed() {
    let world = World::new().await;
    let hooks = format!("{S}/hooks");
    let created = with(json!({ "type": "github", "secrets": [OLD, NEW] }));
    world.done(world.post(S, created).await).await;
    let shown = world.get(&hooks).await.ok();
    let prints = shown["verify"]["secretFingerprints"].as_array().unwrap();
    assert_eq!(prints.len(), 2);
    assert_eq!(
        shown["verify"],
        json!({ "type": "github", "secretFingerprints": prints })
    );
    let last = shown.as_object().unwrap().keys().next_back().unwrap();
    assert_eq!(last, "verify", "behind the fields of the reference");

    // The same type needs no secrets, and what is not given is unchanged.
    let patch = |verify: Value| json!({ "verify": verify });
    let change = patch(json!({ "type": "github" }));
    world.done(world.patch(&hooks, change).await).await;
    world
        .done(
            world
                .patch(&hooks, json!({ "name": "Other", "verify": null }))
                .await,
        )
        .await;
    assert_eq!(world.get(&hooks).await.ok()["verify"], shown["verify"]);

    let change = patch(json!({ "type": "github", "secrets": [NEW] }));
    world.done(world.patch(&hooks, change).await).await;
    let now = world.get(&hooks).await.ok();
    assert_eq!(now["verify"]["secretFingerprints"], json!([prints[1]]));

    let change = patch(json!({ "type": "stripe", "secrets": [OLD], "tolerance": "90s" }));
    world.done(world.patch(&hooks, change).await).await;
    let now = world.get(&hooks).await.ok();
    let expected =
        json!({ "type": "stripe", "secretFingerprints": [prints[0]], "tolerance": "1m30s" });
    assert_eq!(now["verify"], expected);

    let change = patch(json!({ "type": "hmac", "secrets": [OLD], "header": "X-Sig" }));
    world.done(world.patch(&hooks, change).await).await;
    let now = world.get(&hooks).await.ok();
    assert_eq!(
        now["verify"].to_string(),
        json!({
            "type": "hmac", "secretFingerprints": [prints[0]], "header": "X-Sig",
            "hash": "sha256", "encoding": "hex", "prefix": "",
        })
        .to_string()
    );

    world
        .done(world.patch(&hooks, patch(json!({ "type": "none" }))).await)
        .await;
    assert_eq!(world.get(&hooks).await.ok().get("verify"), None);
}

#[tokio::test]
async fn each_bad_requirement_is_rejected_with_the_field() {
    let world = World::new().await;
    let no_secrets = "verify.secrets is missing, allowed are 1 to 4 secrets; only a change of the same type may be without them";
    for (verify, message) in [
        (json!({ "type": "github" }), no_secrets),
        (
            json!({ "type": "none", "secrets": [OLD] }),
            "verify.type is \"none\", no other field of verify is allowed with it",
        ),
        (
            json!({ "type": "github", "secrets": [] }),
            "verify.secrets has 0 secrets, allowed are 1 to 4",
        ),
        (
            json!({ "type": "github", "secrets": ["***"] }),
            "verify.secrets[0] has 3 characters, allowed are 8 to 512",
        ),
        (
            json!({ "type": "stripe", "secrets": [OLD], "tolerance": "soon" }),
            "verify.tolerance: \"soon\" is not a duration: numbers with ns, us, ms, s, m or h, like 1m30s",
        ),
        (
            json!({ "type": "slack", "secrets": [OLD], "tolerance": "0s" }),
            "verify.tolerance is 0s, allowed is 1s to 24h0m0s",
        ),
        (
            json!({ "type": "github", "secrets": [OLD], "tolerance": "1m" }),
            "verify.tolerance is only for the types stripe, slack and standard, whose requests have a time",
        ),
        (
            json!({ "type": "hmac", "secrets": [OLD], "hash": "sha1" }),
            "verify.header is missing, the type hmac needs the name of the header with the signature",
        ),
        (
            json!({ "type": "github", "secrets": [OLD], "prefix": "sha256=" }),
            "verify.header, hash, encoding and prefix are only for the type hmac",
        ),
    ] {
        let sentence = format!("{}.", message.replacen('v', "V", 1));
        let reply = world.post(S, with(verify)).await;
        reply.is_error(400, "stream.api.badRequest", &sentence);
    }
    for (verify, part) in [
        (
            json!({ "type": "paypal", "secrets": [OLD] }),
            "one of \\\"none\\\", \\\"github\\\", \\\"stripe\\\", \\\"slack\\\", \\\"shopify\\\", \\\"standard\\\", \\\"hmac\\\"",
        ),
        (
            json!({ "type": "hmac", "secrets": [OLD], "header": "x", "hash": "md5" }),
            "\\\"sha256\\\", \\\"sha512\\\", \\\"sha1\\\"",
        ),
        (json!({ "secrets": [OLD] }), "type"),
        (
            json!({ "type": "github", "secrets": OLD }),
            "verify.secrets",
        ),
        (
            json!({ "type": "github", "secrets": [{ "a": OLD }] }),
            "verify.secrets",
        ),
    ] {
        let reply = world.post(S, with(verify)).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert!(reply.text.contains(part), "{part}: {}", reply.text);
        assert!(!reply.text.contains(OLD), "{}", reply.text);
    }
}

#[tokio::test]
async fn secrets_are_in_no_response() {
    let world = World::new().await;
    let hooks = format!("{S}/hooks");
    let created = with(json!({ "type": "github", "secrets": [OLD] }));
    let reply = world.post(S, created).await;
    assert!(!reply.text.contains(OLD));
    let task = world.done(reply).await;
    assert!(!task.to_string().contains(OLD));
    let change = json!({ "verify": { "type": "github", "secrets": [OLD, NEW] } });
    world.done(world.patch(&hooks, change).await).await;
    for path in [
        hooks.clone(),
        S.to_owned(),
        format!("{hooks}/versions"),
        format!("{hooks}/versions/1"),
        format!("{hooks}/settings"),
        "/v1/branches/111/aggregation/sources".to_owned(),
    ] {
        let reply = world.get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        assert!(
            !reply.text.contains(OLD) && !reply.text.contains(NEW),
            "{path}"
        );
    }
    // A reader knows neither the address nor fingerprints.
    let reply = world
        .call_as(
            "reader",
            http::Method::GET,
            &hooks,
            axum::body::Body::empty(),
        )
        .await;
    assert_eq!(reply.ok()["verify"], json!({ "type": "github" }));
}

#[tokio::test]
async fn a_rollback_keeps_the_present_requirement() {
    let world = World::new().await;
    let hooks = format!("{S}/hooks");
    world.done(world.post(S, source("Hooks")).await).await;
    let change = json!({ "name": "Signed", "verify": { "type": "github", "secrets": [OLD] } });
    world.done(world.patch(&hooks, change).await).await;
    let before = world.get(&hooks).await.ok()["verify"].clone();
    let rolled = world
        .done(world.put(&format!("{hooks}/versions/1/rollback")).await)
        .await;
    assert_eq!(rolled["status"], "success");
    let now = world.get(&hooks).await.ok();
    assert_eq!((&now["name"], &now["verify"]), (&json!("Hooks"), &before));
}

#[tokio::test]
async fn a_plan_is_checked_without_a_change() {
    let world = World::new().await;
    let created = with(json!({ "type": "github", "secrets": [OLD] }));
    world.done(world.post(S, created).await).await;
    let change = |method: &str, path: &str, body: Value| json!({ "method": method, "path": path, "body": body });
    let mut new = with(json!({ "type": "stripe", "secrets": ["short"] }));
    new["name"] = "Other".into();
    let changes = json!([
        change(
            "PATCH",
            "sources/hooks",
            json!({ "verify": { "type": "github" } })
        ),
        change(
            "PATCH",
            "sources/hooks",
            json!({ "verify": { "type": "slack" } })
        ),
        change("POST", "sources", new),
    ]);
    let path = "/v1/branches/default/definitions/validate";
    let checked = world.post(path, json!({ "changes": changes })).await.ok();
    let found = checked["violations"].as_array().unwrap();
    let at: Vec<_> = found
        .iter()
        .map(|v| v["change"].as_u64().unwrap())
        .collect();
    assert_eq!(at, [1, 2], "{checked}");
    let text = checked.to_string();
    assert!(
        text.contains("erify.secrets is missing") && text.contains("erify.secrets[0] has 5"),
        "{text}"
    );
}
