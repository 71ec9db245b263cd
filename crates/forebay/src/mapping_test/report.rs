//! Report of `forebay test`.

use serde::Serialize;

use super::{MappingOutcome, TestedRecord};
use crate::cli_error::CliError;
use crate::query::TextTable;
use crate::terminal;

/// All tested records.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MappingTestReport {
    pub(crate) records: Vec<TestedRecord>,
    /// Records with a difference, or rejected unexpectedly.
    pub(crate) failed: usize,
    /// Names of what is compared: expected and actual, or in force and new.
    #[serde(skip)]
    pub(crate) sides: [&'static str; 2],
}

impl MappingTestReport {
    /// `against_server`: the differences are from the mapping in force.
    pub(crate) fn new(records: Vec<TestedRecord>, against_server: bool) -> Self {
        let is_failed = |r: &&TestedRecord| {
            let is_rejected = matches!(r.outcome, MappingOutcome::Error(_));
            !r.differences.is_empty() || (is_rejected && !r.is_expected)
        };
        Self {
            failed: records.iter().filter(is_failed).count(),
            records,
            sides: if against_server {
                ["in force", "file"]
            } else {
                ["expected", "actual"]
            },
        }
    }

    /// A table per sink, then the rejected records, then the differences.
    pub(crate) fn print(&self) -> Result<(), CliError> {
        let mut sinks: Vec<(&str, &str)> = Vec::new();
        for record in &self.records {
            let of = (record.source.as_str(), record.sink.as_str());
            if !sinks.contains(&of) {
                sinks.push(of);
            }
        }
        for (i, of) in sinks.into_iter().enumerate() {
            if i > 0 {
                terminal::line("")?;
            }
            let records = self.records.iter();
            let records = records.filter(|r| (r.source.as_str(), r.sink.as_str()) == of);
            print_sink(&records.collect::<Vec<_>>())?;
        }
        for record in self.records.iter().filter(|r| !r.differences.is_empty()) {
            let name = record.name.as_ref().map(|n| format!(" \"{n}\""));
            terminal::line(format_args!(
                "\nrecord {}{} in {}/{}",
                record.record,
                name.unwrap_or_default(),
                record.source,
                record.sink
            ))?;
            let width = self.sides.iter().map(|s| s.len()).max().unwrap_or_default();
            for difference in &record.differences {
                terminal::line(format_args!("  {}", difference.column))?;
                for (side, value) in self
                    .sides
                    .iter()
                    .zip([&difference.expected, &difference.actual])
                {
                    terminal::line(format_args!("    {side:width$}  {value}"))?;
                }
            }
        }
        Ok(())
    }
}

fn print_sink(records: &[&TestedRecord]) -> Result<(), CliError> {
    let Some(first) = records.first() else {
        return Ok(());
    };
    terminal::line(format_args!(
        "{}/{} ({})",
        first.source, first.sink, first.target
    ))?;
    let rows = records.iter().filter_map(|r| match &r.outcome {
        MappingOutcome::Row(cells) => Some((r.record.to_string(), cells)),
        MappingOutcome::Error(_) => None,
    });
    let rows: Vec<_> = rows.collect();
    if let Some((_, cells)) = rows.first() {
        let names = cells.iter().map(|(name, _)| name.as_str());
        let names: Vec<&str> = ["#"].into_iter().chain(names).collect();
        let mut table = TextTable::new(&names);
        for (number, cells) in &rows {
            let cells = cells.iter().map(|(_, value)| value.as_str());
            let cells: Vec<&str> = [number.as_str()].into_iter().chain(cells).collect();
            table.row(&cells);
        }
        terminal::data(table)?;
    }
    for record in records {
        if let Some(error) = record.outcome.error_text() {
            terminal::line(format_args!("record {}: {error}", record.record))?;
        }
    }
    Ok(())
}
