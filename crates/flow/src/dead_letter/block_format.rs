//! What dead letters are on disk: a block for those of one request, a line of JSON for what they
//! have in common and one for each of them, compressed as rows are. Described in
//! `docs/formats/dead-letter.md`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use forebay_meta::catalog::stored::table::TableForm;
use forebay_model::{FileKey, TableSink, Timestamp};
use forebay_record::{BodyFormat, RecordContext, RecordError, RequestHeaders, RequestInfo};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A record that a mapping has refused, with all that it takes to map it again.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// When it was received, from whom, with which headers.
    pub request: Arc<RequestInfo>,
    /// It was one of a batch: JSON, whatever the content type.
    pub of_batch: bool,
    /// Its line in the batch, from 1, where the batch had lines.
    pub line: Option<usize>,
    /// The record.
    pub body: Bytes,
    /// The column that could not be made.
    pub column: String,
    /// Name of the refusal, like `pathNotFound`.
    pub error: String,
    /// Why, with the column's name.
    pub message: String,
    /// It is a row: its mapping took the record, and the table did not take the row.
    pub row: Option<RejectedRow>,
}

/// A row that a table could not take.
#[derive(Clone, Debug)]
pub struct RejectedRow {
    /// What it was made by.
    pub table: Arc<TableSink>,
    /// Its cells, one of each column of that.
    pub cells: Vec<Bytes>,
}

/// Rows of a file that become letters together.
pub(crate) struct RejectedRowsHeader<'r> {
    /// The file.
    pub(crate) file: &'r FileKey,
    /// Number of the first row in the file.
    pub(crate) first: u64,
    /// What they were made by.
    pub(crate) table: &'r TableSink,
    /// Why the table could not take them.
    pub(crate) cause: &'r str,
    /// When the first record of the file came.
    pub(crate) received: Timestamp,
}

/// What letters of a block have in common.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestForm {
    received: Timestamp,
    client_ip: IpAddr,
    /// Canonical names, sorted, one value each.
    headers: Vec<(String, String)>,
    /// Of rows that a table could not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<RowsForm>,
}

/// What rows of a block have in common.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RowsForm {
    file: String,
    /// Number of the first row in the file.
    first: u64,
    /// What they were made by.
    table: TableForm,
    /// Why the table could not take them.
    cause: String,
}

/// A cell.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum CellForm {
    Text(String),
    Bytes { base64: String },
}

impl CellForm {
    fn new(cell: &[u8]) -> Self {
        match std::str::from_utf8(cell) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes {
                base64: STANDARD.encode(cell),
            },
        }
    }

    fn decode(self) -> Result<Bytes, String> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Bytes { base64 } => {
                let bytes = STANDARD.decode(base64).map_err(|e| e.to_string())?;
                Ok(bytes.into())
            }
        }
    }
}

/// A letter.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetterForm {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    of_batch: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    column: String,
    error: String,
    message: String,
    /// The body, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    /// The body, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl DeadLetter {
    /// Of a record and why it was refused.
    #[must_use]
    pub fn new(record: &RecordContext, error: &RecordError) -> Self {
        Self {
            request: Arc::clone(record.request()),
            of_batch: record.is_of_batch(),
            line: record.line(),
            body: record.body().clone(),
            column: error.column.clone(),
            error: error.kind.name().to_owned(),
            message: error.to_string(),
            row: None,
        }
    }

    /// Of a row, which is shown as an object of its columns.
    fn from_row(
        request: &Arc<RequestInfo>,
        table: &Arc<TableSink>,
        cause: &str,
        cells: Vec<CellForm>,
    ) -> Result<Self, String> {
        let cells: Result<Vec<Bytes>, String> = cells.into_iter().map(CellForm::decode).collect();
        let cells = cells?;
        if cells.len() != table.mapping.columns.len() {
            return Err("a row has not one cell for each column".to_owned());
        }
        Ok(Self {
            request: Arc::clone(request),
            of_batch: false,
            line: None,
            body: row_as_json(table, &cells).into(),
            column: String::new(),
            error: ROW_REJECTED.to_owned(),
            message: cause.to_owned(),
            row: Some(RejectedRow {
                table: Arc::clone(table),
                cells,
            }),
        })
    }

    /// The record as it was received.
    #[must_use]
    pub fn record(&self) -> RecordContext {
        let headers = &self.request.headers;
        let format = if self.of_batch {
            BodyFormat::Json
        } else {
            BodyFormat::from_content_type(headers.get("content-type").map(str::as_bytes))
        };
        RecordContext::with_format(Arc::clone(&self.request), self.body.clone(), format)
    }

    fn to_form(&self) -> DeadLetterForm {
        let text = std::str::from_utf8(&self.body).ok().map(str::to_owned);
        DeadLetterForm {
            of_batch: self.of_batch,
            line: self.line,
            column: self.column.clone(),
            error: self.error.clone(),
            message: self.message.clone(),
            body_base64: text.is_none().then(|| STANDARD.encode(&self.body)),
            body: text,
        }
    }

    fn from_form(request: &Arc<RequestInfo>, form: DeadLetterForm) -> Result<Self, String> {
        let body = match (form.body, form.body_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|e| e.to_string())?,
            _ => return Err("a letter has not exactly one body".to_owned()),
        };
        Ok(Self {
            request: Arc::clone(request),
            of_batch: form.of_batch,
            line: form.line,
            body: body.into(),
            column: form.column,
            error: form.error,
            message: form.message,
            row: None,
        })
    }
}

/// A block of letters, which are all of the same request.
///
/// # Errors
/// None that is known: serialising texts into memory does not fail.
pub(crate) fn write_block(
    request: &RequestInfo,
    dead_letters: &[DeadLetter],
) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    let common = RequestForm {
        received: request.received,
        client_ip: request.client_ip,
        headers: request.headers.entries().to_vec(),
        rows: None,
    };
    serde_json::to_writer(&mut out, &common)?;
    out.push(b'\n');
    for dead_letter in dead_letters {
        serde_json::to_writer(&mut out, &dead_letter.to_form())?;
        out.push(b'\n');
    }
    Ok(out)
}

/// Name of the error of a row that its table could not take.
const ROW_REJECTED: &str = "rowRejected";

/// A row as a JSON object, its columns in their order.
fn row_as_json(table: &TableSink, cells: &[Bytes]) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let columns = table.mapping.columns.iter().zip(cells);
    let pairs: Vec<String> = columns
        .map(|(column, cell)| {
            let cell = String::from_utf8_lossy(cell);
            format!("{}: {}", text(&column.name), text(&cell))
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// A block of rows of a file that its table could not take; `rows` are cells, row by row.
///
/// # Errors
/// None that is known: serialising texts into memory does not fail.
pub(crate) fn write_rows<'c>(
    keep: &RejectedRowsHeader<'_>,
    rows: impl Iterator<Item = Vec<&'c [u8]>>,
) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    let common = RequestForm {
        received: keep.received,
        client_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        headers: Vec::new(),
        rows: Some(RowsForm {
            file: keep.file.to_string(),
            first: keep.first,
            table: keep.table.into(),
            cause: keep.cause.to_owned(),
        }),
    };
    serde_json::to_writer(&mut out, &common)?;
    out.push(b'\n');
    for row in rows {
        let cells: Vec<CellForm> = row.into_iter().map(CellForm::new).collect();
        serde_json::to_writer(&mut out, &cells)?;
        out.push(b'\n');
    }
    Ok(out)
}

fn parse_line<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|e| e.to_string())
}

/// Whose rows the letters of a block are, and the number of the first, if they are rows.
///
/// # Errors
/// When it is none of ours, for people.
pub(crate) fn source_file_of_block(text: &[u8]) -> Result<Option<(String, u64)>, String> {
    let common = text.split_inclusive(|b| *b == b'\n').next();
    let common: RequestForm = parse_line(common.unwrap_or_default())?;
    Ok(common.rows.map(|rows| (rows.file, rows.first)))
}

/// The letters of a block.
///
/// # Errors
/// When it is none of ours, for people.
pub(crate) fn read_block(text: &[u8]) -> Result<Vec<DeadLetter>, String> {
    let mut lines = text.split_inclusive(|b| *b == b'\n');
    let common: RequestForm = parse_line(lines.next().unwrap_or_default())?;
    let request = Arc::new(RequestInfo {
        received: common.received,
        client_ip: common.client_ip,
        headers: RequestHeaders::from_entries(common.headers),
    });
    let Some(rows) = common.rows else {
        return lines
            .map(|l| DeadLetter::from_form(&request, parse_line(l)?))
            .collect();
    };
    let table = Arc::new(TableSink::try_from(rows.table)?);
    lines
        .map(|l| DeadLetter::from_row(&request, &table, &rows.cause, parse_line(l)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(body: &'static [u8]) -> DeadLetter {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        DeadLetter {
            request: Arc::new(RequestInfo {
                received: Timestamp::from_millis(1_700_000_000_123),
                client_ip: IpAddr::from([127, 0, 0, 1]),
                headers: RequestHeaders::from_entries(headers),
            }),
            of_batch: false,
            line: Some(3),
            body: Bytes::from_static(body),
            column: "x".to_owned(),
            error: "pathNotFound".to_owned(),
            message: "Column \"x\": path \"a\" not found in the body.".to_owned(),
            row: None,
        }
    }

    #[test]
    fn any_body_comes_back() {
        let bodies = [
            &b"{\"a\":\n1}"[..],
            b"",
            b"\xff\xfe\n\0",
            "ž\u{2028}".as_bytes(),
        ];
        let letters = bodies.map(letter);
        let block = write_block(&letters[0].request, &letters).unwrap();
        let read = read_block(&block).unwrap();
        assert_eq!(read.len(), bodies.len());
        for (read, (letter, body)) in read.iter().zip(letters.iter().zip(bodies)) {
            assert_eq!(&read.body[..], body);
            let texts =
                |l: &DeadLetter| (l.column.clone(), l.error.clone(), l.message.clone(), l.line);
            assert_eq!(texts(read), texts(letter));
            let record = read.record();
            assert_eq!(&record.body()[..], body);
            assert_eq!(*record.format(), BodyFormat::Json);
            assert_eq!(record.request().received, letter.request.received);
            let headers = |r: &RequestInfo| r.headers.entries().to_vec();
            assert_eq!(headers(record.request()), headers(&letter.request));
        }
    }

    #[test]
    fn rows_come_back_with_what_they_were_made_by() {
        use forebay_model::{ColumnKind, Mapping, MappingColumn, TableBackend};
        let column = |name: &str| MappingColumn {
            name: name.to_owned(),
            primary_key: false,
            kind: ColumnKind::Body,
        };
        let table = TableSink {
            backend: TableBackend::Sqlite,
            table: "in.b.t".parse().unwrap(),
            mapping: Mapping {
                columns: vec![column("b"), column("a\"")],
            },
        };
        let file: FileKey = "1/2/src/snk/2026-11-21T05:01:49.120Z".parse().unwrap();
        let keep = RejectedRowsHeader {
            file: &file,
            first: 7,
            table: &table,
            cause: "too long",
            received: Timestamp::from_millis(1_700_000_000_123),
        };
        let rows: [Vec<&[u8]>; 2] = [vec![b"1", b"\xff\0"], vec![b"", "ž\n".as_bytes()]];
        let block = write_rows(&keep, rows.iter().cloned()).unwrap();
        let first = source_file_of_block(&block).unwrap();
        assert_eq!(first, Some((file.to_string(), 7)));
        let read = read_block(&block).unwrap();
        assert_eq!(read.len(), 2);
        for (letter, row) in read.iter().zip(&rows) {
            let refused = letter.row.as_ref().unwrap();
            assert_eq!(*refused.table, table);
            let cells: Vec<&[u8]> = refused.cells.iter().map(|c| &c[..]).collect();
            assert_eq!(cells, *row);
            assert_eq!(letter.message, "too long");
        }
        assert_eq!(
            &read[1].body[..],
            "{\"b\": \"\", \"a\\\"\": \"ž\\n\"}".as_bytes()
        );
        let other = letter(b"x");
        let block = write_block(&other.request, std::slice::from_ref(&other)).unwrap();
        assert_eq!(source_file_of_block(&block).unwrap(), None);
    }

    #[test]
    fn what_is_no_block_of_letters_is_refused() {
        for text in [&b""[..], b"{}", b"[]", b"\xff"] {
            assert!(read_block(text).is_err());
        }
        let letter = letter(b"x");
        let block = write_block(&letter.request, std::slice::from_ref(&letter)).unwrap();
        let text = String::from_utf8(block).unwrap();
        for body in [
            "",
            "\"body\":\"x\",\"bodyBase64\":\"eA==\"",
            "\"bodyBase64\":\"?\"",
        ] {
            let other = text.replace("\"body\":\"x\"", body);
            assert!(read_block(other.as_bytes()).is_err(), "{other}");
        }
    }
}
