//! Tests of signatures in definition files.

use super::*;

const ADDRESS: &str = "secret-of-the-address";

fn definition(fields: Value) -> VerifyDefinition {
    serde_json::from_value(fields).unwrap()
}

/// A source with this signature on the server.
fn source(mut verify: Value, secrets: &[&str]) -> SourceView {
    let prints = secrets
        .iter()
        .map(|secret| SigningSecret::from((*secret).to_owned()).fingerprint(ADDRESS));
    verify["secretFingerprints"] = prints.collect::<Vec<_>>().into();
    let stamp = json!({ "at": "2026-01-01T00:00:00.000Z", "by": { "type": "user" } });
    let view = json!({
        "projectId": 1,
        "branchId": 1,
        "sourceId": "my-shop",
        "type": "http",
        "name": "My shop",
        "description": "",
        "http": { "url": format!("http://localhost/stream/1/my-shop/{ADDRESS}") },
        "version": { "number": 1, "hash": "0", "description": "", "at": stamp["at"], "by": stamp["by"] },
        "created": stamp,
        "verify": verify,
    });
    serde_json::from_value(view).unwrap()
}

fn lines(wanted: &VerifyDefinition, found: Option<&SourceView>) -> Vec<String> {
    let found = wanted.differences(found);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn the_words_are_those_of_the_api() {
    fn all_read<T: for<'de> Deserialize<'de> + Serialize>(words: &[&str]) {
        for word in words {
            let read: T = serde_json::from_value(json!(word)).unwrap();
            assert_eq!(json!(read), json!(word));
        }
    }
    all_read::<SourceVerifyType>(&VERIFY_TYPES);
    all_read::<SourceVerifyHash>(&VERIFY_HASHES);
    all_read::<SourceVerifyEncoding>(&VERIFY_ENCODINGS);
}

#[test]
fn differences_name_the_fields_and_hide_the_secrets() {
    let (old, new) = ("the-old-signing-secret", "the-new-signing-secret");
    let none = Vec::<String>::new();
    let found = source(json!({ "type": "stripe", "tolerance": "5m0s" }), &[old]);
    let found = Some(&found);
    for (verify, expected) in [
        (json!({ "type": "stripe" }), none.clone()),
        (
            json!({ "type": "stripe", "secrets": [old], "tolerance": "300s" }),
            none.clone(),
        ),
        (
            json!({ "type": "stripe", "secrets": [new, old] }),
            vec!["~ verify.secrets: changed".to_owned()],
        ),
        (
            json!({ "type": "stripe", "tolerance": "10m" }),
            vec!["~ verify.tolerance: \"5m0s\" → \"10m0s\"".to_owned()],
        ),
        (
            json!({ "type": "github", "secrets": [new] }),
            vec![
                "~ verify.type: \"stripe\" → \"github\"".to_owned(),
                "- verify.tolerance: \"5m0s\"".to_owned(),
                "~ verify.secrets: changed".to_owned(),
            ],
        ),
        (
            json!({ "type": "none" }),
            vec![
                "~ verify.type: \"stripe\" → \"none\"".to_owned(),
                "- verify.tolerance: \"5m0s\"".to_owned(),
            ],
        ),
    ] {
        let wanted = definition(verify);
        assert_eq!(lines(&wanted, found), expected, "{wanted:?}");
        let shown = serde_json::to_string(&wanted.differences(found)).unwrap();
        assert!(!shown.contains("signing-secret"), "{shown}");
    }
    let shown = json!({
        "type": "hmac", "header": "X-Signature", "hash": "sha256", "encoding": "hex", "prefix": "",
    });
    let found = source(shown, &[old]);
    let wanted = definition(json!({ "type": "hmac", "header": "X-Signature", "secrets": [old] }));
    assert_eq!(lines(&wanted, Some(&found)), none);
    let created = lines(&wanted, None);
    assert_eq!(created.len(), 2, "{created:?}");
    assert_eq!(created[1], "~ verify.secrets: changed");
}

#[test]
fn exported_secrets_are_references_and_defaults_are_left_out() {
    let shown = json!({
        "type": "hmac", "header": "X-Signature", "hash": "sha256", "encoding": "hex", "prefix": "",
    });
    let exported = |shown: Value, secrets: &[&str]| {
        json!(VerifyDefinition::exported(&source(shown, secrets)).unwrap())
    };
    let one = exported(shown, &["the-old-signing-secret"]);
    let expected = json!({
        "type": "hmac", "secrets": ["${MY_SHOP_VERIFY_SECRET}"], "header": "X-Signature",
    });
    assert_eq!(one, expected);
    let shown = json!({ "type": "stripe", "tolerance": "5m0s" });
    let two = exported(shown, &["the-old-signing-secret", "the-new-signing-secret"]);
    let references = ["${MY_SHOP_VERIFY_SECRET}", "${MY_SHOP_VERIFY_SECRET_2}"];
    assert_eq!(two, json!({ "type": "stripe", "secrets": references }));
    // A secret itself is never written.
    let read = definition(json!({ "type": "github", "secrets": ["the-old-signing-secret"] }));
    assert_eq!(json!(read), json!({ "type": "github", "secrets": ["***"] }));
}
