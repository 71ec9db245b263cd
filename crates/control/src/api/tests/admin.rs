//! Tokens created, rotated and revoked through the API, and the audit log.

use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use forebay_model::Clock;
use http::{Method, Request};
use serde_json::{Value, json};

use super::sample::source;
use super::world::{Reply, S, World};

const TOKENS: &str = "/v1/admin/tokens";
const SOURCE: &str = "/v1/branches/default/sources/my-source";

async fn make(world: &World, body: Value) -> (String, Value) {
    let reply = world.post(TOKENS, body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let mut made = reply.json();
    let text = made.as_object_mut().unwrap().remove("token").unwrap();
    (text.as_str().unwrap().to_owned(), made)
}

async fn get_as(world: &World, token: &str, path: &str) -> Reply {
    world.call_as(token, Method::GET, path, Body::empty()).await
}

#[tokio::test]
async fn a_token_has_its_role_in_its_project_until_it_is_revoked() {
    let world = World::with_source().await;
    let body = json!({ "role": "reader", "description": "dashboard" });
    let (text, made) = make(&world, body).await;
    let id = made["tokenId"].as_str().unwrap();
    assert!(text.starts_with(&format!("fby_{id}_")), "{text}");
    assert_eq!(
        (&made["projectId"], &made["branchId"], &made["role"]),
        (&json!(123), &json!(111), &json!("reader"))
    );
    assert_eq!(get_as(&world, &text, SOURCE).await.status, 200);
    let write = world
        .call_as(&text, Method::DELETE, SOURCE, Body::empty())
        .await;
    assert_eq!(write.status, 403);
    // Neither its text nor its hash is returned again.
    let path = format!("{TOKENS}/{id}");
    let shown = world.get(&path).await;
    assert_eq!(shown.json(), made);
    let list = world.get(TOKENS).await;
    assert_eq!(list.json()["tokens"], json!([made]));
    assert_eq!(list.json()["page"]["totalCount"], 1);
    for reply in [&shown, &list] {
        let secret = text.rsplit('_').next().unwrap();
        assert!(!reply.text.contains(secret) && !reply.text.contains("sha256"));
    }
    let revoked = world.delete(&path).await;
    assert_eq!((revoked.status.as_u16(), revoked.text.as_str()), (204, ""));
    let after = get_as(&world, &text, SOURCE).await;
    after.is_error(401, "storage.tokenInvalid", "Invalid access token.");
    let message = format!("Token \"{id}\" not found.");
    world
        .get(&path)
        .await
        .is_error(404, "tokenNotFound", &message);
    world
        .delete(&path)
        .await
        .is_error(404, "tokenNotFound", &message);
}

#[tokio::test]
async fn changes_record_their_token() {
    let world = World::with_source().await;
    let (text, made) = make(&world, json!({ "role": "admin", "description": "deploy" })).await;
    let body = json!({ "name": "New" }).to_string();
    let reply = world.call_as(&text, Method::PATCH, SOURCE, body).await;
    world.done(reply).await;
    let source = world.get(SOURCE).await.ok();
    assert_eq!(source["version"]["by"]["tokenId"], made["tokenId"]);
    let by = json!({ "type": "user", "tokenId": made["tokenId"], "tokenDesc": "deploy",
        "userId": made["tokenId"], "userName": "deploy" });
    assert_eq!(source["version"]["by"], by);
}

#[tokio::test]
async fn changes_record_the_owner_of_the_token() {
    let world = World::with_source().await;
    for (owner, user) in [
        (
            json!({ "ownerId": "7", "ownerName": "Ada" }),
            json!({ "userId": "7", "userName": "Ada" }),
        ),
        (json!({ "ownerId": "7" }), json!({ "userId": "7" })),
        (json!({ "ownerName": "Ada" }), json!({ "userName": "Ada" })),
    ] {
        let mut body = json!({ "role": "admin", "description": "deploy" });
        body.as_object_mut()
            .unwrap()
            .extend(owner.as_object().unwrap().clone());
        let (text, made) = make(&world, body).await;
        let body = json!({ "name": "New" }).to_string();
        let reply = world.call_as(&text, Method::PATCH, SOURCE, body).await;
        world.done(reply).await;
        let source = world.get(SOURCE).await.ok();
        let mut by = json!({ "type": "user", "tokenId": made["tokenId"], "tokenDesc": "deploy",
            "userId": made["tokenId"] });
        by.as_object_mut()
            .unwrap()
            .extend(user.as_object().unwrap().clone());
        assert_eq!(source["version"]["by"], by);
        assert_eq!(made["ownerId"], by["userId"]);
        assert_eq!(made.get("ownerName"), by.get("userName"));
    }
    let empty = json!({ "role": "admin", "ownerId": "" });
    let rejected = world.post(TOKENS, empty).await;
    rejected.is_error(
        400,
        "invalidLength",
        "Length of body.ownerId must be greater or equal than 1 but got value \"\" (len=0)",
    );
}

#[tokio::test]
async fn configured_tokens_are_listed_and_read_only() {
    let world = World::new().await;
    let list = world.get(TOKENS).await.ok();
    let ids = |list: &Value| -> Vec<String> {
        let configured = list["configured"].as_array().unwrap().iter();
        configured
            .map(|t| t["tokenId"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&list), ["admin", "reader", "operator"]);
    assert_eq!(list["configured"][2]["operator"], true);
    assert_eq!(list["configured"][1]["role"], "reader");
    let others = world
        .call_as("other", Method::GET, TOKENS, Body::empty())
        .await;
    assert_eq!(ids(&others.ok()), ["other"]);
    let text = "Token \"admin\" comes from the server configuration: replace it there (the server's own token in the token file, others in \"api.tokens\") and send SIGHUP to the process.";
    let path = format!("{TOKENS}/admin");
    world
        .post(&format!("{path}/rotate"), json!({}))
        .await
        .is_error(400, "badRequest", text);
    world.delete(&path).await.is_error(400, "badRequest", text);
    let hidden = world
        .call_as("other", Method::DELETE, &path, Body::empty())
        .await;
    assert_eq!(hidden.status, 404);
}

#[tokio::test]
async fn only_the_exact_token_is_valid() {
    let world = World::with_source().await;
    let (text, made) = make(&world, json!({ "role": "reader" })).await;
    let id = made["tokenId"].as_str().unwrap();
    let mut other = text.clone();
    other.replace_range(
        other.len() - 1..,
        if text.ends_with('a') { "b" } else { "a" },
    );
    for bad in [
        other,
        format!("{text}x"),
        format!("fby_{id}_"),
        format!("fby_{id}"),
        "fby__".to_owned(),
        "fby_123-/../../x_y".to_owned(),
        format!("fby_{}_x", "9".repeat(3000)),
        id.to_owned(),
    ] {
        let reply = get_as(&world, &bad, SOURCE).await;
        reply.is_error(401, "storage.tokenInvalid", "Invalid access token.");
    }
}

#[tokio::test]
async fn a_token_expires_to_the_millisecond() {
    let world = World::with_source().await;
    let expires = "2026-01-02T04:00:00.000Z";
    let (text, made) = make(&world, json!({ "role": "reader", "expiresAt": expires })).await;
    assert_eq!(made["expiresAt"], expires);
    world.clock.set("2026-01-02T03:59:59.999Z".parse().unwrap());
    assert_eq!(get_as(&world, &text, SOURCE).await.status, 200);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(get_as(&world, &text, SOURCE).await.status, 401);
    for (value, message) in [
        (world.now(), "\"expiresAt\" must be in the future.".to_owned()),
        (
            "tomorrow".to_owned(),
            "Invalid \"expiresAt\" value \"tomorrow\": expected a time like 2027-01-02T03:04:05Z, a day like 2027-01-02, or a duration from now like 30d or 12h.".to_owned(),
        ),
    ] {
        let body = json!({ "role": "reader", "expiresAt": value });
        world.post(TOKENS, body).await.is_error(400, "badRequest", &message);
    }
}

#[tokio::test]
async fn a_token_expires_on_a_day_or_after_a_duration() {
    let world = World::new().await;
    for (given, expires) in [
        ("2027-02-03", "2027-02-03T00:00:00.000Z"),
        ("2027-02-03T04:05:06Z", "2027-02-03T04:05:06.000Z"),
        ("2027-02-03T04:05:06+02:00", "2027-02-03T02:05:06.000Z"),
        ("30d", "2026-02-01T03:04:05.678Z"),
        ("12h", "2026-01-02T15:04:05.678Z"),
        ("1h30m", "2026-01-02T04:34:05.678Z"),
    ] {
        let (_, made) = make(&world, json!({ "role": "reader", "expiresAt": given })).await;
        assert_eq!(made["expiresAt"], expires, "{given}");
    }
    for bad in [
        "",
        "30",
        "d",
        "-1d",
        "99999999d",
        "18446744073709551615d",
        "2027-02-30",
        "0x1d",
        "1w",
    ] {
        let rejected = world
            .post(TOKENS, json!({ "role": "reader", "expiresAt": bad }))
            .await;
        assert_eq!(rejected.status, 400, "{bad}: {rejected:?}");
    }
}

#[tokio::test]
async fn a_rotated_token_stays_valid_for_the_overlap() {
    let world = World::with_source().await;
    let (first, made) = make(&world, json!({ "role": "reader" })).await;
    let path = format!("{TOKENS}/{}/rotate", made["tokenId"].as_str().unwrap());
    let rotate = async |body: Value| {
        let reply = world.post(&path, body).await.ok();
        reply["token"].as_str().unwrap().to_owned()
    };
    let second = rotate(json!({ "overlap": "1h" })).await;
    let status = async |text: &str| get_as(&world, text, SOURCE).await.status.as_u16();
    assert_eq!((status(&first).await, status(&second).await), (200, 200));
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!((status(&first).await, status(&second).await), (401, 200));
    // Only the previous text works besides the current one, and without an overlap none.
    let third = rotate(json!({ "overlap": "1h" })).await;
    let fourth = rotate(json!({ "overlap": "1h" })).await;
    assert_eq!((status(&second).await, status(&third).await), (401, 200));
    let fifth = rotate(json!({})).await;
    assert_eq!((status(&fourth).await, status(&fifth).await), (401, 200));
    for (overlap, word) in [("x", "overlap"), ("721h", "at most 720h0m0s")] {
        let reply = world.post(&path, json!({ "overlap": overlap })).await;
        assert_eq!(reply.status, 400);
        assert!(reply.text.contains(word), "{reply:?}");
    }
}

#[tokio::test]
async fn only_operators_have_access_to_other_projects() {
    let world = World::with_source().await;
    let reply = world
        .post(TOKENS, json!({ "role": "admin", "projectId": 456 }))
        .await;
    let text = "Only an operator's token can create tokens for other projects.";
    reply.is_error(403, "forbidden", text);
    let as_operator = async |method: Method, path: &str, body: String| {
        world.call_as("operator", method, path, body).await
    };
    let body = json!({ "role": "admin", "projectId": 789, "branchId": 7 }).to_string();
    let made = as_operator(Method::POST, TOKENS, body).await.json();
    let text = made["token"].as_str().unwrap().to_owned();
    let list = get_as(&world, &text, S).await.ok();
    assert_eq!(
        (&list["projectId"], &list["branchId"]),
        (&json!(789), &json!(7))
    );
    let body = json!({ "role": "reader", "projectId": 789, "branchId": 8 }).to_string();
    let reply = as_operator(Method::POST, TOKENS, body).await;
    let message = "Invalid \"branchId\" value 8: the default branch of project 789 is 7.";
    reply.is_error(400, "badRequest", message);
    // A project's own admin does not find another project's token.
    let path = format!("{TOKENS}/{}", made["tokenId"].as_str().unwrap());
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/rotate")),
    ] {
        let reply = world.call(method, &path, "{}").await;
        assert_eq!(reply.json()["error"], "stream.api.tokenNotFound");
    }
    for list in [
        format!("{TOKENS}?projectId=789"),
        "/v1/admin/audit?projectId=789".to_owned(),
    ] {
        let text = "Project \"789\" not found.";
        world
            .get(&list)
            .await
            .is_error(404, "projectNotFound", text);
        let seen = as_operator(Method::GET, &list, String::new()).await.ok();
        assert_eq!(seen["page"]["totalCount"], 1, "{seen}");
    }
}

#[tokio::test]
async fn the_audit_log_has_author_change_and_address() {
    let world = World::new().await;
    let mut request = Request::post(S)
        .header("X-StorageApi-Token", "admin")
        .body(Body::from(source("My Source").to_string()))
        .unwrap();
    let peer: std::net::SocketAddr = "192.0.2.7:1234".parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(peer));
    let reply = world.send(request).await;
    world.done(reply).await;
    world.clock.advance(Duration::from_secs(1));
    world
        .done(world.patch(SOURCE, json!({ "name": "New" })).await)
        .await;
    world.clock.advance(Duration::from_secs(1));
    world
        .done(world.put(&format!("{SOURCE}/disable")).await)
        .await;
    world.clock.advance(Duration::from_secs(1));
    world.done(world.delete(SOURCE).await).await;
    let audit = world.get("/v1/admin/audit").await.ok();
    let first = &audit["changes"][0];
    assert_eq!(first["from"], "192.0.2.7");
    assert_eq!(first["by"]["tokenId"], "admin");
    assert_eq!(
        (&first["branchId"], &first["sourceId"]),
        (&json!(111), &json!("my-source"))
    );
    let seen: Vec<Value> = audit["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            json!([
                c["action"],
                c["oldVersion"],
                c["newVersion"],
                c["description"]
            ])
        })
        .collect();
    assert_eq!(
        json!(seen),
        json!([
            ["create", null, 1, "New source."],
            ["update", 1, 2, "Updated."],
            ["disable", 2, 3, "Disabled."],
            ["delete", 3, null, ""],
        ])
    );
    let after = audit["changes"][2]["id"].as_str().unwrap();
    let rest = world
        .get(&format!("/v1/admin/audit?afterId={after}&limit=1"))
        .await
        .ok();
    assert_eq!(rest["changes"], json!([audit["changes"][3]]));
    // Another project has its own audit log.
    let other = get_as(&world, "other", "/v1/admin/audit").await.ok();
    assert_eq!(other["changes"], json!([]));
    // Entries older than the retention are removed.
    let before = world.clock.now();
    assert_eq!(world.repo.remove_old_audit(before).await.unwrap(), 3);
    assert_eq!(world.repo.remove_old_audit(before).await.unwrap(), 0);
    let left = world.get("/v1/admin/audit").await.ok();
    assert_eq!(left["changes"], json!([audit["changes"][3]]));
}

#[tokio::test]
async fn rejected_changes_are_audited_with_a_rate_limit() {
    let world = World::with_source().await;
    let change = async |token: &str, n: u64| {
        world.clock.advance(Duration::from_millis(n));
        let body = source("x").to_string();
        world.call_as(token, Method::POST, S, body).await
    };
    let rejected = async |project: u64| {
        let path = format!("/v1/admin/audit?projectId={project}");
        let all = world.call_as("operator", Method::GET, &path, Body::empty());
        let all = all.await.ok();
        let all = all["changes"].as_array().unwrap().clone();
        let all = all.into_iter().filter(|c| c["action"] == "reject");
        all.collect::<Vec<_>>()
    };
    assert_eq!(change("reader", 1).await.status, 403);
    let audited = rejected(123).await;
    assert_eq!(audited.len(), 1);
    assert_eq!(audited[0]["request"], format!("POST {S}"));
    assert_eq!(audited[0]["by"]["tokenId"], "reader");
    let text = "only admin token can do write operations on streams";
    assert_eq!(audited[0]["description"], text);
    // A rejected read is not audited, except for administration.
    assert_eq!(
        world
            .call_as("nope", Method::GET, S, Body::empty())
            .await
            .status,
        401
    );
    assert_eq!(rejected(0).await, [] as [Value; 0]);
    assert_eq!(
        world
            .call_as("nope", Method::GET, TOKENS, Body::empty())
            .await
            .status,
        401
    );
    assert_eq!(rejected(0).await.len(), 1);
    // A flood of them is limited, and rejections of other projects are still audited.
    for n in 0..100 {
        assert_eq!(change("nope", n).await.status, 401);
    }
    assert_eq!(rejected(0).await.len(), 10);
    assert_eq!(change("reader", 1).await.status, 403);
    assert_eq!(rejected(123).await.len(), 2);
}
