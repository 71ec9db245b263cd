//! Processes under test: commands and servers.

use std::ops::Deref;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) use forebay_test_support::wait_for;
use forebay_test_support::{HttpClient, ServerProcess};
use serde_json::Value;
use tempfile::TempDir;

/// The binary without Forebay variables of the environment.
pub(crate) fn forebay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FOREBAY_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Result of a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn run(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn forebay_with(args: &[&str]) -> Ended {
    run(forebay().args(args))
}

fn serve(data: &Path, args: &[&str]) -> Command {
    let mut command = forebay();
    command.args(["serve", "--data-dir", data.to_str().unwrap()]);
    let anywhere = [
        "--api-listen",
        "127.0.0.1:0",
        "--source-listen",
        "127.0.0.1:0",
    ];
    command.args(anywhere).args(args);
    command
}

/// `forebay serve` on free ports.
pub(crate) struct Server {
    process: ServerProcess,
    _logs: TempDir,
}

impl Deref for Server {
    type Target = ServerProcess;

    fn deref(&self) -> &ServerProcess {
        &self.process
    }
}

impl Server {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// Starts it with further arguments, and waits until it is ready.
    pub(crate) fn start_with(data: &Path, args: &[&str]) -> Self {
        let server = Self::spawn(data, args);
        server.wait_until_ready();
        server
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn spawn(data: &Path, args: &[&str]) -> Self {
        Self::spawn_command(&mut serve(data, args), data)
    }

    /// Starts it with a changed command line.
    pub(crate) fn start_by(change: impl Fn(&Command) -> Command, data: &Path) -> Self {
        let server = Self::spawn_command(&mut change(&serve(data, &[])), data);
        server.wait_until_ready();
        server
    }

    fn spawn_command(command: &mut Command, data: &Path) -> Self {
        let logs = tempfile::tempdir().unwrap();
        let mut process = ServerProcess::spawn(command, data, &logs.path().join("stderr"));
        process.find_addresses();
        let _logs = logs;
        Self { process, _logs }
    }

    /// Waits for a log line of this level that contains the text.
    pub(crate) fn logged(&self, level: &str, text: &str) -> String {
        let level = format!("\"level\":\"{level}\"");
        wait_for(text, || {
            let log = self.log();
            let found = log.lines().find(|l| l.contains(&level) && l.contains(text));
            found.map(str::to_owned)
        })
    }

    /// Starts it with a standard error that the test does not read, and waits until it publishes its
    /// addresses in the data directory.
    pub(crate) fn start_unread(data: &Path, args: &[&str], stderr: Stdio) -> Self {
        let logs = tempfile::tempdir().unwrap();
        let none = logs.path().join("none");
        let mut process =
            ServerProcess::spawn_with_stderr(&mut serve(data, args), data, &none, stderr);
        let endpoints: Value = process.wait_for("the endpoints of the server", || {
            let text = std::fs::read(data.join("endpoints.json")).ok()?;
            serde_json::from_slice(&text).ok()
        });
        let address = |name: &str| {
            let url = endpoints[name].as_str().unwrap();
            url.strip_prefix("http://").unwrap().parse().unwrap()
        };
        (process.api, process.source) = (address("api"), address("source"));
        let _logs = logs;
        Self { process, _logs }
    }

    /// `GET` on the API listener with the token.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let response = self.request("GET", path, b"").unwrap();
        (response.status, String::from_utf8(response.body).unwrap())
    }

    /// `GET` of an existing resource as JSON.
    pub(crate) fn api_get(&self, path: &str) -> Value {
        let (status, text) = self.get(path);
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The reconciliation of a sink.
    pub(crate) fn balance(&self, source: &str, sink: &str) -> Value {
        let sink = format!("sources/{source}/sinks/{sink}");
        self.api_get(&format!(
            "/v1/branches/default/{sink}/statistics/reconciliation"
        ))
    }

    /// A client command for this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = forebay();
        command.args(args);
        command.args(["--data-dir", self.data().to_str().unwrap()]);
        command.env("FOREBAY_API", format!("http://{}", self.api));
        command
    }

    /// Runs such a command, which must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = run(&mut self.command(args));
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}\n{}", self.log());
        ended.stdout
    }

    /// Creates the source `events` with the table `in.test.events`; returns its path.
    pub(crate) fn define(&self) -> String {
        self.ok(&[
            "source",
            "create",
            "events",
            "--sink",
            "in.test.events",
            "--column",
            "n=path:n",
            "--column",
            "id=uuid",
        ]);
        self.path("events")
    }

    /// Path of a source on its listener.
    pub(crate) fn path(&self, source: &str) -> String {
        let url = self.ok(&["source", "show", source, "--url"]);
        let (_, path) = url.split_once("/stream/").unwrap();
        format!("/stream/{}", path.trim())
    }

    /// Posts a record that must be acknowledged.
    pub(crate) fn post(&self, path: &str, body: &str) {
        let headers = [("Content-Type", "application/json")];
        let response = HttpClient::new(self.source)
            .send("POST", path, &headers, body.as_bytes())
            .unwrap();
        assert_eq!(
            response.status,
            200,
            "{}",
            String::from_utf8_lossy(&response.body)
        );
    }

    /// Waits until the sink has counted at least that many records and none is in flight.
    pub(crate) fn settled(&self, source: &str, sink: &str, records: usize) -> Value {
        wait_for("records in the table", || {
            let balance = self.balance(source, sink);
            // Acknowledged records are counted with the next report.
            let counted = balance["accepted"].as_u64().unwrap() >= records as u64;
            (counted && balance["inFlight"] == 0).then_some(balance)
        })
    }
}
