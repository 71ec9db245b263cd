//! A topic's definition over its life: changed, deleted, made again.

use crate::endpoint::Endpoint;
use crate::{apply, configure, drained, post, start};

/// One sink that is an endpoint.
const HOOKS: &str = "
sources:
  - name: events
    sinks:
      - name: hooks
        http:
          provider: hook
          METHOD
          message:
            headers: [{ name: X-N, type: path, path: n }]
";

#[test]
fn messages_are_sent_with_the_method_of_their_sink() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start();
    configure(dir.path(), "127.0.0.1:1", &endpoint);
    let server = start(dir.path());
    let mut sent = 0;
    for (line, method) in [
        ("", "POST"),
        ("method: PUT", "PUT"),
        ("method: PATCH", "PATCH"),
        ("", "POST"),
    ] {
        let definitions = HOOKS.replace("METHOD", line);
        let first = apply(&server, dir.path(), &definitions);
        let again = apply(&server, dir.path(), &definitions);
        assert!(!again.contains("updated"), "{line}: {first} then {again}");
        assert!(post(&server, &server.path("events"), sent));
        sent += 1;
        drained(&server, "hooks");
        assert_eq!(endpoint.methods().last().unwrap(), method, "{first}");
    }
    let file = dir.path().join("definitions.yaml");
    std::fs::write(&file, HOOKS.replace("METHOD", "method: GET")).unwrap();
    let refused =
        crate::server::run(&mut server.command(&["apply", "--file", file.to_str().unwrap()]));
    let wanted = "method is \"GET\", allowed are POST, PUT, PATCH";
    assert!(refused.stderr.contains(wanted), "{refused:?}");
}
