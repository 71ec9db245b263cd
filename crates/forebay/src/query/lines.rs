//! Forms whose rows are independent: objects, Markdown, a line per cell.

use std::io::Write;
use std::ops::ControlFlow;

use forebay_connect::table::query::{QueryCell, QueryVisitor};
use serde_json::{Map, Value};
use unicode_width::UnicodeWidthStr;

use super::json;
use super::output::{QueryOutput, ResultWriter, distinct, text};
use crate::cli_error::CliError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineForm {
    Ndjson,
    Markdown,
    Line,
}

/// Writes each row when it arrives.
pub(super) struct LineWriter<W> {
    form: LineForm,
    out: QueryOutput<W>,
    names: Vec<String>,
    rows: u64,
}

impl<W: Write> LineWriter<W> {
    pub(super) fn new(form: LineForm, out: W) -> Self {
        Self {
            form,
            out: QueryOutput::new(out),
            names: Vec::new(),
            rows: 0,
        }
    }

    fn object(&self, cells: &[QueryCell<'_>]) -> String {
        let names = self.names.iter().cloned();
        let row: Map<String, Value> = names.zip(cells.iter().map(json::value)).collect();
        format!("{}\n", Value::Object(row))
    }

    fn cell_lines(&self, cells: &[QueryCell<'_>]) -> String {
        let width = self
            .names
            .iter()
            .map(|n| n.width())
            .max()
            .unwrap_or_default();
        let mut text = String::new();
        if self.rows > 0 {
            text.push('\n');
        }
        for (name, cell) in self.names.iter().zip(cells) {
            let space = " ".repeat(width.saturating_sub(name.width()));
            text.push_str(&format!("{name}{space}  {}\n", shown(cell)));
        }
        text
    }
}

/// NULL differs from an empty text.
fn shown(cell: &QueryCell<'_>) -> String {
    match cell {
        QueryCell::Null => "NULL".to_owned(),
        cell => text(cell),
    }
}

fn markdown(cells: impl IntoIterator<Item = String>) -> String {
    let cells = cells.into_iter().map(|cell| {
        let cell = cell.replace('\\', "\\\\").replace('|', "\\|");
        format!(" {} |", cell.lines().collect::<Vec<_>>().join("<br>"))
    });
    format!("|{}\n", cells.collect::<String>())
}

impl<W: Write> QueryVisitor for LineWriter<W> {
    fn columns(&mut self, names: &[&str]) -> ControlFlow<()> {
        self.names = distinct(names);
        if self.form != LineForm::Markdown {
            return ControlFlow::Continue(());
        }
        let rule = self.names.iter().map(|_| "---".to_owned());
        let head = markdown(self.names.iter().cloned());
        let rule = markdown(rule);
        self.out.write(&format!("{head}{rule}"))
    }

    fn row(&mut self, cells: &[QueryCell<'_>]) -> ControlFlow<()> {
        let text = match self.form {
            LineForm::Ndjson => self.object(cells),
            LineForm::Markdown => markdown(cells.iter().map(shown)),
            LineForm::Line => self.cell_lines(cells),
        };
        self.rows += 1;
        self.out.write(&text)
    }
}

impl<W: Write> ResultWriter for LineWriter<W> {
    fn finish(&mut self) -> Result<(), CliError> {
        self.out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_never_breaks_its_row() {
        assert_eq!(
            markdown(["a|b\\".to_owned(), "c\nd".to_owned()]),
            "| a\\|b\\\\ | c<br>d |\n"
        );
    }
}
