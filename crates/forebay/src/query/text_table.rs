//! Tables with aligned columns.

use std::fmt;
use std::io::Write;
use std::ops::ControlFlow;

use forebay_connect::table::query::{QueryCell, QueryVisitor};
use unicode_width::UnicodeWidthStr;

use super::output::{QueryOutput, ResultWriter, distinct, text};
use crate::cli_error::CliError;
use crate::terminal;

/// Rows that determine the column widths; later rows may be misaligned.
const ROWS_MEASURED: usize = 1000;
/// Maximum width of a query cell.
const WIDTH_MAX: usize = 60;

/// A table written as a whole.
#[derive(Debug, Default)]
pub(crate) struct TextTable {
    names: Vec<String>,
    rows: Vec<Vec<TextCell>>,
    widths: Vec<usize>,
    is_head_written: bool,
}

#[derive(Clone, Debug)]
struct TextCell {
    text: String,
    is_number: bool,
}

impl TextTable {
    pub(crate) fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|n| plain(n, WIDTH_MAX)).collect();
        let widths = names.iter().map(|n| n.width()).collect();
        Self {
            names,
            widths,
            ..Self::default()
        }
    }

    pub(crate) fn row(&mut self, cells: &[&str]) {
        let cell = |text: &&str| TextCell {
            text: plain(text, usize::MAX),
            is_number: is_number(text),
        };
        self.push(cells.iter().map(cell).collect());
    }

    fn push(&mut self, cells: Vec<TextCell>) {
        if !self.is_head_written {
            for (width, cell) in self.widths.iter_mut().zip(&cells) {
                *width = (*width).max(cell.text.width());
            }
        }
        self.rows.push(cells);
    }

    /// Formats and removes the rows; the first time with a header.
    fn take_lines(&mut self) -> String {
        let mut lines = String::new();
        if !self.is_head_written {
            self.is_head_written = true;
            let head = self.names.iter().map(|n| TextCell {
                text: n.clone(),
                is_number: false,
            });
            lines.push_str(&self.line(&head.collect::<Vec<_>>()));
            let rules: Vec<String> = self
                .widths
                .iter()
                .map(|w| "-".repeat((*w).max(1)))
                .collect();
            lines.push_str(rules.join("  ").trim_end());
            lines.push('\n');
        }
        for row in std::mem::take(&mut self.rows) {
            lines.push_str(&self.line(&row));
        }
        lines
    }

    fn line(&self, cells: &[TextCell]) -> String {
        let cells = cells.iter().zip(&self.widths).map(|(cell, width)| {
            let space = " ".repeat(width.saturating_sub(cell.text.width()));
            if cell.is_number {
                format!("{space}{}", cell.text)
            } else {
                format!("{}{space}", cell.text)
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    }
}

impl fmt::Display for TextTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = Self {
            names: self.names.clone(),
            rows: self.rows.clone(),
            widths: self.widths.clone(),
            is_head_written: false,
        };
        f.write_str(&all.take_lines())
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.parse::<f64>().is_ok()
}

/// One line without control characters, cut to a width.
fn plain(text: &str, width_max: usize) -> String {
    let mut line = String::with_capacity(text.len());
    let mut width = 0;
    for c in text.chars() {
        let shown = if c.is_control() || terminal::is_unsafe(c) {
            c.escape_default().to_string()
        } else {
            c.to_string()
        };
        width += shown.width();
        if width > width_max {
            line.push('…');
            break;
        }
        line.push_str(&shown);
    }
    line
}

/// Streams rows as a table after the first rows have determined the widths.
pub(super) struct TextTableWriter<W> {
    out: QueryOutput<W>,
    table: TextTable,
}

impl<W: Write> TextTableWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out: QueryOutput::new(out),
            table: TextTable::default(),
        }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        let lines = self.table.take_lines();
        self.out.write(&lines)
    }
}

impl<W: Write> QueryVisitor for TextTableWriter<W> {
    fn columns(&mut self, names: &[&str]) -> ControlFlow<()> {
        let names = distinct(names);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.table = TextTable::new(&names);
        ControlFlow::Continue(())
    }

    fn row(&mut self, cells: &[QueryCell<'_>]) -> ControlFlow<()> {
        let cell = |cell: &QueryCell<'_>| match cell {
            QueryCell::Null => TextCell {
                text: "NULL".to_owned(),
                is_number: false,
            },
            cell => TextCell {
                text: plain(&text(cell), WIDTH_MAX),
                is_number: matches!(cell, QueryCell::Int(_) | QueryCell::Real(_)),
            },
        };
        self.table.push(cells.iter().map(cell).collect());
        if self.table.rows.len() >= ROWS_MEASURED {
            self.flush()
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl<W: Write> ResultWriter for TextTableWriter<W> {
    fn finish(&mut self) -> Result<(), CliError> {
        _ = self.flush();
        self.out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_line_without_control_characters() {
        let shown = plain("a\n\t\u{1b}[31m\u{9b}1m\u{202e}x\u{2067}\u{5d0}", 200);
        let wanted = "a\\n\\t\\u{1b}[31m\\u{9b}1m\\u{202e}x\\u{2067}\u{5d0}";
        assert_eq!(shown, wanted);
    }

    #[test]
    fn columns_are_aligned_and_numbers_are_right_aligned() {
        let mut table = TextTable::new(&["name", "n"]);
        table.row(&["žluť", "5"]);
        table.row(&["a\u{1b}[31m\nb", "1234"]);
        table.row(&["日本", ""]);
        assert_eq!(
            table.to_string(),
            "name            n\n\
             --------------  ----\n\
             žluť               5\n\
             a\\u{1b}[31m\\nb  1234\n\
             日本\n"
        );
    }
}
