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
