//! Runs a job with signals, a progress bar and a summary.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_jobs::definition::JobDefinition;
use forebay_jobs::state::JobState;
use forebay_jobs::{JobContext, JobFailure, JobOutcome, JobProgress, JobSummary};
use forebay_model::words::counted;
use forebay_model::{Clock, DeadLetterSelection};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::progress_bar;
use crate::cli_error::CliError;
use crate::clock::SystemClock;
use crate::config::{Environment, LogFormat, LogOutput, substitute};
use crate::monitoring::{MetricsArgs, ended_job, running_job};
use crate::signals::{StopSignals, end_at_once};
use crate::{telemetry, terminal};

/// Runs a job to its end, or until stopped.
///
/// SIGTERM and Ctrl-C stop it gracefully: it reads nothing more and finishes work in progress. The same
/// command resumes where it stopped, also after a kill.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct JobRunArgs {
    #[command(flatten)]
    job: JobFileArgs,
    /// Discard the progress of earlier runs and start over; dead letters are retained
    #[arg(long)]
    fresh: bool,
    /// Parts of files to parse in parallel [default: from the job file, or one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    concurrency: Option<u32>,
    #[command(flatten)]
    output: JobOutputArgs,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    all records of the source were delivered
  1    failure; standard error has the reason
  2    the job file is invalid; nothing was changed
  3    the source can't be read
  4    the destination can't be written
  5    more bad lines than maxErrors
  6    as 0, but some records became dead letters: see `forebay job dead ls`
  130  stopped by Ctrl-C (143: by SIGTERM)";

/// Output options.
#[derive(Debug, clap::Args)]
pub(crate) struct JobOutputArgs {
    /// Print the summary as JSON to standard output
    #[arg(long)]
    json: bool,
    /// Least important log lines: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = LOG_LEVEL)]
    log_level: String,
    #[command(flatten)]
    metrics: MetricsArgs,
}

const LOG_LEVEL: &str = "warn";

impl Default for JobOutputArgs {
    fn default() -> Self {
        Self {
            json: false,
            log_level: LOG_LEVEL.to_owned(),
            metrics: MetricsArgs::default(),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct JobFileArgs {
    /// Job file (YAML)
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
}

impl JobFileArgs {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file }
    }
}

pub(super) fn read(file: &Path, env: &Environment) -> Result<JobDefinition, CliError> {
    JobDefinition::read(file, &|text| substitute(text, env)).map_err(|problems| {
        CliError::usage(problems).hint("`forebay job schema` prints the schema of job files")
    })
}

pub(super) fn run_job(args: JobRunArgs, env: Environment) -> Result<(), CliError> {
    let mut definition = read(&args.job.file, &env)?;
    definition.concurrency = args.concurrency.or(definition.concurrency);
    let fresh = args.fresh;
    run_with_progress(
        &definition.name.clone(),
        &args.output,
        env,
        async |context| {
            let state = JobState::open(&definition.state_dir()).map_err(CliError::new)?;
            if fresh {
                state.begin_afresh().await.map_err(CliError::new)?;
            }
            Ok(forebay_jobs::run(&definition, state, &context).await)
        },
    )
}

pub(super) fn replay(
    definition: &JobDefinition,
    selection: &DeadLetterSelection,
    output: &JobOutputArgs,
    env: Environment,
) -> Result<(), CliError> {
    run_with_progress(&definition.name, output, env, async |context| {
        let state = JobState::open(&definition.state_dir()).map_err(CliError::new)?;
        Ok(forebay_jobs::replay(definition, selection, state, &context).await)
    })
}

/// Runs the work with signals, a progress bar and a summary.
fn run_with_progress(
    name: &str,
    output: &JobOutputArgs,
    env: Environment,
    work: impl AsyncFnOnce(JobContext) -> Result<JobOutcome, CliError>,
) -> Result<(), CliError> {
    let _flush = telemetry::start_log(
        &LogOutput {
            level: output.log_level.clone(),
            format: LogFormat::Auto,
        },
        None,
    )?;
    let runtime = runtime()?;
    let progress = Arc::new(JobProgress::default());
    let (ended, signal, elapsed) = runtime.block_on(async {
        let begin = Instant::now();
        let stop = CancellationToken::new();
        let context = JobContext {
            clock: Arc::new(SystemClock),
            variable: Arc::new(move |name| env.get(name)),
            stop: stop.clone(),
            progress: Arc::clone(&progress),
        };
        let mut signals = StopSignals::catch()?;
        let (job, shown) = (name.to_owned(), Arc::clone(&progress));
        let listener = output.metrics.serve(move || running_job(&job, &shown)).await?;
        let mut signal = None;
        let bar = progress_bar::JobProgressBar::new(&progress);
        let mut working = std::pin::pin!(work(context));
        let ended = loop {
            tokio::select! {
                ended = &mut working => break ended,
                name = signals.next() => {
                    if signal.is_some() {
                        end_at_once();
                    }
                    signal = Some(name);
                    bar.note(format_args!("{name}: finishing work in progress; repeat the signal to stop immediately"));
                    stop.cancel();
                }
                () = bar.tick() => {}
            }
        };
        bar.clear();
        drop(listener);
        Ok::<_, CliError>((ended, signal, begin.elapsed()))
    })?;
    let end = ended?;
    let summary = progress.summary(elapsed);
    let outcome = (matches!(end, JobOutcome::Complete), SystemClock.now());
    output
        .metrics
        .write(|| ended_job(name, &progress, &summary, outcome))?;
    report(name, output, &end, &summary)?;
    conclude(end, signal, &summary)
}

pub(super) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::new(format_args!("can't start a runtime: {e}")))
}

fn report(
    name: &str,
    output: &JobOutputArgs,
    end: &JobOutcome,
    summary: &JobSummary,
) -> Result<(), CliError> {
    let s = summary;
    let mut parts = vec![format!("{} read", s.read)];
    let mut part = |n: u64, what: &str| {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    };
    part(s.processed, "processed");
    part(s.written, "written");
    part(s.unchanged, "unchanged");
    part(s.superseded, "superseded");
    part(s.dead, "dead-lettered");
    part(s.retries, "retries");
    let took = Duration::from_secs_f64(s.seconds);
    terminal::note(format_args!(
        "{name}: {} in {took:.1?} ({} rows/s)",
        parts.join(", "),
        s.rows_per_second
    ));
    if !s.never_found.is_empty() {
        let columns = s.never_found.iter();
        let columns: Vec<String> = columns
            .map(|c| format!("column {} (`{}`)", c.column, c.path))
            .collect();
        let records = s.never_found.first().map_or(0, |c| c.records);
        terminal::note(format_args!(
            "{name}: warning: never found in {records} records, so NULL or an empty list in each: {}",
            columns.join(", ")
        ));
    }
    if !output.json {
        return Ok(());
    }
    let end = match end {
        JobOutcome::Complete => "complete",
        JobOutcome::Stopped => "stopped",
        JobOutcome::Failed(_) => "failed",
    };
    let mut line = json!({ "job": name, "end": end });
    if let (Some(line), Ok(serde_json::Value::Object(fields))) =
        (line.as_object_mut(), serde_json::to_value(summary))
    {
        line.extend(fields);
    }
    terminal::line(line)
}

fn conclude(
    end: JobOutcome,
    signal: Option<&'static str>,
    summary: &JobSummary,
) -> Result<(), CliError> {
    let go_on = if summary.read == 0 {
        "nothing was read; fix the cause and run the same command again"
    } else {
        "the same command resumes where it stopped"
    };
    match end {
        JobOutcome::Complete if summary.dead == 0 => Ok(()),
        JobOutcome::Complete => Err(CliError::new(format_args!(
            "{} moved to the dead-letter queue",
            counted(summary.dead, "record")
        ))
        .hint("`forebay job dead ls FILE` lists them, `… replay` replays them")
        .with_code(6)),
        JobOutcome::Stopped => {
            let code = if signal == Some("SIGTERM") { 143 } else { 130 };
            Err(CliError::new("stopped").hint(go_on).with_code(code))
        }
        JobOutcome::Failed(failure) => {
            let code = match &failure {
                JobFailure::Source(_) => 3,
                JobFailure::Destination(_) => 4,
                JobFailure::TooManyErrors(_) => 5,
                JobFailure::State(_) => 1,
            };
            Err(CliError::new(failure).hint(go_on).with_code(code))
        }
    }
}
