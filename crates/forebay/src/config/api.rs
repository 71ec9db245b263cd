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
    /// Address and port to listen on. Port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// Address of the API as clients reach it; links to tasks and the documentation begin with it.
    /// Without it they begin with the address that is listened on.
    pub(crate) public_url: Option<String>,
    /// Largest body of a request; larger ones get 413. 1KB to 16MB.
    pub(crate) body_limit: ByteSize,
    /// Bodies of requests that are read or worked on, together; a request that would go over it gets
    /// 429. 1MB to 4GB.
    pub(crate) max_bytes_in_flight: ByteSize,
    /// How long a client may take to send a request's headers, and to negotiate TLS. 1s to 60s.
    pub(crate) header_read_timeout: HumanDuration,
    /// How long a connection may be open without a request. 1s to 1h.
    pub(crate) idle_timeout: HumanDuration,
    /// How long a client may take to read a response. 1s to 1h.
    pub(crate) write_timeout: HumanDuration,
    /// Connections open at a time; further ones are answered 503. 1 to 1000000.
    pub(crate) max_connections: usize,
    /// Connections of one client address at a time, of IPv6 of one network of 64 bits; further ones
    /// are answered 503. 0 to 1000000, 0 is no limit of its own.
    pub(crate) max_connections_per_client: usize,
    /// Requests of one HTTP/2 connection at a time. 1 to 1000.
    pub(crate) max_streams_per_connection: usize,
    /// Bytes that are read ahead for a connection. 8KB to 1MB.
    pub(crate) read_buffer_size: ByteSize,
    /// Bytes of responses that wait for a slow client of HTTP/2. 8KB to 1MB.
    pub(crate) write_buffer_size: ByteSize,
    /// A request's headers together with its first line; larger ones get 431. 1KB to 1MB.
    pub(crate) max_header_size: ByteSize,
    /// Responses that clients have not read, together; those up to 1KB do not count. A request whose
    /// response would go over it is answered 503. 1MB to 4GB.
    pub(crate) max_unread_bytes: ByteSize,
    /// How long a request may take. Tasks that it has started go on. 1s to 10m.
    pub(crate) request_timeout: HumanDuration,
    /// How long a task waits until all source nodes have followed its change. 0 to 1m.
    pub(crate) reconcile_timeout: HumanDuration,
    /// How long a task may take. 1s to 1h.
    pub(crate) task_timeout: HumanDuration,
    /// How long a table is looked at when a sink is made or changed. What does not answer by then
    /// is not checked, and the task says so. 100ms to 30s, at most half of `requestTimeout`.
    pub(crate) table_check_timeout: HumanDuration,
    /// Requests a second of one token; ten seconds' worth of them can come at once. 0 to 100000000,
    /// 0 is no limit.
    pub(crate) requests_per_second: u64,
    /// Wrong tokens a second of one client address; ten seconds' worth of them can come at once.
    /// Over it they get 429. 0 to 100000000, 0 is no limit.
    pub(crate) wrong_tokens_per_second: u64,
    /// Whom the message of an internal error names as the one to ask; may be empty.
    pub(crate) support_contact: String,
    /// What holds for a `path` or `template` column of a request that does not say `rawString`: with
    /// true a string is its text, with false its JSON with quotes. The fields of a message are JSON
    /// either way. Files of `forebay apply` and columns of the command line do not depend on it.
    pub(crate) raw_string: bool,
    /// Further tokens, for other projects or for those who may only look: a list of `id`,
    /// `project`, `branch`, `description`, `ownerId`, `ownerName`, `admin`, `operator` and `sha256` (of
    /// the token).
    pub(crate) tokens: Vec<TokenConfig>,
    /// Certificate and key for TLS. Without them the listener speaks plain HTTP.
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
            support_contact: api.support_contact,
            raw_string: api.raw_string,
            tokens: Vec::new(),
            tls: None,
        }
    }
}

impl ApiSection {
    /// As the API takes it. Addresses that are not configured are those that are listened on.
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
            support_contact: self.support_contact.clone(),
            raw_string: self.raw_string,
            name_limits: true,
        }
    }

    /// Address of the API as clients reach it, when it listens there.
    pub(crate) fn url(&self, listen: SocketAddr) -> String {
        let own = || listener_url(listen, self.tls.is_some());
        self.public_url.clone().unwrap_or_else(own)
    }

    /// Limits of the listener.
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

    /// Everything that is out of range.
    pub(crate) fn violations(&self) -> Vec<String> {
        // Only a configured address can be wrong; port 0 becomes one that is free.
        let mut listen = self.listen;
        listen.set_port(listen.port().max(1));
        let source = listener_url(listen, false);
        let mut problems = self.resolve(listen, source).violations();
        problems.extend(self.limits().violations());
        problems
    }
}

/// How a client on this machine reaches a listener.
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
