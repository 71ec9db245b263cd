//! Settings of message delivery for topics.

use forebay_buffer::BufferConfig;
use forebay_model::{ByteSize, HumanDuration, out_of_range};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How messages of topics wait and are delivered, for each sink separately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TopicConfig {
    /// Maximum bytes of a sink that wait; further records get 503. 1MB to 1PB.
    pub max_bytes: ByteSize,
    /// Messages that are sent to the provider at once. 1 to 100000.
    pub batch_messages: u32,
    /// Maximum of messages sent to the provider and not confirmed. 1 to 1000000.
    pub in_flight_messages: u32,
    /// Maximum bytes sent to the provider and not confirmed. 1KB to 1GB.
    pub in_flight_bytes: ByteSize,
    /// Maximum of messages that may be delivered twice after a crash, if the provider does not
    /// store the cursor. From `inFlightMessages` to 10000000.
    pub repeat_window: u32,
    /// First delay after a failure; doubled with each further failure. 1ms to 1h.
    pub backoff: HumanDuration,
    /// Longest delay after a failure. From `backoff` to 1d.
    pub backoff_max: HumanDuration,
    /// How often a message that the provider rejects for good is tried before it becomes a dead
    /// letter. 1 to 1000.
    pub attempts: u32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        let buffer = BufferConfig::new("");
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            max_bytes: ByteSize::mb(10 << 10),
            batch_messages: number(buffer.batch_messages),
            in_flight_messages: number(buffer.in_flight_messages),
            in_flight_bytes: ByteSize(buffer.in_flight_bytes as u64),
            repeat_window: u32::try_from(buffer.repeat_window).unwrap_or(u32::MAX),
            backoff: HumanDuration(buffer.backoff),
            backoff_max: HumanDuration(buffer.backoff_max),
            attempts: buffer.attempts,
        }
    }
}

impl TopicConfig {
    /// Returns the settings that are out of range: name, given value, allowed range.
    pub fn violations(&self) -> Vec<String> {
        let in_flight = self.in_flight_messages;
        let day = HumanDuration::hours(24);
        let checks = [
            out_of_range(
                "maxBytes",
                self.max_bytes,
                ByteSize::mb(1),
                ByteSize(1 << 50),
            ),
            out_of_range("batchMessages", self.batch_messages, 1, 100_000),
            out_of_range("inFlightMessages", in_flight, 1, 1_000_000),
            out_of_range(
                "inFlightBytes",
                self.in_flight_bytes,
                ByteSize::kb(1),
                ByteSize::mb(1 << 10),
            ),
            out_of_range("repeatWindow", self.repeat_window, in_flight, 10_000_000),
            out_of_range(
                "backoff",
                self.backoff,
                HumanDuration::millis(1),
                HumanDuration::hours(1),
            ),
            out_of_range("backoffMax", self.backoff_max, self.backoff, day),
            out_of_range("attempts", self.attempts, 1, 1_000),
        ];
        checks.into_iter().flatten().collect()
    }

    /// Converts to the buffer's settings.
    pub(super) fn buffer_config(&self) -> BufferConfig {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        BufferConfig {
            batch_messages: number(self.batch_messages.into()),
            in_flight_messages: number(self.in_flight_messages.into()),
            in_flight_bytes: number(self.in_flight_bytes.0),
            repeat_window: self.repeat_window.into(),
            backoff: self.backoff.0,
            backoff_max: self.backoff_max.0,
            attempts: self.attempts,
            ..BufferConfig::new("")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_violations_are_named() {
        assert_eq!(TopicConfig::default().violations(), Vec::<String>::new());
        let config = TopicConfig {
            repeat_window: 1,
            attempts: 0,
            ..TopicConfig::default()
        };
        let problems = config.violations();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("repeatWindow"), "{problems:?}");
    }
}
