//! Limits of a listener, and their ranges.

use forebay_model::{ByteSize, HumanDuration, out_of_range};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Smallest buffer that the HTTP library accepts.
const BUFFER_MIN: u64 = 8 << 10;

/// Limits of a listener. The configuration sections of listeners have keys of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerLimits {
    /// How long a client may take to send a request's headers, and to negotiate TLS. 1s to 60s.
    pub header_read_timeout: HumanDuration,
    /// How long a connection may be open without a request. 1s to 1h.
    pub idle_timeout: HumanDuration,
    /// How long a client may take to read a response. 1s to 1h.
    pub write_timeout: HumanDuration,
    /// Connections open at a time; further ones are answered 503. 1 to 1000000.
    pub max_connections: usize,
    /// Connections of one client address at a time, of IPv6 of one network of 64 bits; further ones
    /// are answered 503. 0 to 1000000, 0 is no limit of its own.
    pub max_connections_per_client: usize,
    /// Requests of one HTTP/2 connection at a time. 1 to 1000.
    pub max_streams_per_connection: usize,
    /// Bytes that are read ahead for a connection. 8KB to 1MB.
    pub read_buffer_size: ByteSize,
    /// Bytes of responses that wait for a slow client of HTTP/2. 8KB to 1MB.
    pub write_buffer_size: ByteSize,
    /// A request's headers together with its first line. 1KB to 1MB.
    pub max_header_size: ByteSize,
    /// Responses that clients have not read, together; those up to 1KB do not count. A request whose
    /// response would go over it is answered 503. 1MB to 4GB.
    pub max_unread_bytes: ByteSize,
}

/// Limits of the lookup service.
impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            header_read_timeout: HumanDuration::secs(10),
            idle_timeout: HumanDuration::secs(75),
            write_timeout: HumanDuration::secs(30),
            max_connections: 10_000,
            max_connections_per_client: 0,
            max_streams_per_connection: 100,
            read_buffer_size: ByteSize::kb(16),
            write_buffer_size: ByteSize::kb(64),
            max_header_size: ByteSize::kb(8),
            max_unread_bytes: ByteSize::mb(32),
        }
    }
}

impl ListenerLimits {
    /// All values out of range: name, value, allowed range.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let (kb, mb) = (ByteSize::kb, ByteSize::mb);
        let (second, minute, hour) = (
            HumanDuration::secs(1),
            HumanDuration::mins(1),
            HumanDuration::hours(1),
        );
        let found = [
            out_of_range(
                "headerReadTimeout",
                self.header_read_timeout,
                second,
                minute,
            ),
            out_of_range("idleTimeout", self.idle_timeout, second, hour),
            out_of_range("writeTimeout", self.write_timeout, second, hour),
            out_of_range("maxConnections", self.max_connections, 1, 1_000_000),
            out_of_range(
                "maxConnectionsPerClient",
                self.max_connections_per_client,
                0,
                1_000_000,
            ),
            out_of_range(
                "maxStreamsPerConnection",
                self.max_streams_per_connection,
                1,
                1000,
            ),
            out_of_range("readBufferSize", self.read_buffer_size, kb(8), mb(1)),
            out_of_range("writeBufferSize", self.write_buffer_size, kb(8), mb(1)),
            out_of_range("maxHeaderSize", self.max_header_size, kb(1), mb(1)),
            out_of_range("maxUnreadBytes", self.max_unread_bytes, mb(1), mb(4 << 10)),
        ];
        found.into_iter().flatten().collect()
    }

    /// Maximum buffered bytes of a request's head. The exact header limit is checked with the
    /// request.
    pub(crate) fn read_ahead(&self) -> u64 {
        let heads = self.max_header_size.0.saturating_mul(2);
        self.read_buffer_size.0.max(heads).max(BUFFER_MIN)
    }
}
