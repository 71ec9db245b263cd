//! Where the source is.

use serde::{Deserialize, Serialize};

use super::page::PageToken;
use crate::definition::EndConditions;

/// Where the source is, as the state keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageCursor {
    pub(super) at: PageToken,
    /// The last page has said that it is.
    #[serde(default)]
    pub(super) is_last: bool,
    /// The last page named no next one.
    #[serde(default)]
    pub(super) no_next: bool,
    /// The last page named one that was read before.
    #[serde(default)]
    pub(super) goes_round: bool,
    /// Pages with records, for `until`.
    #[serde(default)]
    pub(super) pages: u64,
    /// Records, for `until`.
    #[serde(default)]
    pub(super) records: u64,
    /// Some page, of this run or an earlier one, had the cursor.
    #[serde(default)]
    pub(super) cursor_found: bool,
    /// Some page, of this run or an earlier one, had the field of `until`.
    #[serde(default)]
    pub(super) field_found: bool,
    /// What the records of the last page are known by, where pages have numbers.
    #[serde(default)]
    pub(super) digest: Option<String>,
}

impl PageCursor {
    /// Where a job begins.
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

    /// Whether a condition holds that a page has met.
    pub(super) fn is_at_end(&self, until: &EndConditions) -> bool {
        self.is_last || (until.no_next && self.no_next) || (until.repeat && self.goes_round)
    }

    /// Whether as many pages or records were read as are wanted.
    pub(super) fn is_at_count(&self, until: &EndConditions) -> bool {
        until.pages.is_some_and(|n| self.pages >= n)
            || until.records.is_some_and(|n| self.records >= n)
    }

    /// Makes it that of the next run: behind the last page, or at the start when there is nothing
    /// behind it.
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
