//! Request bodies: what is accepted and rejected, and the messages.

use http::Method;
use serde_json::json;

use super::sample::{sink_of, source};
use super::world::{S, World, typed};

const SINKS: &str = "/v1/branches/default/sources/my-source/sinks";

#[tokio::test]
async fn undecodable_bodies_are_rejected() {
    let world = World::new().await;
    let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
    let very_deep = "[".repeat(1_000_000);
    for (body, name, message) in [
        ("", "missingPayload", "Missing required payload.".to_owned()),
        ("{", "decodePayload", "Unexpected EOF.".to_owned()),
        (
            "{\"name\":\"x",
            "decodePayload",
            "Unexpected EOF.".to_owned(),
        ),
        (
            "{]",
            "decodePayload",
            "Json: key must be a string at line 1 column 2.".to_owned(),
        ),
        (
            "{} x",
            "decodePayload",
            "Json: trailing characters at line 1 column 4.".to_owned(),
        ),
        (
            "\"\\ud800\"",
            "decodePayload",
            "Json: unexpected end of hex escape at line 1 column 8.".to_owned(),
        ),
        (
            &deep,
            "decodePayload",
            "Json: nested deeper than 32 levels.".to_owned(),
        ),
        (
            &very_deep,
            "decodePayload",
            "Json: nested deeper than 32 levels.".to_owned(),
        ),
    ] {
        let reply = world.call(Method::POST, S, body.to_owned()).await;
        reply.is_error(400, name, &message);
    }
    let not_utf8 = world
        .call(Method::POST, S, b"{\"name\":\"\xff\"}".to_vec())
        .await;
    assert_eq!(not_utf8.json()["error"], "stream.api.decodePayload");
}

#[tokio::test]
async fn values_of_a_wrong_type_are_named() {
    let world = World::new().await;
    let of = "Json: cannot unmarshal";
    let field = "into Go struct field CreateSourceRequestBody";
    for (body, name, message) in [
        (
            "[]",
            "decodePayload",
            format!("{of} array into Go value of type server.CreateSourceRequestBody."),
        ),
        (
            "{\"name\":1}",
            "decodePayload",
            format!("{of} number {field}.name of type string."),
        ),
        (
            "{\"name\":{}}",
            "decodePayload",
            format!("{of} object {field}.name of type string."),
        ),
        (
            "{\"type\":[]}",
            "decodePayload",
            format!("{of} array {field}.type of type string."),
        ),
        (
            "{\"description\":true}",
            "decodePayload",
            format!("{of} bool {field}.description of type string."),
        ),
    ] {
        let reply = world.call(Method::POST, S, body.to_owned()).await;
        reply.is_error(400, name, &message);
    }
}

#[tokio::test]
async fn nested_values_of_a_wrong_type_are_named() {
    let world = World::with_source().await;
    let field = "into Go struct field CreateSinkRequestBody.table";
    for (table, message) in [
        (
            json!("x"),
            "string into Go struct field CreateSinkRequestBody.table of type object.".to_owned(),
        ),
        (
            json!({ "tableId": 1 }),
            format!("number {field}.tableId of type string."),
        ),
        (
            json!({ "mapping": { "columns": {} } }),
            format!("object {field}.mapping.columns of type []object."),
        ),
        (
            json!({ "mapping": { "columns": [{}, { "rawString": "no" }] } }),
            format!("string {field}.mapping.columns[1].rawString of type bool."),
        ),
    ] {
        let body = json!({ "type": "table", "name": "x", "table": table });
        let text = format!("Json: cannot unmarshal {message}");
        world
            .post(SINKS, body)
            .await
            .is_error(400, "decodePayload", &text);
    }
}

#[tokio::test]
async fn bodies_are_json_unless_the_content_type_is_clearly_another() {
    let world = World::new().await;
    for (i, kind) in [
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/x-www-form-urlencoded",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let body = source(&format!("s{i}")).to_string();
        let reply = world.send(typed(Method::POST, S, kind, &body)).await;
        world.done(reply).await;
    }
    for kind in ["text/plain", "Text/Plain; charset=utf-8"] {
        let reply = world.send(typed(Method::POST, S, kind, "{}")).await;
        let text = "Can't decode text/plain to *server.CreateSourceRequestBody.";
        reply.is_error(400, "decodePayload", text);
    }
}

#[tokio::test]
async fn missing_fields_are_all_named() {
    let world = World::with_source().await;
    for body in [
        json!({}),
        json!(null),
        json!({ "type": null, "name": null }),
    ] {
        let reply = world.post(S, body).await;
        let text = "\"type\" is missing from body; \"name\" is missing from body.";
        reply.is_error(400, "missingField", text);
    }
    let body =
        json!({ "type": "table", "name": "x", "table": { "type": "keboola", "mapping": {} } });
    let text =
        "\"tableId\" is missing from body.table; \"columns\" is missing from body.table.mapping.";
    world
        .post(SINKS, body)
        .await
        .is_error(400, "missingField", text);
    let null_column = world.post(SINKS, sink_of(json!([null]))).await;
    let text = "Body.table.mapping.columns[0] must not be null.";
    null_column.is_error(400, "missingField", text);
}

#[tokio::test]
async fn lengths_are_counted_in_characters_up_to_their_limit() {
    let world = World::with_source().await;
    let description = "ž".repeat(4096);
    let body = json!({ "type": "http", "name": "ž".repeat(40), "description": description, "sourceId": "x".repeat(48) });
    world.done(world.post(S, body).await).await;
    let name = "ž".repeat(41);
    for (field, value, word, bound, len) in [
        ("name", String::new(), "greater", 1, 0),
        ("name", name, "lesser", 40, 41),
        ("sourceId", String::new(), "greater", 1, 0),
        ("sourceId", "x".repeat(49), "lesser", 48, 49),
    ] {
        let mut body = source("x");
        body[field] = json!(value);
        let text = format!(
            "Length of body.{field} must be {word} or equal than {bound} but got value \"{value}\" (len={len})"
        );
        world
            .post(S, body)
            .await
            .is_error(400, "invalidLength", &text);
    }
    let mut body = source("x");
    body["description"] = json!("d".repeat(4097));
    let reply = world.post(S, body).await;
    let text = format!(
        "Length of body.description must be lesser or equal than 4096 but got value \"{}...\" (len=4097)",
        "d".repeat(256)
    );
    reply.is_error(400, "invalidLength", &text);
    let template = |content: String| json!([{ "type": "template", "name": "t", "template": { "language": "jsonnet", "content": content } }]);
    world
        .done(world.post(SINKS, sink_of(template("x".repeat(4096)))).await)
        .await;
    for bad in [String::new(), "x".repeat(4097)] {
        let reply = world.post(SINKS, sink_of(template(bad))).await;
        assert_eq!(reply.json()["error"], "stream.api.invalidLength");
    }
}

#[tokio::test]
async fn enum_values_are_checked() {
    let world = World::with_source().await;
    let mut body = source("x");
    body["type"] = json!("foo");
    let text = "Value of body.type must be one of \"http\" but got value \"foo\".";
    world
        .post(S, body)
        .await
        .is_error(400, "invalidEnumValue", text);
    let columns = json!([
        { "type": "foo", "name": "a" },
        { "type": "template", "name": "b", "template": { "language": "lua", "content": "x" } },
    ]);
    let text = concat!(
        "Value of body.table.mapping.columns[0].type must be one of ",
        "\"uuid\", \"datetime\", \"ip\", \"body\", \"headers\", \"path\", \"template\", \"static\" but got value \"foo\"; ",
        "value of body.table.mapping.columns[1].template.language must be one of \"jsonnet\" but got value \"lua\"."
    );
    world
        .post(SINKS, sink_of(columns))
        .await
        .is_error(400, "invalidEnumValue", text);
    let mut body = sink_of(json!([{ "type": "ip", "name": "a" }]));
    body["table"]["type"] = json!("bigquery");
    let text = "Value of body.table.type must be one of \"keboola\", \"sqlite\", \"postgres\" but got value \"bigquery\".";
    world
        .post(SINKS, body)
        .await
        .is_error(400, "invalidEnumValue", text);
}

#[tokio::test]
async fn bodies_over_the_limit_are_rejected() {
    let world = World::with(|c| c.body_limit = forebay_model::ByteSize::kb(1)).await;
    let body = |size: usize| {
        let body = source("x").to_string();
        format!("{body}{}", " ".repeat(size - body.len()))
    };
    assert_eq!(world.call(Method::POST, S, body(1024)).await.status, 202);
    let reply = world.call(Method::POST, S, body(1025)).await;
    let text = "Request body size is over the maximum \"1KB\".";
    reply.is_error(413, "bodyTooLarge", text);
    // Also without a declared length.
    let chunks = futures::stream::repeat(Ok::<_, std::convert::Infallible>(bytes::Bytes::from(
        vec![b' '; 600],
    )));
    let endless = axum::body::Body::from_stream(chunks);
    world
        .call(Method::POST, S, endless)
        .await
        .is_error(413, "bodyTooLarge", text);
}

#[tokio::test]
async fn a_definition_too_large_for_the_store_is_a_client_error() {
    let world = World::with(|c| c.body_limit = forebay_model::ByteSize::mb(4)).await;
    world.done(world.post(S, source("My Source")).await).await;
    let column = |i: usize| {
        let content = "\u{1F600}".repeat(4096);
        let template = json!({ "language": "jsonnet", "content": content });
        json!({ "type": "template", "name": format!("c{i}"), "template": template })
    };
    let columns: serde_json::Value = (0..100).map(column).collect();
    let reply = world.post(SINKS, sink_of(columns)).await;
    assert_eq!(reply.status, 400, "{}", reply.text);
    let allowed = "bytes as JSON, allowed are at most 262144";
    assert!(reply.text.contains(allowed), "{}", reply.text);
}
