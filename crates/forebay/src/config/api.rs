//! `api`: the listener of the management API, health and metrics.

use std::net::{Ipv4Addr, SocketAddr};

use forebay_control::api::ApiConfig;
use forebay_control::auth::TokenConfig;
use forebay_listener::{ListenerLimits, TlsConfig};
use forebay_model::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The management API, health checks and metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ApiSection {
    /// Address and port to listen on. Port 0 selects a free one.
    pub(crate) listen: SocketAddr,
    /// Address of the API for clients; links to tasks and the documentation begin with it. Default: the
    /// listen address.
    pub(crate) public_url: Option<String>,
    /// Largest request body; larger ones get 413. 1KB to 16MB.
    pub(crate) body_limit: ByteSize,
    /// Total size of request bodies in progress; a request that would exceed it gets 429. 1MB to 4GB.
    pub(crate) max_bytes_in_flight: ByteSize,
    /// How long a client may take to send request headers, and for the TLS handshake. 1s to 60s.
    pub(crate) header_read_timeout: HumanDuration,
    /// How long a connection may be idle. 1s to 1h.
    pub(crate) idle_timeout: HumanDuration,
    /// How long a client may take to read a response. 1s to 1h.
    pub(crate) write_timeout: HumanDuration,
    /// Open connections; further ones get 503. 1 to 1000000.
    pub(crate) max_connections: usize,
    /// Open connections of one client address (IPv6: of one /64 network); further ones get 503. 0 to
    /// 1000000, 0 means no separate limit.
    pub(crate) max_connections_per_client: usize,
    /// Concurrent requests of one HTTP/2 connection. 1 to 1000.
    pub(crate) max_streams_per_connection: usize,
    /// Read buffer of a connection. 8KB to 1MB.
    pub(crate) read_buffer_size: ByteSize,
    /// Buffered responses of a slow HTTP/2 client. 8KB to 1MB.
    pub(crate) write_buffer_size: ByteSize,
    /// Size of a request's first line and headers; larger ones get 431. 1KB to 1MB.
    pub(crate) max_header_size: ByteSize,
    /// Total size of responses that clients have not read; those up to 1KB do not count. A request
    /// whose response would exceed it gets 503. 1MB to 4GB.
    pub(crate) max_unread_bytes: ByteSize,
    /// How long a request may take. Tasks that it started continue. 1s to 10m.
    pub(crate) request_timeout: HumanDuration,
    /// How long a task waits until all source nodes have followed its change. 0 to 1m.
    pub(crate) reconcile_timeout: HumanDuration,
    /// How long a task may take. 1s to 1h.
    pub(crate) task_timeout: HumanDuration,
    /// How long the check of a table may take when a sink is created or changed. After it the table is
    /// not checked, and the task reports that. 100ms to 30s, at most half of `requestTimeout`.
    pub(crate) table_check_timeout: HumanDuration,
    /// Requests per second of one token, with bursts of ten seconds' worth. 0 to 100000000, 0 means no
    /// limit.
    pub(crate) requests_per_second: u64,
    /// Invalid tokens per second of one client address, with bursts of ten seconds' worth; further ones
    /// get 429. 0 to 100000000, 0 means no limit.
    pub(crate) wrong_tokens_per_second: u64,
    /// Open taps (live records, `forebay tap`); further ones get 429. 0 to 64, 0 means none.
    pub(crate) max_taps: u32,
    /// Records per second that a tap shows; it skips further ones and reports their number. 20 to 10000.
    pub(crate) tap_records_per_second: u64,
    /// Contact shown in internal error messages; may be empty.
    pub(crate) support_contact: String,
    /// Default of `rawString` for `path` and `template` columns of a request: with true a string is its
    /// text, with false its JSON with quotes. The fields of a message are JSON either way. Files of
    /// `forebay apply` and columns of the command line do not depend on it.
    pub(crate) raw_string: bool,
    /// Further tokens, for other projects or read-only access: a list of `id`, `project`, `branch`,
    /// `description`, `ownerId`, `ownerName`, `admin`, `operator` and `sha256` (of the token).
    pub(crate) tokens: Vec<TokenConfig>,
    /// Certificate and key for TLS. Without them the listener uses plain HTTP.
    pub(crate) tls: Option<TlsConfig>,
}

impl Default for ApiSection {
    fn default() -> Self {
        let api = ApiConfig::default();
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            public_url: None,
            body_limit: api.body_limit,
            max_bytes_in_flight: api.max_bytes_in_flight,
            header_read_timeout: HumanDuration::secs(10),
            idle_timeout: HumanDuration::secs(75),
            write_timeout: HumanDuration::secs(30),
            max_connections: 1000,
            max_connections_per_client: 0,
            max_streams_per_connection: 64,
            read_buffer_size: ByteSize::kb(16),
            write_buffer_size: ByteSize::kb(64),
            max_header_size: ByteSize::kb(16),
            max_unread_bytes: ByteSize::mb(32),
            request_timeout: api.request_timeout,
            reconcile_timeout: api.reconcile_timeout,
            task_timeout: api.task_timeout,
            table_check_timeout: api.table_check_timeout,
            requests_per_second: api.requests_per_second,
            wrong_tokens_per_second: api.wrong_tokens_per_second,
            max_taps: api.max_taps,
            tap_records_per_second: api.tap_records_per_second,
            support_contact: api.support_contact,
            raw_string: api.raw_string,
            tokens: Vec::new(),
            tls: None,
        }
    }
}

impl ApiSection {
    /// Configuration of the API. Addresses that are not configured are the listen addresses.
    pub(crate) fn resolve(&self, api: SocketAddr, source_url: String) -> ApiConfig {
        ApiConfig {
            public_url: self.url(api),
            source_public_url: source_url,
            body_limit: self.body_limit,
            max_bytes_in_flight: self.max_bytes_in_flight,
            request_timeout: self.request_timeout,
            reconcile_timeout: self.reconcile_timeout,
            task_timeout: self.task_timeout,
            table_check_timeout: self.table_check_timeout,
            requests_per_second: self.requests_per_second,
            wrong_tokens_per_second: self.wrong_tokens_per_second,
            max_taps: self.max_taps,
            tap_records_per_second: self.tap_records_per_second,
            support_contact: self.support_contact.clone(),
            raw_string: self.raw_string,
            name_limits: true,
        }
    }

    /// Address of the API for clients, when it listens there.
    pub(crate) fn url(&self, listen: SocketAddr) -> String {
        let own = || listener_url(listen, self.tls.is_some());
        self.public_url.clone().unwrap_or_else(own)
    }

    pub(crate) fn limits(&self) -> ListenerLimits {
        ListenerLimits {
            header_read_timeout: self.header_read_timeout,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            max_connections: self.max_connections,
            max_connections_per_client: self.max_connections_per_client,
            max_streams_per_connection: self.max_streams_per_connection,
            read_buffer_size: self.read_buffer_size,
            write_buffer_size: self.write_buffer_size,
            max_header_size: self.max_header_size,
            max_unread_bytes: self.max_unread_bytes,
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        // Only a configured address can be wrong; port 0 becomes a free one.
        let mut listen = self.listen;
        listen.set_port(listen.port().max(1));
        let source = listener_url(listen, false);
        let mut problems = self.resolve(listen, source).violations();
        problems.extend(self.limits().violations());
        problems
    }
}

/// Address of a listener for a client on this machine.
pub(crate) fn listener_url(listen: SocketAddr, has_tls: bool) -> String {
    let mut address = listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    let scheme = if has_tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}
