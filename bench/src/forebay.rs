//! A Forebay server for benchmarks: started on free ports in a temporary directory, defined over its
//! API.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Common;
use crate::process::Server;
use crate::wait::wait_for;

/// Limit of the API.
const SOURCES_A_PROJECT: usize = 100;

pub struct Forebay {
    pub server: Server,
    pub source: SocketAddr,
    api: SocketAddr,
    pub directory: TempDir,
}

/// A free port on loopback.
pub fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Waits until a server listens.
pub async fn wait_until_listening(address: SocketAddr) -> anyhow::Result<()> {
    let what = format!("server on {address}");
    let connected = wait_for(&what, async || {
        Ok(tokio::net::TcpStream::connect(address).await.ok())
    });
    connected.await.map(drop)
}

fn token(project: usize) -> String {
    format!("bench-{project}")
}

impl Forebay {
    /// Starts a server with tokens for that many projects.
    pub async fn start(common: &Common, projects: usize, more: &[&str]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir_in("/var/tmp")?;
        let tokens: Vec<Value> = (1..=projects)
            .map(|n| {
                let hash = Sha256::digest(token(n));
                let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
                json!({"id": token(n), "project": 1000 + n, "branch": 1, "admin": true, "operator": true,
                       "description": "bench", "sha256": hash})
            })
            .collect();
        let config = directory.path().join("forebay.yaml");
        // JSON is YAML.
        std::fs::write(&config, json!({"api": {"tokens": tokens}}).to_string())?;
        let (api, source) = (free()?, free()?);
        let mut command = Command::new(&common.forebay);
        command
            .args(["serve", "--config"])
            .arg(&config)
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .args(["--api-listen", &api.to_string()])
            .args(["--source-listen", &source.to_string()])
            // The benchmark polls its tasks without a rate limit.
            .args(["--set", "api.requestsPerSecond=0"])
            .args(more)
            .args(&common.serve_arg);
        let server = Server::start(&mut command, &directory.path().join("stderr"))?;
        wait_until_listening(api).await?;
        wait_until_listening(source).await?;
        Ok(Self {
            server,
            source,
            api,
            directory,
        })
    }

    /// Creates source `number` with one sink in a project; returns its path.
    pub async fn define(
        &self,
        project: usize,
        number: usize,
        columns: &Value,
        settings: &[(String, Value)],
    ) -> anyhow::Result<String> {
        let sources = "/v1/branches/default/sources";
        let id = format!("s{number}");
        let body = json!({"type": "http", "name": id, "sourceId": id});
        self.task(project, "POST", sources, &body).await?;
        if !settings.is_empty() {
            let settings: Vec<Value> = settings
                .iter()
                .map(|(k, v)| json!({"key": format!("storage.level.{k}"), "value": v}))
                .collect();
            let body = json!({"settings": settings});
            let path = format!("{sources}/{id}/settings");
            self.task(project, "PATCH", &path, &body).await?;
        }
        let sink = json!({"type": "table", "name": "bench", "table": {
            "type": "keboola",
            "tableId": format!("in.p{project}.{id}"),
            "mapping": {"columns": columns},
        }});
        let path = format!("{sources}/{id}/sinks");
        self.task(project, "POST", &path, &sink).await?;
        let path = format!("{sources}/{id}");
        let source = self.call(project, "GET", &path, &Value::Null).await?;
        let url = source["http"]["url"].as_str().context("http.url")?;
        let path = url.find("/stream/").context("path")?;
        Ok(url[path..].to_owned())
    }

    /// Creates that many sources with a sink each, spread over projects; returns their paths.
    pub async fn define_many(
        &self,
        count: usize,
        columns: &Value,
        settings: &[(String, Value)],
    ) -> anyhow::Result<Vec<String>> {
        /// The server runs several tasks concurrently.
        const AT_ONCE: usize = 16;
        let mut paths = Vec::with_capacity(count);
        let numbers: Vec<usize> = (0..count).collect();
        for chunk in numbers.chunks(AT_ONCE) {
            let made = chunk
                .iter()
                .map(|n| self.define(n / SOURCES_A_PROJECT + 1, *n, columns, settings));
            paths.extend(futures::future::try_join_all(made).await?);
        }
        Ok(paths)
    }

    /// Requires a signature of requests to source `number`.
    pub async fn require(
        &self,
        project: usize,
        number: usize,
        verify: &Value,
    ) -> anyhow::Result<()> {
        let path = format!("/v1/branches/default/sources/s{number}?wait=5s");
        self.task(project, "PATCH", &path, &json!({ "verify": verify })).await
    }

    /// Reconciliation of source `number` of project 1.
    pub async fn balance(&self, number: usize) -> anyhow::Result<Value> {
        let path = format!("/v1/branches/default/sources/s{number}/sinks/bench/statistics/reconciliation");
        self.call(1, "GET", &path, &Value::Null).await
    }

    /// Sets the quota of a project.
    pub async fn set_quota(&self, project: usize, quota: &Value) -> anyhow::Result<()> {
        let path = format!("/v1/admin/quotas/{}", 1000 + project);
        let set = self.call(project, "PUT", &path, quota).await?;
        match set.get("effective") {
            Some(_) => Ok(()),
            None => bail!("{set}"),
        }
    }

    /// Requests rejected because of a quota.
    pub async fn refused(&self) -> anyhow::Result<u64> {
        let mut stream = tokio::net::TcpStream::connect(self.api).await?;
        let request = "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let counts = answer.lines().filter(|l| l.starts_with("forebay_quota_rejected_total{"));
        let counts = counts.filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    async fn task(
        &self,
        project: usize,
        method: &str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<()> {
        let started = self.call(project, method, path, body).await?;
        let id = started["taskId"]
            .as_str()
            .with_context(|| started.to_string())?;
        let path = format!("/v1/tasks/{id}");
        wait_for(&path, async || {
            let task = self.call(project, "GET", &path, &Value::Null).await?;
            match task["status"].as_str() {
                Some("success") => Ok(Some(())),
                Some("processing") => Ok(None),
                _ => bail!("{task}"),
            }
        })
        .await
    }

    async fn call(
        &self,
        project: usize,
        method: &str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let token = token(project);
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nX-StorageApi-Token: {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(self.api).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8(answer)?;
        let json = answer.find('{').with_context(|| answer.clone())?;
        let end = answer.rfind('}').with_context(|| answer.clone())?;
        Ok(serde_json::from_str(&answer[json..=end])?)
    }
}

impl Common {
    /// Settings of sinks from the arguments.
    pub fn settings(&self) -> anyhow::Result<Vec<(String, Value)>> {
        let pair = |text: &String| {
            let (name, value) = text.split_once('=').context("NAME=VALUE")?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            Ok((name.to_owned(), value))
        };
        self.setting.iter().map(pair).collect()
    }
}
