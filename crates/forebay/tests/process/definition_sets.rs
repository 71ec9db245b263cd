//! Definition sets: pruning, export, `init`, and the folder that the server follows.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use serde_json::Value;

use crate::server::{Ended, Server, forebay, run, wait_for};

const SHOP: &str = "\
sources:
  - name: Shop
    sinks:
      - { table: in.shop.orders, columns: [{ name: id, type: uuid }] }
      - { table: in.shop.carts, columns: [{ name: id, type: uuid }] }
";
const OFFICE: &str = "\
sources:
  - name: Office
    sinks: [{ table: in.office.visits, columns: [{ name: id, type: uuid }] }]
";

/// A folder with definition files.
fn folder(dir: &Path, files: &[(&str, &str)]) -> String {
    let folder = dir.join("definitions");
    _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

/// Ids of all sources and their sinks.
fn ids(server: &Server) -> Vec<String> {
    let all = server.api_get("/v1/branches/default/aggregation/sources");
    let mut ids = Vec::new();
    for source in all["sources"].as_array().unwrap() {
        let id = source["sourceId"].as_str().unwrap();
        ids.push(id.to_owned());
        for sink in source["sinks"].as_array().unwrap() {
            ids.push(format!("{id}/{}", sink["sinkId"].as_str().unwrap()));
        }
    }
    ids
}

#[test]
fn pruning_deletes_only_what_the_set_created() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let column = ["--column", "id=uuid"];
    server.ok(&[
        &["source", "create", "By hand", "--sink", "in.hand.a"][..],
        &column,
    ]
    .concat());
    let files = folder(dir.path(), &[("shop.yaml", SHOP), ("office.yaml", OFFICE)]);
    server.ok(&["apply", "-f", &files]);
    // A single file belongs to another set.
    let other = dir.path().join("other.yaml");
    let text = "sources: [{ name: Other, sinks: [{ table: in.other.a, columns: [{ name: id, type: uuid }] }] }]\n";
    std::fs::write(&other, text).unwrap();
    server.ok(&["apply", "-f", other.to_str().unwrap()]);
    let all = [
        "by-hand",
        "by-hand/a",
        "office",
        "office/visits",
        "other",
        "other/a",
        "shop",
        "shop/carts",
        "shop/orders",
    ];
    assert_eq!(ids(&server), all);

    // Nothing to delete yet; then a sink and a source are no longer defined.
    let said = server.ok(&["apply", "-f", &files, "--prune"]);
    assert!(said.contains("0 deleted, 5 unchanged"), "{said}");
    let fewer = SHOP.lines().filter(|l| !l.contains("carts"));
    let fewer: String = fewer.map(|line| format!("{line}\n")).collect();
    let files = folder(dir.path(), &[("shop.yaml", &fewer)]);
    let deletions = "- sink shop/carts\n- source office\n- sink office/visits\n";
    let said = server.ok(&["apply", "-f", &files, "--prune", "--dry-run"]);
    assert!(said.contains(deletions), "{said}");
    let said = server.ok(&["apply", "-f", &files]);
    assert!(said.contains("0 deleted"), "{said}");
    // Without an answer nothing is deleted.
    let ended = run(&mut server.command(&["apply", "-f", &files, "--prune"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("would delete sink shop/carts, source office, sink office/visits")
            && ended.stderr.contains("--yes confirms it"),
        "{ended:?}"
    );
    assert_eq!(ids(&server), all);
    let said = server.ok(&["apply", "-f", &files, "--prune", "--yes"]);
    assert!(
        said.contains(deletions) && said.contains("3 deleted"),
        "{said}"
    );
    assert_eq!(
        ids(&server),
        [
            "by-hand",
            "by-hand/a",
            "other",
            "other/a",
            "shop",
            "shop/orders"
        ]
    );
}

#[test]
fn a_source_with_a_sink_made_by_hand_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let files = folder(dir.path(), &[("shop.yaml", SHOP), ("office.yaml", OFFICE)]);
    server.ok(&["apply", "-f", &files]);
    // Of another set.
    let mine = "sources: [{ name: Shop, sinks: [{ name: Mine, table: in.mine.a, columns: [{ name: id, type: uuid }] }] }]\n";
    let file = dir.path().join("mine.yaml");
    std::fs::write(&file, mine).unwrap();
    server.ok(&["apply", "-f", file.to_str().unwrap()]);
    let files = folder(dir.path(), &[("office.yaml", OFFICE)]);
    let ended = run(&mut server.command(&["apply", "-f", &files, "--prune", "--yes"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended.stderr.contains(
            "source shop is not deleted: the set definitions did not create its sinks mine"
        ),
        "{ended:?}"
    );
    assert_eq!(
        ids(&server),
        ["office", "office/visits", "shop", "shop/mine"]
    );
    // Adopted, it belongs to the set.
    let files = folder(dir.path(), &[("office.yaml", OFFICE), ("shop.yaml", mine)]);
    let said = server.ok(&["apply", "-f", &files, "--adopt"]);
    assert!(
        said.contains("~ sink shop/mine\n    ~ definitionSet: \"default\" → \"definitions\"\n"),
        "{said}"
    );
    let files = folder(dir.path(), &[("office.yaml", OFFICE)]);
    server.ok(&["apply", "-f", &files, "--prune", "--yes"]);
    assert_eq!(ids(&server), ["office", "office/visits"]);
}

#[test]
fn pruning_without_files_or_a_set_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let files = folder(dir.path(), &[("shop.yaml", SHOP)]);
    server.ok(&["apply", "-f", &files]);
    let before = ids(&server);
    let file = dir.path().join("shop.yaml");
    std::fs::write(&file, SHOP).unwrap();
    for (name, text, said) in [
        ("README.md", "", "no definition files"),
        ("a.yaml", "sources: []\n", "has no sources"),
        ("a.yaml", "", "needs --set"),
    ] {
        let files = folder(dir.path(), &[(name, text)]);
        let path = match said {
            "needs --set" => file.to_str().unwrap(),
            _ => &files,
        };
        let ended = run(&mut server.command(&["apply", "-f", path, "--prune", "--yes"]));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(said), "{said}: {ended:?}");
        assert_eq!(ids(&server), before);
    }
}

#[test]
fn a_pruned_setting_is_reset() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let with = SHOP.replace(
        "- { table: in.shop.orders,",
        "- { table: in.shop.orders, settings: { target.import.trigger.count: 77 },",
    );
    let files = folder(dir.path(), &[("shop.yaml", &with)]);
    server.ok(&["apply", "-f", &files]);
    let files = folder(dir.path(), &[("shop.yaml", SHOP)]);
    let said = server.ok(&["apply", "-f", &files, "--dry-run"]);
    assert!(said.contains("0 to change"), "{said}");
    let said = server.ok(&["apply", "-f", &files, "--prune"]);
    assert!(
        said.contains("~ sink shop/orders\n    - settings.target.import.trigger.count: 77\n"),
        "{said}"
    );
    let said = server.ok(&["apply", "-f", &files, "--prune"]);
    assert!(said.contains("3 unchanged"), "{said}");
}

#[test]
fn an_export_applies_without_a_difference() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    // Texts that YAML reads as other types, a source made in another way, settings of both.
    let text = "\
sources:
  - name: \"On: the # edge\"
    id: edge
    description: |
      Two lines,
      and 'quotes': \"{}\"
    settings: { target.import.trigger.interval: 2m }
    sinks:
      - name: '007'
        id: seven
        table: in.edge.cases
        settings: { local.mapping.rejected.action: dead_letter }
        columns:
          - { name: \"no\", type: path, path: '[\"utm.source\"].x[0]', defaultValue: \"null\" }
          - { name: '1.10', type: static, value: \"\" }
          - { name: \"~\", type: static, value: \" true \" }
          - { name: t, type: template, template: \"local x = 1;\\nBody('a', 'ž') + x\", rawString: false, primaryKey: true }
";
    let file = dir.path().join("edge.yaml");
    std::fs::write(&file, text).unwrap();
    server.ok(&["apply", "-f", file.to_str().unwrap()]);
    server.ok(&[
        "source",
        "create",
        "By hand",
        "--sink",
        "in.hand.a",
        "--column",
        "id=uuid",
    ]);
    let exported = server.ok(&["export"]);
    let file = dir.path().join("all.yaml");
    std::fs::write(&file, &exported).unwrap();
    let args = ["apply", "-f", file.to_str().unwrap(), "--exit-code"];
    let same = run(&mut server.command(&args));
    assert_eq!(same.code, Some(0), "{same:?}\n{exported}");
    assert!(same.stdout.contains("0 deleted, 4 unchanged"), "{same:?}");

    // On another server the export is the same.
    let other = Server::start(&dir.path().join("other"));
    let output = dir.path().join("exported");
    let output = output.to_str().unwrap();
    server.ok(&["export", "--output", output]);
    let made = other.ok(&["apply", "-f", output]);
    assert!(made.contains("4 created"), "{made}");
    assert_eq!(other.ok(&["export"]), exported);
    let again = run(&mut server.command(&["export", "--output", output]));
    assert_eq!(again.code, Some(2), "{again:?}");
}

const HOOKS: &str = "\
sources:
  - name: Hooks
    verify: { type: stripe, secrets: ['${NEW}', '${OLD}'] }
";

/// Applies a file with secrets, which are in no output.
fn apply_signed(server: &Server, dir: &Path, text: &str, args: &[&str]) -> Ended {
    let file = dir.join("hooks.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = server.command(&["apply", "-f", file.to_str().unwrap()]);
    let env = [
        ("NEW", "the-new-signing-secret"),
        ("OLD", "the-old-signing-secret"),
        ("HOOKS_VERIFY_SECRET", "the-new-signing-secret"),
        ("HOOKS_VERIFY_SECRET_2", "the-old-signing-secret"),
    ];
    let ended = run(command.args(args).envs(env));
    assert!(
        !format!("{ended:?}").contains("signing-secret"),
        "{ended:?}"
    );
    ended
}

#[test]
fn signatures_are_compared_and_exported_without_their_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let apply = |text: &str, args: &[&str]| apply_signed(&server, dir.path(), text, args);
    let made = apply(HOOKS, &[]);
    assert!(made.stdout.contains("+ source hooks\n"), "{made:?}");
    let same = apply(HOOKS, &["--exit-code"]);
    assert_eq!(same.code, Some(0), "{same:?}");
    assert!(same.stdout.contains("= source hooks\n"), "{same:?}");
    // Without the field the server's is unchanged.
    let without = "sources: [{ name: Hooks }]\n";
    assert_eq!(
        apply(without, &["--exit-code", "--prune", "--set", "default"]).code,
        Some(0)
    );

    let longer = HOOKS.replace("stripe,", "stripe, tolerance: 10m,");
    let rotated = longer.replace(", '${OLD}'", "");
    let changed = apply(&rotated, &[]);
    assert!(
        changed.stdout.contains(
            "~ source hooks\n    ~ verify.tolerance: \"5m0s\" → \"10m0s\"\n    ~ verify.secrets: changed\n"
        ),
        "{changed:?}"
    );
    let json = apply(HOOKS, &["--json", "--dry-run"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let secrets = serde_json::json!({ "field": "verify.secrets", "isSecret": true });
    assert_eq!(json["changes"][0]["fields"][1], secrets);
    assert_eq!(apply(&longer, &[]).code, Some(0));

    let exported = server.ok(&["export"]);
    assert!(
        exported.contains("${HOOKS_VERIFY_SECRET_2}") && !exported.contains("signing-secret"),
        "{exported}"
    );
    let same = apply(&exported, &["--exit-code"]);
    assert_eq!(same.code, Some(0), "{same:?}\n{exported}");
    let schema = run(forebay().args(["apply", "--schema"])).stdout;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let types = &schema["$defs"]["VerifyDefinition"]["properties"]["type"]["enum"];
    assert_eq!(types.as_array().unwrap().len(), 7, "{schema:#}");
}

#[test]
fn a_rejected_signature_has_the_position_of_its_field() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let apply = |text: &str, args: &[&str]| apply_signed(&server, dir.path(), text, args);
    // The server's rejection has the position of the field, and of the secret.
    let short = HOOKS.replace("'${OLD}'", "short");
    let rejected = apply(&short, &[]);
    assert_eq!(rejected.code, Some(2), "{rejected:?}");
    assert!(
        rejected
            .stderr
            .contains("erify.secrets[1] has 5 characters")
            && rejected.stderr.contains("hooks.yaml:3:49\n")
            && !rejected.stderr.contains("short"),
        "{rejected:?}"
    );
    let header = HOOKS.replace("stripe", "hmac");
    let rejected = apply(&header, &["--json"]);
    let problems: Value = serde_json::from_str(&rejected.stdout).unwrap();
    let problem = &problems["problems"][0];
    assert_eq!(problem["path"], "sources[0].verify.header", "{problems}");
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&3.into(), &5.into())
    );
}

#[test]
fn a_started_folder_runs_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("start");
    let folder_text = folder.to_str().unwrap();
    let made = run(forebay().args(["init", folder_text]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let again = run(forebay().args(["init", folder_text]));
    assert_eq!(again.code, Some(2), "{again:?}");
    let config = folder.join("forebay.yaml");
    let definitions = folder.join("definitions");
    let server = Server::start_with(
        &dir.path().join("data"),
        &[
            "--config",
            config.to_str().unwrap(),
            "--definitions",
            definitions.to_str().unwrap(),
        ],
    );
    server.logged("INFO", "definitions applied");
    let sample = std::fs::read_to_string(folder.join("sample.json")).unwrap();
    server.post(&server.path("my-events"), &sample);
    let sql = "SELECT user, total FROM \"in.demo.events\"";
    wait_for("the row", || {
        let rows = server.ok(&["query", sql, "--wait", "--format", "csv"]);
        rows.contains("ada,10").then_some(())
    });
}

#[test]
fn the_server_follows_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let files = folder(dir.path(), &[("shop.yaml", SHOP), ("office.yaml", OFFICE)]);
    let set = [
        "--set",
        "definitions.interval=100ms",
        "--set",
        "definitions.prune=true",
    ];
    let args = [&["--definitions", &files][..], &set].concat();
    let server = Server::start_with(&dir.path().join("data"), &args);
    wait_for("the definitions", || {
        (ids(&server).len() == 5).then_some(())
    });
    let status =
        || -> Value { server.api_get("/v1/branches/default/status")["definitions"].clone() };
    wait_for("the status", || {
        status()["appliedAt"].is_string().then_some(())
    });

    // An invalid file changes nothing, and is visible.
    let office = Path::new(&files).join("office.yaml");
    std::fs::write(&office, OFFICE.replace("type: uuid", "type: uid")).unwrap();
    wait_for("the error", || status()["error"].is_string().then_some(()));
    assert!(
        status()["error"]
            .as_str()
            .unwrap()
            .contains("office.yaml:3:"),
        "{}",
        status()
    );
    let logged = server.logged("ERROR", "the former ones remain in force");
    assert!(logged.contains("office.yaml:3:"), "{logged}");
    assert_eq!(ids(&server).len(), 5);
    let shown = run(&mut server.command(&["status"]));
    assert_eq!(shown.code, Some(1), "{shown:?}");
    assert!(shown.stdout.contains("type is \"uid\""), "{shown:?}");
    let metrics = server.get("/metrics").1;
    assert!(
        metrics.contains("forebay_definitions_failing 1"),
        "{metrics}"
    );

    // A removed file is pruned, and a new one applied.
    std::fs::remove_file(&office).unwrap();
    let more = OFFICE
        .replace("Office", "Depot")
        .replace("in.office", "in.depot");
    std::fs::write(Path::new(&files).join("depot.yml"), more).unwrap();
    wait_for("the change", || {
        let now = ids(&server);
        (now == ["depot", "depot/visits", "shop", "shop/carts", "shop/orders"]).then_some(())
    });
    wait_for("the recovery", || {
        status().get("error").is_none().then_some(())
    });
    let metrics = server.get("/metrics").1;
    assert!(
        metrics.contains("forebay_definitions_failing 0"),
        "{metrics}"
    );
}

#[test]
fn a_reload_changes_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let files = folder(dir.path(), &[("shop.yaml", SHOP)]);
    let config = dir.path().join("forebay.yaml");
    std::fs::write(&config, "{}\n").unwrap();
    let args = ["--config", config.to_str().unwrap()];
    let server = Server::start_with(&dir.path().join("data"), &args);
    assert_eq!(
        server
            .api_get("/v1/branches/default/status")
            .get("definitions"),
        None
    );
    std::fs::write(
        &config,
        format!("definitions.dir: {files}\nnodeId: other\n"),
    )
    .unwrap();
    server.signal("HUP");
    let warned = server.logged("WARN", "need a restart");
    assert!(
        warned.contains("nodeId") && !warned.contains("definitions"),
        "{warned}"
    );
    wait_for("the definitions", || {
        (ids(&server).len() == 3).then_some(())
    });
    // Probes see them, too.
    wait_for("the time of the application", || {
        let ready = server.get("/health/ready").1;
        let ready: Value = serde_json::from_str(&ready).unwrap();
        ready["definitions"]["appliedAt"].is_string().then_some(())
    });
}

/// A proxy that answers 500 to requests that contain `text`.
fn refusing(server: SocketAddr, text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let upstream = TcpStream::connect(server).unwrap();
            let (from, to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            std::thread::spawn(move || refuse(from, to, text));
            std::thread::spawn(move || {
                let (mut from, mut to) = (upstream, client);
                drop(std::io::copy(&mut from, &mut to));
                drop(to.shutdown(Shutdown::Write));
            });
        }
    });
    address
}

fn refuse(mut client: TcpStream, mut server: TcpStream, text: &str) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(n @ 1..) = client.read(&mut bytes) {
        if String::from_utf8_lossy(&bytes[..n]).contains(text) {
            let answer = "HTTP/1.1 500 Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            drop(client.write_all(answer.as_bytes()));
            break;
        }
        if server.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
    drop(server.shutdown(Shutdown::Write));
}

#[test]
fn a_failed_change_does_not_hide_others_and_prevents_deletions() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let files = folder(dir.path(), &[("old.yaml", "sources: [{ name: Old }]\n")]);
    server.ok(&["apply", "-f", &files]);
    let proxy = refusing(server.api, "POST /v1/branches/default/sources/shop/sinks");
    let files = folder(
        dir.path(),
        &[("a-shop.yaml", SHOP), ("office.yaml", OFFICE)],
    );
    let apply = |through_proxy: bool| {
        let mut command = server.command(&["apply", "-f", &files, "--prune", "--yes"]);
        if through_proxy {
            command.env("FOREBAY_API", format!("http://{proxy}"));
        }
        run(&mut command)
    };
    let ended = apply(true);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "+ source shop");
    assert!(lines[1].starts_with("! sink shop/orders: "), "{ended:?}");
    assert!(lines[2].starts_with("! sink shop/carts: "), "{ended:?}");
    assert_eq!(lines[3..5], ["+ source office", "+ sink office/visits"]);
    assert_eq!(
        lines[5],
        "! source old: not tried: another change has failed"
    );
    let summary = "3 created, 0 changed, 0 deleted, 0 unchanged, 3 failed";
    assert_eq!(lines.last(), Some(&summary));
    assert!(
        ended
            .stderr
            .contains("3 of 6 sources and sinks were not applied"),
        "{ended:?}"
    );
    assert!(ids(&server).contains(&"old".to_owned()));
    // The next time it goes on.
    let ended = apply(false);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(
        ended
            .stdout
            .contains("2 created, 0 changed, 1 deleted, 3 unchanged"),
        "{ended:?}"
    );
}
