//! `forebay demo`: the whole path in one command.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use forebay_api::source::SourceView;
use forebay_connect::table::{query, sqlite};
use forebay_meta::Repo;
use forebay_model::words::counted;
use forebay_model::{
    BranchId, BranchKey, HumanDuration, ProjectId, Reconciliation, SinkId, SinkKey, SourceId,
    SourceKey,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api_client::{ApiClient, SOURCES};
use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::config::{self, Config, ConfigSources, Environment, LogFormat, listener_url};
use crate::definitions::{ApplyPlan, PlanOptions, StepOutcome, run_all};
use crate::demo::gauge::SinkGauge;
use crate::demo::sender::{self, DemoLoad, SendCounts};
use crate::demo::view::DemoView;
use crate::demo::{TABLE, definition};
use crate::query::{QueryFormat, writer};
use crate::roles::RunningNode;
use crate::signals::{StopSignals, end_at_once};
use crate::{telemetry, terminal, token};

/// How long the import of the last records may take.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

const SUMMARY: &str = "SELECT kind, count(*) AS events, count(DISTINCT user) AS users, \
    round(sum(total), 2) AS total FROM \"in.demo.events\" GROUP BY kind ORDER BY events DESC";
const ROWS: &str = "SELECT substr(received, 12, 12) AS received, kind, user, country, total, env \
    FROM \"in.demo.events\" ORDER BY received DESC LIMIT 5";

/// Starts a server, sends events, and shows their progress into a table.
///
/// Events of several shapes are posted over HTTP at a steady rate; the view shows how many are
/// acknowledged (on disk), uploaded and in the table. Then the demo queries the table and checks that
/// every record arrived exactly once; it exits with 1 if any record is missing or duplicated.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay demo
  forebay demo --rate 5000 --duration 30s
  forebay demo --data-dir ./data       # retained; continue with `forebay serve --data-dir ./data`")]
pub(crate) struct DemoArgs {
    /// Directory to use and retain [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Events per second
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// How long to send
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Keep the temporary directory
    #[arg(long)]
    keep: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: HumanDuration = text
        .parse()
        .map_err(|e: forebay_model::units::InvalidDuration| e.to_string())?;
    let fits = (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&span.0);
    if fits {
        Ok(span.0)
    } else {
        Err("allowed is 1s to 1h".to_owned())
    }
}

/// Ignores the environment, so that the demo is the same everywhere.
pub(crate) fn run(args: DemoArgs, _: Environment) -> Result<(), CliError> {
    let temporary = match &args.data_dir {
        Some(_) => None,
        None => {
            let made = tempfile::Builder::new().prefix("forebay-demo-").tempdir();
            Some(made.map_err(|e| {
                CliError::new(format_args!("can't make a temporary directory: {e}"))
            })?)
        }
    };
    let dir = match (&args.data_dir, &temporary) {
        (Some(dir), _) => dir.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Err(CliError::new("no directory")),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| CliError::new(format_args!("can't start: {e}")))?;
    let shown = runtime.block_on(show(&args, &dir));
    drop(runtime);
    let stays = args.keep || args.data_dir.is_some();
    if let Some(temporary) = temporary {
        if args.keep {
            _ = temporary.keep();
        } else if let Err(e) = temporary.close() {
            terminal::note(format_args!("can't remove {}: {e}", dir.display()));
        }
    }
    shown?;
    print_next_steps(stays.then_some(dir.as_path()));
    Ok(())
}

/// Defaults on free ports; logs warnings and errors only.
fn configure(dir: &Path) -> Result<Config, CliError> {
    let flags = [
        ("dataDir", dir.display().to_string()),
        ("api.listen", "127.0.0.1:0".to_owned()),
        ("source.http.listen", "127.0.0.1:0".to_owned()),
        ("telemetry.log.level", "warn".to_owned()),
    ];
    let flags = flags
        .map(|(key, value)| ("the demo", key.to_owned(), value))
        .to_vec();
    let sources = ConfigSources {
        file: None,
        env: Environment::default(),
        flags,
    };
    let loaded =
        config::load(&sources).map_err(|problems| super::common::violations_error(&problems))?;
    let mut config = loaded.config;
    config.telemetry.log.format = LogFormat::Text;
    Ok(config)
}

async fn show(args: &DemoArgs, dir: &Path) -> Result<(), CliError> {
    let mut signals = StopSignals::catch()?;
    let config = configure(dir)?;
    let _flush = telemetry::start_log(&config.telemetry.log, None)?;
    let token = token::for_server(&config)?;
    let auth = token::authenticate(&config, &token)?;
    let environment = Environment::default();
    let mut node = Box::pin(RunningNode::start(
        &config,
        &environment,
        Arc::new(SystemClock),
        auth,
        None,
    ))
    .await?;
    terminal::note(format_args!(
        "Forebay runs in {} (API {}).\n",
        dir.display(),
        listener_url(node.api, false)
    ));
    let (repo, api) = (
        node.repo.clone(),
        ApiClient::for_address(&listener_url(node.api, false), token.secret.expose())?,
    );
    let shown = tokio::select! {
        shown = Box::pin(demonstrate(args, &config, &api, repo)) => shown,
        signal = signals.next() => Err(CliError::new(format_args!("stopped by {signal}"))),
        cause = node.task_failure() => Err(CliError::new(cause)),
    };
    tokio::select! {
        _ = node.stop(config.shutdown.grace.0) => shown,
        _ = signals.next() => end_at_once(),
    }
}

async fn demonstrate(
    args: &DemoArgs,
    config: &Config,
    api: &ApiClient,
    repo: Repo,
) -> Result<(), CliError> {
    let definition = definition()?;
    let plan = ApplyPlan::new(api, &[&definition], &PlanOptions::default()).await?;
    for outcome in run_all(api, &plan).await {
        if let StepOutcome::Failed(cause) = outcome {
            return Err(CliError::new(cause));
        }
    }
    let source: SourceView = api.get(&format!("{SOURCES}/demo")).await?;
    let url = super::source::url(&source).unwrap_or_default().to_owned();
    let gauge = SinkGauge::new(repo, sink_key(&source)).await?;
    let counts = Arc::new(SendCounts::default());
    let load = DemoLoad {
        url,
        rate: args.rate,
        duration: args.duration,
    };
    let all = u64::from(args.rate) * args.duration.as_secs();
    let mut view = DemoView::new(all);
    let reconciliation = watch(load, &gauge, &counts, &mut view).await?;
    view.finish();
    let path = config.table.sqlite_path(&config.data_dir);
    print_query(&path, SUMMARY)?;
    print_query(&path, ROWS)?;
    print_reconciliation(&reconciliation)?;
    verify_counts(&gauge, &counts, &reconciliation, &path)
}

fn sink_key(source: &SourceView) -> SinkKey {
    SinkKey {
        source: SourceKey {
            branch: BranchKey {
                project: ProjectId(source.project_id),
                branch: BranchId(source.branch_id),
            },
            source: SourceId::from_raw("demo"),
        },
        sink: SinkId::from_raw("events"),
    }
}

/// Sends, and shows the progress until all records are in the table.
async fn watch(
    load: DemoLoad,
    gauge: &SinkGauge,
    counts: &Arc<SendCounts>,
    view: &mut DemoView,
) -> Result<Reconciliation, CliError> {
    let stop = CancellationToken::new();
    let _stop_at_the_end = stop.clone().drop_guard();
    let mut sending = std::pin::pin!(sender::send(load, Arc::clone(counts), stop));
    let mut poll = tokio::time::interval(POLL_INTERVAL);
    let mut sent_at = None;
    loop {
        tokio::select! {
            sent = &mut sending, if sent_at.is_none() => {
                sent?;
                sent_at = Some(Instant::now());
            }
            _ = poll.tick() => {}
        }
        let reading = gauge.read(counts).await?;
        view.show(&reading, false);
        let Some(sent_at) = sent_at else { continue };
        let reconciliation = gauge.reconciliation().await?;
        if reconciliation.in_flight == 0 && reading.imported >= reading.acknowledged {
            view.show(&gauge.read(counts).await?, true);
            return Ok(reconciliation);
        }
        if sent_at.elapsed() > IMPORT_TIMEOUT {
            return Err(CliError::new(format_args!(
                "{} of {} acknowledged records are not in the table after {IMPORT_TIMEOUT:?}",
                reading.acknowledged.saturating_sub(reading.imported),
                reading.acknowledged
            )));
        }
    }
}

fn print_query(path: &Path, sql: &str) -> Result<(), CliError> {
    terminal::line(format_args!("\n{sql}\n"))?;
    let mut writer = writer(QueryFormat::Table, terminal::StdoutWriter::stdout());
    sqlite::query(path, sql, None, &mut *writer).map_err(CliError::new)?;
    writer.finish()
}

fn print_reconciliation(reconciliation: &Reconciliation) -> Result<(), CliError> {
    let Reconciliation {
        accepted,
        imported,
        dead,
        expired,
        lost,
        in_flight,
    } = reconciliation;
    terminal::line(format_args!(
        "\n{accepted} accepted = {imported} imported + {in_flight} in flight + {dead} dead + {expired} expired + {lost} lost"
    ))
}

/// Counts in the table itself that each acknowledged record is there once.
fn verify_counts(
    gauge: &SinkGauge,
    counts: &SendCounts,
    reconciliation: &Reconciliation,
    path: &Path,
) -> Result<(), CliError> {
    let (acknowledged, unknown) = (
        counts.acknowledged.load(Relaxed),
        counts.unknown.load(Relaxed),
    );
    let rows = count_rows(path)?.saturating_sub(gauge.imported_before());
    if !reconciliation.holds() {
        return Err(CliError::new("the record counts don't add up"));
    }
    // A record without a response may be in the table once.
    if rows < acknowledged || rows > acknowledged + unknown {
        return Err(CliError::new(format_args!(
            "{} were acknowledged, but the table has {rows}",
            counted(acknowledged, "record")
        )));
    }
    let rejected = counts.rejected.load(Relaxed);
    if acknowledged == 0 {
        return Err(CliError::new(format_args!(
            "no record was acknowledged, {} were rejected",
            counted(rejected, "record")
        )));
    }
    terminal::line(format_args!(
        "{acknowledged} acknowledged, {} in the table: each exactly once.",
        counted(rows, "row")
    ))
}

fn count_rows(path: &Path) -> Result<u64, CliError> {
    struct RowCounter(u64);
    impl query::QueryVisitor for RowCounter {
        fn columns(&mut self, _: &[&str]) -> std::ops::ControlFlow<()> {
            std::ops::ControlFlow::Continue(())
        }

        fn row(&mut self, cells: &[query::QueryCell<'_>]) -> std::ops::ControlFlow<()> {
            if let Some(query::QueryCell::Int(n)) = cells.first() {
                self.0 = u64::try_from(*n).unwrap_or_default();
            }
            std::ops::ControlFlow::Continue(())
        }
    }
    let mut count = RowCounter(0);
    let sql = format!("SELECT count(*) FROM \"{TABLE}\"");
    sqlite::query(path, &sql, None, &mut count).map_err(CliError::new)?;
    Ok(count.0)
}

fn print_next_steps(dir: Option<&Path>) {
    match dir {
        Some(dir) => {
            let dir = dir.display();
            terminal::note(format_args!(
                "\nThe data is in {dir}. Continue with:\n  forebay serve --data-dir {dir}\n  forebay query '{SUMMARY}' --data-dir {dir}"
            ));
        }
        None => terminal::note(
            "\nThe directory is removed; --data-dir or --keep retains it. Start with your own records:\n  forebay init my-events",
        ),
    }
}
