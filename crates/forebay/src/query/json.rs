//! An array of JSON objects.

use std::io::Write;
use std::ops::ControlFlow;

use forebay_connect::table::query::{QueryCell, QueryVisitor};
use serde_json::{Map, Number, Value};

use super::ResultWriter;
use crate::cli_error::CliError;
use crate::terminal;

/// Writes one row per line.
pub(super) struct JsonWriter<W> {
    out: W,
    names: Vec<String>,
    rows: u64,
    error: Option<std::io::Error>,
}

impl<W: Write> JsonWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            names: Vec::new(),
            rows: 0,
            error: None,
        }
    }

    fn write(&mut self, text: &str) -> ControlFlow<()> {
        match self.out.write_all(text.as_bytes()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                self.error = Some(e);
                ControlFlow::Break(())
            }
        }
    }
}

pub(super) fn value(cell: &QueryCell<'_>) -> Value {
    match cell {
        QueryCell::Null => Value::Null,
        QueryCell::Int(n) => Value::from(*n),
        // JSON has no infinity; as text it differs from null.
        QueryCell::Real(n) => {
            let text = if *n > 0.0 { "Infinity" } else { "-Infinity" };
            Number::from_f64(*n).map_or_else(|| Value::from(text), Value::Number)
        }
        QueryCell::Text(text) => Value::from(*text),
        QueryCell::Blob(_) => Value::from(super::text(cell)),
    }
}

impl<W: Write> QueryVisitor for JsonWriter<W> {
    fn columns(&mut self, names: &[&str]) -> ControlFlow<()> {
        self.names = super::distinct(names);
        self.write("[")
    }

    fn row(&mut self, cells: &[QueryCell<'_>]) -> ControlFlow<()> {
        let names = self.names.iter().cloned();
        let row: Map<String, Value> = names.zip(cells.iter().map(value)).collect();
        let lead = if self.rows == 0 { "\n " } else { ",\n " };
        self.rows += 1;
        self.write(&format!("{lead}{}", Value::Object(row)))
    }
}

impl<W: Write> ResultWriter for JsonWriter<W> {
    fn finish(&mut self) -> Result<(), CliError> {
        if self.error.is_none() {
            let end = if self.rows == 0 { "]\n" } else { "\n]\n" };
            _ = self.write(end);
        }
        let done = match self.error.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        done.map_err(|e| terminal::output_failed(&e))
    }
}
