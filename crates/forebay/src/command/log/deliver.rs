//! `forebay log deliver`: streams that the server does not know, brought into a sink.

use std::sync::Arc;

use forebay_flow::orphan_streams::{OrphanStreamError, OrphanStreams};
use forebay_flow::pipeline::LocalLog;
use forebay_model::words::counted;
use forebay_model::{SinkKey, SliceKey};

use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::command::common::ConfigArgs;
use crate::config::Environment;
use crate::roles::{OpenedData, open_store};
use crate::terminal;

/// Brings streams that the server does not know into a sink, each once. The server must be stopped.
///
/// After a loss of the metadata the log may have the only copy of rows that nobody delivers: the
/// server keeps such streams and warns of them. Define the source and the sink again, stop the
/// server, and call this. The rows go into the table after the next start. A stream whose rows have
/// other columns than the sink is refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay log deliver --all --data-dir ./data
  forebay log deliver 1/1/my-events/events/2026-11-21T05:01:49.120Z/vol1/2026-11-21T05:01:50.000Z
  forebay log deliver unknown-7 --sink my-events/events")]
pub(crate) struct LogDeliverArgs {
    /// Names of the streams, as `forebay log ls` shows them
    #[arg(value_name = "STREAM", required_unless_present = "all")]
    streams: Vec<String>,
    /// All streams that the server does not know
    #[arg(long, conflicts_with = "streams")]
    all: bool,
    /// Where the rows go: SOURCE/SINK of project 1 and branch 1, or PROJECT/BRANCH/SOURCE/SINK
    /// [default: the sink that the stream names]
    #[arg(long, value_name = "SINK")]
    sink: Option<String>,
    #[command(flatten)]
    place: ConfigArgs,
}

impl LogDeliverArgs {
    pub(super) fn run(&self, env: Environment) -> Result<(), CliError> {
        let loaded = self.place.load(env, Vec::new())?;
        let sink = self.sink.as_deref().map(parse_sink).transpose()?;
        let dir = loaded.config.data_dir.join(super::FOLDER);
        // Else one would be made.
        if !dir.is_dir() {
            return Err(
                CliError::new(format_args!("{}: no log here", dir.display()))
                    .hint("is it the right data directory? --data-dir names another one"),
            );
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| CliError::new(format_args!("can't start: {e}")))?;
        runtime.block_on(async {
            let config = &loaded.config;
            let store = open_store(config, false).map_err(|e| e.cli_error(config));
            let opened = match store {
                Ok(store) => OpenedData::open(store, config, &SystemClock).await,
                Err(failure) => Err(failure),
            };
            let opened = opened.map_err(|e| e.hint("stop the server first, if it runs"))?;
            let unclaimed = OrphanStreams {
                appender: Arc::new(LocalLog::new(opened.log.clone(), opened.volume.clone())),
                repo: opened.repo,
                log: opened.log,
                volume: opened.volume,
                clock: Arc::new(SystemClock),
            };
            let done = self.deliver(&unclaimed, sink.as_ref()).await;
            unclaimed.log.shutdown();
            done
        })
    }

    async fn deliver(
        &self,
        unclaimed: &OrphanStreams,
        sink: Option<&SinkKey>,
    ) -> Result<(), CliError> {
        let all;
        let streams = if self.all {
            all = unclaimed.list().await.map_err(CliError::new)?;
            &all
        } else {
            &self.streams
        };
        if streams.is_empty() {
            terminal::note("the server knows all streams with rows: there is nothing to deliver");
        }
        for stream in streams {
            let of_stream = || stream.parse::<SliceKey>().ok().map(|slice| slice.file.sink);
            let Some(sink) = sink.cloned().or_else(of_stream) else {
                let unnamed = format_args!("stream \"{stream}\" names no sink").to_string();
                return Err(CliError::usage(unnamed).hint("--sink SOURCE/SINK says where it goes"));
            };
            let delivered = unclaimed
                .deliver(stream, &sink)
                .await
                .map_err(delivery_failure)?;
            if delivered.already_delivered {
                terminal::line(format_args!("{stream}: delivered before, deleted now"))?;
                continue;
            }
            let (records, lost) = (delivered.records, delivered.lost);
            let rows = counted(records, "row");
            terminal::line(format_args!("{stream}: {rows} on the way to {sink}"))?;
            if lost > 0 {
                let rows = counted(lost, "row");
                terminal::note(format_args!("lost in the log: {rows} of it"));
            }
        }
        Ok(())
    }
}

fn delivery_failure(error: OrphanStreamError) -> CliError {
    let hint = match &error {
        OrphanStreamError::File(forebay_meta::FileError::SinkNotActive(_)) => {
            "start the server, define the source and the sink, and stop it again"
        }
        OrphanStreamError::NotFound(_) => {
            "`forebay log ls` lists them; what was delivered is not in the log any more"
        }
        _ => return CliError::new(error),
    };
    CliError::new(error).hint(hint)
}

fn parse_sink(text: &str) -> Result<SinkKey, CliError> {
    let full = match text.split('/').count() {
        2 => format!("1/1/{text}"),
        _ => text.to_owned(),
    };
    full.parse().map_err(|_| {
        CliError::usage(format_args!(
            "--sink is \"{text}\", allowed is SOURCE/SINK or PROJECT/BRANCH/SOURCE/SINK"
        ))
    })
}
