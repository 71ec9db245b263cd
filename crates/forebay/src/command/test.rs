//! `forebay test`: tests mappings on sample records, without a server.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use forebay_api::sink::SinkList;
use forebay_ingest::template::{PoolConfig, TemplatePool, WorkerCommand};
use forebay_model::Timestamp;
use forebay_model::words::counted;
use forebay_record::RowLimits;
use http::HeaderMap;

use super::common::ServerArgs;
use crate::api_client::{ApiClient, SOURCES, block_on, encoded};
use crate::cli_error::CliError;
use crate::config::Environment;
use crate::definitions::{DefinitionSet, invalid_files, read_texts};
use crate::mapper::RecordMapper;
use crate::mapping_test::report::MappingTestReport;
use crate::mapping_test::samples::{self, Sample, SampleDefaults};
use crate::mapping_test::targets::{self, TestedSink};
use crate::mapping_test::{TestedRecord, changes, differences, map, sinks_of};
use crate::terminal;

/// Tests mappings on sample records, without a server.
///
/// Maps each sample with the definitions of the file and prints the rows. Fails with exit code 1 if a
/// record is rejected, or if a row differs from what is expected of it. The mapping is the server's own
/// code; receipt time, address and headers of samples are fixed, and UUIDs have no random bits, so that
/// the same samples always have the same rows.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  forebay test -f events.yaml samples.ndjson
  forebay test -f events.yaml cases.yaml --json
  forebay test -f events.yaml samples.ndjson --against my-events

Samples are a record per line, one record (*.json), or cases (*.yaml, or lines with --cases):
  cases:
    - name: an order
      body: { user: { id: ada }, price: 2, count: 3 }
      expect: { user: ada, total: 6 }
    - body: not JSON
      headers: { Content-Type: text/plain }
      expectError: the body is not JSON")]
pub(crate) struct TestArgs {
    /// File with definitions (YAML)
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// File with sample records or cases, - for standard input
    #[arg(value_name = "SAMPLES")]
    samples: PathBuf,
    /// Each line of the samples is a case
    #[arg(long)]
    cases: bool,
    /// Id of the source [default: the only one of the file]
    #[arg(long, value_name = "ID")]
    source: Option<String>,
    /// Id of the sink [default: all sinks of the source]
    #[arg(long, value_name = "ID")]
    sink: Option<String>,
    /// Compare with the mappings in force of this source on a server
    #[arg(long, value_name = "SOURCE")]
    against: Option<String>,
    /// Maximum number of samples
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Receipt time of samples
    #[arg(long, value_name = "TIME", default_value = "2026-01-01T00:00:00.000Z")]
    received_at: Timestamp,
    /// Client address of samples
    #[arg(long, value_name = "IP", default_value = "192.0.2.1")]
    ip: IpAddr,
    /// Header of samples that do not set it; repeatable
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &TestArgs, env: Environment) -> Result<(), CliError> {
    let texts = read_texts(std::slice::from_ref(&args.file))?;
    let definitions = DefinitionSet::from_texts(texts, &env);
    let definitions = definitions.map_err(|problems| invalid_files(&problems))?;
    let mut headers = HeaderMap::new();
    for text in &args.header {
        let (name, value) = text.split_once(':').ok_or_else(|| {
            CliError::usage(format_args!(
                "--header is \"{text}\", allowed is NAME: VALUE, like \"Content-Type: text/plain\""
            ))
        })?;
        let (name, value) = samples::header(name.trim(), value.trim()).map_err(CliError::usage)?;
        headers.append(name, value);
    }
    let defaults = SampleDefaults {
        received_at: args.received_at,
        ip: args.ip,
        headers,
    };
    let (samples, is_cut) = samples::read(&args.samples, args.cases, args.limit, &defaults)?;
    if samples.is_empty() {
        let shown = args.samples.display();
        return Err(CliError::usage(format_args!("{shown} has no samples")));
    }
    if is_cut {
        let tested = counted(samples.len() as u64, "sample");
        terminal::note(format_args!(
            "only the first {tested} tested; --limit tests more"
        ));
    }
    block_on(test(args, &definitions, &samples, env))
}

async fn test(
    args: &TestArgs,
    definitions: &DefinitionSet,
    samples: &[Sample],
    env: Environment,
) -> Result<(), CliError> {
    let command = WorkerCommand::this_binary().map_err(CliError::new)?;
    let config = PoolConfig {
        workers: 1,
        ..PoolConfig::default()
    };
    let templates = Arc::new(TemplatePool::new(config, command));
    let mapper = RecordMapper::new(Arc::clone(&templates), RowLimits::default(), Arc::new(|| 0));
    let tested = test_all(args, definitions, samples, env, &mapper).await;
    templates.close().await;
    let report = MappingTestReport::new(tested?, args.against.is_some());
    if args.json {
        terminal::json(&report)?;
    } else {
        report.print()?;
    }
    if report.failed == 0 {
        return Ok(());
    }
    let all = report.records.len();
    Err(CliError::new(match args.against {
        Some(_) => format!("{} of {all} rows differ from those in force", report.failed),
        None => format!("{} of {all} tests failed", report.failed),
    }))
}

async fn test_all(
    args: &TestArgs,
    definitions: &DefinitionSet,
    samples: &[Sample],
    env: Environment,
    mapper: &RecordMapper,
) -> Result<Vec<TestedRecord>, CliError> {
    let sinks = targets::from_file(definitions, mapper).map_err(|found| invalid_files(&found))?;
    if sinks.is_empty() {
        let file = args.file.display();
        return Err(CliError::usage(format_args!("{file} has no sinks")));
    }
    let in_force = match &args.against {
        Some(source) => {
            let api = ApiClient::new(&args.server, env)?;
            Some(sinks_in_force(&api, source).await?)
        }
        None => None,
    };
    let chosen = (args.source.as_deref(), args.sink.as_deref());
    let mut tested = Vec::new();
    for sample in samples {
        let of = sinks_of(sample, &sinks, chosen).map_err(|e| {
            let (file, number) = (args.samples.display(), sample.number);
            CliError::usage(format_args!("{file}: record {number}: {e}"))
        })?;
        for sink in of {
            let outcome = map(mapper, sink, sample.record.clone()).await;
            let differences = match &in_force {
                None => differences(sample, &outcome),
                Some(in_force) => {
                    let old = old_sink(in_force, sink)?;
                    changes(&map(mapper, old, sample.record.clone()).await, &outcome)
                }
            };
            tested.push(TestedRecord {
                record: sample.number,
                name: sample.case.name.clone(),
                source: sink.source.clone(),
                sink: sink.sink.clone(),
                target: sink.name.clone(),
                outcome,
                differences,
                is_expected: in_force.is_some() || sample.case.expect_error.is_some(),
            });
        }
    }
    Ok(tested)
}

async fn sinks_in_force(api: &ApiClient, source: &str) -> Result<Vec<TestedSink>, CliError> {
    let path = format!("{SOURCES}/{}/sinks", encoded(source));
    let views = api.list::<SinkList>(&path).await?;
    let sinks = views.iter().map(|view| {
        targets::from_view(source, view).map_err(|problems| {
            let (id, problems) = (&view.sink_id, problems.join("; "));
            CliError::new(format_args!("sink {source}/{id} of the server: {problems}"))
        })
    });
    sinks.collect()
}

fn old_sink<'s>(in_force: &'s [TestedSink], sink: &TestedSink) -> Result<&'s TestedSink, CliError> {
    let mut found = in_force.iter();
    found.find(|s| s.sink == sink.sink).ok_or_else(|| {
        let ids: Vec<&str> = in_force.iter().map(|s| s.sink.as_str()).collect();
        CliError::new(format_args!(
            "the server has no sink \"{}\" in the source; it has {}",
            sink.sink,
            if ids.is_empty() {
                "none".to_owned()
            } else {
                ids.join(", ")
            }
        ))
        .hint("--sink tests one sink only")
    })
}
