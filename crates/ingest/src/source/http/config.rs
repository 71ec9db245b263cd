//! Settings of the HTTP source. `docs/reference/limits.md` describes what a client gets at each
//! limit.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use forebay_listener::{ListenerLimits, TlsConfig};
use forebay_model::{ByteSize, HumanDuration, out_of_range};
use http::HeaderMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::{ForwardedHeader, IpNetwork, client_ip};

/// The HTTP listener that accepts records, and its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpSourceConfig {
    /// Address and port to listen on. Port 0 selects a free one.
    pub listen: SocketAddr,
    /// Address under which clients reach the source; the URLs of sources begin with it. Without it
    /// they begin with the address of the listener.
    pub public_url: Option<String>,
    /// How long a request may take, from its headers to its response. 1s to 60s.
    pub request_timeout: HumanDuration,
    /// How long a client may take to send a request's headers, and to negotiate TLS. 1s to 60s.
    pub header_read_timeout: HumanDuration,
    /// How long a connection may be open without a request. Must be longer than that of a load
    /// balancer in front, which otherwise sends requests into connections that are being closed. 1s
    /// to 1h.
    pub idle_timeout: HumanDuration,
    /// How long a client may take to read a response. 1s to 1h.
    pub write_timeout: HumanDuration,
    /// Maximum of open connections; further ones get 503. 1 to 1000000.
    pub max_connections: usize,
    /// Maximum of connections per client address (IPv6: per network of 64 bits); further ones get
    /// 503. Trusted proxies are exempt. 0 to 1000000; 0 is no separate limit.
    pub max_connections_per_client: usize,
    /// Maximum of concurrent requests per HTTP/2 connection. 1 to 1000.
    pub max_streams_per_connection: usize,
    /// How long the answer to a client is held back that is over a quota, was rejected just before and
    /// goes on regardless. 0 to 10s.
    pub rejection_delay: HumanDuration,
    /// Bytes that are read ahead for a connection. 8KB to 1MB.
    pub read_buffer_size: ByteSize,
    /// Bytes of responses buffered for a slow HTTP/2 client. 8KB to 1MB.
    pub write_buffer_size: ByteSize,
    /// Maximum of responses, in total, that clients have not read; those up to 1KB do not count. A
    /// request whose response would exceed it gets 503. 1MB to 4GB.
    pub max_unread_bytes: ByteSize,
    /// Maximum of a request's body as sent. 100B to 64MB.
    pub max_request_body_size: ByteSize,
    /// Maximum of a body after decompression, or of one in another charset as UTF-8. 100B to 256MB.
    pub max_inflated_body_size: ByteSize,
    /// Maximum of a request's headers together with its request line. 1KB to 1MB.
    pub max_header_size: ByteSize,
    /// Maximum of records per batch. 1 to 1000000.
    pub max_records_per_batch: usize,
    /// Maximum of request bodies, and of rows that are not on disk yet, in total. A request that
    /// would exceed it gets 429. Memory use of the whole process: docs/reference/limits.md. 1MB to
    /// 64GB.
    pub max_bytes_in_flight: ByteSize,
    /// Requests with large bodies that are decompressed, parsed and rendered at a time; 0 is one
    /// for every two cores. 0 to 256.
    pub large_requests: usize,
    /// Networks of proxies whose `forwardedHeader` is trusted, like `10.0.0.0/8`. If empty, the
    /// client is the peer of the connection.
    pub trusted_proxies: Vec<IpNetwork>,
    /// Header in which trusted proxies name the client: `x-forwarded-for`, or `forwarded` (RFC
    /// 7239). Only one: proxies pass on whatever clients send in the other.
    pub forwarded_header: ForwardedHeader,
    /// Certificate and key for TLS. Without them the listener speaks plain HTTP.
    pub tls: Option<TlsConfig>,
}

impl Default for HttpSourceConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7000)),
            public_url: None,
            request_timeout: HumanDuration::secs(30),
            header_read_timeout: HumanDuration::secs(10),
            idle_timeout: HumanDuration::secs(75),
            write_timeout: HumanDuration::secs(60),
            max_connections: 20_000,
            max_connections_per_client: 0,
            max_streams_per_connection: 250,
            rejection_delay: HumanDuration::millis(100),
            read_buffer_size: ByteSize::kb(64),
            write_buffer_size: ByteSize::kb(64),
            max_unread_bytes: ByteSize::mb(64),
            max_request_body_size: ByteSize::mb(1),
            max_inflated_body_size: ByteSize::mb(8),
            max_header_size: ByteSize::kb(16),
            max_records_per_batch: 10_000,
            max_bytes_in_flight: ByteSize::mb(64),
            large_requests: 0,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            tls: None,
        }
    }
}

impl HttpSourceConfig {
    /// Client of a request received from `peer`.
    pub(super) fn client_ip(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        client_ip(peer, &self.trusted_proxies, self.forwarded_header, headers)
    }

    pub fn limits(&self) -> ListenerLimits {
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

    fn durations(&self) -> [(&'static str, HumanDuration, HumanDuration, HumanDuration); 2] {
        [
            (
                "requestTimeout",
                self.request_timeout,
                HumanDuration::secs(1),
                HumanDuration::secs(60),
            ),
            (
                "rejectionDelay",
                self.rejection_delay,
                HumanDuration::secs(0),
                HumanDuration::secs(10),
            ),
        ]
    }

    /// Returns the settings that are out of range: name, given value, allowed range.
    pub fn violations(&self) -> Vec<String> {
        let mb = ByteSize::mb;
        let sizes = [
            (
                "maxRequestBodySize",
                self.max_request_body_size,
                ByteSize(100),
                mb(64),
            ),
            (
                "maxInflatedBodySize",
                self.max_inflated_body_size,
                ByteSize(100),
                mb(256),
            ),
            (
                "maxBytesInFlight",
                self.max_bytes_in_flight,
                mb(1),
                mb(64 << 10),
            ),
        ];
        let numbers = [
            (
                "maxRecordsPerBatch",
                self.max_records_per_batch,
                1,
                1_000_000,
            ),
            ("largeRequests", self.large_requests, 0, 256),
        ];
        let durations = self.durations().into_iter();
        let mut violations: Vec<_> = durations.filter_map(outside).collect();
        violations.extend(self.limits().violations());
        violations.extend(sizes.into_iter().filter_map(outside));
        violations.extend(numbers.into_iter().filter_map(outside));
        let largest = self.max_request_body_size.max(self.max_inflated_body_size);
        if largest > self.max_bytes_in_flight {
            violations.push(format!(
                "maxBytesInFlight is {}, it must have room for one body of {largest}",
                self.max_bytes_in_flight
            ));
        }
        violations
    }
}

fn outside<T: PartialOrd + std::fmt::Display>(
    (name, value, min, max): (&str, T, T, T),
) -> Option<String> {
    out_of_range(name, value, min, max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_violations_are_named() {
        assert_eq!(
            HttpSourceConfig::default().violations(),
            Vec::<String>::new()
        );
        let config = HttpSourceConfig {
            request_timeout: HumanDuration::millis(999),
            max_request_body_size: ByteSize(99),
            max_connections: 0,
            max_inflated_body_size: ByteSize::mb(65),
            ..HttpSourceConfig::default()
        };
        assert_eq!(
            config.violations(),
            [
                "requestTimeout is 999ms, allowed is 1s to 1m0s",
                "maxConnections is 0, allowed is 1 to 1000000",
                "maxRequestBodySize is 99B, allowed is 100B to 64MB",
                "maxBytesInFlight is 64MB, it must have room for one body of 65MB",
            ]
        );
    }

    #[test]
    fn a_file_may_omit_defaults_and_must_not_have_unknown_keys() {
        let config: HttpSourceConfig = serde_json::from_str(
            r#"{"listen":"0.0.0.0:1","maxHeaderSize":"8KB","trustedProxies":["10.0.0.0/8"]}"#,
        )
        .unwrap();
        assert_eq!(config.max_header_size, ByteSize::kb(8));
        assert_eq!(config.idle_timeout, HumanDuration::secs(75));
        assert!(serde_json::from_str::<HttpSourceConfig>(r#"{"maxHeadersize":"8KB"}"#).is_err());
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<HttpSourceConfig>(&text).unwrap(),
            config
        );
    }
}
