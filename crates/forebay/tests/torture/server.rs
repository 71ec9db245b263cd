//! The real binary under test: started, called, killed, restarted on the same directory.

use std::net::{SocketAddr, TcpListener};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use forebay_test_support::wait_for;
use forebay_test_support::{HttpResponse, ServerProcess};
use serde_json::{Value, json};

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

    fn spawn(&self, start: u32) -> ServerProcess {
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
            .args(&self.args);
        let mut process = ServerProcess::spawn(&mut command, &self.data, &self.log(start));
        (process.api, process.source) = (self.api, self.source);
        process
    }

    /// Runs a start that must fail; returns its exit code and output.
    pub(crate) fn fails(&self) -> (Option<i32>, String) {
        let (status, log) = self.spawn(0).end();
        (status.code(), log)
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Server {
        let process = self.spawn(0);
        process.wait_until_ready();
        Server {
            launch: self,
            process,
            starts: 0,
        }
    }
}

pub(crate) struct Server {
    pub(crate) launch: Launch,
    process: ServerProcess,
    starts: u32,
}

impl Deref for Server {
    type Target = ServerProcess;

    fn deref(&self) -> &ServerProcess {
        &self.process
    }
}

/// An unused address.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

impl Server {
    /// SIGKILL, then a new process on the same directory and ports.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Runs a function while the process is stopped (SIGSTOP).
    pub(crate) fn paused<T>(&self, run: impl FnOnce() -> T) -> T {
        self.signal("STOP");
        let done = run();
        self.signal("CONT");
        done
    }

    /// A new process on the same directory and ports, after the previous one ended.
    pub(crate) fn restart(&mut self) {
        self.restart_unready();
        self.wait_until_ready();
    }

    /// The same without waiting for readiness.
    pub(crate) fn restart_unready(&mut self) {
        self.starts += 1;
        self.process = self.launch.spawn(self.starts);
    }

    /// `GET` on the management API, with any response.
    pub(crate) fn get(&self, path: &str) -> std::io::Result<HttpResponse> {
        self.send("GET", path)
    }

    /// A call of the management API without a body; it may fail.
    pub(crate) fn send(&self, method: &str, path: &str) -> std::io::Result<HttpResponse> {
        self.request(method, path, b"")
    }

    /// A call of the management API; panics on any error.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let response = self.request(method, path, &body).unwrap();
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
