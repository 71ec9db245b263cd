//! Comma-separated values.

use std::io::Write;
use std::ops::ControlFlow;

use forebay_connect::table::query::{QueryCell, QueryVisitor};

use super::output::{ResultWriter, distinct, text};
use crate::cli_error::CliError;
use crate::terminal;

pub(super) struct CsvWriter<W: Write> {
    out: csv::Writer<W>,
    error: Option<std::io::Error>,
}

impl<W: Write> CsvWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out: csv::Writer::from_writer(out),
            error: None,
        }
    }

    fn write(&mut self, cells: impl IntoIterator<Item = String>) -> ControlFlow<()> {
        match self.out.write_record(cells) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                // The library's own conversion loses the kind of the error.
                self.error = Some(match e.into_kind() {
                    csv::ErrorKind::Io(error) => error,
                    other => std::io::Error::other(format!("{other:?}")),
                });
                ControlFlow::Break(())
            }
        }
    }
}

impl<W: Write> QueryVisitor for CsvWriter<W> {
    fn columns(&mut self, names: &[&str]) -> ControlFlow<()> {
        self.write(distinct(names))
    }

    fn row(&mut self, cells: &[QueryCell<'_>]) -> ControlFlow<()> {
        self.write(cells.iter().map(text))
    }
}

impl<W: Write> ResultWriter for CsvWriter<W> {
    fn finish(&mut self) -> Result<(), CliError> {
        let done = match self.error.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        done.map_err(|e| terminal::output_failed(&e))
    }
}
