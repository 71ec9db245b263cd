//! `forebay log deliver`: delivers unknown streams to a sink.

use std::sync::Arc;

use forebay_delivery::orphan_streams::{OrphanStreamError, OrphanStreams};
use forebay_ingest::pipeline::LocalLog;
use forebay_model::words::counted;
use forebay_model::{SinkKey, SliceKey};

use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::command::common::ConfigArgs;
use crate::config::Environment;
use crate::roles::{OpenedData, open_store};
use crate::terminal;

/// Delivers streams that the server does not know to a sink, each once. The server must be stopped.
///
/// After a loss of metadata the log may have the only copy of rows that are not delivered: the server
/// retains such streams and warns. Define the source and the sink again, stop the server, and run this
/// command. The rows are loaded into the table after the next start. A stream with other columns than
/// the sink is rejected.
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
    /// Destination: SOURCE/SINK of project 1 and branch 1, or PROJECT/BRANCH/SOURCE/SINK [default: the
    /// sink in the name of the stream]
    #[arg(long, value_name = "SINK")]
    sink: Option<String>,
    #[command(flatten)]
    place: ConfigArgs,
}

impl LogDeliverArgs {
    pub(super) fn run(&self, env: Environment) -> Result<(), CliError> {
        let loaded = self.place.load(env, Vec::new())?;
        let sink = self.sink.as_deref().map(parse_sink).transpose()?;
        let dir = loaded.config.data_dir.join(crate::data_dir::LOG_FOLDER);
        // Opening would create one.
        if !dir.is_dir() {
            return Err(CliError::new(format_args!("{} has no log", dir.display()))
                .hint("is it the right data directory? --data-dir sets another one"));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime =
            runtime.map_err(|e| CliError::new(format_args!("can't start a runtime: {e}")))?;
        runtime.block_on(async {
            let config = &loaded.config;
            let store = open_store(config, false).map_err(|e| e.cli_error(config));
            let opened = match store {
                Ok(store) => OpenedData::open(store, config, &SystemClock).await,
                Err(failure) => Err(failure),
            };
            let opened = opened.map_err(|e| e.hint("stop the server first"))?;
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
            terminal::note("nothing to deliver: the server knows all streams with rows");
        }
        for stream in streams {
            let of_stream = || stream.parse::<SliceKey>().ok().map(|slice| slice.file.sink);
            let Some(sink) = sink.cloned().or_else(of_stream) else {
                let unnamed =
                    format_args!("stream \"{stream}\" has no sink in its name").to_string();
                return Err(CliError::usage(unnamed).hint("set the sink with --sink SOURCE/SINK"));
            };
            let delivered = unclaimed
                .deliver(stream, &sink)
                .await
                .map_err(delivery_failure)?;
            if delivered.already_delivered {
                terminal::line(format_args!("{stream}: was already delivered; deleted"))?;
                continue;
            }
            let (records, lost) = (delivered.records, delivered.lost);
            let rows = counted(records, "row");
            terminal::line(format_args!("{stream}: {rows} queued for {sink}"))?;
            if lost > 0 {
                let rows = counted(lost, "row");
                terminal::note(format_args!("lost in the log: {rows}"));
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
            "`forebay log ls` lists them; delivered streams are no longer in the log"
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
