//! Pages of versions: numbers have ten digits, so that they sort as texts, and the total counts only
//! the versions after `afterId`.

use forebay_api::common::{PageInfo, VersionList, VersionView};
use forebay_api::params::ListQuery;

/// A version number as an id.
pub(crate) fn version_id(number: impl std::fmt::Display) -> String {
    format!("{:0>10}", number.to_string())
}

/// The start of a page, as lists of a sink's versions return it; those of a source return it as given.
pub(crate) fn sink_page_start(after_id: &str) -> String {
    match after_id {
        "" => String::new(),
        given => version_id(given),
    }
}

/// A page of versions that returns `after_id` as its start.
pub(crate) fn version_page(
    mut versions: Vec<VersionView>,
    query: &ListQuery,
    after_id: &str,
) -> VersionList {
    let after = version_id(&query.after_id);
    versions.retain(|v| version_id(v.number) > after);
    let total_count = versions.len();
    versions.truncate(query.limit as usize);
    let last = versions.last().map(|v| version_id(v.number));
    VersionList {
        page: PageInfo::new(
            query.limit,
            total_count,
            after_id,
            &last.unwrap_or_default(),
        ),
        versions,
    }
}
