//! Registry of the streams in a node's log and of the codecs of their blocks
//! (`docs/formats/segment.md` lists both).
//!
//! | stream | holds |
//! | --- | --- |
//! | `<slice key>` | rows of a slice |
//! | `dead-letter/<sink key>` | dead letters of a table sink |
//! | `topic/<sink key>/<number>` | messages of a topic sink |
//! | `topic-dead-letter/<sink key>/<number>` | messages that the provider rejected for good |
//! | `topic-resolved/<sink key>/0` | which of those are resolved |
//!
//! A slice key begins with the number of a project, so no prefix can be the beginning of one. The
//! numbers of codecs 32 to 35 are defined by the buffer, whose message format is its own.

use forebay_model::{BlockCompression, SinkKey};

/// Prefix of the messages of a topic sink.
pub const TOPIC_PREFIX: &str = "topic/";
/// Prefix of the messages of a topic sink that its provider rejected for good.
pub const TOPIC_DEAD_LETTER_PREFIX: &str = "topic-dead-letter/";
/// Prefix of the record of which of these messages are resolved.
pub const TOPIC_RESOLVED_PREFIX: &str = "topic-resolved/";
const DEAD_LETTER_PREFIX: &str = "dead-letter/";

/// Rows as they are.
const CODEC_PLAIN: u8 = 0;
const CODEC_GZIP: u8 = 1;
const CODEC_ZSTD: u8 = 2;
/// JSON: which dead letters of a topic sink are resolved.
pub const CODEC_RESOLVED: u8 = 36;

/// Name of the stream of a table sink's dead letters.
pub fn dead_letter_stream(sink: &SinkKey) -> String {
    format!("{DEAD_LETTER_PREFIX}{sink}")
}

/// The sink whose dead letters a stream holds, if it is such a stream.
pub fn dead_letter_sink(stream: &str) -> Option<SinkKey> {
    stream.strip_prefix(DEAD_LETTER_PREFIX)?.parse().ok()
}

/// Sink of a topic's stream with this prefix, and the number of the stream.
pub fn parse_topic_stream(name: &str, prefix: &str) -> Option<(SinkKey, u64)> {
    let (sink, number) = name.strip_prefix(prefix)?.rsplit_once('/')?;
    Some((sink.parse().ok()?, number.parse().ok()?))
}

/// Sink of a stream of a topic; `None` for other streams.
pub fn topic_sink(stream: &str) -> Option<SinkKey> {
    let prefixes = [
        TOPIC_PREFIX,
        TOPIC_DEAD_LETTER_PREFIX,
        TOPIC_RESOLVED_PREFIX,
    ];
    let mut found = prefixes
        .iter()
        .filter_map(|prefix| parse_topic_stream(stream, prefix));
    found.next().map(|(sink, _)| sink)
}

/// Name of the dead-letter stream that belongs to a message stream.
pub fn topic_dead_letter_stream(messages: &str) -> String {
    let rest = messages.strip_prefix(TOPIC_PREFIX).unwrap_or(messages);
    format!("{TOPIC_DEAD_LETTER_PREFIX}{rest}")
}

/// Codec of a block of rows or dead letters.
pub fn codec(compression: BlockCompression) -> u8 {
    match compression {
        BlockCompression::None => CODEC_PLAIN,
        BlockCompression::Gzip { .. } => CODEC_GZIP,
        BlockCompression::Zstd { .. } => CODEC_ZSTD,
    }
}

/// The inverse of [`codec`], without the level, which no reader needs.
pub fn compression(codec: u8) -> Option<BlockCompression> {
    match codec {
        CODEC_PLAIN => Some(BlockCompression::None),
        CODEC_GZIP => Some(BlockCompression::Gzip { level: 1 }),
        CODEC_ZSTD => Some(BlockCompression::Zstd { level: 1 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codecs_are_distinct() {
        let codecs = [
            CODEC_PLAIN,
            CODEC_GZIP,
            CODEC_ZSTD,
            CODEC_RESOLVED,
            forebay_buffer::CODEC_MESSAGES,
            forebay_buffer::CODEC_DEAD_LETTER,
            forebay_buffer::CODEC_MESSAGES_STANDALONE,
            forebay_buffer::CODEC_MESSAGE_REPLAYED,
        ];
        assert_eq!(BTreeSet::from(codecs).len(), codecs.len());
    }

    #[test]
    fn no_prefix_begins_with_another_one_or_like_a_slice_key() {
        let prefixes = [
            DEAD_LETTER_PREFIX,
            TOPIC_PREFIX,
            TOPIC_DEAD_LETTER_PREFIX,
            TOPIC_RESOLVED_PREFIX,
        ];
        for (i, prefix) in prefixes.iter().enumerate() {
            assert!(prefix.ends_with('/'));
            assert!(!prefix.starts_with(|c: char| c.is_ascii_digit()));
            let others = prefixes.iter().enumerate().filter(|(k, _)| *k != i);
            assert!(
                others
                    .into_iter()
                    .all(|(_, other)| !other.starts_with(prefix))
            );
        }
    }

    #[test]
    fn stream_names_identify_their_sinks() {
        let sink: SinkKey = "1/2/src/snk".parse().unwrap();
        let messages = "topic/1/2/src/snk/17";
        assert_eq!(
            parse_topic_stream(messages, TOPIC_PREFIX),
            Some((sink.clone(), 17))
        );
        assert_eq!(
            topic_dead_letter_stream(messages),
            "topic-dead-letter/1/2/src/snk/17"
        );
        for own in [
            "topic-dead-letter/1/2/src/snk/17",
            "topic-resolved/1/2/src/snk/0",
        ] {
            assert_eq!(topic_sink(own), Some(sink.clone()), "{own}");
        }
        for other in [
            "topic/1/2/src/snk",
            "topic/x",
            "dead-letter/1/2/src/snk",
            "1/2/src/snk/17",
        ] {
            assert_eq!(topic_sink(other), None, "{other}");
        }
    }
}
