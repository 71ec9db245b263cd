//! A night on call: from the text of the alert alone to the cause, the mend and the drained backlog, in
//! at most six commands. The first five minutes of a newcomer are in `pages.rs`.

use forebay_test_support::services;

use crate::server::{Ended, Server, run, wait_for};

const ALERTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../deploy/prometheus/alerts.yaml"
);
const COMMANDS_MAX: usize = 6;

/// Text that the operator reads: the annotations of an alert, with the labels of the sink.
fn alert_text(name: &str) -> String {
    let rules = std::fs::read_to_string(ALERTS).unwrap();
    let rule = rules.split("- alert: ").find(|r| r.starts_with(name));
    rule.unwrap()
        .replace("{{ $labels.source }}", "events")
        .replace("{{ $labels.sink }}", "events")
}

/// The commands in a text, in order.
fn commands(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|q| q.starts_with("forebay ")).collect()
}

struct Operator<'s> {
    server: &'s Server,
    commands: usize,
}

impl Operator<'_> {
    fn enters(&mut self, command: &str) -> Ended {
        self.commands += 1;
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        run(&mut self.server.command(&arguments))
    }
}

fn sql(url: &str, statements: &str) -> Vec<tokio_postgres::SimpleQueryMessage> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.unwrap();
        let driver = tokio::spawn(connection);
        let rows = client.simple_query(statements).await.unwrap();
        drop(client);
        drop(driver.await);
        rows
    })
}

/// Forbids a role to log in, and closes its connections.
fn lock(url: &str, role: &str) {
    let close =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    sql(url, &format!("ALTER ROLE {role} NOLOGIN; {close}"));
}

fn rows(url: &str, table: &str) -> usize {
    let found = sql(url, &format!("SELECT n FROM {table}"));
    let is_row = |m: &&_| matches!(m, tokio_postgres::SimpleQueryMessage::Row(_));
    found.iter().filter(is_row).count()
}

/// The sink, as Prometheus sees it.
fn is_failing(server: &Server) -> bool {
    let metrics = server.get("/metrics").1;
    let mut series = metrics
        .lines()
        .filter(|l| l.starts_with("forebay_sink_failing{"));
    series.any(|l| l.contains("source=\"events\"") && l.ends_with(" 1"))
}

#[test]
fn a_table_that_is_down_at_night_is_found_and_mended_in_six_commands() {
    let test = "a_table_that_is_down_at_night_is_found_and_mended_in_six_commands";
    let Some(postgres) = services::postgres(test) else {
        return;
    };
    let unique = format!("night{}", std::process::id());
    let database = postgres.url.rsplit('/').next().unwrap();
    let database = database.split('?').next().unwrap();
    sql(
        &postgres.url,
        &format!("CREATE ROLE {unique} LOGIN; GRANT CREATE ON DATABASE {database} TO {unique}"),
    );
    let (scheme, address) = postgres.url.split_once("://").unwrap();
    let (_, host) = address.split_once('@').unwrap();
    let dir = tempfile::tempdir().unwrap();
    let settings = [
        "--set",
        "table.default=postgres",
        "--set",
        &format!("table.postgres.url={scheme}://{unique}@{host}"),
        "--set",
        &format!("table.postgres.ledgerSchema=forebay_{unique}"),
    ];
    let server = Server::start_with(dir.path(), &settings);
    let table = format!("in.{unique}.events");
    server.ok(&[
        "source", "create", "events", "--sink", &table, "--column", "n=path:n",
    ]);
    let path = server.path("events");
    server.post(&path, "{\"n\": 0}");
    server.settled("events", "events", 1);

    // At night someone locks the account. Records are still accepted.
    lock(&postgres.url, &unique);
    for n in 1..40 {
        server.post(&path, &format!("{{\"n\": {n}}}"));
    }
    wait_for("the condition of the alert", || {
        is_failing(&server).then_some(())
    });

    // The operator is woken by this text, and knows nothing else.
    let text = alert_text("ForebaySinkFailing");
    let [status, retry] = &*commands(&text) else {
        panic!("{text}")
    };
    let mut operator = Operator {
        server: &server,
        commands: 0,
    };
    let shown = operator.enters(status);
    assert_eq!(shown.code, Some(1), "{shown:?}");
    for part in ["events/events", "is not permitted to log in", &*unique] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    operator.commands += 1;
    sql(&postgres.url, &format!("ALTER ROLE {unique} LOGIN"));
    let retried = operator.enters(retry);
    assert_eq!(retried.code, Some(0), "{retried:?}");
    let balance = server.settled("events", "events", 40);
    assert_eq!(balance["imported"], 40, "{balance}");
    // As `forebay status --watch` would show it.
    operator.commands += 1;
    wait_for("a healthy status", || {
        (run(&mut server.command(&["status"])).code == Some(0)).then_some(())
    });
    assert!(operator.commands <= COMMANDS_MAX);
    let quoted = format!("\"in.{unique}\".\"events\"");
    assert_eq!(rows(&postgres.url, &quoted), 40);
    server.logged("INFO", "sink recovered");
    assert!(!is_failing(&server));
}
