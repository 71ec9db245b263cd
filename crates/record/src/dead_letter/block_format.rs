//! Format of blocks of dead letters, as in `docs/formats/dead-letter.md`: a line of JSON for what the
//! dead letters of a block have in common, then a line for each of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use forebay_model::{FileKey, Mapping, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{DeadLetter, RejectedRow, RowColumn};
use crate::{RequestHeaders, RequestInfo};

/// Rows of a file that become dead letters together.
pub struct RejectedRowsHeader<'r> {
    /// Key of the file.
    pub file: &'r FileKey,
    /// Number of the first row in the file.
    pub first: u64,
    /// Mapping by which the rows were made.
    pub mapping: &'r Mapping,
    /// Why the table rejected them.
    pub cause: &'r str,
    /// Time of receipt of the file's first record.
    pub received: Timestamp,
}

/// Common part of the dead letters of a block.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestForm {
    received: Timestamp,
    client_ip: IpAddr,
    /// Canonical names, sorted, one value each.
    headers: Vec<(String, String)>,
    /// Set for rows that a table rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<RowsForm>,
}

/// Common part of the rows of a block.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RowsForm {
    file: String,
    /// Number of the first row in the file.
    first: u64,
    columns: Vec<RowColumn>,
    /// Why the table rejected them.
    cause: String,
}

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
    /// Creates a dead letter of a row, shown as an object of its columns.
    fn from_row(
        request: &Arc<RequestInfo>,
        columns: &Arc<[RowColumn]>,
        cause: &str,
        cells: Vec<CellForm>,
    ) -> Result<Self, String> {
        let cells: Result<Vec<Bytes>, String> = cells.into_iter().map(CellForm::decode).collect();
        let cells = cells?;
        if cells.len() != columns.len() {
            return Err("the row does not have one cell per column".to_owned());
        }
        Ok(Self {
            request: Arc::clone(request),
            of_batch: false,
            line: None,
            body: row_as_json(columns, &cells).into(),
            column: String::new(),
            error: ROW_REJECTED.to_owned(),
            message: cause.to_owned(),
            row: Some(RejectedRow {
                columns: Arc::clone(columns),
                cells,
            }),
        })
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
            _ => return Err("a dead letter must have exactly one body".to_owned()),
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

/// Encodes a block of dead letters of one request.
pub fn encode_block(
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

/// Formats a row as a JSON object, in column order.
fn row_as_json(columns: &[RowColumn], cells: &[Bytes]) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let pairs: Vec<String> = columns
        .iter()
        .zip(cells)
        .map(|(column, cell)| {
            let cell = String::from_utf8_lossy(cell);
            format!("{}: {}", text(&column.name), text(&cell))
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Encodes a block of rows of a file that its table rejected; `rows` are cells, row by row.
pub fn encode_rows<'c>(
    header: &RejectedRowsHeader<'_>,
    rows: impl Iterator<Item = Vec<&'c [u8]>>,
) -> serde_json::Result<Vec<u8>> {
    let mut out = Vec::new();
    let common = RequestForm {
        received: header.received,
        client_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        headers: Vec::new(),
        rows: Some(RowsForm {
            file: header.file.to_string(),
            first: header.first,
            columns: header.mapping.columns.iter().map(RowColumn::new).collect(),
            cause: header.cause.to_owned(),
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

/// Returns the file of a block's rows and the number of the first row; `None` if the block holds
/// records.
pub fn source_file_of_block(text: &[u8]) -> Result<Option<(String, u64)>, String> {
    let common = text.split_inclusive(|b| *b == b'\n').next();
    let common: RequestForm = parse_line(common.unwrap_or_default())?;
    Ok(common.rows.map(|rows| (rows.file, rows.first)))
}

/// Decodes the dead letters of a block.
///
/// # Errors
/// Error of a block that does not follow the format.
pub fn decode_block(text: &[u8]) -> Result<Vec<DeadLetter>, String> {
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
    let columns = Arc::from(rows.columns);
    lines
        .map(|l| DeadLetter::from_row(&request, &columns, &rows.cause, parse_line(l)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BodyFormat;

    fn dead_letter(body: &'static [u8]) -> DeadLetter {
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
    fn every_body_round_trips() {
        let bodies = [
            &b"{\"a\":\n1}"[..],
            b"",
            b"\xff\xfe\n\0",
            "ž\u{2028}".as_bytes(),
        ];
        let dead_letters = bodies.map(dead_letter);
        let block = encode_block(&dead_letters[0].request, &dead_letters).unwrap();
        let read = decode_block(&block).unwrap();
        assert_eq!(read.len(), bodies.len());
        for (read, (dead_letter, body)) in read.iter().zip(dead_letters.iter().zip(bodies)) {
            assert_eq!(&read.body[..], body);
            let texts =
                |l: &DeadLetter| (l.column.clone(), l.error.clone(), l.message.clone(), l.line);
            assert_eq!(texts(read), texts(dead_letter));
            let record = read.record();
            assert_eq!(&record.body()[..], body);
            assert_eq!(*record.format(), BodyFormat::Json);
            assert_eq!(record.request().received, dead_letter.request.received);
            let headers = |r: &RequestInfo| r.headers.entries().to_vec();
            assert_eq!(headers(record.request()), headers(&dead_letter.request));
        }
    }

    #[test]
    fn rows_round_trip_with_their_definition() {
        use forebay_model::{ColumnKind, MappingColumn};
        let column = |name: &str| MappingColumn::new(name, ColumnKind::Body);
        let mapping = Mapping {
            columns: vec![column("b"), column("a\"")],
        };
        let file: FileKey = "1/2/src/snk/2026-11-21T05:01:49.120Z".parse().unwrap();
        let header = RejectedRowsHeader {
            file: &file,
            first: 7,
            mapping: &mapping,
            cause: "too long",
            received: Timestamp::from_millis(1_700_000_000_123),
        };
        let rows: [Vec<&[u8]>; 2] = [vec![b"1", b"\xff\0"], vec![b"", "ž\n".as_bytes()]];
        let block = encode_rows(&header, rows.iter().cloned()).unwrap();
        let first = source_file_of_block(&block).unwrap();
        assert_eq!(first, Some((file.to_string(), 7)));
        let read = decode_block(&block).unwrap();
        assert_eq!(read.len(), 2);
        for (dead_letter, row) in read.iter().zip(&rows) {
            let rejected = dead_letter.row.as_ref().unwrap();
            let names: Vec<&str> = rejected.columns.iter().map(|c| c.name.as_str()).collect();
            assert_eq!(names, ["b", "a\""]);
            assert!(mapping.accepts_cells_of(rejected.columns.iter().map(|c| &c.content)));
            let cells: Vec<&[u8]> = rejected.cells.iter().map(|c| &c[..]).collect();
            assert_eq!(cells, *row);
            assert_eq!(dead_letter.message, "too long");
        }
        assert_eq!(
            &read[1].body[..],
            "{\"b\": \"\", \"a\\\"\": \"ž\\n\"}".as_bytes()
        );
        let other = dead_letter(b"x");
        let block = encode_block(&other.request, std::slice::from_ref(&other)).unwrap();
        assert_eq!(source_file_of_block(&block).unwrap(), None);
    }

    #[test]
    fn a_malformed_block_is_rejected() {
        for text in [&b""[..], b"{}", b"[]", b"\xff"] {
            assert!(decode_block(text).is_err());
        }
        let dead_letter = dead_letter(b"x");
        let block = encode_block(&dead_letter.request, std::slice::from_ref(&dead_letter)).unwrap();
        let text = String::from_utf8(block).unwrap();
        for body in [
            "",
            "\"body\":\"x\",\"bodyBase64\":\"eA==\"",
            "\"bodyBase64\":\"?\"",
        ] {
            let other = text.replace("\"body\":\"x\"", body);
            assert!(decode_block(other.as_bytes()).is_err(), "{other}");
        }
    }
}
