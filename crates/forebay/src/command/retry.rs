//! `forebay retry`: retries uploads, imports and the delivery of topics now.

use forebay_api::retry::RetryResponse;
use forebay_api::sink::SinkList;
use forebay_model::words::counted;
use reqwest::Method;

use super::common::ServerArgs;
use super::subject::Subject;
use crate::api_client::{ApiClient, SOURCES, block_on, encoded};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::terminal;

/// Retries failed uploads, imports and deliveries now: of a sink, or of all sinks of a source.
///
/// They are also retried automatically: after waits of up to a minute, of five minutes for what the table
/// rejects, and when their destination recovers. Use this after the cause is fixed. A delay that the
/// provider of a topic has requested (Retry-After) is respected; paused sinks stay paused.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// Id of the source, or of a source and its sink [without a sink: all sinks of the source]
    #[arg(value_name = "SOURCE[/SINK]")]
    of: Subject,
    /// Id of the sink, if it is not in the first argument
    sink: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: RetryArgs, env: Environment) -> Result<(), CliError> {
    let api = ApiClient::new(&args.server, env)?;
    block_on(retry(&api, &args))
}

async fn retry(api: &ApiClient, args: &RetryArgs) -> Result<(), CliError> {
    let path = format!("{SOURCES}/{}/sinks", encoded(&args.of.source));
    let sinks = match args.of.sink.as_ref().or(args.sink.as_ref()) {
        Some(sink) => vec![sink.clone()],
        None => {
            let sinks = api.list::<SinkList>(&path).await?.into_iter();
            let active = sinks.filter(|s| s.paused.is_none());
            active.map(|s| s.sink_id).collect()
        }
    };
    if sinks.is_empty() {
        terminal::note("no sink that is not paused");
    }
    for sink in sinks {
        let path = format!("{path}/{}/retry", encoded(&sink));
        let retried: RetryResponse = api.call_without_body(Method::POST, &path).await?;
        match retried.messages {
            Some(messages) => terminal::line(format_args!(
                "{sink}: retrying the delivery of {}",
                counted(messages, "message")
            ))?,
            None => {
                let (files, slices) = (retried.files, retried.slices);
                terminal::line(format_args!(
                    "{sink}: retrying {} and {}",
                    counted(files, "import"),
                    counted(slices, "upload")
                ))?;
            }
        }
    }
    Ok(())
}
