//! Converts domain types to the wire types of `forebay-api`.

mod admin;
mod common;
mod quota;
mod sink;
mod source;
mod statistics;
mod task;
mod topic;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub(super) use quota::project_quota;
pub(super) use source::source_view;
pub(super) use statistics::{sink_total, topic_reconciliation, topic_total};
pub(super) use task::{DELETE_SOURCE, task_view};
pub(super) use topic::{delivery_view, provider_view};

/// A domain type with one form on the wire.
pub(super) trait ToView {
    type View;

    fn to_view(&self) -> Self::View;
}

/// An id in a path: characters that are not allowed in paths are encoded, slashes are kept.
fn encode_path(id: &str) -> String {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~')
        .remove(b'/')
        .remove(b':');
    utf8_percent_encode(id, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::encode_path;

    #[test]
    fn ids_in_paths_are_encoded() {
        assert_eq!(
            encode_path("日本/a:b c~%"),
            "%E6%97%A5%E6%9C%AC/a:b%20c~%25"
        );
    }
}
