//! `forebay source` commands that change the state of a source or sink, or return to an earlier one.

use forebay_api::common::{VersionList, VersionView};
use forebay_api::source::SourceView;
use reqwest::Method;

use super::super::common::ServerArgs;
use super::super::subject::Subject;
use super::show::{URL_HIDDEN, url};
use crate::api_client::{ApiClient, encoded};
use crate::cli_error::CliError;
use crate::query::TextTable;
use crate::terminal;

/// A source or sink on a server.
#[derive(Debug, clap::Args)]
pub(crate) struct SubjectArgs {
    /// Id of the source, or of a source and its sink
    #[arg(value_name = "SOURCE[/SINK]")]
    pub(super) of: Subject,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// A source or sink, and why it is changed.
#[derive(Debug, clap::Args)]
pub(crate) struct ReasonArgs {
    /// Id of the source, or of a source and its sink
    #[arg(value_name = "SOURCE[/SINK]")]
    pub(super) of: Subject,
    /// Reason, shown with the source or sink
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) reason: String,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// A version of a source or sink.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// Id of the source, or of a source and its sink
    #[arg(value_name = "SOURCE[/SINK]")]
    pub(super) of: Subject,
    /// Number of the version, as `forebay source versions` shows it
    #[arg(value_name = "VERSION")]
    version: u32,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// Changes a source or sink by a task, and prints what was done.
pub(super) async fn change(
    api: &ApiClient,
    of: &Subject,
    (method, action): (Method, &str),
    done: &str,
) -> Result<(), CliError> {
    api.run_task(method, &format!("{}{action}", of.path()), None)
        .await?;
    terminal::line(format_args!("{} {of} {done}", of.kind()))
}

/// Like [`change`], with a reason.
pub(super) async fn change_with_reason(
    api: &ApiClient,
    args: &ReasonArgs,
    action: &str,
    done: &str,
) -> Result<(), CliError> {
    let action = format!("/{action}?reason={}", encoded(&args.reason));
    change(api, &args.of, (Method::PUT, &action), done).await
}

pub(super) async fn rotate_secret(api: &ApiClient, of: &Subject) -> Result<(), CliError> {
    of.expect_source()?;
    let path = format!("{}/rotate-secret", of.path());
    let source: SourceView = api.call_without_body(Method::POST, &path).await?;
    terminal::line(url(&source).unwrap_or(URL_HIDDEN))
}

pub(super) async fn versions(api: &ApiClient, of: &Subject) -> Result<(), CliError> {
    let mut table = TextTable::new(&["version", "at", "by", "description"]);
    let mut after = String::new();
    loop {
        let path = format!("{}/versions?afterId={}", of.path(), encoded(&after));
        let page: VersionList = api.get(&path).await?;
        for VersionView {
            number,
            description,
            at,
            by,
            ..
        } in &page.versions
        {
            let by = by.token_desc.as_ref().or(by.token_id.as_ref());
            table.row(&[
                &number.to_string(),
                &at.to_string(),
                by.map_or("", String::as_str),
                description,
            ]);
        }
        if page.page.last_id.is_empty() || page.versions.is_empty() {
            return terminal::data(table);
        }
        after = page.page.last_id;
    }
}

pub(super) async fn rollback(api: &ApiClient, args: &RollbackArgs) -> Result<(), CliError> {
    let RollbackArgs { of, version, .. } = args;
    let action = format!("/versions/{version}/rollback");
    let done = format!("has the content of version {version} again");
    change(api, of, (Method::PUT, &action), &done).await
}
