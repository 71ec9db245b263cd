//! Sources.

use forebay_api::source::{HttpSourceView, SourceType, SourceView};
use forebay_model::{Source, SourceKind};

use super::super::verify;
use super::{ToView, encode_path};

/// `public_url` is the base of the HTTP source; without it the source's URL is omitted.
pub(in crate::api) fn source_view(source: &Source, public_url: Option<&str>) -> SourceView {
    let branch = source.key.branch;
    let id = &source.key.source;
    let SourceKind::Http { secret, verify } = &source.kind;
    SourceView {
        project_id: branch.project.0,
        branch_id: branch.branch.0,
        source_id: id.to_string(),
        r#type: SourceType::Http,
        name: source.name.clone(),
        description: source.description.clone(),
        definition_set: source.definition_set.clone(),
        http: public_url.map(|public_url| HttpSourceView {
            url: format!(
                "{public_url}/stream/{}/{}/{secret}",
                branch.project,
                encode_path(id.as_str())
            ),
        }),
        version: source.version.to_view(),
        created: source.created.to_view(),
        deleted: source.deleted.as_ref().map(|d| d.stamp.to_view()),
        disabled: source.disabled.as_ref().map(ToView::to_view),
        verify: verify.as_ref().map(|settings| {
            let address_secret = public_url.map(|_| secret.as_str());
            verify::view(settings, address_secret)
        }),
    }
}
