//! Changes of records before their replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use forebay_model::DeadLetterEdit;
use forebay_record::{DeadLetter, RejectedRow, RequestHeaders, RequestInfo};
use serde_json::Value;

use super::reader::{BlockContent, SelectedDeadLetters};

impl<T: BlockContent> SelectedDeadLetters<T> {
    /// Changes the records. Removes those that can't be changed, and returns why.
    pub(crate) fn edit(&mut self, edits: &BTreeMap<u64, DeadLetterEdit>) -> Vec<(u64, String)> {
        let mut rejected = Vec::new();
        self.dead_letters.retain_mut(|stored| {
            let Some(edit) = edits.get(&stored.number) else {
                return true;
            };
            let mut edit = edit.clone();
            // What is sent back as it was shown changes nothing, also where it can't be shown exactly.
            let body = stored.dead_letter.facts().body;
            edit.body = edit.body.filter(|edited| edited != body);
            match stored.dead_letter.edit(&edit) {
                Ok(()) => true,
                Err(cause) => {
                    rejected.push((stored.number, cause));
                    false
                }
            }
        });
        rejected
    }
}

/// Changes a record, or the cells of a row that its table rejected.
pub(super) fn edit_record(
    dead_letter: &mut DeadLetter,
    edit: &DeadLetterEdit,
) -> Result<(), String> {
    if let Some(body) = &edit.body {
        if let Some(row) = &mut dead_letter.row {
            row.cells = cells(row, body)?;
        }
        dead_letter.body = Bytes::from(body.clone());
    }
    let shown = dead_letter.request.headers.entries().iter().cloned();
    let shown: BTreeMap<String, String> = shown.collect();
    if let Some(headers) = edit.headers.as_ref().filter(|h| **h != shown) {
        if dead_letter.row.is_some() {
            return Err("a row that its table rejected has no headers".to_owned());
        }
        let request = &dead_letter.request;
        dead_letter.request = Arc::new(RequestInfo {
            received: request.received,
            client_ip: request.client_ip,
            headers: RequestHeaders::from_texts(headers)?,
        });
    }
    Ok(())
}

/// The cells of a row from an object of its columns.
fn cells(row: &RejectedRow, body: &[u8]) -> Result<Vec<Bytes>, String> {
    let object: BTreeMap<String, Value> = serde_json::from_slice(body).map_err(|e| {
        format!("a row that its table rejected must be a JSON object of its columns: {e}")
    })?;
    let names: Vec<&str> = row.columns.iter().map(|c| c.name.as_str()).collect();
    if let Some(other) = object.keys().find(|name| !names.contains(&name.as_str())) {
        return Err(format!(
            "the row has no column \"{other}\"; its columns are {}",
            names.join(", ")
        ));
    }
    let cell = |name: &&str| match object.get(*name) {
        Some(Value::String(text)) => Ok(Bytes::from(text.clone())),
        Some(other) => Err(format!(
            "column \"{name}\" is {other}; allowed is a string, which is the text of the cell"
        )),
        None => Err(format!("column \"{name}\" is missing")),
    };
    names.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use forebay_record::RowColumn;

    use super::*;

    fn row() -> RejectedRow {
        let column = |name: &str| RowColumn {
            name: name.to_owned(),
            content: "body".to_owned(),
        };
        RejectedRow {
            columns: Arc::from([column("b"), column("a")]),
            cells: vec![Bytes::new(), Bytes::new()],
        }
    }

    #[test]
    fn cells_are_in_the_order_of_the_columns() {
        let cells = cells(&row(), b"{\"a\": \"1\", \"b\": \"\\u017e\"}").unwrap();
        assert_eq!(cells, [Bytes::from("ž"), Bytes::from("1")]);
    }

    #[test]
    fn other_objects_are_rejected_by_name() {
        for (body, part) in [
            ("[]", "must be a JSON object of its columns"),
            ("{\"a\": \"1\"}", "column \"b\" is missing"),
            (
                "{\"a\": 1, \"b\": \"\"}",
                "column \"a\" is 1; allowed is a string",
            ),
            (
                "{\"a\": \"1\", \"c\": \"\"}",
                "no column \"c\"; its columns are b, a",
            ),
        ] {
            let error = cells(&row(), body.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{body}: {error}");
        }
    }
}
