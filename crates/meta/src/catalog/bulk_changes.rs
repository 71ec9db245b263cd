//! Pages of sinks, for changes that concern all sinks of a source.

use forebay_model::Sink;

use super::{Repo, Versioned, decode};
use crate::kv::store::{RANGE_ENTRIES_MAX, StoreError};

/// Pages through the sinks below a prefix, so that memory doesn't depend on their number.
pub(super) struct SinkPages {
    prefix: String,
    after: Option<String>,
    page: std::vec::IntoIter<Versioned<Sink>>,
    /// The page is not the last one.
    more: bool,
}

impl SinkPages {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            after: None,
            page: Vec::new().into_iter(),
            more: true,
        }
    }

    /// Returns the next sink. It may be outdated, which is harmless: a change has its revision as a
    /// precondition.
    pub(super) async fn next(
        &mut self,
        repo: &Repo,
    ) -> Result<Option<Versioned<Sink>>, StoreError> {
        loop {
            if let Some(sink) = self.page.next() {
                return Ok(Some(sink));
            }
            if !self.more {
                return Ok(None);
            }
            let after = self.after.as_deref();
            let page = repo.store.range(&self.prefix, after, RANGE_ENTRIES_MAX);
            let page = page.await?;
            self.more = page.more;
            if let Some(last) = page.entries.last() {
                self.after = Some(last.key.clone());
            }
            let sinks: Result<Vec<_>, _> = page.entries.iter().map(decode).collect();
            self.page = sinks?.into_iter();
        }
    }
}
