//! All errors that the API answers: the one place of their names, statuses and messages. The
//! OpenAPI document lists them from here.

use std::fmt::{self, Display};

use http::StatusCode;

/// One row for each error: variant, status, name, and its message. What stands in braces there is
/// put in place by [`ErrorName::message`]; a message that is one pair of braces is free. Messages
/// become sentences in the end (see `sentence`): several of a validation are joined before.
macro_rules! errors {
    ($($(#[doc = $doc:literal])+ $variant:ident $status:literal $name:literal $message:literal;)+) => {
        /// What went wrong, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum ErrorName {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ErrorName {
            /// All of them, sorted by name.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            const fn row(self) -> (u16, &'static str, &'static str) {
                match self {
                    $(Self::$variant => ($status, $name, $message),)+
                }
            }
        }
    };
}

errors! {
    /// The request makes no sense.
    BadRequest 400 "badRequest" "{what is wrong, and what is allowed}";
    /// A limit of the configuration.
    BodyTooLarge 413 "bodyTooLarge" "Request body size is over the maximum \"{size}\".";
    /// The project has no such branch.
    BranchNotFound 404 "branchNotFound" "Branch \"{branchId}\" not found in the project.";
    /// The sink has no such dead letter, or no longer.
    DeadLetterNotFound 404 "deadLetterNotFound" "Dead letter \"{deadLetterId}\" not found in the sink.";
    /// Dead letters can't be sent on at present.
    DeadLettersRejected 409 "deadLettersRejected" "{why}";
    /// The body is not JSON, or a value in it is of a wrong type.
    DecodePayload 400 "decodePayload" "{where, and what is expected there}";
    /// No sink that was deleted has this id.
    DeletedSinkNotFound 404 "deletedSinkNotFound" "Deleted sink \"{sinkId}\" not found in the source.";
    /// No source that was deleted has this id.
    DeletedSourceNotFound 404 "deletedSourceNotFound" "Deleted source \"{sourceId}\" not found in the branch.";
    /// The address leads nowhere.
    EndpointNotFound 404 "endpointNotFound" "No endpoint found for path \"{path}\".";
    /// The sink has no such file, or it is imported.
    FileNotFound 404 "fileNotFound" "File \"{openedAt}\" that is not imported not found in the sink.";
    /// The file may still get into its table.
    FileNotParked 409 "fileNotParked" "File \"{openedAt}\" is not parked: only one that its table can't take can be made dead letters.";
    /// The token may not do this.
    Forbidden 403 "forbidden" "{who may}";
    /// A fault of the server.
    InternalError 500 "internalError" "{cause}";
    /// A value is none of those that are allowed.
    InvalidEnumValue 400 "invalidEnumValue" "value of {field} must be one of {values} but got value {value}";
    /// A parameter is not of its type.
    InvalidFieldType 400 "invalidFieldType" "invalid value {value} for {field}, must be a {type}";
    /// A text or list is too short or too long.
    InvalidLength 400 "invalidLength" "length of {field} must be {greater|lesser} or equal than {limit} but got value {value} (len={length})";
    /// A number is too small or too large.
    InvalidRange 400 "invalidRange" "{field} must be {greater|lesser} or equal than {limit} but got value {value}";
    /// Something that is required is not there.
    MissingField 400 "missingField" "\"{field}\" is missing from {place}";
    /// The body is empty.
    MissingPayload 400 "missingPayload" "Missing required payload.";
    /// A fault of the server.
    PanicError 500 "panicError" "{cause}";
    /// No such project, or none of the caller's.
    ProjectNotFound 404 "projectNotFound" "Project \"{projectId}\" not found.";
    /// The request took longer than it may.
    RequestTimeout 408 "requestTimeout" "The request took longer than {limit}.";
    /// There are as many as there may be.
    ResourceLimitReached 422 "resourceLimitReached" "{what} limit reached in the project, the maximum is {limit}.";
    /// It may succeed when it is sent again.
    ServiceUnavailable 503 "serviceUnavailable" "{cause}";
    /// The id is taken.
    SinkAlreadyExists 409 "sinkAlreadyExists" "Sink \"{sinkId}\" already exists in the source.";
    /// There are as many as there may be.
    SinkCountLimitReached 409 "sinkCountLimitReached" "Sink count limit reached in the source, the maximum is {limit}. The setting {setting} raises it.";
    /// Something is left of the sink that had the id, and the new one is of another type.
    SinkIdInUse 409 "sinkIdInUse" "Sink id \"{sinkId}\" is in use: it was deleted as \"{type}\" with {waiting} records on their way and {dead} dead letters. Wait until they are delivered, undelete it to see to them, or take another id.";
    /// The source has no such sink.
    SinkNotFound 404 "sinkNotFound" "Sink \"{sinkId}\" not found in the source.";
    /// The sink never had this version.
    SinkVersionNotFound 404 "sinkVersionNotFound" "Sink version \"{sinkId}/{versionNumber}\" not found in the source.";
    /// The id is taken.
    SourceAlreadyExists 409 "sourceAlreadyExists" "Source \"{sourceId}\" already exists in the branch.";
    /// There are as many as there may be.
    SourceCountLimitReached 409 "sourceCountLimitReached" "Source count limit reached in the branch, the maximum is {limit}. The setting {setting} raises it.";
    /// The branch has no such source.
    SourceNotFound 404 "sourceNotFound" "Source \"{sourceId}\" not found in the branch.";
    /// The source never had this version.
    SourceVersionNotFound 404 "sourceVersionNotFound" "Source version \"{sourceId}/{versionNumber}\" not found in the branch.";
    /// Nobody has this token, or no longer.
    TokenInvalid 401 "storage.tokenInvalid" "Invalid access token.";
    /// A project that would lose the table still fills it.
    TableInUse 409 "tableInUse" "{why}";
    /// The table is another project's, or is being deleted.
    TableNotAvailable 409 "tableNotAvailable" "{why}";
    /// A table could not be deleted together with its source.
    TableNotDeleted 409 "tableNotDeleted" "{why}";
    /// It belongs to no project, or to none of the caller's.
    TableNotFound 404 "tableNotFound" "Table \"{tableId}\" not found.";
    /// One task at a time changes a source or sink.
    TaskAlreadyRunning 409 "taskAlreadyRunning" "Another task is changing {object}, try again when it has finished.";
    /// No such task, or it has ended long ago.
    TaskNotFound 404 "taskNotFound" "Task \"{taskId}\" not found.";
    /// There are as many as there may be.
    TokenCountLimitReached 409 "tokenCountLimitReached" "{what is the maximum}";
    /// No such token, or none of the caller's.
    TokenNotFound 404 "tokenNotFound" "Token \"{tokenId}\" not found.";
    /// More than the quota allows.
    TooManyRequests 429 "tooManyRequests" "{which quota, and when there is room again}";
    /// The record does not fit the mapping.
    UnprocessableContent 422 "unprocessableContent" "Invalid value for column \"{column}\": {why}.";
    /// There are as many as there may be.
    VersionCountLimitReached 409 "versionCountLimitReached" "Version count limit reached in the {source|sink}, the maximum is {limit}. The setting {setting} raises it.";
    /// It was forgotten meanwhile.
    VersionNotFound 404 "versionNotFound" "Version \"{versionNumber}\" not found.";
}

impl ErrorName {
    /// Of the answer.
    pub(crate) fn status(self) -> StatusCode {
        // A test goes through them all.
        StatusCode::from_u16(self.row().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Without the prefix.
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    /// As clients get it: `stream.api.` is put before it unless it has a dot.
    pub(crate) fn full_name(self) -> String {
        let name = self.name();
        if name.contains('.') {
            name.to_owned()
        } else {
            format!("stream.api.{name}")
        }
    }

    /// That of a name without the prefix.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|e| e.name() == name)
    }

    /// How the message reads; what stands in braces differs.
    pub(crate) fn template(self) -> &'static str {
        self.row().2
    }

    /// The message with `values` in place of what stands in braces, one after the other.
    pub(crate) fn message(self, values: &[&dyn Display]) -> String {
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
            assert_eq!(error.status().as_u16(), error.row().0, "{error}");
            assert!((400..600).contains(&error.row().0), "{error}");
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
