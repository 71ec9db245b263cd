//! A source or a sink, as commands name it.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::api_client::{SOURCES, encoded};
use crate::cli_error::CliError;

/// `SOURCE`, or `SOURCE/SINK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) source: String,
    pub(crate) sink: Option<String>,
}

impl FromStr for Subject {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (source, sink) = match text.split_once('/') {
            Some((source, sink)) => (source, Some(sink.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            source: source.to_owned(),
            sink,
        })
    }
}

impl Subject {
    /// Path in the API.
    pub(crate) fn path(&self) -> String {
        let source = format!("{SOURCES}/{}", encoded(&self.source));
        match &self.sink {
            Some(sink) => format!("{source}/sinks/{}", encoded(sink)),
            None => source,
        }
    }

    /// `source` or `sink`.
    pub(crate) fn kind(&self) -> &'static str {
        match self.sink {
            Some(_) => "sink",
            None => "source",
        }
    }

    /// # Errors
    /// When it is not a sink.
    pub(crate) fn expect_sink(&self) -> Result<(), CliError> {
        match self.sink {
            Some(_) => Ok(()),
            None => Err(CliError::usage(format_args!(
                "{:?} is a source; name a sink, like {}/orders",
                self.source, self.source
            ))),
        }
    }

    /// # Errors
    /// When it is not a source.
    pub(crate) fn expect_source(&self) -> Result<(), CliError> {
        match &self.sink {
            None => Ok(()),
            Some(_) => Err(CliError::usage(format_args!(
                "\"{self}\" is a sink; name its source, {}",
                self.source
            ))),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sink {
            Some(sink) => write!(f, "{}/{sink}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_are_named_with_their_source() {
        let sink: Subject = "my-events/a b".parse().unwrap();
        assert_eq!(sink.path(), format!("{SOURCES}/my-events/sinks/a%20b"));
        assert_eq!(
            (sink.kind(), sink.to_string()),
            ("sink", "my-events/a b".to_owned())
        );
        assert!(sink.expect_sink().is_ok() && sink.expect_source().is_err());
        let source: Subject = "my-events".parse().unwrap();
        assert_eq!(source.path(), format!("{SOURCES}/my-events"));
        assert!(source.expect_sink().is_err() && source.expect_source().is_ok());
    }
}
