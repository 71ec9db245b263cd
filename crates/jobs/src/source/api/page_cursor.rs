//! The position of an API source.

use serde::{Deserialize, Serialize};

use super::page::PageToken;
use crate::definition::EndConditions;

/// The position of an API source, as stored in the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageCursor {
    pub(super) at: PageToken,
    /// The last page was marked as such.
    #[serde(default)]
    pub(super) is_last: bool,
    /// The last page had no next page.
    #[serde(default)]
    pub(super) no_next: bool,
    /// The next page after the last one was already read.
    #[serde(default)]
    pub(super) goes_round: bool,
    /// Pages with records, for `until`.
    #[serde(default)]
    pub(super) pages: u64,
    /// Records, for `until`.
    #[serde(default)]
    pub(super) records: u64,
    /// A page of this run or an earlier one had the cursor.
    #[serde(default)]
    pub(super) cursor_found: bool,
    /// A page of this run or an earlier one had the field of `until`.
    #[serde(default)]
    pub(super) field_found: bool,
    /// Digest of the last page's records, if pages have numbers.
    #[serde(default)]
    pub(super) digest: Option<String>,
}

impl PageCursor {
    /// The position of a new job.
    pub(super) fn first() -> Self {
        Self {
            at: PageToken::Start,
            is_last: false,
            no_next: false,
            goes_round: false,
            pages: 0,
            records: 0,
            cursor_found: false,
            field_found: false,
            digest: None,
        }
    }

    /// Whether the last page met an end condition.
    pub(super) fn is_at_end(&self, until: &EndConditions) -> bool {
        self.is_last || (until.no_next && self.no_next) || (until.repeat && self.goes_round)
    }

    /// Whether the configured number of pages or records was read.
    pub(super) fn is_at_count(&self, until: &EndConditions) -> bool {
        until.pages.is_some_and(|n| self.pages >= n)
            || until.records.is_some_and(|n| self.records >= n)
    }

    /// Prepares the position of the next run: after the last page, or at the start if nothing can follow it.
    pub(super) fn end(&mut self, repeat_is_end: bool) {
        let is_round = self.goes_round && repeat_is_end;
        if self.no_next || is_round {
            self.at = PageToken::Start;
            self.digest = None;
        }
        self.goes_round &= !is_round;
        (self.is_last, self.no_next) = (false, false);
        (self.pages, self.records) = (0, 0);
    }
}
