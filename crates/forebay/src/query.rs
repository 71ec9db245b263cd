//! Writes query results as a table, JSON, CSV, Markdown or lines.

mod csv;
mod json;
mod lines;
mod output;
mod text_table;

use std::io::Write;

pub(crate) use output::ResultWriter;
pub(crate) use text_table::TextTable;

/// Formats of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum QueryFormat {
    /// Aligned columns
    Table,
    /// An array of objects
    Json,
    /// RFC 4180 with a header line
    Csv,
    /// An object per line
    Ndjson,
    /// A table for documents
    Markdown,
    /// A line per cell, an empty line between rows
    Line,
}

pub(crate) fn writer(format: QueryFormat, out: impl Write + 'static) -> Box<dyn ResultWriter> {
    match format {
        QueryFormat::Table => Box::new(text_table::TextTableWriter::new(out)),
        QueryFormat::Json => Box::new(json::JsonWriter::new(out)),
        QueryFormat::Csv => Box::new(csv::CsvWriter::new(out)),
        QueryFormat::Ndjson => Box::new(lines::LineWriter::new(lines::LineForm::Ndjson, out)),
        QueryFormat::Markdown => Box::new(lines::LineWriter::new(lines::LineForm::Markdown, out)),
        QueryFormat::Line => Box::new(lines::LineWriter::new(lines::LineForm::Line, out)),
    }
}

#[cfg(test)]
mod tests {
    use forebay_connect::table::query::QueryCell;

    use super::output::distinct;
    use super::*;

    /// Output for tests.
    #[derive(Clone, Default)]
    struct Shared(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn equal_names_are_made_unique_in_every_format() {
        assert_eq!(
            distinct(&["a", "b", "a", "a_2", "a", "A", ""]),
            ["a", "b", "a_3", "a_2", "a_4", "A", ""]
        );
        for (format, expected) in [
            (QueryFormat::Json, "[\n {\"a\":1,\"a_2\":2}\n]\n"),
            (QueryFormat::Csv, "a,a_2\n1,2\n"),
            (QueryFormat::Table, "a  a_2\n-  ---\n1    2\n"),
            (QueryFormat::Ndjson, "{\"a\":1,\"a_2\":2}\n"),
            (
                QueryFormat::Markdown,
                "| a | a_2 |\n| --- | --- |\n| 1 | 2 |\n",
            ),
            (QueryFormat::Line, "a    1\na_2  2\n"),
        ] {
            let out = Shared::default();
            let mut writer = writer(format, out.clone());
            assert!(writer.columns(&["a", "a"]).is_continue());
            assert!(
                writer
                    .row(&[QueryCell::Int(1), QueryCell::Int(2)])
                    .is_continue()
            );
            writer.finish().unwrap();
            assert_eq!(String::from_utf8(out.0.take()).unwrap(), expected);
        }
    }
}
