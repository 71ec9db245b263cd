//! `forebay serve` as a child process.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

use crate::http_client::{HttpClient, HttpResponse};
use crate::wait::wait_for;

/// A started server; it is killed when this is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Mutex<Child>,
    /// Address of the management API.
    pub api: SocketAddr,
    /// Address of the HTTP sources.
    pub source: SocketAddr,
    data: PathBuf,
    log: PathBuf,
}

impl ServerProcess {
    /// Starts a command whose data directory is `data`. Its standard error becomes the file `log`; its
    /// addresses are not known yet.
    pub fn spawn(command: &mut Command, data: &Path, log: &Path) -> Self {
        let stderr = File::create(log).unwrap();
        Self::spawn_with_stderr(command, data, log, stderr.into())
    }

    /// As [`ServerProcess::spawn`], with another standard error: there is no log.
    pub fn spawn_with_stderr(
        command: &mut Command,
        data: &Path,
        log: &Path,
        stderr: Stdio,
    ) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            child: Mutex::new(command.stderr(stderr).spawn().unwrap()),
            api: unknown,
            source: unknown,
            data: data.to_owned(),
            log: log.to_owned(),
        }
    }

    /// Waits until it listens, and takes its addresses from the log.
    pub fn find_addresses(&mut self) {
        let ready = self.wait_for("the server", || {
            let log = self.log();
            let mut lines = log
                .lines()
                .filter_map(|l| serde_json::from_str::<Value>(l).ok());
            lines.find(|l| l["message"] == "ready")
        });
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        (self.api, self.source) = (address("api"), address("source"));
    }

    pub fn wait_until_ready(&self) {
        self.wait_for("readiness", || self.is_ready().then_some(()));
    }

    /// Waits until `check` returns a value; panics with the log if the process ends before.
    pub fn wait_for<T>(&self, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
        wait_for(what, || {
            // In this order: what the process did before its end counts.
            let ended = self.try_end();
            let found = check();
            if found.is_none()
                && let Some(status) = ended
            {
                panic!("forebay ended with {status}:\n{}", self.log());
            }
            found
        })
    }

    /// Whether it reports readiness.
    pub fn is_ready(&self) -> bool {
        let response = HttpClient::new(self.api).send("GET", "/health/ready", &[], b"");
        response.is_ok_and(|r| r.status == 200)
    }

    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The generated operator token.
    pub fn token(&self) -> String {
        let text = std::fs::read_to_string(self.data.join("token")).unwrap_or_default();
        text.trim().to_owned()
    }

    /// A call of the management API with the token; a body is JSON.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> io::Result<HttpResponse> {
        let token = self.token();
        let mut headers = vec![("X-StorageApi-Token", &*token)];
        if !body.is_empty() {
            headers.push(("Content-Type", "application/json"));
        }
        HttpClient::new(self.api).send(method, path, &headers, body)
    }

    /// Sends a signal: `TERM`, `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// SIGKILL; the process may have ended.
    pub fn kill(&self) {
        let mut child = self.child();
        drop(child.kill());
        child.wait().unwrap();
    }

    /// Exit status, if it has ended.
    pub fn try_end(&self) -> Option<ExitStatus> {
        self.child().try_wait().unwrap()
    }

    /// Waits for its end.
    pub fn end(&self) -> (ExitStatus, String) {
        let status = wait_for("the end of the server", || self.try_end());
        (status, self.log())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Usually it has already ended.
        let mut child = self.child();
        drop(child.kill());
        drop(child.wait());
    }
}
