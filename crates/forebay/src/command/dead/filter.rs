//! Filters of dead letters.

use forebay_api::dead_letter::DeadLetterFilterRequest;
use forebay_model::{Clock, HumanDuration, Timestamp};

use crate::api_client::encoded;
use crate::cli_error::CliError;
use crate::clock::SystemClock;

/// Conditions on the dead letters of a sink; all that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Filter (dead letters of sinks)")]
pub(super) struct DeadLetterFilterArgs {
    /// Only those with this cause; `forebay dead causes` lists them
    #[arg(long, value_name = "ID")]
    cause: Option<String>,
    /// Only those with this error, like pathNotFound
    #[arg(long, value_name = "NAME")]
    error: Option<String>,
    /// Only those of this column
    #[arg(long, value_name = "NAME")]
    column: Option<String>,
    /// Only those with this text in the record or the message
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// Only those received since this time, or within this duration, like 2h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those received before this time, or before this duration, like 2h
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl DeadLetterFilterArgs {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn request(&self) -> Result<DeadLetterFilterRequest, CliError> {
        let now = SystemClock.now();
        let moment = |name: &str, text: &Option<String>| match text {
            Some(text) => parse_moment(name, text, now).map(|t| Some(t.to_string())),
            None => Ok(None),
        };
        Ok(DeadLetterFilterRequest {
            cause_id: self.cause.clone(),
            error: self.error.clone(),
            column: self.column.clone(),
            contains: self.contains.clone(),
            received_from: moment("--since", &self.since)?,
            received_to: moment("--until", &self.until)?,
        })
    }
}

fn parse_moment(name: &str, text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    if let Ok(ago) = text.parse::<HumanDuration>() {
        let millis = i64::try_from(ago.0.as_millis()).unwrap_or(i64::MAX);
        return Ok(Timestamp::from_millis(
            now.as_millis().saturating_sub(millis),
        ));
    }
    text.parse().map_err(|_| {
        CliError::usage(format_args!(
            "{name} is {text:?}; allowed is a time like 2026-11-21T05:01:49Z, or a duration like 2h"
        ))
    })
}

/// The conditions as parameters of a query string, each with a leading `&`.
pub(super) fn query(filter: &DeadLetterFilterRequest) -> String {
    let parameters = [
        ("causeId", &filter.cause_id),
        ("error", &filter.error),
        ("column", &filter.column),
        ("contains", &filter.contains),
        ("receivedFrom", &filter.received_from),
        ("receivedTo", &filter.received_to),
    ];
    let set = parameters.iter();
    set.filter_map(|(name, value)| value.as_ref().map(|v| format!("&{name}={}", encoded(v))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_durations() {
        let now = Timestamp::from_millis(10_000_000);
        let parse = |text| parse_moment("--since", text, now).map_err(|e| e.to_string());
        assert_eq!(parse("1h"), Ok(Timestamp::from_millis(6_400_000)));
        assert_eq!(
            parse("1970-01-01T00:00:05Z"),
            Ok(Timestamp::from_millis(5_000))
        );
        let error = parse("yesterday").unwrap_err();
        assert!(error.contains("--since is \"yesterday\""), "{error}");
    }

    #[test]
    fn conditions_are_encoded() {
        let filter = DeadLetterFilterRequest {
            contains: Some("a&b".to_owned()),
            error: Some("pathNotFound".to_owned()),
            ..DeadLetterFilterRequest::default()
        };
        assert_eq!(query(&filter), "&error=pathNotFound&contains=a%26b");
        assert_eq!(query(&DeadLetterFilterRequest::default()), "");
    }
}
