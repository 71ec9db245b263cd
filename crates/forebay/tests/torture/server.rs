//! The real binary under test: started, called, killed, restarted on the same directory.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{Client, Response};

/// Timeout of each wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Parameters of a server.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Data directory. Logs are written next to it, to `stderr.<start>`.
    pub(crate) data: PathBuf,
    /// Further arguments of `forebay serve`.
    pub(crate) args: Vec<String>,
    /// The complete environment.
    pub(crate) env: Vec<(String, String)>,
    /// Limit of open files.
    pub(crate) files: Option<u64>,
    logs: PathBuf,
    api: SocketAddr,
    source: SocketAddr,
}

impl Launch {
    /// With `data` and logs below `root`.
    pub(crate) fn new(root: &Path) -> Self {
        Self::on(&root.join("data"), root)
    }

    /// With data and logs in different directories.
    pub(crate) fn on(data: &Path, logs: &Path) -> Self {
        Self {
            data: data.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            files: None,
            logs: logs.to_owned(),
            api: free_address(),
            source: free_address(),
        }
    }

    /// Adds a setting of the configuration.
    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.args
            .extend(["--set".to_owned(), format!("{key}={value}")]);
        self
    }

    /// Writes logs to another directory, which is created.
    pub(crate) fn logging_to(mut self, logs: &Path) -> Self {
        std::fs::create_dir(logs).unwrap();
        self.logs = logs.to_owned();
        self
    }

    fn log(&self, start: u32) -> PathBuf {
        self.logs.join(format!("stderr.{start}"))
    }

    fn spawn(&self, start: u32) -> Child {
        let binary = env!("CARGO_BIN_EXE_forebay");
        let mut command = match self.files {
            None => Command::new(binary),
            Some(files) => {
                let mut limited = Command::new("prlimit");
                limited.arg(format!("--nofile={files}:{files}")).arg(binary);
                limited
            }
        };
        command
            .arg("serve")
            // Isolates the server from the settings of the test run.
            .env_clear()
            .envs(self.env.iter().cloned())
            .arg("--data-dir")
            .arg(&self.data)
            .args(["--api-listen", &self.api.to_string()])
            .args(["--source-listen", &self.source.to_string()])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.log(start)).unwrap())
            .spawn()
            .unwrap()
    }

    /// Runs a start that must fail; returns its exit code and output.
    pub(crate) fn fails(&self) -> (Option<i32>, String) {
        let mut child = self.spawn(0);
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("forebay started unexpectedly");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let said = std::fs::read_to_string(self.log(0)).unwrap_or_default();
        (status.code(), said)
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Server {
        let child = self.spawn(0);
        let mut server = Server {
            launch: self,
            child,
            starts: 0,
        };
        server.wait_until_ready();
        server
    }
}

pub(crate) struct Server {
    pub(crate) launch: Launch,
    child: Child,
    starts: u32,
}

/// An unused address.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Waits until `check` returns a value.
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Server {
    pub(crate) fn source(&self) -> SocketAddr {
        self.launch.source
    }

    pub(crate) fn api(&self) -> SocketAddr {
        self.launch.api
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, then a new process on the same directory and ports.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Runs a function while the process is stopped (SIGSTOP).
    pub(crate) fn paused<T>(&self, run: impl FnOnce() -> T) -> T {
        let pid = self.child.id().to_string();
        let signal = |name: &str| {
            let sent = Command::new("kill").args([name, &pid]).status();
            assert!(sent.unwrap().success());
        };
        signal("-STOP");
        let done = run();
        signal("-CONT");
        done
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        // It may be dead already.
        drop(self.child.kill());
        self.child.wait().unwrap();
    }

    /// A new process on the same directory and ports, after the previous one ended.
    pub(crate) fn restart(&mut self) {
        self.restart_unready();
        self.wait_until_ready();
    }

    /// The same without waiting for readiness.
    pub(crate) fn restart_unready(&mut self) {
        self.starts += 1;
        self.child = self.launch.spawn(self.starts);
    }

    /// Exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.is_ready() {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "forebay ended with {status} at start {}:\n{}",
                    self.starts,
                    self.log()
                );
            }
            assert!(
                Instant::now() < deadline,
                "forebay is not ready:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it reports readiness.
    pub(crate) fn is_ready(&self) -> bool {
        let answer = Client::new(self.launch.api).send("GET", "/health/ready", &[], b"");
        answer.is_ok_and(|a| a.status == 200)
    }

    /// Log of this process.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.launch.log(self.starts)).unwrap_or_default()
    }

    fn token(&self) -> String {
        let token = std::fs::read_to_string(self.launch.data.join("token")).unwrap();
        token.trim().to_owned()
    }

    /// `GET` on the management API, with any response.
    pub(crate) fn get(&self, path: &str) -> std::io::Result<Response> {
        let headers = [("X-StorageApi-Token", &*self.token())];
        Client::new(self.launch.api).send("GET", path, &headers, b"")
    }

    /// Another call of the management API, without a body; it may fail.
    pub(crate) fn send(&self, method: &str, path: &str) -> std::io::Result<Response> {
        let headers = [("X-StorageApi-Token", &*self.token())];
        Client::new(self.launch.api).send(method, path, &headers, b"")
    }

    /// A call of the management API; panics on any error.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let headers = [
            ("X-StorageApi-Token", &*self.token()),
            ("Content-Type", "application/json"),
        ];
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let response = Client::new(self.launch.api)
            .send(method, path, &headers, &body)
            .unwrap();
        assert!(
            (200..300).contains(&response.status),
            "{method} {path}: {} {}",
            response.status,
            String::from_utf8_lossy(&response.body)
        );
        response.json()
    }

    /// A call that starts a task; returns after the task has succeeded.
    pub(crate) fn task(&self, method: &str, path: &str, body: &Value) {
        let id = self.call(method, path, body)["taskId"].clone();
        let id = id.as_str().unwrap();
        wait_for("a task", || {
            let task = self.call("GET", &format!("/v1/tasks/{id}"), &Value::Null);
            if task["isFinished"] != json!(true) {
                return None;
            }
            assert_eq!(task["status"], "success", "{task}");
            Some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
