//! The real binary under test: started, asked, killed, started again on the same directory.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::Client;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) api: SocketAddr,
    pub(crate) source: SocketAddr,
    data: PathBuf,
    extra: Vec<String>,
    child: Child,
    starts: u32,
}

/// An address that nobody listens on just now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

impl Server {
    /// Starts it; `extra` are further arguments of `forebay serve`.
    pub(crate) fn start(data: &Path, extra: &[String]) -> Self {
        let (api, source) = (free_address(), free_address());
        let child = spawn(data, api, source, extra, 0);
        let mut server = Self {
            api,
            source,
            data: data.to_owned(),
            extra: extra.to_vec(),
            child,
            starts: 0,
        };
        server.wait_until_ready();
        server
    }

    /// SIGKILL, then a new process on the same directory and ports.
    pub(crate) fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.starts += 1;
        self.child = spawn(&self.data, self.api, self.source, &self.extra, self.starts);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut client = Client::new(self.api);
        loop {
            if let Ok(response) = client.send("GET", "/health/ready", &[], b"")
                && response.status == 200
            {
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

    fn log(&self) -> String {
        std::fs::read_to_string(self.data.join(format!("stderr.{}", self.starts)))
            .unwrap_or_default()
    }

    /// A call of the management API; panics on anything but success.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let token = std::fs::read_to_string(self.data.join("token")).unwrap();
        let headers = [
            ("X-StorageApi-Token", token.trim()),
            ("Content-Type", "application/json"),
        ];
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let response = Client::new(self.api)
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

    /// A call that starts a task; returns when the task has succeeded.
    pub(crate) fn task(&self, method: &str, path: &str, body: &Value) {
        let id = self.call(method, path, body)["taskId"]
            .as_str()
            .unwrap()
            .to_owned();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let task = self.call("GET", &format!("/v1/tasks/{id}"), &Value::Null);
            if task["isFinished"] == json!(true) {
                assert_eq!(task["status"], "success", "{task}");
                return;
            }
            assert!(Instant::now() < deadline, "{task}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing can be done about a process that is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(data: &Path, api: SocketAddr, source: SocketAddr, extra: &[String], start: u32) -> Child {
    let stderr = std::fs::File::create(data.join(format!("stderr.{start}"))).unwrap();
    Command::new(env!("CARGO_BIN_EXE_forebay"))
        .arg("serve")
        // Settings of whoever runs the tests are none of the server's.
        .env_clear()
        .args(["--data-dir", data.to_str().unwrap()])
        .args([
            "--api-listen",
            &api.to_string(),
            "--source-listen",
            &source.to_string(),
        ])
        .args(extra)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap()
}
