//! Limits that are part of the contract and not configurable. Configurable ones are in the
//! configuration and in [`crate::settings`].

/// Columns of a mapping.
pub const COLUMNS_MAX: usize = 100;
/// Headers of a message of a topic.
pub const MESSAGE_HEADERS_MAX: usize = 50;
/// Characters of a topic's name; Kafka's bound.
pub const TOPIC_CHARS_MAX: usize = 249;
/// Characters of a template.
pub const TEMPLATE_CHARS_MAX: usize = 4096;
/// Characters of a path.
pub const PATH_CHARS_MAX: usize = 4096;
/// Filters, parentheses and functions within one another in a path.
pub const PATH_NESTING_MAX: usize = 32;
/// Characters of a source's or sink's id.
pub const ID_CHARS_MAX: usize = 48;
/// Characters of a source's or sink's name.
pub const NAME_CHARS_MAX: usize = 40;
/// Characters of a description.
pub const DESCRIPTION_CHARS_MAX: usize = 4096;
/// Sources of a branch.
pub const SOURCES_MAX: usize = 100;
/// Sinks of a source.
pub const SINKS_MAX: usize = 100;
/// Versions kept of a source or sink.
pub const VERSIONS_MAX: u32 = 1000;
/// Bytes of a table's id.
pub const TABLE_ID_BYTES_MAX: usize = 512;
/// Projects that a table is shared with.
pub const TABLE_SHARES_MAX: usize = 100;
/// Characters of a source's secret, out of `[0-9a-zA-Z]`.
pub const SECRET_CHARS: usize = 48;
