//! `providers`: destinations of topics. Only the operator of the server can set addresses and secrets;
//! a sink selects a provider by name.

use std::collections::BTreeMap;

use forebay_model::{HumanDuration, TopicKind, is_own_http_header};
use forebay_schema::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ranges::RangeViolations;

/// Type of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ProviderType {
    Kafka,
    Http,
}

impl From<ProviderType> for TopicKind {
    fn from(kind: ProviderType) -> Self {
        match kind {
            ProviderType::Kafka => Self::Kafka,
            ProviderType::Http => Self::Http,
        }
    }
}

/// A provider of topics.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ProviderSection {
    /// Name that sinks refer to.
    pub(crate) name: String,
    /// `kafka` or `http`.
    pub(crate) r#type: ProviderType,
    /// Kafka: `host:port`, comma-separated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) brokers: Option<String>,
    /// Kafka: commit messages and cursor in one transaction, so that consumers with read_committed get
    /// no duplicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transactions: Option<bool>,
    /// Kafka: further settings of librdkafka by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) settings: BTreeMap<String, SecretText>,
    /// HTTP: `http://…` or `https://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<SecretText>,
    /// HTTP: sent as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<SecretText>,
    /// HTTP: further headers of each request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, SecretText>,
    /// Timeout of a request or a transaction; default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<HumanDuration>,
}

impl ProviderSection {
    /// Settings of the other type.
    fn foreign_settings(&self) -> Vec<&'static str> {
        let kafka = [
            ("brokers", self.brokers.is_some()),
            ("transactions", self.transactions.is_some()),
            ("settings", !self.settings.is_empty()),
        ];
        let http = [
            ("url", self.url.is_some()),
            ("token", self.token.is_some()),
            ("headers", !self.headers.is_empty()),
        ];
        let others = match self.r#type {
            ProviderType::Kafka => http,
            ProviderType::Http => kafka,
        };
        let given = others.into_iter().filter(|(_, given)| *given);
        given.map(|(name, _)| name).collect()
    }
}

/// All violations except those that only opening a provider shows.
pub(super) fn violations(providers: &[ProviderSection]) -> Vec<String> {
    let mut ranges = RangeViolations::default();
    for (i, provider) in providers.iter().enumerate() {
        let name = &provider.name;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            ranges.add_violation(&format!(
                "{i}.name is not valid, allowed are 1 to 64 letters, digits, \"-\", \"_\" and \".\""
            ));
        }
        if providers.iter().take(i).any(|p| p.name == *name) {
            ranges.add_violation(&format!("{i}.name is already the name of another provider"));
        }
        let (needed, is_there) = match provider.r#type {
            ProviderType::Kafka => ("brokers", provider.brokers.is_some()),
            ProviderType::Http => ("url", provider.url.is_some()),
        };
        let kind = TopicKind::from(provider.r#type).name();
        if !is_there {
            ranges.add_violation(&format!("{i}.{needed} is missing, type {kind} needs it"));
        }
        for broker in provider.brokers.iter().flat_map(|all| all.split(',')) {
            if !is_broker(broker.trim()) {
                ranges.add_violation(&format!(
                    "{i}.brokers has \"{broker}\", allowed are host:port with a port of 1 to 65535, separated by commas"
                ));
            }
        }
        for stranger in provider.foreign_settings() {
            ranges.add_violation(&format!(
                "{i}.{stranger} is set, but not allowed for type {kind}"
            ));
        }
        for header in provider.headers.keys().filter(|h| is_own_http_header(h)) {
            ranges.add_violation(&format!(
                "{i}.headers has \"{header}\", which every request already has"
            ));
        }
        if let Some(timeout) = provider.timeout {
            let name = format!("{i}.timeout");
            ranges.check(
                &name,
                timeout,
                HumanDuration::millis(100),
                HumanDuration::mins(15),
            );
        }
    }
    ranges.violations
}

/// Whether it is a host with a port, or without one (for 9092).
fn is_broker(text: &str) -> bool {
    let is_word = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    match text.rsplit_once(':') {
        // A colon within an IPv6 address in brackets.
        Some((_, rest)) if rest.ends_with(']') => is_word,
        Some((host, port)) => {
            is_word && !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => is_word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<ProviderSection> {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn every_violation_has_its_index_and_key() {
        let fine = read(
            "- {name: main, type: kafka, brokers: 'a:1', transactions: true}\n- {name: hook, type: http, url: 'http://x'}",
        );
        assert_eq!(violations(&fine), Vec::<String>::new());
        let bad = read(
            "- {name: a b, type: kafka, url: 'http://x'}\n- {name: a b, type: http, url: 'http://x', timeout: 1ms, headers: {Message-key: x}}",
        );
        let said = violations(&bad).join("\n");
        for part in [
            "0.name is not valid, allowed are",
            "0.brokers is missing",
            "0.url is set, but not allowed for type kafka",
            "1.name is already the name of another provider",
            "1.headers has \"Message-key\", which every request already has",
            "1.timeout is 1ms, allowed is 100ms to 15m",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn brokers_are_hosts_with_ports() {
        for fine in [
            "a",
            "a:1",
            "a.b:65535",
            "[::1]",
            "[::1]:9092",
            "SASL://a:9092",
        ] {
            assert!(is_broker(fine), "{fine}");
        }
        for bad in ["", "a:", ":1", "a:0", "a:65536", "a:x", "a b:1", "[::1]:"] {
            assert!(!is_broker(bad), "{bad}");
        }
        let list = read("- {name: k, type: kafka, brokers: 'a:1, b:2,'}");
        let said = violations(&list).join("\n");
        assert!(
            said.starts_with("0.brokers has \"\", allowed are host:port"),
            "{said}"
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let providers = read(
            "- {name: k, type: kafka, brokers: 'a:1', settings: {sasl.password: hush}}\n- {name: h, type: http, url: 'http://u:hush@x', token: hush, headers: {X-Key: hush}}",
        );
        let shown = format!(
            "{providers:?} {}",
            serde_json::to_string(&providers).unwrap()
        );
        assert!(!shown.contains("hush"), "{shown}");
    }
}
