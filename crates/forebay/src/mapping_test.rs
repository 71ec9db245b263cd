//! Offline test of mappings: maps sample records with the code of the server, and compares the rows with
//! expectations or with the mappings of a server.

pub(crate) mod report;
pub(crate) mod samples;
pub(crate) mod targets;

use forebay_control::api::{TestError, TestRecord};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::mapper::RecordMapper;
use samples::Sample;
use targets::TestedSink;

/// A record in one sink.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TestedRecord {
    /// Line or case of the file, from 1.
    pub(crate) record: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) source: String,
    pub(crate) sink: String,
    pub(crate) target: String,
    #[serde(flatten)]
    pub(crate) outcome: MappingOutcome,
    /// What is not as expected.
    pub(crate) differences: Vec<CellDifference>,
    /// Whether something was expected.
    #[serde(skip)]
    pub(crate) is_expected: bool,
}

/// A row, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum MappingOutcome {
    /// Cells in the order of the columns.
    Row(#[serde(serialize_with = "as_object")] Vec<(String, String)>),
    Error(MappingError),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct MappingError {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<String>,
    pub(crate) message: String,
}

/// A difference of a column, or of the error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CellDifference {
    /// `error` for the record as a whole.
    pub(crate) column: String,
    pub(crate) expected: String,
    pub(crate) actual: String,
}

fn as_object<S: serde::Serializer>(
    cells: &[(String, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let cells = cells.iter();
    let object: Map<String, Value> = cells.map(|(n, v)| (n.clone(), v.as_str().into())).collect();
    object.serialize(serializer)
}

impl MappingOutcome {
    /// Text of the error, with its column.
    pub(crate) fn error_text(&self) -> Option<String> {
        match self {
            Self::Row(_) => None,
            Self::Error(MappingError {
                column: Some(column),
                message,
            }) => Some(format!("column \"{column}\": {message}")),
            Self::Error(error) => Some(error.message.clone()),
        }
    }
}

/// Maps a record for a sink.
pub(crate) async fn map(
    mapper: &RecordMapper,
    sink: &TestedSink,
    record: TestRecord,
) -> MappingOutcome {
    let error = |column, message| MappingOutcome::Error(MappingError { column, message });
    match mapper.target_row(&sink.target, record).await {
        Ok(cells) => MappingOutcome::Row(cells.into_iter().map(|c| (c.column, c.value)).collect()),
        Err(TestError::Column { column, message }) => error(Some(column), message),
        Err(TestError::Body(message) | TestError::Internal(message)) => error(None, message),
    }
}

/// Sinks for which a sample is tested, or why it can't be.
pub(crate) fn sinks_of<'s>(
    sample: &Sample,
    sinks: &'s [TestedSink],
    (source, sink): (Option<&str>, Option<&str>),
) -> Result<Vec<&'s TestedSink>, String> {
    let source = sample.case.source.as_deref().or(source);
    let sink = sample.case.sink.as_deref().or(sink);
    let is_of = |s: &&TestedSink| source.is_none_or(|id| s.source == id);
    let of_source: Vec<&TestedSink> = sinks.iter().filter(is_of).collect();
    let ids = |all: &[&TestedSink]| {
        let mut ids: Vec<String> = all
            .iter()
            .map(|s| format!("{}/{}", s.source, s.sink))
            .collect();
        ids.dedup();
        ids.join(", ")
    };
    let all: Vec<&TestedSink> = sinks.iter().collect();
    if of_source.is_empty() {
        let source = source.unwrap_or_default();
        return Err(format!(
            "source \"{source}\" has no sink in the file; sinks are {}",
            ids(&all)
        ));
    }
    let first = &of_source[0].source;
    if of_source.iter().any(|s| s.source != *first) {
        return Err(format!(
            "the file has several sources: name one with --source or in the case; sinks are {}",
            ids(&of_source)
        ));
    }
    let chosen: Vec<&TestedSink> = of_source
        .iter()
        .copied()
        .filter(|s| sink.is_none_or(|id| s.sink == id))
        .collect();
    let is_unit_test = sample.case.expect.is_some() || sample.case.expect_error.is_some();
    match chosen.as_slice() {
        [] => Err(format!(
            "sink \"{}\" is not in the file; sinks are {}",
            sink.unwrap_or_default(),
            ids(&of_source)
        )),
        [_, _, ..] if is_unit_test => Err(format!(
            "the source has several sinks: name one with --sink or in the case; sinks are {}",
            ids(&chosen)
        )),
        _ => Ok(chosen),
    }
}

/// Differences of an outcome from the expectation of its sample.
pub(crate) fn differences(sample: &Sample, outcome: &MappingOutcome) -> Vec<CellDifference> {
    let no_row = |error: &MappingOutcome| error.error_text().unwrap_or_default();
    if let Some(expected) = &sample.case.expect_error {
        let found = outcome.error_text();
        if found.as_ref().is_some_and(|e| e.contains(expected)) {
            return Vec::new();
        }
        return vec![CellDifference {
            column: "error".to_owned(),
            expected: expected.clone(),
            actual: found.unwrap_or_else(|| "no error: the record has a row".to_owned()),
        }];
    }
    let Some(expected) = &sample.case.expect else {
        return Vec::new();
    };
    let MappingOutcome::Row(cells) = outcome else {
        return vec![CellDifference {
            column: "error".to_owned(),
            expected: "a row".to_owned(),
            actual: no_row(outcome),
        }];
    };
    let names: Vec<&str> = cells.iter().map(|(name, _)| name.as_str()).collect();
    let compared = cells.iter().filter_map(|(name, actual)| {
        let expected = expected.get(name)?;
        (expected != actual).then(|| CellDifference {
            column: name.clone(),
            expected: expected.clone(),
            actual: actual.clone(),
        })
    });
    let unknown = expected
        .iter()
        .filter(|(name, _)| !names.contains(&name.as_str()));
    let unknown = unknown.map(|(name, expected)| CellDifference {
        column: name.clone(),
        expected: expected.clone(),
        actual: format!("no such column; columns are {}", names.join(", ")),
    });
    compared.chain(unknown).collect()
}

/// Differences of the row of the file from that in force: `expected` is the one in force.
pub(crate) fn changes(in_force: &MappingOutcome, new: &MappingOutcome) -> Vec<CellDifference> {
    if let (MappingOutcome::Row(old), MappingOutcome::Row(new)) = (in_force, new) {
        let cell = |cells: &[(String, String)], name: &str| {
            let mut cells = cells.iter();
            let found = cells.find(|(n, _)| n == name);
            found.map_or_else(|| "no such column".to_owned(), |(_, value)| value.clone())
        };
        let removed = old
            .iter()
            .filter(|(name, _)| !new.iter().any(|(n, _)| n == name));
        let names = new.iter().chain(removed).map(|(name, _)| name);
        return names
            .map(|name| CellDifference {
                column: name.clone(),
                expected: cell(old, name),
                actual: cell(new, name),
            })
            .filter(|d| d.expected != d.actual)
            .collect();
    }
    let text =
        |outcome: &MappingOutcome| outcome.error_text().unwrap_or_else(|| "a row".to_owned());
    let (expected, actual) = (text(in_force), text(new));
    if expected == actual {
        return Vec::new();
    }
    vec![CellDifference {
        column: "error".to_owned(),
        expected,
        actual,
    }]
}
