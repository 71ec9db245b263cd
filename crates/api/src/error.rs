//! All errors of the API: names, statuses and messages. The OpenAPI document lists them from here.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One row per error: variant, status, name and message template. [`ErrorName::message`] replaces
/// the text in braces; a template that is one pair of braces is a free message. Messages become
/// sentences at the end (see `sentence`): those of a validation are joined before.
macro_rules! errors {
    ($($(#[doc = $doc:literal])* $variant:ident $status:literal $name:literal $message:literal;)+) => {
        /// Error name for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ErrorName {
            $(
                $(#[doc = $doc])*
                ///
                #[doc = $message]
                $variant,
            )+
        }

        impl ErrorName {
            /// All names, sorted.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            const fn row(self) -> (u16, &'static str, &'static str) {
                match self {
                    $(Self::$variant => ($status, $name, $message),)+
                }
            }
        }
    };
}

errors! {
    /// The request is invalid.
    BadRequest 400 "badRequest" "{violation and allowed values}";
    /// The body exceeds the configured limit.
    BodyTooLarge 413 "bodyTooLarge" "Request body size is over the maximum \"{size}\".";
    BranchNotFound 404 "branchNotFound" "Branch \"{branchId}\" not found in the project.";
    /// The sink has no such dead letter, or no longer.
    DeadLetterNotFound 404 "deadLetterNotFound" "Dead letter \"{deadLetterId}\" not found in the sink.";
    /// Dead letters can't be sent on at present.
    DeadLettersRejected 409 "deadLettersRejected" "{why}";
    /// The body is not JSON, or a value in it is of a wrong type.
    DecodePayload 400 "decodePayload" "{where, and what is expected there}";
    /// No sink that was deleted has this id.
    DeletedSinkNotFound 404 "deletedSinkNotFound" "Deleted sink \"{sinkId}\" not found in the source.";
    DeletedSourceNotFound 404 "deletedSourceNotFound" "Deleted source \"{sourceId}\" not found in the branch.";
    /// The path is unknown.
    EndpointNotFound 404 "endpointNotFound" "No endpoint found for path \"{path}\".";
    /// The file does not exist or is imported.
    FileNotFound 404 "fileNotFound" "File \"{openedAt}\" not found in the sink, or already imported.";
    /// The file may still be imported.
    FileNotParked 409 "fileNotParked" "File \"{openedAt}\" is not parked: only a file that its table rejected can be moved to the dead letters.";
    /// The token lacks the required role.
    Forbidden 403 "forbidden" "{required role}";
    /// A bug or failure of the server.
    InternalError 500 "internalError" "{cause}";
    /// The value is not one of the allowed ones.
    InvalidEnumValue 400 "invalidEnumValue" "value of {field} must be one of {values} but got value {value}";
    /// The parameter has the wrong type.
    InvalidFieldType 400 "invalidFieldType" "invalid value {value} for {field}, must be a {type}";
    /// The string or list is too short or too long.
    InvalidLength 400 "invalidLength" "length of {field} must be {greater|lesser} or equal than {limit} but got value {value} (len={length})";
    /// The number is too small or too large.
    InvalidRange 400 "invalidRange" "{field} must be {greater|lesser} or equal than {limit} but got value {value}";
    /// A required value is missing.
    MissingField 400 "missingField" "\"{field}\" is missing from {place}";
    MissingPayload 400 "missingPayload" "Missing required payload.";
    /// A handler panicked.
    PanicError 500 "panicError" "{cause}";
    /// The project does not exist, or the caller has no access.
    ProjectNotFound 404 "projectNotFound" "Project \"{projectId}\" not found.";
    RequestTimeout 408 "requestTimeout" "The request took longer than {limit}.";
    ResourceLimitReached 422 "resourceLimitReached" "{what} limit reached in the project, the maximum is {limit}.";
    /// A retry may succeed.
    ServiceUnavailable 503 "serviceUnavailable" "{cause}";
    SinkAlreadyExists 409 "sinkAlreadyExists" "Sink \"{sinkId}\" already exists in the source.";
    SinkCountLimitReached 409 "sinkCountLimitReached" "Sink count limit reached in the source, the maximum is {limit}. The setting {setting} raises it.";
    /// The deleted sink with this id still has data and another type.
    SinkIdInUse 409 "sinkIdInUse" "Sink id \"{sinkId}\" is in use: it was deleted as \"{type}\" with {waiting} records in flight and {dead} dead letters. Wait until they are delivered, undelete it to process them, or use another id.";
    SinkNotFound 404 "sinkNotFound" "Sink \"{sinkId}\" not found in the source.";
    SinkVersionNotFound 404 "sinkVersionNotFound" "Sink version \"{sinkId}/{versionNumber}\" not found in the source.";
    SourceAlreadyExists 409 "sourceAlreadyExists" "Source \"{sourceId}\" already exists in the branch.";
    SourceCountLimitReached 409 "sourceCountLimitReached" "Source count limit reached in the branch, the maximum is {limit}. The setting {setting} raises it.";
    SourceNotFound 404 "sourceNotFound" "Source \"{sourceId}\" not found in the branch.";
    SourceVersionNotFound 404 "sourceVersionNotFound" "Source version \"{sourceId}/{versionNumber}\" not found in the branch.";
    /// The token is unknown, expired or revoked.
    TokenInvalid 401 "storage.tokenInvalid" "Invalid access token.";
    /// A project that would lose the table still fills it.
    TableInUse 409 "tableInUse" "{why}";
    /// The table belongs to another project, or is being deleted.
    TableNotAvailable 409 "tableNotAvailable" "{why}";
    /// The table could not be deleted with its source.
    TableNotDeleted 409 "tableNotDeleted" "{why}";
    /// The table has no owner, or the caller has no access.
    TableNotFound 404 "tableNotFound" "Table \"{tableId}\" not found.";
    /// One task at a time changes a source or sink.
    TaskAlreadyRunning 409 "taskAlreadyRunning" "Another task is changing {object}, try again when it has finished.";
    /// The task is unknown or was removed.
    TaskNotFound 404 "taskNotFound" "Task \"{taskId}\" not found.";
    TokenCountLimitReached 409 "tokenCountLimitReached" "{maximum}";
    /// The token does not exist, or the caller has no access.
    TokenNotFound 404 "tokenNotFound" "Token \"{tokenId}\" not found.";
    /// The request exceeds a quota.
    TooManyRequests 429 "tooManyRequests" "{quota, and when to retry}";
    /// As many taps are open as the server allows.
    TooManyTaps 429 "tooManyTaps" "{limit} taps are open, which is the maximum (setting api.maxTaps). Close one, or try again later.";
    /// The record does not fit the mapping.
    UnprocessableContent 422 "unprocessableContent" "Invalid value for column \"{column}\": {why}.";
    VersionCountLimitReached 409 "versionCountLimitReached" "Version count limit reached in the {source|sink}, the maximum is {limit}. The setting {setting} raises it.";
    /// The version was removed meanwhile.
    VersionNotFound 404 "versionNotFound" "Version \"{versionNumber}\" not found.";
}

impl ErrorName {
    /// HTTP status, from 400.
    pub fn status(self) -> u16 {
        self.row().0
    }

    /// Name without the prefix.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Name for clients: with the prefix `stream.api.` unless it has a dot.
    pub fn full_name(self) -> String {
        let name = self.name();
        if name.contains('.') {
            name.to_owned()
        } else {
            format!("stream.api.{name}")
        }
    }

    /// The error of a name without the prefix.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|e| e.name() == name)
    }

    /// The message with placeholders in braces.
    pub fn template(self) -> &'static str {
        self.row().2
    }

    /// The message with `values` in place of the placeholders, in order.
    pub fn message(self, values: &[&dyn Display]) -> String {
        let mut message = String::new();
        let mut values = values.iter();
        let mut rest = self.template();
        while let Some((before, after)) = rest.split_once('{') {
            message.push_str(before);
            if let Some(value) = values.next() {
                message.push_str(&value.to_string());
            }
            rest = after.split_once('}').map_or("", |(_, rest)| rest);
        }
        debug_assert!(values.next().is_none(), "{self}: too many values");
        message.push_str(rest);
        message
    }
}

/// The body of every error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Error)]
#[serde(rename_all = "camelCase")]
pub struct ApiErrorBody {
    /// HTTP status.
    pub status_code: u16,
    /// Error name for programs.
    #[schema(example = "stream.api.sourceNotFound")]
    pub error: String,
    /// Message for users.
    pub message: String,
    /// Id to report to the operator of the server; only with internal errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub exception_id: Option<String>,
}

impl Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_statuses_are_errors() {
        let names: Vec<&str> = ErrorName::ALL.iter().map(|e| e.name()).collect();
        assert!(names.is_sorted(), "{names:?}");
        for error in ErrorName::ALL {
            assert!((400..600).contains(&error.status()), "{error}");
            let (open, close) = (error.template().matches('{'), error.template().matches('}'));
            assert_eq!(open.count(), close.count(), "{error}");
        }
    }

    #[test]
    fn messages_are_filled_in_order() {
        let message = ErrorName::SourceVersionNotFound.message(&[&"a", &"0000000007"]);
        assert_eq!(
            message,
            "Source version \"a/0000000007\" not found in the branch."
        );
        assert_eq!(ErrorName::Forbidden.message(&[&"no {one}"]), "no {one}");
    }
}
