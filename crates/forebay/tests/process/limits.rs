//! Limits of definitions, many sinks, owners of tokens.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::server::{Server, forebay, run};

/// A file with one source of that many sinks.
fn many(dir: &std::path::Path, sinks: usize) -> String {
    let mut text = "sources:\n  - name: Many\n    sinks:\n".to_owned();
    for n in 0..sinks {
        text.push_str(&format!(
            "      - name: t{n}\n        table: in.many.t{n}\n        columns: [{{ name: id, type: uuid }}, {{ name: n, type: path, path: n }}]\n"
        ));
    }
    let file = dir.join("many.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn an_exceeded_limit_is_reported_with_its_setting_before_any_change() {
    let dir = tempfile::tempdir().unwrap();
    let limits = ["--set", "limits.sinksPerSource=2"];
    let server = Server::start_with(&dir.path().join("data"), &limits);
    let file = many(dir.path(), 3);
    let said = run(&mut server.command(&["apply", "-f", &file]));
    let expected = "maximum is 2. The setting limits.sinksPerSource raises it.";
    assert!(
        said.code == Some(2) && said.stderr.contains(expected),
        "{said:?}"
    );
    assert!(said.stderr.contains("many.yaml:10"), "{said:?}");
    assert_eq!(server.ok(&["source", "ls", "--json"]), "[]\n");
}

#[test]
fn the_compatible_profile_has_the_limits_of_the_compatible_service() {
    let shown = |profile: &str| {
        let shown = run(forebay()
            .args(["config", "show"])
            .env("FOREBAY_PROFILE", profile));
        assert_eq!(shown.code, Some(0), "{shown:?}");
        shown.stdout
    };
    for key in ["sourcesPerBranch", "sinksPerSource"] {
        let has = |text: &str, value: &str| {
            let line = text
                .lines()
                .find(|l| l.trim_start().starts_with(&format!("{key}:")));
            line.is_some_and(|l| l.contains(&format!(": {value}")))
        };
        assert!(has(&shown("forebay"), "100000"), "{key}");
        assert!(
            has(&shown("keboola"), "100 "),
            "{key}: {}",
            shown("keboola")
        );
    }
    let mut bad = forebay();
    bad.args(["config", "check"])
        .env("FOREBAY_LIMITS_COLUMNS_PER_SINK", "1601");
    let bad = run(&mut bad);
    let expected = "limits.columnsPerSink is 1601, allowed is 1 to 1600";
    assert!(
        bad.code == Some(2) && bad.stderr.contains(expected),
        "{bad:?}"
    );
}

/// A proxy that counts requests.
struct Counting {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Counting {
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(server).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || pass(from, to, Some(&counted)));
                std::thread::spawn(move || pass(server, client, None));
            }
        });
        Self { address, requests }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, requests: Option<&AtomicUsize>) {
    // The version ends the first line of a request, and occurs nowhere else in this client's requests.
    const END: &[u8] = b" HTTP/1.1\r\n";
    let mut bytes = vec![0; 64 << 10];
    let mut seen: Vec<u8> = Vec::new();
    while let Ok(n @ 1..) = from.read(&mut bytes) {
        if let Some(requests) = requests {
            seen.extend(&bytes[..n]);
            let found = seen.windows(END.len()).filter(|w| *w == END).count();
            requests.fetch_add(found, Ordering::Relaxed);
            let rest = seen.len().saturating_sub(END.len() - 1);
            seen.drain(..rest);
        }
        if to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    drop(to.shutdown(std::net::Shutdown::Write));
}

/// A sink needs one request, which waits for its task; the rest needs a few.
#[test]
fn many_sinks_are_applied_with_a_request_for_each() {
    const SINKS: usize = 200;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let proxy = Counting::before(server.api);
    let file = many(dir.path(), SINKS);
    let apply = || {
        let mut command = server.command(&["apply", "-f", &file]);
        command.env("FOREBAY_API", format!("http://{}", proxy.address));
        let done = run(&mut command);
        assert_eq!(done.code, Some(0), "{done:?}\n{}", server.log());
        (done.stdout, proxy.requests.swap(0, Ordering::Relaxed))
    };
    let (said, requests) = apply();
    let made: Vec<&str> = said.lines().filter(|l| l.starts_with("+ ")).collect();
    assert_eq!(made.len(), SINKS + 1);
    assert_eq!(made[0], "+ source many");
    assert_eq!(made[SINKS], format!("+ sink many/t{}", SINKS - 1));
    assert!(requests <= SINKS + 10, "{requests} requests");
    let (said, requests) = apply();
    assert_eq!(
        said.lines().filter(|l| l.starts_with("= ")).count(),
        SINKS + 1
    );
    assert!(requests <= 10, "{requests} requests");
}

#[test]
fn a_token_of_the_command_line_has_an_owner_and_an_expiry() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let create = ["token", "create", "--role", "admin", "--description", "ci"];
    let mut all = create.to_vec();
    all.extend([
        "--owner-id",
        "ada@example.com",
        "--owner-name",
        "Ada",
        "--expires-at",
        "30d",
    ]);
    let token = server.ok(&all);
    let mut made = server.command(&[
        "source", "create", "Events", "--column", "id=uuid", "--sink", "in.a.b",
    ]);
    let made = run(made.env("FOREBAY_TOKEN", token.trim()));
    assert_eq!(made.code, Some(0), "{made:?}");
    let source = server.api_get("/v1/branches/default/sources/events");
    let by = &source["created"]["by"];
    assert_eq!(
        (&by["userId"], &by["userName"]),
        (&json!("ada@example.com"), &json!("Ada"))
    );
    let list = server.ok(&["token", "list"]);
    let own = list
        .lines()
        .find(|l| l.starts_with("main "))
        .unwrap_or_default();
    assert!(
        own.contains("operator") && own.contains("in the configuration"),
        "{list}"
    );
    assert!(list.contains("ada@example.com"), "{list}");
    let rotate = run(&mut server.command(&["token", "rotate", "main"]));
    assert!(
        rotate.code == Some(1) && rotate.stderr.contains("SIGHUP"),
        "{rotate:?}"
    );
}

#[test]
fn errors_report_the_origin_of_the_token_and_a_wrong_port() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut wrong = server.command(&["source", "ls"]);
    let wrong = run(wrong.env("FOREBAY_TOKEN", "wrong"));
    assert!(
        wrong.code == Some(1) && wrong.stderr.contains("variable FOREBAY_TOKEN"),
        "{wrong:?}"
    );
    let mut source = server.command(&["source", "ls"]);
    let source = run(source.env("FOREBAY_API", format!("http://{}", server.source)));
    assert!(source.stderr.contains("is the record source"), "{source:?}");
}

#[test]
fn a_browser_at_the_root_of_the_api_is_redirected_to_the_dashboard() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let head = |accept: &str| {
        let mut connection = TcpStream::connect(server.api).unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{accept}\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    };
    let page = head("Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n");
    assert!(
        page.starts_with("HTTP/1.1 302 ") && page.contains("location: /ui\r\n"),
        "{page}"
    );
    let plain = head("");
    assert!(
        plain.starts_with("HTTP/1.1 301 ") && plain.contains("location: /v1\r\n"),
        "{plain}"
    );
}
