//! Dead letters.

use serde_json::json;

use super::world::World;

const L: &str = "/v1/branches/default/sources/my-source/sinks/my-sink/dead-letters";

#[tokio::test]
async fn dead_letters_are_listed_and_returned() {
    let world = World::with_sink().await;
    let list = world.get(L).await.ok();
    let summary = json!({
        "deadLetterId": "vol1-7",
        "receivedAt": list["deadLetters"][0]["receivedAt"],
        "column": "c",
        "error": "stream.in.pathNotFound",
        "message": "Column \"c\": path \"x\" not found in the body.",
        "causeId": list["deadLetters"][0]["causeId"],
        "size": 1,
    });
    assert_eq!(list["deadLetters"], json!([summary]));
    assert_eq!(list["page"]["lastId"], "vol1-7");
    let rest = world.get(&format!("{L}?afterId=vol1-7")).await.ok();
    assert_eq!(rest["deadLetters"], json!([]));
    let letter = world.get(&format!("{L}/vol1-7")).await.ok();
    assert_eq!(letter["deadLetterId"], "vol1-7");
    assert_eq!(letter["headers"], json!({ "A": "b" }));
    assert_eq!(letter["line"], 3);
    assert_eq!(letter["bodyBase64"], "/w==");
    assert_eq!(letter.get("body"), None);
}

#[tokio::test]
async fn selected_dead_letters_are_replayed_and_dropped() {
    let world = World::with_sink().await;
    let replayed = world.post(&format!("{L}/replay"), json!({})).await.ok();
    let refused = json!([{ "deadLetterId": "vol1-7", "message": "still" }]);
    assert_eq!(replayed, json!({ "replayed": 0, "rejected": refused }));
    let ids = json!({ "deadLetterIds": ["vol1-7"] });
    let dropped = world.post(&format!("{L}/drop"), ids).await.ok();
    assert_eq!(dropped, json!({ "dropped": 1, "moreAfterId": "vol1-7" }));
    let after = json!({ "afterId": "vol1-7" });
    let dropped = world.post(&format!("{L}/drop"), after).await.ok();
    assert_eq!(dropped, json!({ "dropped": 0 }));
}

#[tokio::test]
async fn invalid_requests_are_rejected() {
    let world = World::with_sink().await;
    let bad =
        "Invalid dead letter id \"x\": expected an id from the list, like \"3f0c9a6b1d2e4f58-12\".";
    for path in [format!("{L}/x"), format!("{L}?afterId=x")] {
        world.get(&path).await.is_error(400, "badRequest", bad);
    }
    let missing = world.get(&format!("{L}/vol1-8")).await;
    let text = "Dead letter \"vol1-8\" not found in the sink.";
    missing.is_error(404, "deadLetterNotFound", text);
    for what in ["replay", "drop"] {
        let path = format!("{L}/{what}");
        let both = json!({ "deadLetterIds": ["vol1-7"], "afterId": "vol1-7" });
        let text = "\"deadLetterIds\" and \"afterId\" can't be combined.";
        world
            .post(&path, both)
            .await
            .is_error(400, "badRequest", text);
        let other = json!({ "deadLetterIds": ["vol1-7", "vol2-7"] });
        let text = "Dead letter \"vol2-7\" not found in the sink.";
        let reply = world.post(&path, other).await;
        reply.is_error(404, "deadLetterNotFound", text);
        let none = world.post(&path, json!({ "deadLetterIds": [] })).await;
        assert_eq!(none.status.as_u16(), 400, "{none:?}");
        let body = json!({}).to_string();
        let reader = world.call_as("reader", http::Method::POST, &path, body);
        assert_eq!(reader.await.status.as_u16(), 403);
    }
    let none = world
        .get("/v1/branches/default/sources/my-source/sinks/none/dead-letters")
        .await;
    none.is_error(
        404,
        "sinkNotFound",
        "Sink \"none\" not found in the source.",
    );
}

#[tokio::test]
async fn dead_letters_are_filtered_counted_by_cause_and_exported() {
    let world = World::with_sink().await;
    let causes = world.get(&format!("{L}/causes")).await.ok();
    let cause = causes["causes"][0].clone();
    let id = cause["causeId"].as_str().unwrap();
    assert_eq!(cause["count"], 1);
    assert_eq!(cause["firstDeadLetterId"], "vol1-7");
    assert_eq!(cause["error"], "stream.in.pathNotFound");
    assert_eq!(causes["othersCount"], 0);
    for (query, found) in [
        (format!("causeId={id}&error=stream.in.pathNotFound"), 1),
        (
            "error=pathNotFound&column=c&contains=not%20found".to_owned(),
            1,
        ),
        ("column=d".to_owned(), 0),
        ("receivedFrom=2020-01-01T00:00:00Z".to_owned(), 0),
        ("receivedTo=2020-01-01T00:00:00Z".to_owned(), 1),
    ] {
        let page = world.get(&format!("{L}?{query}")).await.ok();
        assert_eq!(
            page["deadLetters"].as_array().unwrap().len(),
            found,
            "{query}"
        );
        let more = page.get("moreAfterId").cloned().unwrap_or_default();
        assert_eq!(more.is_null(), found == 1, "{query}: {page}");
        let counted = world.get(&format!("{L}/causes?{query}")).await.ok();
        assert_eq!(
            counted["causes"].as_array().unwrap().len(),
            found,
            "{query}"
        );
    }
    let export = world.get(&format!("{L}/export?limit=1")).await;
    assert_eq!(export.status.as_u16(), 200, "{export:?}");
    assert_eq!(export.headers.get("link"), None);
    assert_eq!(export.headers["content-type"], "application/x-ndjson");
    let rest = world
        .get(&format!("{L}/export?column=%22d%22&limit=9"))
        .await;
    assert_eq!(
        rest.headers["link"],
        "<?limit=9&afterId=vol1%2D7&column=%22d%22>; rel=\"next\""
    );
    for (query, text) in [
        (
            "causeId=xyz",
            "\"xyz\" is not the id of a cause: expected 16 hexadecimal digits, like 3f0c9a6b1d2e4f58.",
        ),
        (
            "receivedFrom=yesterday",
            "Invalid \"receivedFrom\": \"yesterday\" is not a time like 2006-01-02T15:04:05.000Z.",
        ),
    ] {
        let rejected = world.get(&format!("{L}/causes?{query}")).await;
        rejected.is_error(400, "badRequest", text);
    }
}

#[tokio::test]
async fn edits_are_replayed_and_audited() {
    let world = World::with_sink().await;
    let path = format!("{L}/replay");
    let edit = json!({ "deadLetterId": "vol1-7", "body": "fixed" });
    let dry = world
        .post(&path, json!({ "edits": [edit], "dryRun": true }))
        .await
        .ok();
    let row = json!({ "deadLetterId": "vol1-7", "row": [{ "name": "c", "value": "1" }] });
    assert_eq!(dry, json!({ "replayed": 1, "rejected": [], "rows": [row] }));
    let audit = world.get("/v1/admin/audit").await.ok().to_string();
    assert!(!audit.contains("replayDeadLetters"), "{audit}");
    let base64 = json!({ "deadLetterId": "vol1-7", "bodyBase64": "Zml4ZWQ=" });
    let done = world.post(&path, json!({ "edits": [base64] })).await.ok();
    assert_eq!(done, json!({ "replayed": 1, "rejected": [] }));
    let audit = world.get("/v1/admin/audit").await.ok().to_string();
    assert!(
        audit.contains("1 dead letter, with changed records."),
        "{audit}"
    );
    for (body, text) in [
        (
            json!({ "edits": [edit, edit] }),
            "\"edits\" has the dead letter \"vol1-7\" twice.",
        ),
        (
            json!({ "edits": [edit], "afterId": "vol1-7" }),
            "\"edits\" and \"afterId\" can't be combined.",
        ),
        (
            json!({ "edits": [edit], "filter": {} }),
            "\"edits\" and \"filter\" can't be combined.",
        ),
        (
            json!({ "deadLetterIds": ["vol1-7"], "filter": {} }),
            "\"deadLetterIds\" and \"filter\" can't be combined.",
        ),
        (
            json!({ "edits": [{ "deadLetterId": "vol1-7", "body": "", "bodyBase64": "" }] }),
            "\"edits[0]\" has both \"body\" and \"bodyBase64\"; allowed is one of them.",
        ),
    ] {
        world
            .post(&path, body)
            .await
            .is_error(400, "badRequest", text);
    }
    let broken = json!({ "edits": [{ "deadLetterId": "vol1-7", "bodyBase64": "?" }] });
    assert_eq!(world.post(&path, broken).await.status.as_u16(), 400);
}
