//! An array of JSON objects.

use std::io::Write;
use std::ops::ControlFlow;

use forebay_connect::table::query::{QueryCell, QueryVisitor};
use serde_json::{Map, Number, Value};

use super::output::{QueryOutput, ResultWriter, distinct, text};
use crate::cli_error::CliError;

/// Writes one row per line.
pub(super) struct JsonWriter<W> {
    out: QueryOutput<W>,
    names: Vec<String>,
    rows: u64,
}

impl<W: Write> JsonWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out: QueryOutput::new(out),
            names: Vec::new(),
            rows: 0,
        }
    }
}

pub(super) fn value(cell: &QueryCell<'_>) -> Value {
    match cell {
        QueryCell::Null => Value::Null,
        QueryCell::Bool(b) => Value::from(*b),
        QueryCell::Int(n) => Value::from(*n),
        // JSON has no infinity; as text it differs from null.
        QueryCell::Real(n) => {
            let infinity = if *n > 0.0 { "Infinity" } else { "-Infinity" };
            Number::from_f64(*n).map_or_else(|| Value::from(infinity), Value::Number)
        }
        QueryCell::Text(text) => Value::from(*text),
        QueryCell::Blob(_) => Value::from(text(cell)),
    }
}

impl<W: Write> QueryVisitor for JsonWriter<W> {
    fn columns(&mut self, names: &[&str]) -> ControlFlow<()> {
        self.names = distinct(names);
        self.out.write("[")
    }

    fn row(&mut self, cells: &[QueryCell<'_>]) -> ControlFlow<()> {
        let names = self.names.iter().cloned();
        let row: Map<String, Value> = names.zip(cells.iter().map(value)).collect();
        let lead = if self.rows == 0 { "\n " } else { ",\n " };
        self.rows += 1;
        self.out.write(&format!("{lead}{}", Value::Object(row)))
    }
}

impl<W: Write> ResultWriter for JsonWriter<W> {
    fn finish(&mut self) -> Result<(), CliError> {
        let end = if self.rows == 0 { "]\n" } else { "\n]\n" };
        _ = self.out.write(end);
        self.out.finish()
    }
}
