//! Cells of typed columns.

use bytes::Bytes;
use forebay_model::{CellConversion, CellText, DataType, InvalidValue, JsonScalar};

use crate::cell_output::CellOutput;
use crate::json::{JsonDocument, JsonKind, JsonNodeId, unescape};

/// Writes the cells of a typed column. A cell is the canonical text of its value, or empty for null.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TypedCells(pub(crate) CellConversion);

/// A value that is not of the column's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeMismatch {
    /// The value as JSON, shortened.
    value: String,
    allowed: InvalidValue,
}

impl TypedCells {
    /// Writes a value of the record.
    pub(crate) fn write(
        &self,
        document: &JsonDocument,
        value: JsonNodeId,
        out: &mut impl CellOutput,
    ) -> Result<(), TypeMismatch> {
        let written = match document.kind(value) {
            JsonKind::Null => self.0.null(),
            _ if self.0.data_type == DataType::Json => {
                document.compact(value, |part| out.push(part));
                return Ok(());
            }
            JsonKind::Bool => {
                self.scalar(JsonScalar::Boolean(document.text(value) == b"true"), out)
            }
            JsonKind::Number => self.scalar(JsonScalar::Number(utf8(document.text(value))), out),
            JsonKind::String => match document.string(value) {
                (text, false) => self.scalar(JsonScalar::Text(utf8(text)), out),
                (text, true) => {
                    let mut plain = Vec::with_capacity(text.len());
                    unescape(text, |part| plain.extend_from_slice(part));
                    self.scalar(JsonScalar::Text(utf8(&plain)), out)
                }
            },
            JsonKind::Array | JsonKind::Object => Err(self.0.rule()),
        };
        written.map_err(|allowed| TypeMismatch {
            value: quoted(utf8(document.text(value))),
            allowed,
        })
    }

    /// Writes the result of a template, which is JSON.
    pub(crate) fn write_json(
        &self,
        json: &[u8],
        out: &mut impl CellOutput,
    ) -> Result<(), TypeMismatch> {
        match JsonDocument::parse(Bytes::copy_from_slice(json)) {
            Ok(document) => self.write(&document, document.root(), out),
            Err(_) => Err(TypeMismatch {
                value: quoted(&String::from_utf8_lossy(json)),
                allowed: InvalidValue::Json,
            }),
        }
    }

    /// The cell of a constant or default.
    pub(crate) fn constant(&self, text: &str) -> Result<Vec<u8>, InvalidValue> {
        if self.0.data_type != DataType::Json || text.is_empty() {
            return self.0.constant(text).map(String::into_bytes);
        }
        let document = JsonDocument::parse(Bytes::copy_from_slice(text.as_bytes()));
        let document = document.map_err(|_| InvalidValue::Json)?;
        let mut cell = Vec::new();
        let written = self.write(&document, document.root(), &mut cell);
        written.map_err(|mismatch| mismatch.allowed).map(|()| cell)
    }

    /// Text of the error; `origin` is what has the value.
    pub(crate) fn message(&self, origin: &str, mismatch: &TypeMismatch) -> String {
        let TypeMismatch { value, allowed } = mismatch;
        let data_type = self.0.data_type.with_article();
        format!("the column is {data_type}, {origin} has {value}; allowed is {allowed}")
    }

    fn scalar(&self, value: JsonScalar<'_>, out: &mut impl CellOutput) -> Result<(), InvalidValue> {
        let mut scratch = CellText::default();
        let cell = self.0.convert(value, &mut scratch)?;
        // Canonical texts have no quotes.
        out.plain(cell.as_bytes());
        Ok(())
    }
}

/// Characters of a value that an error quotes.
const QUOTED: usize = 60;

fn quoted(json: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = json.chars().take(QUOTED).map(plain).collect();
    if text.len() < json.len() {
        text.push('…');
    }
    text
}

/// Part of a document, which is valid UTF-8.
fn utf8(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap_or_default()
}
