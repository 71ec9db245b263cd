//! Aliases of librdkafka settings.
//!
//! librdkafka applies settings in the order of a hash map: if one is set under two names, either
//! value may win. So each is set under its canonical name only.

use std::collections::BTreeMap;

use super::error::KafkaConfigError;

/// Aliases and canonical names.
const OTHER_NAMES: [(&str, &str); 12] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanism", "sasl.mechanisms"),
    (
        "sasl.oauthbearer.client.credentials.client.id",
        "sasl.oauthbearer.client.id",
    ),
    (
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
    ),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("retries", "message.send.max.retries"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("auto.commit.enable", "enable.auto.commit"),
];

/// Canonical name of a setting.
fn name_of(name: &str) -> &str {
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == name);
    other.map_or(name, |(_, own)| own)
}

/// The settings under their canonical names. Fails when one has two names with two values.
pub(super) fn resolved(
    settings: &BTreeMap<String, String>,
) -> Result<BTreeMap<&str, &str>, KafkaConfigError> {
    let mut resolved = BTreeMap::new();
    let mut given: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in settings {
        let own = name_of(name);
        if let Some(other) = given.insert(own, name)
            && resolved.get(own) != Some(&value.as_str())
        {
            let problem = format!("is the same setting as {other}, which has another value");
            return Err(KafkaConfigError::new(name, problem));
        }
        resolved.insert(own, value.as_str());
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn each_setting_is_set_once() {
        let given = settings(&[
            ("compression.codec", "gzip"),
            ("client.id", "a"),
            ("acks", "all"),
        ]);
        let resolved = resolved(&given).unwrap();
        let all: Vec<_> = resolved.into_iter().collect();
        assert_eq!(
            all,
            [
                ("acks", "all"),
                ("client.id", "a"),
                ("compression.type", "gzip")
            ]
        );
        let same = settings(&[("compression.codec", "gzip"), ("compression.type", "gzip")]);
        assert_eq!(super::resolved(&same).unwrap().len(), 1);
        let two = settings(&[("request.required.acks", "1"), ("acks", "secret")]);
        let error = super::resolved(&two).unwrap_err().to_string();
        assert_eq!(
            error,
            "request.required.acks: is the same setting as acks, which has another value"
        );
    }

    /// An alias that the library no longer knows would hide a setting.
    #[test]
    fn the_library_knows_both_names() {
        for (other, own) in OTHER_NAMES {
            for name in [other, own] {
                let mut config = rdkafka::ClientConfig::new();
                config.set(name, "no such value, surely");
                let error = config.create_native_config().map(drop);
                let text = error.map_or_else(|e| e.to_string(), |()| String::new());
                assert!(!text.contains("No such configuration"), "{name}: {text}");
            }
        }
    }
}
