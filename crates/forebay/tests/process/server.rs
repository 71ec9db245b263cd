//! Processes under test: commands and servers.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Client;

/// Timeout of each wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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

/// Waits until `check` returns a value.
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
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
    child: Child,
    pub(crate) api: SocketAddr,
    pub(crate) source: SocketAddr,
    data: std::path::PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// Starts it with further arguments, and waits until it is ready.
    pub(crate) fn start_with(data: &Path, args: &[&str]) -> Self {
        let server = Self::spawn(data, args);
        server.until_ready();
        server
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn spawn(data: &Path, args: &[&str]) -> Self {
        Self::spawn_command(&mut serve(data, args), data)
    }

    /// Starts it with a changed command line.
    pub(crate) fn start_by(change: impl Fn(&Command) -> Command, data: &Path) -> Self {
        let server = Self::spawn_command(&mut change(&serve(data, &[])), data);
        server.until_ready();
        server
    }

    fn until_ready(&self) {
        wait_for("readiness", || {
            (self.get("/health/ready").0 == 200).then_some(())
        });
    }

    fn spawn_command(command: &mut Command, data: &Path) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let ready = wait_for("the server", || {
            let all = lines.lock().unwrap().clone();
            let ready = all
                .iter()
                .filter_map(|l| serde_json::from_str::<Value>(l).ok());
            let ready = ready.into_iter().find(|l| l["message"] == "ready");
            if ready.is_none() && child.try_wait().unwrap().is_some() {
                panic!("forebay ended: {all:#?}");
            }
            ready
        });
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        let (api, source) = (address("api"), address("source"));
        Self {
            child,
            api,
            source,
            data: data.to_owned(),
            lines,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a log line of this level that contains the text.
    pub(crate) fn logged(&self, level: &str, text: &str) -> String {
        let level = format!("\"level\":\"{level}\"");
        wait_for(text, || {
            let lines = self.lines.lock().unwrap();
            let found = lines
                .iter()
                .find(|l| l.contains(&level) && l.contains(text));
            found.cloned()
        })
    }

    /// Starts it with a standard error that the test does not read, and waits until it publishes its
    /// addresses in the data directory.
    pub(crate) fn start_unread(data: &Path, args: &[&str], stderr: Stdio) -> Self {
        let mut child = serve(data, args)
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let endpoints: Value = wait_for("the endpoints of the server", || {
            assert_eq!(child.try_wait().unwrap(), None, "forebay ended");
            let text = std::fs::read(data.join("endpoints.json")).ok()?;
            serde_json::from_slice(&text).ok()
        });
        let address = |name: &str| {
            let url = endpoints[name].as_str().unwrap();
            url.strip_prefix("http://").unwrap().parse().unwrap()
        };
        Self {
            child,
            api: address("api"),
            source: address("source"),
            data: data.to_owned(),
            lines: Arc::default(),
        }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The generated operator token.
    pub(crate) fn token(&self) -> String {
        let text = std::fs::read_to_string(self.data.join("token")).unwrap_or_default();
        text.trim().to_owned()
    }

    /// `GET` on the API listener with the token.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let token = self.token();
        let headers = [("X-StorageApi-Token", token.as_str())];
        let response = Client::new(self.api)
            .send("GET", path, &headers, b"")
            .unwrap();
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
        command.args(["--data-dir", self.data.to_str().unwrap()]);
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
        let response = Client::new(self.source)
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

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{name}"), &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let status = wait_for("the end of the server", || self.child.try_wait().unwrap());
        (status, self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Usually it has already ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
