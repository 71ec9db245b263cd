//! How a command fails: one sentence, a hint on a line of its own, an exit code.

use std::fmt;

/// Exit code of a command that did not do what it was asked for.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// Exit code of wrong usage or a wrong configuration: nothing was begun.
pub(crate) const EXIT_USAGE: u8 = 2;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct CliError {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl CliError {
    /// It was tried and did not work.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            code: EXIT_FAILURE,
        }
    }

    /// It was asked for in a way that makes no sense.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self {
            code: EXIT_USAGE,
            ..Self::new(message)
        }
    }

    /// Standard output was closed by its reader, as `head` does: the end, but no error.
    pub(crate) fn closed_output() -> Self {
        Self {
            message: String::new(),
            hint: None,
            code: 0,
        }
    }

    /// With what it was about put before it.
    #[must_use]
    pub(crate) fn with_context(self, what: impl fmt::Display) -> Self {
        Self {
            message: format!("{what}: {}", self.message),
            ..self
        }
    }

    /// With what a person can do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// With a code of its own, where a command tells kinds of failure apart.
    #[must_use]
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// What the process ends with.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n{hint}"),
            None => Ok(()),
        }
    }
}
