//! Delivery of a topic that is retried by an operator.

use crate::endpoint::Endpoint;
use crate::life::HOOKS;
use crate::server::{run, wait_for};
use crate::{apply, delivery, drained, post, start};

#[test]
fn a_retry_ends_the_backoff_of_a_topic() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start();
    let config = format!(
        "providers:\n  - {{name: hook, type: http, url: '{}', token: hush-hush}}\ntopics: {{backoff: 1h, backoffMax: 1h}}\n",
        endpoint.url()
    );
    std::fs::write(dir.path().join("forebay.yaml"), config).unwrap();
    let server = start(dir.path());
    apply(&server, dir.path(), &HOOKS.replace("METHOD", ""));
    endpoint.set_down(true);
    let path = server.path("events");
    assert!(post(&server, &path, 0) && post(&server, &path, 1));
    wait_for("the failure", || {
        let delivery = delivery(&server, "hooks");
        (delivery["provider"]["state"] == "down").then_some(())
    });
    endpoint.set_down(false);
    assert_eq!(delivery(&server, "hooks")["delivered"], 0);
    let said = server.ok(&["retry", "events"]);
    assert_eq!(said, "hooks: retrying the delivery of 2 messages\n");
    // Without the retry this would last an hour.
    assert_eq!(drained(&server, "hooks")["delivered"], 2);
    server.ok(&["source", "pause", "events/hooks"]);
    let paused = run(&mut server.command(&["retry", "events", "hooks"]));
    assert_eq!(paused.code, Some(1), "{paused:?}");
    assert!(
        paused.stderr.contains("is paused: resume it instead"),
        "{paused:?}"
    );
}
