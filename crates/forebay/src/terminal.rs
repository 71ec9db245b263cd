//! The terminal: the one place that writes to it. Data goes to standard output, everything else to
//! standard error.

use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};

use crate::failure::Failure;

/// Writes data to standard output, as it is.
///
/// # Errors
/// When it can't be written. A reader that has gone away (`| head`) ends the command without an
/// error.
pub(crate) fn data(text: impl fmt::Display) -> Result<(), Failure> {
    bytes(text.to_string().as_bytes())
}

/// Writes a line of data to standard output.
///
/// # Errors
/// As [`data`].
pub(crate) fn line(text: impl fmt::Display) -> Result<(), Failure> {
    data(format_args!("{text}\n"))
}

/// Writes bytes to standard output.
///
/// # Errors
/// As [`data`].
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|e| output_failed(&e))
}

/// What an error of standard output means for the command.
pub(crate) fn output_failed(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::closed_output(),
        _ => Failure::new(format_args!("can't write to standard output: {error}")),
    }
}

/// Writes a line for the person at the terminal to standard error. When even that can't be written
/// there is nobody to tell.
pub(crate) fn note(text: impl fmt::Display) {
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// Says why the command ends: the sentence, and the hint below it.
pub(crate) fn failed(failure: &Failure) {
    if failure.code() == 0 {
        return;
    }
    let (on, off) = if is_colored() {
        ("\u{1b}[1;31m", "\u{1b}[0m")
    } else {
        ("", "")
    };
    note(format_args!("{on}error:{off} {failure}"));
}

/// A person is looking at standard error.
pub(crate) fn is_attended() -> bool {
    std::io::stderr().is_terminal()
}

/// Standard error takes colours: it is a terminal, and nobody has asked for none
/// (<https://no-color.org>).
pub(crate) fn is_colored() -> bool {
    is_attended() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}
