//! `api`: the listener of the management API, health and metrics.

use std::net::{Ipv4Addr, SocketAddr};

use forebay_control::api::ApiConfig;
use forebay_control::auth::TokenConfig;
use forebay_model::{ByteSize, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The management API, health checks and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApiSection {
    /// Address and port to listen on. Port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// Address of the API as clients reach it; links to tasks and the documentation begin with it.
    /// Without it they begin with the address that is listened on.
    pub(crate) public_url: Option<String>,
    /// Largest body of a request; larger ones get 413. 1KB to 16MB.
    pub(crate) body_limit: ByteSize,
    /// How long a request may take. Tasks that it has started go on. 1s to 10m.
    pub(crate) request_timeout: Span,
    /// How long a task waits until all source nodes have followed its change. 0 to 1m.
    pub(crate) follow_timeout: Span,
    /// How long a task may take. 1s to 1h.
    pub(crate) task_timeout: Span,
    /// How long a table is looked at when a sink is made or changed. What does not answer by then
    /// is not checked, and the task says so. 100ms to 30s, at most half of `requestTimeout`.
    pub(crate) table_check_timeout: Span,
    /// Requests a second of one token; ten seconds' worth of them can come at once. 0 to 100000000,
    /// 0 is no limit.
    pub(crate) requests_per_second: u64,
    /// Whom the message of an internal error names as the one to ask; may be empty.
    pub(crate) support_contact: String,
    /// Further tokens, for other projects or for those who may only look: a list of `id`,
    /// `project`, `branch`, `description`, `admin`, `operator` and `sha256` (of the token).
    pub(crate) tokens: Vec<TokenConfig>,
}

impl Default for ApiSection {
    fn default() -> Self {
        let api = ApiConfig::default();
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            public_url: None,
            body_limit: api.body_limit,
            request_timeout: api.request_timeout,
            follow_timeout: api.follow_timeout,
            task_timeout: api.task_timeout,
            table_check_timeout: api.table_check_timeout,
            requests_per_second: api.requests_per_second,
            support_contact: api.support_contact,
            tokens: Vec::new(),
        }
    }
}

impl ApiSection {
    /// As the API takes it. Addresses that are not configured are those that are listened on.
    pub(crate) fn resolve(&self, api: SocketAddr, source_url: String) -> ApiConfig {
        ApiConfig {
            public_url: self.public_url.clone().unwrap_or_else(|| url_of(api)),
            source_public_url: source_url,
            body_limit: self.body_limit,
            request_timeout: self.request_timeout,
            follow_timeout: self.follow_timeout,
            task_timeout: self.task_timeout,
            table_check_timeout: self.table_check_timeout,
            requests_per_second: self.requests_per_second,
            support_contact: self.support_contact.clone(),
        }
    }

    /// Everything that is out of range.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.resolve(self.listen, url_of(self.listen)).problems()
    }
}

/// How a client on this machine reaches a listener.
pub(crate) fn url_of(listen: SocketAddr) -> String {
    let mut address = listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}
