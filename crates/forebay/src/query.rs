//! Rows as people and programs want to see them.

mod csv;
mod json;
mod text_table;

use std::io::Write;

use forebay_remote::table::sqlite::{QueryCell, QueryVisitor};

pub(crate) use text_table::TextTable;

use crate::failure::Failure;

/// Forms of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns in line, for people
    Table,
    /// An array of objects
    Json,
    /// With a line of names, as RFC 4180 has it
    Csv,
}

/// A visitor that writes, and says at the end what went wrong with writing.
pub(crate) trait Writer: QueryVisitor {
    /// Writes what is still to be written.
    ///
    /// # Errors
    /// When anything could not be written.
    fn finish(&mut self) -> Result<(), Failure>;
}

/// A writer of that form.
pub(crate) fn writer(format: Format, out: impl Write + 'static) -> Box<dyn Writer> {
    match format {
        Format::Table => Box::new(text_table::TableWriter::new(out)),
        Format::Json => Box::new(json::JsonWriter::new(out)),
        Format::Csv => Box::new(csv::CsvWriter::new(out)),
    }
}

/// A cell's text. Bytes that are no text are shown in hexadecimal, as SQL writes them.
fn text(cell: &QueryCell<'_>) -> String {
    match cell {
        QueryCell::Null => String::new(),
        QueryCell::Int(n) => n.to_string(),
        QueryCell::Real(n) => n.to_string(),
        QueryCell::Text(text) => (*text).to_owned(),
        QueryCell::Blob(bytes) => {
            let digits: String = bytes.iter().map(|b| format!("{b:02X}")).collect();
            format!("x'{digits}'")
        }
    }
}
