//! Output of query results, whatever its format.

use std::collections::HashSet;
use std::io::{self, Write};
use std::ops::ControlFlow;

use forebay_connect::table::query::{QueryCell, QueryVisitor};

use crate::cli_error::CliError;
use crate::terminal;

/// A visitor that writes rows and returns the first write error at the end.
pub(crate) trait ResultWriter: QueryVisitor {
    /// Writes the rest.
    fn finish(&mut self) -> Result<(), CliError>;
}

/// Output that ends with its first error, and keeps it for the end.
pub(super) struct QueryOutput<W> {
    out: W,
    error: Option<io::Error>,
}

impl<W: Write> QueryOutput<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, error: None }
    }

    pub(super) fn write(&mut self, text: &str) -> ControlFlow<()> {
        if self.error.is_none() {
            self.error = self.out.write_all(text.as_bytes()).err();
        }
        match self.error {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        }
    }

    /// Flushes, or returns the error.
    pub(super) fn finish(&mut self) -> Result<(), CliError> {
        let done = match self.error.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        };
        done.map_err(|e| terminal::output_failed(&e))
    }
}

/// Makes names of columns unique: the second of equal names becomes `name_2`, or the next free one.
pub(super) fn distinct(names: &[&str]) -> Vec<String> {
    let mut taken: HashSet<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut seen = HashSet::new();
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        if seen.insert(*name) {
            all.push((*name).to_owned());
            continue;
        }
        let numbered = (2..=u64::MAX).map(|n| format!("{name}_{n}"));
        let free = numbered.into_iter().find(|n| taken.insert(n.clone()));
        all.push(free.unwrap_or_default());
    }
    all
}

/// A cell as text. Binary values are hexadecimal SQL literals.
pub(super) fn text(cell: &QueryCell<'_>) -> String {
    match cell {
        QueryCell::Null => String::new(),
        QueryCell::Bool(b) => b.to_string(),
        QueryCell::Int(n) => n.to_string(),
        // With its point, as in JSON output: 7.0 is no integer column's 7.
        QueryCell::Real(n) => format!("{n:?}"),
        QueryCell::Text(text) => (*text).to_owned(),
        QueryCell::Blob(bytes) => {
            let digits: String = bytes.iter().map(|b| format!("{b:02X}")).collect();
            format!("x'{digits}'")
        }
    }
}
