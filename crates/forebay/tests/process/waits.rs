//! `Retry-After` of an endpoint holds across a restart of the server.

use std::time::Duration;

use forebay_test_support::{HttpEndpoint, http_response};

use crate::redirects::{DEFINITIONS, delivery, serving};
use crate::server::{Server, wait_for};

#[test]
fn a_topic_respects_retry_after_across_a_kill() {
    let endpoint = HttpEndpoint::start(|_, number| match number {
        1 => http_response("429 Too Many Requests\r\nretry-after: 6", ""),
        _ => http_response("200 OK", ""),
    });
    let dir = tempfile::tempdir().unwrap();
    let server = serving(dir.path(), &endpoint.url("/in"), DEFINITIONS);
    let path = server.path("events");
    server.post(&path, "{\"n\":1}");
    let file = dir.path().join("data").join("retry-after-hook");
    wait_for("the wait to be stored", || file.exists().then_some(()));
    server.kill();
    let config = dir.path().join("forebay.yaml");
    let args = ["--config", config.to_str().unwrap()];
    let server = Server::start_with(&dir.path().join("data"), &args);
    wait_for("the delivery", || {
        (delivery(&server)["delivered"] == 1).then_some(())
    });
    let seen = endpoint.requests();
    assert_eq!(seen.len(), 2, "{seen:?}");
    let waited = seen[1].at - seen[0].at;
    assert!(waited >= Duration::from_millis(5_900), "{waited:?}");
}
