//! Client of the management API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use forebay_api::error::ErrorName;
use forebay_api::list::PagedResponse;
use forebay_api::task::{TaskStatus, TaskView};
use forebay_connect::http::{HttpError, HttpRequest, HttpResponse, HttpStream, retry_after};
use forebay_model::Clock;
use reqwest::header::{CONTENT_TYPE, HeaderValue, LINK};
use reqwest::{Certificate, Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::command::common::ServerArgs;
use crate::config::Environment;
use crate::endpoints::Endpoints;
use crate::terminal;
use crate::token;

mod rejection;
mod transport;

use rejection::{RejectionBody, unreachable};
use transport::{ApiTransport, RESPONSE_BYTES_MAX, local_response};

/// How long to wait for the end of a task.
const TASK_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the server may delay the response for a task (long poll).
const TASK_WAIT: &str = "wait=20s";
/// Poll interval for a server that does not long-poll.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Concurrent requests where many are sent.
pub(crate) const PARALLEL_REQUESTS: usize = 8;
/// Retries of a request that got 429.
const RETRIES_MAX: u32 = 5;
/// Wait before a retry when the server asks for none.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between them.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(10);
const PAGE: usize = 100;

pub(crate) const SOURCES: &str = "/v1/branches/default/sources";
/// Sources with their sinks and statistics.
pub(crate) const AGGREGATION: &str = "/v1/branches/default/aggregation/sources";

#[derive(Debug)]
pub(crate) struct ApiClient {
    transport: ApiTransport,
    base: String,
    /// Origin of the token, for error messages.
    token_from: Option<String>,
}

impl ApiClient {
    /// A client of the API of the same process.
    pub(crate) fn local(router: Router, token: &str) -> Result<Self, CliError> {
        Ok(Self {
            transport: ApiTransport::local(router, token)?,
            base: "http://localhost".to_owned(),
            token_from: None,
        })
    }

    pub(crate) fn new(server: &ServerArgs, env: Environment) -> Result<Self, CliError> {
        terminal::set_verbosity(server.verbosity());
        let given = server.api.clone().or_else(|| env.get("FOREBAY_API"));
        let ca = env.get("FOREBAY_API_CA").map(PathBuf::from);
        let ca = server.api_ca.clone().or(ca);
        let loaded = server.place.load(env, Vec::new())?;
        let config = &loaded.config;
        let token = token::for_client(config, server.token_file.as_deref())?;
        // An unreadable data directory belongs to another user: the configured address is used.
        let published = Endpoints::find(&config.data_dir).ok().flatten();
        let base = given
            .or_else(|| published?.api)
            .unwrap_or_else(|| config.api.url(config.api.listen));
        let authorities = match (&ca, &config.api.tls) {
            (Some(file), _) => authorities(file)?,
            // A self-signed certificate is trusted by the owner of the server's configuration; a client
            // that can't read the file may not need it.
            (None, Some(tls)) => authorities(&tls.cert_file).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        let token_from = match &token.file {
            Some(file) => format!("the file {}", file.display()),
            None => loaded.origin("token").to_string(),
        };
        let client = Self::with_authorities(&base, token.secret.expose(), authorities)?;
        Ok(Self {
            token_from: Some(token_from),
            ..client
        })
    }

    pub(crate) fn for_address(base: &str, token: &str) -> Result<Self, CliError> {
        Self::with_authorities(base, token, Vec::new())
    }

    fn with_authorities(
        base: &str,
        token: &str,
        authorities: Vec<Certificate>,
    ) -> Result<Self, CliError> {
        let url = Url::parse(base).ok();
        let url = url.filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        let url = url.ok_or_else(|| {
            CliError::usage(format_args!(
                "\"{base}\" is not an address like http://127.0.0.1:8000"
            ))
        })?;
        Ok(Self {
            transport: ApiTransport::http(&url, token, authorities)?,
            base: base.trim_end_matches('/').to_owned(),
            token_from: None,
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        self.parse(&self.send(Method::GET, path, None).await?)
    }

    /// `None` for a 404 of a source or sink.
    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Option<T>, CliError> {
        let response = self.send(Method::GET, path, None).await?;
        if response.status == StatusCode::NOT_FOUND {
            let error = RejectionBody::new(&response).error;
            let missing = [ErrorName::SourceNotFound, ErrorName::SinkNotFound];
            if missing.map(ErrorName::full_name).contains(&error) {
                return Ok(None);
            }
        }
        self.parse(&response).map(Some)
    }

    /// All items of a paged list.
    pub(crate) async fn list<L>(&self, path: &str) -> Result<Vec<L::Item>, CliError>
    where
        L: PagedResponse + DeserializeOwned,
    {
        self.list_some::<L>(path, usize::MAX).await
    }

    /// The first `max` items of a paged list.
    pub(crate) async fn list_some<L>(
        &self,
        path: &str,
        max: usize,
    ) -> Result<Vec<L::Item>, CliError>
    where
        L: PagedResponse + DeserializeOwned,
    {
        let mut all = Vec::new();
        let join = if path.contains('?') { '&' } else { '?' };
        loop {
            let page_size = PAGE.min(max - all.len());
            if page_size == 0 {
                return Ok(all);
            }
            let last = encoded(all.last().map_or("", L::item_id));
            let page: L = self
                .get(&format!("{path}{join}limit={page_size}&afterId={last}"))
                .await?;
            let found = page.into_items();
            let is_last = found.len() < page_size;
            all.extend(found);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// A page of lines, and the query of the next one, from its header `Link`.
    pub(crate) async fn page(&self, path: &str) -> Result<(Bytes, Option<String>), CliError> {
        let response = self.send(Method::GET, path, None).await?;
        if !response.status.is_success() {
            return Err(self.rejection(&response));
        }
        if response.is_cut {
            return Err(too_long());
        }
        let link = response.headers.get(LINK).and_then(|v| v.to_str().ok());
        let next = link.and_then(|l| l.strip_prefix('<')?.split_once(">; rel=\"next\""));
        let next = next.map(|(query, _)| query.to_owned());
        Ok((response.body, next))
    }

    /// Opens a response that arrives over a long time.
    pub(crate) async fn stream(&self, path: &str) -> Result<HttpStream, CliError> {
        let ApiTransport::Http(http) = &self.transport else {
            return Err(CliError::new("the API of the same process has no streams"));
        };
        let url = self.url(path)?;
        let opened = http.stream(HttpRequest::get(url)).await;
        let opened = opened.map_err(|e| self.unanswered(&e))?;
        if opened.status().is_success() {
            return Ok(opened);
        }
        let response = opened.into_response().await;
        Err(self.rejection(&response.map_err(|e| self.unanswered(&e))?))
    }

    /// Starts a task and waits for its end.
    pub(crate) async fn run_task(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(), CliError> {
        let begun = tokio::time::Instant::now();
        let join = if path.contains('?') { '&' } else { '?' };
        let mut polled_at = begun;
        let path = format!("{path}{join}{TASK_WAIT}");
        let body = body.map(Value::to_string);
        let mut task: TaskView = self.parse(&self.send(method, &path, body).await?)?;
        loop {
            match task.status {
                TaskStatus::Success => {
                    task.warnings.iter().for_each(|w| self.warn(w));
                    return Ok(());
                }
                TaskStatus::Error => return Err(CliError::new(task.error.unwrap_or_default())),
                TaskStatus::Processing if begun.elapsed() > TASK_TIMEOUT => {
                    return Err(CliError::new(format_args!(
                        "task {} has not finished yet",
                        task.task_id
                    )));
                }
                TaskStatus::Processing => {}
            }
            if polled_at.elapsed() < POLL_INTERVAL {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            polled_at = tokio::time::Instant::now();
            task = self
                .get(&format!("/v1/tasks/{}?{TASK_WAIT}", task.task_id))
                .await?;
        }
    }

    /// Reports a warning of a task: to the user, or in the log of the server.
    fn warn(&self, warning: &str) {
        match self.transport {
            ApiTransport::Http(_) => terminal::note(format_args!("warning: {warning}")),
            ApiTransport::Local { .. } => tracing::warn!(warning, "a definition has a warning"),
        }
    }

    /// Sends a request with a JSON body.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_string(body).map_err(CliError::new)?;
        self.parse(&self.send(method, path, Some(body)).await?)
    }

    /// Sends a request without a body. A response without a body is `()`.
    pub(crate) async fn call_without_body<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, CliError> {
        self.parse(&self.send(method, path, None).await?)
    }

    /// Sends a request; after a 429 it waits for `Retry-After` and retries, at most [`RETRIES_MAX`]
    /// times.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<HttpResponse, CliError> {
        let body = body.map(Bytes::from);
        for _ in 0..RETRIES_MAX {
            let response = self.send_once(method.clone(), path, body.clone()).await?;
            if response.status != StatusCode::TOO_MANY_REQUESTS {
                return Ok(response);
            }
            let wait = retry_after(&response.headers, SystemClock.now());
            tokio::time::sleep(wait.unwrap_or(RETRY_WAIT).min(RETRY_WAIT_MAX)).await;
        }
        self.send_once(method, path, body).await
    }

    /// The response of a successful request; nothing is read as null.
    fn parse<T: DeserializeOwned>(&self, response: &HttpResponse) -> Result<T, CliError> {
        if response.is_cut {
            return Err(too_long());
        }
        if !response.status.is_success() {
            return Err(self.rejection(response));
        }
        let body: &[u8] = match response.body.is_empty() {
            true => b"null",
            false => &response.body,
        };
        serde_json::from_slice(body).map_err(|e| {
            CliError::new(format_args!(
                "{} responded with an unexpected body: {e}",
                self.base
            ))
            .hint("is it the management API of Forebay? --api sets another address")
        })
    }

    /// The server's error message, with a hint.
    fn rejection(&self, response: &HttpResponse) -> CliError {
        let RejectionBody { error, message } = RejectionBody::new(response);
        let (base, status) = (&self.base, response.status);
        if error.starts_with("stream.in.") {
            return CliError::new(format_args!(
                "{base} is the record source, not the management API"
            ))
            .hint("set --api to the address of the management API, like http://127.0.0.1:8000");
        }
        let failure = match message {
            Some(message) => CliError::new(message).named(&error),
            None => CliError::new(format_args!("{base} responded with {status}"))
                .hint("is it the management API of Forebay? --api sets another address"),
        };
        match (status.as_u16(), &self.token_from) {
            (401, Some(from)) => failure.hint(format_args!(
                "the token from {from} may belong to another server than {base}; --data-dir or --token-file sets another one"
            )),
            (403, Some(from)) => failure.hint(format_args!(
                "the token is from {from}; --token-file sets another one"
            )),
            _ => failure,
        }
    }

    async fn send_once(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<HttpResponse, CliError> {
        let http = match &self.transport {
            ApiTransport::Http(http) => http,
            ApiTransport::Local { router, token } => {
                return local_response(router.clone(), token.clone(), method, path, body).await;
            }
        };
        let url = self.url(path)?;
        let mut request = HttpRequest {
            method,
            ..HttpRequest::get(url)
        };
        if let Some(body) = body {
            let json = HeaderValue::from_static("application/json");
            request.headers.insert(CONTENT_TYPE, json);
            request.body = Some(body);
        }
        let (method, begun) = (request.method.clone(), tokio::time::Instant::now());
        let sent = http.send(request, SystemClock.now()).await;
        let result = match &sent {
            Ok(response) => response.status.to_string(),
            Err(error) => error.to_string(),
        };
        let millis = begun.elapsed().as_millis();
        terminal::detail(format_args!(
            "{method} {}{path}: {result}, {millis} ms",
            self.base
        ));
        sent.map_err(|e| self.unanswered(&e))
    }

    fn url(&self, path: &str) -> Result<Url, CliError> {
        let url = format!("{}{path}", self.base);
        Url::parse(&url)
            .map_err(|e| CliError::usage(format_args!("\"{url}\" is not an address: {e}")))
    }

    /// Error of a call without a response.
    pub(crate) fn unanswered(&self, error: &HttpError) -> CliError {
        let base = &self.base;
        if error.is_redirect() {
            return CliError::new(format_args!("Forebay at {base} responded with {error}"))
                .hint("set --api to the address that accepts changes");
        }
        CliError::new(format_args!("can't reach Forebay at {base}: {error}"))
            .hint(unreachable(base, &error.to_string()))
    }
}

fn too_long() -> CliError {
    CliError::new(format_args!(
        "the response is longer than {RESPONSE_BYTES_MAX} bytes"
    ))
}

/// Percent-encodes an id for a path or a query.
pub(crate) fn encoded(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    let byte = |b: u8| {
        if plain(b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    };
    id.bytes().map(byte).collect()
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, CliError> {
    let named = |e: &dyn std::fmt::Display| {
        let file = file.display();
        CliError::usage(format_args!("can't read the certificates of {file}: {e}"))
            .hint("--api-ca sets a PEM file with the CA certificates of the server")
    };
    let text = std::fs::read(file).map_err(|e| named(&e))?;
    let found = Certificate::from_pem_bundle(&text).map_err(|e| named(&e))?;
    if found.is_empty() {
        return Err(named(&"it contains no certificate"));
    }
    Ok(found)
}

/// Runs a future on a new single-threaded runtime.
pub(crate) fn block_on<T>(
    future: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(future),
        Err(e) => Err(CliError::new(format_args!("can't start a runtime: {e}"))),
    }
}
