//! Sample records of `forebay test`: lines of a file, or cases with expectations.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;

use bytes::Bytes;
use forebay_control::api::TestRecord;
use forebay_model::Timestamp;
use forebay_schema::nearest;
use forebay_schema::yaml::{self, YamlError};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use crate::cli_error::CliError;

/// Maximum bytes of a file of samples.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A sample record with what is expected of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SampleCase {
    /// Shown in the report.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Id of the source, if the definitions have several.
    #[serde(default)]
    pub(crate) source: Option<String>,
    /// Id of the sink, if the source has several.
    #[serde(default)]
    pub(crate) sink: Option<String>,
    /// Text is the body itself; any other value is its JSON.
    body: Value,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    ip: Option<IpAddr>,
    #[serde(default)]
    received_at: Option<Timestamp>,
    /// Text of cells by column. Other columns are not compared.
    #[serde(default)]
    pub(crate) expect: Option<BTreeMap<String, String>>,
    /// Part of the error.
    #[serde(default)]
    pub(crate) expect_error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaseFile {
    cases: Vec<SampleCase>,
}

/// Values of what a sample does not set.
#[derive(Clone, Debug)]
pub(crate) struct SampleDefaults {
    pub(crate) received_at: Timestamp,
    pub(crate) ip: IpAddr,
    pub(crate) headers: HeaderMap,
}

/// A sample, ready to be mapped.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Number in its file, from 1: the line, or the case.
    pub(crate) number: usize,
    pub(crate) case: SampleCase,
    pub(crate) record: TestRecord,
}

/// Form of a file of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SampleForm {
    /// The whole file is one record.
    One,
    /// A record per line.
    Lines,
    /// A case per line.
    CaseLines,
    /// A document with cases.
    Cases,
}

impl SampleForm {
    fn of(file: &Path, are_cases: bool) -> Self {
        let extension = file.extension().and_then(|e| e.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("yaml" | "yml") => Self::Cases,
            _ if are_cases => Self::CaseLines,
            Some("json") => Self::One,
            _ => Self::Lines,
        }
    }
}

/// Reads at most `limit` samples. The second value is whether the file has more.
pub(crate) fn read(
    file: &Path,
    are_cases: bool,
    limit: usize,
    defaults: &SampleDefaults,
) -> Result<(Vec<Sample>, bool), CliError> {
    let shown = file.display().to_string();
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        let opened = std::fs::File::open(file);
        Box::new(opened.map_err(|e| CliError::usage(format_args!("can't read {shown}: {e}")))?)
    };
    parse(
        input,
        SampleForm::of(file, are_cases),
        &shown,
        limit,
        defaults,
    )
}

fn parse(
    input: impl Read,
    form: SampleForm,
    shown: &str,
    limit: usize,
    defaults: &SampleDefaults,
) -> Result<(Vec<Sample>, bool), CliError> {
    let failed = |e: std::io::Error| CliError::usage(format_args!("can't read {shown}: {e}"));
    let mut input = BufReader::new(input.take(FILE_BYTES_MAX + 1));
    let mut samples = Vec::new();
    let mut bytes_read = 0;
    if let SampleForm::One | SampleForm::Cases = form {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(failed)?;
        check_size(bytes.len() as u64, shown)?;
        if form == SampleForm::One {
            let record = record(&SampleCase::default(), Bytes::from(bytes), defaults);
            samples.push(Sample {
                number: 1,
                case: SampleCase::default(),
                record: record.map_err(CliError::usage)?,
            });
            return Ok((samples, false));
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            CliError::usage(format_args!("{shown} is not UTF-8: {}", e.utf8_error()))
        })?;
        let file: CaseFile = serde_saphyr::from_str(&text).map_err(|e| parse_failure(shown, &e))?;
        let is_cut = file.cases.len() > limit;
        for (i, case) in file.cases.into_iter().take(limit).enumerate() {
            samples.push(sample(
                i + 1,
                case,
                defaults,
                &format!("{shown}: case {}", i + 1),
            )?);
        }
        return Ok((samples, is_cut));
    }
    let mut number = 0;
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok((samples, false));
        }
        number += 1;
        bytes_read += line.len() as u64;
        check_size(bytes_read, shown)?;
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if samples.len() == limit {
            return Ok((samples, true));
        }
        let place = format!("{shown}:{number}");
        let case = if form == SampleForm::CaseLines {
            let mut reader = serde_json::Deserializer::from_slice(line);
            let invalid = |e: &dyn std::fmt::Display| CliError::usage(format_args!("{place}: {e}"));
            let case: SampleCase =
                serde_path_to_error::deserialize(&mut reader).map_err(|e| invalid(&e))?;
            reader.end().map_err(|e| invalid(&e))?;
            sample(number, case, defaults, &place)?
        } else {
            let body = Bytes::copy_from_slice(line);
            let record = record(&SampleCase::default(), body, defaults);
            Sample {
                number,
                case: SampleCase::default(),
                record: record.map_err(CliError::usage)?,
            }
        };
        samples.push(case);
    }
}

/// Parse error with line, column and a suggestion.
fn parse_failure(file: &str, error: &serde_saphyr::Error) -> CliError {
    let YamlError { place, text } = yaml::yaml_error(error);
    let place = place.map(|(line, column)| format!(":{line}:{column}"));
    let failure = CliError::usage(format_args!("{file}{}: {text}", place.unwrap_or_default()));
    match unknown_field(&text).and_then(|(given, names)| nearest(given, names)) {
        Some(name) => failure.hint(format_args!("did you mean {name}?")),
        None => failure,
    }
}

/// The unknown name and the known ones, from "unknown field `x`, expected one of a, b".
fn unknown_field(text: &str) -> Option<(&str, Vec<&str>)> {
    let rest = text.strip_prefix("unknown field `")?;
    let (given, rest) = rest.split_once('`')?;
    let (_, names) = rest.split_once("expected ")?;
    let names = names.strip_prefix("one of ").unwrap_or(names).split(',');
    Some((given, names.map(|n| n.trim().trim_matches('`')).collect()))
}

fn check_size(bytes: u64, shown: &str) -> Result<(), CliError> {
    if bytes <= FILE_BYTES_MAX {
        return Ok(());
    }
    let max = crate::terminal::human_bytes(FILE_BYTES_MAX);
    Err(CliError::usage(format_args!(
        "{shown} is longer than {max}"
    )))
}

fn sample(
    number: usize,
    case: SampleCase,
    defaults: &SampleDefaults,
    place: &str,
) -> Result<Sample, CliError> {
    if case.expect.is_some() && case.expect_error.is_some() {
        return Err(CliError::usage(format_args!(
            "{place}: a case has expect or expectError, not both"
        )));
    }
    let body = match &case.body {
        Value::String(text) => Bytes::from(text.clone()),
        json => Bytes::from(json.to_string()),
    };
    let record =
        record(&case, body, defaults).map_err(|e| CliError::usage(format_args!("{place}: {e}")))?;
    Ok(Sample {
        number,
        case,
        record,
    })
}

fn record(case: &SampleCase, body: Bytes, defaults: &SampleDefaults) -> Result<TestRecord, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        let (name, value) = header(name, value)?;
        headers.append(name, value);
    }
    for name in defaults.headers.keys() {
        if !headers.contains_key(name) {
            for value in defaults.headers.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    // A text may be a form: only a JSON value is known to be JSON.
    if !matches!(case.body, Value::String(_)) && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(TestRecord {
        headers,
        body,
        ip: case.ip.unwrap_or(defaults.ip).to_string(),
        received_at: case.received_at.unwrap_or(defaults.received_at),
    })
}

/// Name and value of a header.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let key = name
        .parse()
        .map_err(|_| format!("header \"{name}\": the name must be letters, digits and \"-\""))?;
    let value = value.parse().map_err(|_| {
        format!("header \"{name}\": the value must be one line of visible characters")
    })?;
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> SampleDefaults {
        SampleDefaults {
            received_at: Timestamp::from_millis(0),
            ip: "192.0.2.1".parse().unwrap(),
            headers: HeaderMap::new(),
        }
    }

    fn read_as(form: SampleForm, text: &str) -> Result<Vec<Sample>, String> {
        let read = parse(text.as_bytes(), form, "f", 10, &defaults());
        read.map(|(samples, _)| samples).map_err(|e| e.to_string())
    }

    #[test]
    fn the_form_follows_from_the_name() {
        for (name, are_cases, form) in [
            ("a.yaml", false, SampleForm::Cases),
            ("a.YML", true, SampleForm::Cases),
            ("a.json", false, SampleForm::One),
            ("a.ndjson", false, SampleForm::Lines),
            ("a.ndjson", true, SampleForm::CaseLines),
            ("-", false, SampleForm::Lines),
        ] {
            assert_eq!(SampleForm::of(Path::new(name), are_cases), form, "{name}");
        }
    }

    #[test]
    fn lines_keep_their_bytes_and_numbers() {
        let samples = read_as(SampleForm::Lines, "{\"a\": 1.10}\n\n  not json\n").unwrap();
        let read: Vec<_> = samples
            .iter()
            .map(|s| (s.number, &s.record.body[..]))
            .collect();
        assert_eq!(read, [(1, &b"{\"a\": 1.10}"[..]), (3, b"not json")]);
        assert_eq!(
            samples[0].record.headers["content-type"],
            "application/json"
        );
    }

    #[test]
    fn a_text_is_the_body_and_scalars_are_expected_as_written() {
        let text = "cases:\n- body: a=1&b=2\n  headers: { Content-Type: text/plain }\n  \
                    expect: { a: 1.10, b: 0x1, c: yes }\n- body: { n: 1 }\n  ip: 203.0.113.7\n";
        let samples = read_as(SampleForm::Cases, text).unwrap();
        assert_eq!(samples[0].record.body, "a=1&b=2");
        assert_eq!(samples[0].record.headers["content-type"], "text/plain");
        let expected = samples[0].case.expect.clone().unwrap();
        let expected: Vec<_> = expected.values().map(String::as_str).collect();
        assert_eq!(expected, ["1.10", "0x1", "yes"]);
        assert_eq!(samples[1].record.body, "{\"n\":1}");
        assert_eq!(samples[1].record.ip, "203.0.113.7");
    }

    #[test]
    fn bad_cases_are_located() {
        for (form, text, expected) in [
            (
                SampleForm::Cases,
                "cases:\n- body: 1\n  expct: {}\n",
                "f:3:3: unknown field `expct`",
            ),
            (SampleForm::Cases, "cases:\n- {}\n", "missing field `body`"),
            (
                SampleForm::CaseLines,
                "{\"body\":1}\n{\"body\":1,\"expect\":{\"a\":1}}\n",
                "f:2: expect.a: invalid type: integer `1`, expected a string",
            ),
            (SampleForm::CaseLines, "{\"body\":1} x\n", "f:1: "),
            (
                SampleForm::CaseLines,
                "{\"body\":1,\"expect\":{},\"expectError\":\"e\"}",
                "f:1: a case has expect or expectError, not both",
            ),
            (
                SampleForm::CaseLines,
                "{\"body\":1,\"headers\":{\"a b\":\"c\"}}",
                "f:1: header \"a b\"",
            ),
        ] {
            let said = read_as(form, text).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn no_more_than_the_limit_is_read() {
        let (samples, is_cut) = parse(
            "1\n2\n3\n".as_bytes(),
            SampleForm::Lines,
            "f",
            2,
            &defaults(),
        )
        .unwrap();
        assert_eq!((samples.len(), is_cut), (2, true));
        let (samples, is_cut) = parse(
            "1\n2\n\n".as_bytes(),
            SampleForm::Lines,
            "f",
            2,
            &defaults(),
        )
        .unwrap();
        assert_eq!((samples.len(), is_cut), (2, false));
    }
}
