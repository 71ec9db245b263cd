//! Setup of a test: staging on disk or S3, tables in SQLite or PostgreSQL, behind proxies that cut
//! connections; and a source whose two sinks get each record.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use forebay_test_support::fault_proxy::{FaultyProxy, Moment, Protocol};
use forebay_test_support::services::{self, PostgresService, S3Service};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::server::{Launch, Server};
use super::tables::Tables;

pub(crate) const SOURCES: &str = "/v1/branches/default/sources";
/// Sink id, table. The second one computes its cells in templates.
pub(crate) const SINKS: [(&str, &str); 2] = [
    ("paths", "in.torture.paths"),
    ("templates", "in.torture.templates"),
];

/// Real services of a test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) s3: bool,
    pub(crate) postgres: bool,
}

impl Setup {
    pub(crate) fn name(self) -> String {
        let staging = if self.s3 { "S3" } else { "disk" };
        let tables = if self.postgres {
            "PostgreSQL"
        } else {
            "SQLite"
        };
        format!("{staging} to {tables}")
    }
}

/// A separate database on the test server, dropped with this.
struct Database {
    service: PostgresService,
    name: String,
}

/// Surroundings of a server.
pub(crate) struct World {
    pub(crate) tables: Tables,
    proxies: Vec<(Protocol, FaultyProxy)>,
    database: Option<Database>,
    runtime: Runtime,
}

impl World {
    /// `None` when a service of the setup is missing; `name` is the test's.
    pub(crate) fn new(setup: Setup, name: &str, launch: &mut Launch) -> Option<Self> {
        let s3 = if setup.s3 {
            Some(services::s3(name)?)
        } else {
            None
        };
        let postgres = if setup.postgres {
            Some(services::postgres(name)?)
        } else {
            None
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut world = Self {
            tables: Tables::Sqlite(launch.data.join("tables.db")),
            proxies: Vec::new(),
            database: None,
            runtime,
        };
        // Short intervals, so that many files are in flight in a short test.
        let settings = [
            ("coordinator.checkInterval", "100ms"),
            ("coordinator.retryInitial", "200ms"),
            ("coordinator.retryMax", "1s"),
            ("upload.checkInterval", "100ms"),
            ("import.checkInterval", "100ms"),
            ("garbageCollection.interval", "1s"),
            ("garbageCollection.ledgerInterval", "1s"),
            ("storage.level.target.import.trigger.interval", "1s"),
        ];
        for (key, value) in settings {
            let given = format!("{key}=");
            if !launch.args.iter().any(|a| a.starts_with(&given)) {
                *launch = launch.clone().set(key, value);
            }
        }
        if let Some(s3) = s3 {
            world.stage_in(&s3, launch);
        }
        if let Some(postgres) = postgres {
            world.import_into(postgres, launch);
        }
        Some(world)
    }

    fn proxy(&mut self, protocol: Protocol, target: &str) -> SocketAddr {
        let target = target.parse().unwrap();
        let started = self.runtime.block_on(FaultyProxy::start(protocol, target));
        let proxy = started.unwrap();
        let address = proxy.address();
        self.proxies.push((protocol, proxy));
        address
    }

    fn stage_in(&mut self, s3: &S3Service, launch: &mut Launch) {
        let target = s3.endpoint.strip_prefix("http://").unwrap();
        let proxy = self.proxy(Protocol::Http, target);
        let prefix = format!("torture-{}", unique(&launch.data));
        *launch = launch
            .clone()
            .set("staging.type", "s3")
            .set("staging.s3.bucket", &s3.bucket)
            .set("staging.s3.prefix", prefix)
            .set("staging.s3.endpoint", format_args!("http://{proxy}"))
            .set("staging.s3.accessKeyId", &s3.access_key)
            .set("staging.s3.secretAccessKey", s3.secret_key.expose_secret())
            // Retries of the library must not hide those of Forebay.
            .set("staging.s3.retries", 0);
    }

    fn import_into(&mut self, service: PostgresService, launch: &mut Launch) {
        let name = format!("torture_{}", unique(&launch.data));
        self.runtime
            .block_on(admin(&service.url, &format!("CREATE DATABASE {name}")));
        let (user, rest) = service.url.split_once('@').expect("a user in the URL");
        let (server, _) = rest.split_once('/').expect("a database in the URL");
        let proxy = self.proxy(Protocol::Postgres, server);
        let direct = format!("{user}@{server}/{name}");
        self.tables = Tables::Postgres(direct, self.runtime.handle().clone());
        *launch = launch
            .clone()
            .set("table.default", "postgres")
            // The proxy has to parse the traffic.
            .set(
                "table.postgres.url",
                format_args!("{user}@{proxy}/{name}?sslmode=disable"),
            );
        self.database = Some(Database { service, name });
    }

    /// All moments at which connections can be cut in this setup.
    pub(crate) fn moments(&self) -> Vec<Moment> {
        let all = self.proxies.iter();
        all.flat_map(|(protocol, _)| Moment::of(*protocol))
            .copied()
            .collect()
    }

    /// Cuts the next connection that reaches that moment.
    pub(crate) fn arm(&self, moment: Moment) {
        for (protocol, proxy) in &self.proxies {
            if Moment::of(*protocol).contains(&moment) {
                proxy.arm(moment);
            }
        }
    }

    /// Connections cut so far.
    pub(crate) fn cuts(&self) -> BTreeMap<Moment, u64> {
        self.proxies.iter().flat_map(|(_, p)| p.cuts()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(Database { service, name }) = self.database.take() {
            let sql = format!("DROP DATABASE {name} WITH (FORCE)");
            self.runtime.block_on(admin(&service.url, &sql));
        }
    }
}

async fn admin(url: &str, sql: &str) {
    let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    drop(driver.await);
}

/// A name unique to the test, from the temporary directory.
fn unique(data: &Path) -> String {
    let root = data.parent().and_then(Path::file_name).unwrap();
    let name = root.to_string_lossy().to_ascii_lowercase();
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    format!("{}{}", std::process::id(), letters.collect::<String>())
}

/// Creates a source whose one sink stores whole bodies; returns its path.
pub(crate) fn define_bodies(server: &Server) -> String {
    let source = json!({"type": "http", "name": "Torture", "sourceId": "torture"});
    server.task("POST", SOURCES, &source);
    let sink = json!({"type": "table", "name": "bodies", "sinkId": "bodies", "table": {
        "type": "keboola", "tableId": "in.torture.bodies",
        "mapping": {"columns": [{"type": "body", "name": "body"}]}}});
    server.task("POST", &format!("{SOURCES}/torture/sinks"), &sink);
    path(server)
}

/// Creates a source with both sinks; returns its path.
pub(crate) fn define(server: &Server) -> String {
    let source = json!({"type": "http", "name": "Torture", "sourceId": "torture"});
    server.task("POST", SOURCES, &source);
    let template = |content: &str| json!({"language": "jsonnet", "content": content});
    let columns = [
        json!([
            {"type": "path", "name": "id", "path": "id", "rawString": true},
            {"type": "path", "name": "sum", "path": "nested.check", "rawString": true},
            {"type": "uuid", "name": "row_id"}
        ]),
        json!([
            {"type": "template", "name": "id", "rawString": true, "template": template("Body('id')")},
            {"type": "template", "name": "sum", "rawString": true,
             "template": template("Body().nested.check")},
            {"type": "uuid", "name": "row_id"}
        ]),
    ];
    for ((sink, table), columns) in SINKS.iter().zip(columns) {
        let body = json!({"type": "table", "name": sink, "sinkId": sink, "table": {
            "type": "keboola", "tableId": table, "mapping": {"columns": columns}}});
        server.task("POST", &format!("{SOURCES}/torture/sinks"), &body);
    }
    path(server)
}

/// The path of the source.
pub(crate) fn path(server: &Server) -> String {
    let source = server.call("GET", &format!("{SOURCES}/torture"), &Value::Null);
    let url = source["http"]["url"].as_str().unwrap();
    let (_, path) = url.split_once("/stream/").unwrap();
    format!("/stream/{path}")
}

/// Reconciliation of a sink: accepted, imported, in flight.
pub(crate) fn balance(server: &Server, sink: &str) -> Value {
    let path = format!("{SOURCES}/torture/sinks/{sink}/statistics/reconciliation");
    server.call("GET", &path, &Value::Null)
}
