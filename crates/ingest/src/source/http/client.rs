//! Client of a request: the TCP peer, or the address that a trusted proxy names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNetwork {
    address: IpAddr,
    bits: u8,
}

/// Text that is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a network like 10.0.0.0/8 or an address")]
pub struct InvalidNetwork(String);

impl IpNetwork {
    /// Whether the address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(a)) => {
                let differing = u64::from(net.to_bits() ^ a.to_bits());
                differing >> (32 - u32::from(self.bits)) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(a)) => {
                let differing = net.to_bits() ^ a.to_bits();
                differing
                    .checked_shr(128 - u32::from(self.bits))
                    .unwrap_or(0)
                    == 0
            }
            _ => false,
        }
    }
}

impl FromStr for IpNetwork {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().map_err(|_| invalid())?,
            None => max,
        };
        let fits = bits <= max;
        fits.then_some(Self { address, bits }).ok_or_else(invalid)
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Serialize for IpNetwork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IpNetwork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for IpNetwork {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["10.0.0.0/8", "::1"] })
    }
}

/// Header in which proxies name their client.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// Addresses, separated by commas.
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl ForwardedHeader {
    fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// Client of a request from `peer`. Each proxy appends its own client to the header, so the client
/// is the last entry that is not a trusted proxy. Entries to the left of it may be forged.
pub(super) fn client_ip(
    peer: IpAddr,
    trusted: &[IpNetwork],
    header: ForwardedHeader,
    headers: &HeaderMap,
) -> IpAddr {
    let is_trusted = |a: IpAddr| trusted.iter().any(|n| n.contains(a));
    if trusted.is_empty() || !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    let values = headers.get_all(header.name()).iter();
    let values: Vec<_> = values.filter_map(|v| v.to_str().ok()).collect();
    for value in values.iter().rev() {
        // A list may have empty elements (RFC 9110, 5.6.1).
        let mut entries = split_unquoted(value, ',');
        entries.retain(|e| !e.trim().is_empty());
        for entry in entries.into_iter().rev() {
            let address = match header {
                ForwardedHeader::XForwardedFor => forwarded(entry.trim()),
                ForwardedHeader::Forwarded => forwarded_for(entry),
            };
            let Some(address) = address else {
                return client;
            };
            client = address;
            if !is_trusted(address) {
                return client;
            }
        }
    }
    client
}

/// Parses an address, which some proxies write with a port, and those of IPv6 in brackets or
/// quotes.
fn forwarded(entry: &str) -> Option<IpAddr> {
    let quoted = entry.strip_prefix('"').and_then(|e| e.strip_suffix('"'));
    let entry = quoted.unwrap_or(entry);
    if let Ok(address) = entry.parse() {
        return Some(address);
    }
    if let Some(v6) = entry.strip_prefix('[').and_then(|e| e.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    }
    let with_port: SocketAddr = entry.parse().ok()?;
    Some(with_port.ip())
}

/// Parses the `for` of an element like `for=192.0.2.60;proto=http;by=203.0.113.43`; names that a
/// proxy has made up (`unknown`, `_hidden`) are not addresses.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = split_unquoted(element, ';').into_iter();
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    forwarded(node.trim())
}

/// Splits a text at separators that are not within quotes.
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_contain_their_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "1.2.3.4", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::/0", "fe80::1", "1.2.3.4"),
            ("10.0.0.0/31", "10.0.0.1", "10.0.0.2"),
        ] {
            let network: IpNetwork = network.parse().unwrap();
            assert!(network.contains(ip(inside)), "{network} {inside}");
            assert!(!network.contains(ip(outside)), "{network} {outside}");
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        assert!(
            "10.0.0.0/8"
                .parse::<IpNetwork>()
                .unwrap()
                .contains(ip("::ffff:10.0.0.1"))
        );
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "x", "10.0.0.0/"] {
            assert!(bad.parse::<IpNetwork>().is_err(), "{bad}");
        }
    }

    #[test]
    fn proxies_are_believed_only_if_trusted_and_only_about_their_client() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let client = |peer, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let header = ForwardedHeader::XForwardedFor;
            client_ip(ip(peer), &trusted, header, &headers).to_string()
        };
        assert_eq!(client("9.9.9.9", &["1.1.1.1"]), "9.9.9.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6, 1.1.1.1, 10.0.0.2"]),
            "1.1.1.1"
        );
        assert_eq!(
            client("10.0.0.1", &["6.6.6.6, 1.1.1.1", "10.0.0.2"]),
            "1.1.1.1"
        );
        assert_eq!(client("10.0.0.1", &["10.0.0.3,10.0.0.2"]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, junk"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1:80"]), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["2001:db8::1"]), "2001:db8::1");
        for list in [
            "1.1.1.1,",
            "1.1.1.1, ,",
            ",1.1.1.1,,",
            "1.1.1.1 , 10.0.0.9 ,",
        ] {
            assert_eq!(client("10.0.0.1", &[list]), "1.1.1.1", "{list}");
        }
        for junk in [
            "[1.1.1.1]",
            "[2001:db8::1",
            "[]",
            "unknown",
            "1.1.1.1:x",
            "[::1]:99999",
        ] {
            assert_eq!(client("10.0.0.1", &[junk]), "10.0.0.1", "{junk}");
        }
        // The header that is not configured is ignored.
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6".parse().unwrap());
        let header = ForwardedHeader::Forwarded;
        let found = client_ip(ip("10.0.0.1"), &trusted, header, &headers);
        assert_eq!(found, ip("10.0.0.1"));
    }

    #[test]
    fn the_standard_header_names_clients_too() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let client = |forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("forwarded", value.parse().unwrap());
            }
            let header = ForwardedHeader::Forwarded;
            client_ip(ip("10.0.0.1"), &trusted, header, &headers).to_string()
        };
        for (values, wanted) in [
            (&["for=1.1.1.1"][..], "1.1.1.1"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (
                &["for=\"[2001:db8::1]\";proto=https;by=10.0.0.1"],
                "2001:db8::1",
            ),
            (
                &["by=\"a,b;for=6.6.6.6\"; FOR = 1.1.1.1 ;proto=http"],
                "1.1.1.1",
            ),
            (&["for=6.6.6.6, for=1.1.1.1, for=10.0.0.2;by=x,"], "1.1.1.1"),
            (&["for=1.1.1.1", "for=10.0.0.2"], "1.1.1.1"),
            (&["for=6.6.6.6, for=_hidden, for=10.0.0.2"], "10.0.0.2"),
            (&["for=unknown"], "10.0.0.1"),
            (&["proto=https"], "10.0.0.1"),
            (&["for=\"1.1.1.1"], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(client(values), wanted, "{values:?}");
        }
    }
}
