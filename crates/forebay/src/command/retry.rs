//! `forebay retry`: retries uploads and imports now.

use reqwest::Method;
use serde_json::Value;

use super::common::ServerArgs;
use super::source::{encoded, text};
use crate::api_client::{ApiClient, SOURCES, block_on};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::terminal;

/// Retries failed uploads and imports now: of a sink, or of all sinks of a source.
///
/// They are also retried automatically, after waits of up to five minutes. Use this after the cause is
/// fixed.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// Id of the source
    source: String,
    /// Id of the sink [default: all sinks of the source]
    sink: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: RetryArgs, env: Environment) -> Result<(), CliError> {
    let api = ApiClient::new(&args.server, env)?;
    block_on(retry(&api, &args))
}

async fn retry(api: &ApiClient, args: &RetryArgs) -> Result<(), CliError> {
    let path = format!("{SOURCES}/{}/sinks", encoded(&args.source));
    let sinks = match &args.sink {
        Some(sink) => vec![sink.clone()],
        None => {
            let sinks = api.list(&path, "sinks", "sinkId").await?;
            let tables = sinks.iter().filter(|s| s.get("topic").is_none());
            tables.map(|s| text(s, "sinkId").to_owned()).collect()
        }
    };
    if sinks.is_empty() {
        terminal::note("no sink with a table");
    }
    for sink in sinks {
        let done = api
            .call(
                Method::POST,
                &format!("{path}/{}/retry", encoded(&sink)),
                None,
            )
            .await?;
        let count = |name: &str| done.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (files, slices) = (count("files"), count("slices"));
        terminal::line(format_args!(
            "{sink}: retrying {files} imports and {slices} uploads"
        ))?;
    }
    Ok(())
}
