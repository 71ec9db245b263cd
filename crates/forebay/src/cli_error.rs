//! Error of a command: a sentence, an optional hint on its own line, an exit code.

use std::fmt;

/// Exit code of a failed command.
pub(crate) const EXIT_FAILURE: u8 = 1;
/// Exit code of invalid usage or configuration: nothing was changed.
pub(crate) const EXIT_USAGE: u8 = 2;

#[derive(Debug)]
pub(crate) struct CliError {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl CliError {
    /// The command failed.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            code: EXIT_FAILURE,
        }
    }

    /// Invalid usage, configuration or definition.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self {
            code: EXIT_USAGE,
            ..Self::new(message)
        }
    }

    /// The reader closed standard output, as `head` does: ends the command without an error.
    pub(crate) fn closed_output() -> Self {
        Self::silent(0)
    }

    /// Ends the command with this exit code and without a message.
    pub(crate) fn silent(code: u8) -> Self {
        Self {
            message: String::new(),
            hint: None,
            code,
        }
    }

    /// Adds advice for the user.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Sets another exit code.
    #[must_use]
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The message without the advice.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Whether there is nothing to print.
    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

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
