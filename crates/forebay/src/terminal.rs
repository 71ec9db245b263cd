//! The only module that writes to the terminal. Data goes to standard output, everything else to
//! standard error.
//!
//! Senders control the text of records, names and errors, and a terminal interprets control characters.
//! So [`data`], [`line()`] and [`note`] escape them, and [`StdoutWriter`], which passes bytes through
//! to files and pipes, escapes them when standard output is a terminal. A reader that closes the pipe
//! (`| head`) ends the command without an error.

use std::borrow::Cow;
use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};

use forebay_model::ByteSize;
use serde::Serialize;

use crate::cli_error::CliError;

/// Writes text to standard output with control characters escaped.
pub(crate) fn data(text: impl fmt::Display) -> Result<(), CliError> {
    write(escaped(&text.to_string()).as_bytes())
}

/// Writes a line of text to standard output with control characters escaped.
pub(crate) fn line(text: impl fmt::Display) -> Result<(), CliError> {
    data(format_args!("{text}\n"))
}

/// Writes a value as indented JSON to standard output.
pub(crate) fn json(value: &impl Serialize) -> Result<(), CliError> {
    line(serde_json::to_string_pretty(value).map_err(CliError::new)?)
}

/// Writes bytes to standard output: unchanged, or escaped on a terminal.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut output = StdoutWriter::stdout();
    output
        .write_all(bytes)
        .and_then(|()| output.flush())
        .map_err(|e| output_failed(&e))
}

/// Overwrites the previous page from the upper left corner of the terminal.
pub(crate) fn repaint(page: &str) -> Result<(), CliError> {
    // Moves home, clears the rest of each line and everything below the last one.
    let lines = escaped(page).replace('\n', "\u{1b}[K\n");
    write(format!("\u{1b}[H{lines}\u{1b}[J").as_bytes())
}

fn write(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|e| output_failed(&e))
}

/// Standard output for programs: bytes unchanged, escaped on a terminal.
#[derive(Debug)]
pub(crate) struct StdoutWriter {
    stdout: std::io::Stdout,
    is_escaped: bool,
}

impl StdoutWriter {
    pub(crate) fn stdout() -> Self {
        let stdout = std::io::stdout();
        let is_escaped = stdout.is_terminal();
        Self { stdout, is_escaped }
    }
}

impl Write for StdoutWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !self.is_escaped {
            return self.stdout.write(bytes);
        }
        let text = String::from_utf8_lossy(bytes);
        self.stdout.write_all(escaped(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stdout.flush()
    }
}

/// Escapes characters that a terminal interprets or that change the order of text, in JSON's notation,
/// so that JSON remains the same JSON. Newlines and tabs remain.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Whether a terminal interprets it or it changes the order of text; except newlines and tabs.
pub(crate) fn is_unsafe(c: char) -> bool {
    let is_control = c.is_control() && !matches!(c, '\n' | '\t');
    // Bidirectional marks, embeddings, overrides and isolates.
    is_control
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Human-readable bytes in the units of the configuration: a KB is 1024 bytes.
pub(crate) fn human_bytes(bytes: u64) -> String {
    ByteSize(bytes).rounded()
}

/// The error of the command after a failed write to standard output.
pub(crate) fn output_failed(error: &std::io::Error) -> CliError {
    match error.kind() {
        ErrorKind::BrokenPipe => CliError::closed_output(),
        _ => CliError::new(format_args!("can't write to standard output: {error}")),
    }
}

/// How much a command says besides its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Verbosity {
    Quiet = 1,
    #[default]
    Usual = 2,
    Verbose = 3,
}

/// The terminal is the process's, so what is written to it is, too. Set once, by the arguments.
static VERBOSITY: AtomicU8 = AtomicU8::new(Verbosity::Usual as u8);

pub(crate) fn set_verbosity(verbosity: Verbosity) {
    VERBOSITY.store(verbosity as u8, Ordering::Relaxed);
}

fn says(at_least: Verbosity) -> bool {
    VERBOSITY.load(Ordering::Relaxed) >= at_least as u8
}

/// Writes a note that only a verbose command has.
pub(crate) fn detail(text: impl fmt::Display) {
    if says(Verbosity::Verbose) {
        note(text);
    }
}

/// Writes a line for the user to standard error with control characters escaped, unless the command is
/// quiet. A line that can't be written, or whose pipe is not read, is dropped.
pub(crate) fn note(text: impl fmt::Display) {
    if !says(Verbosity::Usual) {
        return;
    }
    note_text(&escaped(&text.to_string()));
}

/// Writes a question for the user, also if the command is quiet.
pub(crate) fn question(text: impl fmt::Display) {
    note_text(&escaped(&text.to_string()));
}

fn note_text(text: &str) {
    /// A ready pipe accepts this much without blocking (POSIX's PIPE_BUF).
    const CHUNK: usize = 4096;
    // Bypasses the standard library's lock: a blocked log line holds it.
    let line = format!("{text}\n");
    let mut rest = line.as_bytes();
    while !rest.is_empty() && (is_attended() || is_stderr_writable()) {
        let chunk = rest.get(..CHUNK).unwrap_or(rest);
        match rustix::io::write(std::io::stderr(), chunk) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Whether standard error becomes writable within a second.
fn is_stderr_writable() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    const WRITE_TIMEOUT: Timespec = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let stderr = std::io::stderr();
    let mut stderr = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut stderr, Some(&WRITE_TIMEOUT)).is_ok_and(|ready| ready > 0)
}

/// Prints the error of a command as one line of JSON.
pub(crate) fn print_json_error(failure: &CliError) {
    if !failure.is_silent() {
        note_text(&escaped(&failure.json()));
    }
}

/// Prints the error of a command, and the hint below it.
pub(crate) fn print_error(failure: &CliError) {
    if failure.is_silent() {
        return;
    }
    let (on, off) = if is_colored() {
        ("\u{1b}[1;31m", "\u{1b}[0m")
    } else {
        ("", "")
    };
    let failure = failure.to_string();
    note_text(&format!("{on}error:{off} {}", escaped(&failure)));
}

/// Standard error is a terminal.
pub(crate) fn is_attended() -> bool {
    std::io::stderr().is_terminal()
}

/// Standard error may be coloured: it is a terminal and `NO_COLOR` is not set (<https://no-color.org>).
pub(crate) fn is_colored() -> bool {
    is_attended() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_a_terminal_interprets_are_escaped() {
        assert!(matches!(escaped("plain\n\tžluť 日本"), Cow::Borrowed(_)));
        assert_eq!(
            escaped("a\u{1b}]0;x\u{7}\u{9b}31m\r\u{7f}\u{202e}b\n"),
            "a\\u001b]0;x\\u0007\\u009b31m\\u000d\\u007f\\u202eb\n"
        );
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let text = c.to_string();
            let safe = escaped(&text);
            assert!(!safe.contains(is_unsafe), "{c:?}");
            // JSON remains the same JSON.
            let json = serde_json::to_string(&text).unwrap();
            let read: String = serde_json::from_str(&escaped(&json)).unwrap();
            assert_eq!(read, text);
        }
    }
}
