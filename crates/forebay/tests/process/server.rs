//! Processes under test: commands that end, and servers that run.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Client;

/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, without what the surroundings have set for it.
pub fn forebay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FOREBAY_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// How a command has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn forebay_with(args: &[&str]) -> Ended {
    run(forebay().args(args))
}

/// Waits until `check` has something.
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `forebay serve` on free ports.
pub struct Server {
    child: Child,
    pub api: SocketAddr,
    pub source: SocketAddr,
    data: std::path::PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// Starts it with further arguments, and waits until it is ready.
    pub fn start_with(data: &Path, args: &[&str]) -> Self {
        let mut command = forebay();
        command.args(["serve", "--data-dir", data.to_str().unwrap()]);
        command.args(["--api-listen", "127.0.0.1:0", "--source-listen", "127.0.0.1:0"]);
        // The latest wins: ports can be fixed by `args`.
        command.args(args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
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
            let ready = all.iter().filter_map(|l| serde_json::from_str::<Value>(l).ok());
            let ready = ready.into_iter().find(|l| l["message"] == "ready");
            if ready.is_none() && child.try_wait().unwrap().is_some() {
                panic!("forebay ended: {all:#?}");
            }
            ready
        });
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        let (api, source) = (address("api"), address("source"));
        let server = Self { child, api, source, data: data.to_owned(), lines };
        wait_for("readiness", || (server.get("/health/ready").0 == 200).then_some(()));
        server
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// `GET` of the API's listener, with the token.
    pub fn get(&self, path: &str) -> (u16, String) {
        let token = std::fs::read_to_string(self.data.join("token")).unwrap_or_default();
        let headers = [("X-StorageApi-Token", token.trim())];
        let response = Client::new(self.api).send("GET", path, &headers, b"").unwrap();
        (response.status, String::from_utf8(response.body).unwrap())
    }

    /// A client command against this server.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = forebay();
        command.args(args);
        command.args(["--data-dir", self.data.to_str().unwrap()]);
        command.env("FOREBAY_API", format!("http://{}", self.api));
        command
    }

    /// The same, run; it has to succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = run(&mut self.command(args));
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}\n{}", self.log());
        ended.stdout
    }

    /// Makes the source `events` with the table `in.test.events`; returns the path to post to.
    pub fn define(&self) -> String {
        self.ok(&["source", "create", "events", "--sink", "in.test.events", "--column", "n=path:n", "--column", "id=uuid"]);
        self.path("events")
    }

    /// Path of a source on its listener.
    pub fn path(&self, source: &str) -> String {
        let url = self.ok(&["source", "show", source, "--url"]);
        let at = url.find("/stream/").unwrap();
        url[at..].trim().to_owned()
    }

    /// Posts a record that has to be acknowledged.
    pub fn post(&self, path: &str, body: &str) {
        let headers = [("Content-Type", "application/json")];
        let response = Client::new(self.source).send("POST", path, &headers, body.as_bytes()).unwrap();
        assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
    }

    /// Waits until nothing of the sink is on its way.
    pub fn settled(&self, source: &str, sink: &str) -> Value {
        let path = format!("/v1/branches/default/sources/{source}/sinks/{sink}/statistics/balance");
        wait_for("records in the table", || {
            let balance: Value = serde_json::from_str(&self.get(&path).1).unwrap();
            (balance["inFlight"] == 0).then_some(balance)
        })
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let status = wait_for("the end of the server", || self.child.try_wait().unwrap());
        (status, self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Most often it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
