//! The limits of a listener, and their ranges.

use forebay_model::{ByteSize, Span, out_of_range};

/// Smallest buffer that the HTTP library takes.
const BUFFER_MIN: u64 = 8 << 10;

/// Limits of a listener. Each section of the configuration that has a listener has them as keys of
/// the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a client may take to send a request's headers, and to negotiate TLS.
    pub header_read_timeout: Span,
    /// How long a connection may be open without a request.
    pub idle_timeout: Span,
    /// How long a client may take to read a response.
    pub write_timeout: Span,
    /// Connections open at a time.
    pub max_connections: usize,
    /// Connections of one client address at a time; zero is no limit of its own.
    pub max_connections_per_client: usize,
    /// Requests of one HTTP/2 connection at a time.
    pub max_streams_per_connection: usize,
    /// Bytes that are read ahead for a connection.
    pub read_buffer_size: ByteSize,
    /// Bytes of a response that are handed to HTTP/2 ahead of its client.
    pub write_buffer_size: ByteSize,
    /// A request's headers together with its first line.
    pub max_header_size: ByteSize,
    /// Bytes of responses that clients have not read, of all connections together.
    pub max_unread_bytes: ByteSize,
}

impl Limits {
    /// Everything that is out of range: name, given value, what is allowed.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let (kb, mb) = (ByteSize::kb, ByteSize::mb);
        let (second, minute, hour) = (Span::secs(1), Span::mins(1), Span::hours(1));
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
            out_of_range(
                "maxUnreadBytes",
                self.max_unread_bytes,
                mb(1),
                mb(4 << 10),
            ),
        ];
        found.into_iter().flatten().collect()
    }

    /// Bytes of a request's head that are buffered at most. The exact limit of headers is looked at
    /// with the request.
    pub(crate) fn read_ahead(&self) -> u64 {
        let heads = self.max_header_size.0.saturating_mul(2);
        self.read_buffer_size.0.max(heads).max(BUFFER_MIN)
    }
}
