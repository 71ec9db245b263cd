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
    /// Name of the server's error.
    name: Option<String>,
    code: u8,
}

impl CliError {
    /// The command failed.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            name: None,
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
            name: None,
            code,
        }
    }

    /// Adds advice for the user.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Sets the name of the server's error.
    #[must_use]
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = (!name.is_empty()).then(|| name.to_owned());
        self
    }

    /// Sets another exit code.
    #[must_use]
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The message without the hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// One line of JSON, for programs.
    pub(crate) fn json(&self) -> String {
        let own = if self.code == EXIT_USAGE {
            "usage"
        } else {
            "failure"
        };
        serde_json::json!({
            "name": self.name.as_deref().unwrap_or(own),
            "message": self.message,
            "hint": self.hint,
            "exitCode": self.code,
        })
        .to_string()
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
