//! Selections, filters and edits of requests.

use std::collections::BTreeMap;

use base64::Engine as _;
use forebay_api::dead_letter::{
    DeadLetterEditRequest, DeadLetterFilterRequest, DeadLetterReplayRequest,
    DeadLetterSelectionRequest,
};
use forebay_api::params::DeadLetterFilterQuery;
use forebay_model::{DeadLetterEdit, DeadLetterFilter, DeadLetterId, Timestamp};

use super::service::{DeadLetterQuery, DeadLetterReplay, DeadLetterSelection};
use crate::api::error::ApiError;

/// Prefix of error names in responses.
pub(super) const ERROR_PREFIX: &str = "stream.in.";

pub(super) fn query_of(request: DeadLetterSelectionRequest) -> Result<DeadLetterQuery, ApiError> {
    let DeadLetterSelectionRequest {
        dead_letter_ids,
        after_id,
        filter,
    } = request;
    let selection = match (dead_letter_ids, &after_id, &filter) {
        (Some(_), Some(_), _) => return Err(not_combined("deadLetterIds", "afterId")),
        (Some(_), _, Some(_)) => return Err(not_combined("deadLetterIds", "filter")),
        (Some(ids), None, None) => {
            let ids: Result<_, _> = ids.iter().map(|id| parse_dead_letter_id(id)).collect();
            DeadLetterSelection::These(ids?)
        }
        (None, after, _) => {
            let after = after.as_deref().map(parse_dead_letter_id);
            DeadLetterSelection::After(after.transpose()?)
        }
    };
    Ok(DeadLetterQuery {
        selection,
        filter: filter_of(filter.unwrap_or_default())?,
    })
}

pub(super) fn replay_of(request: DeadLetterReplayRequest) -> Result<DeadLetterReplay, ApiError> {
    let DeadLetterReplayRequest {
        dead_letter_ids,
        after_id,
        filter,
        edits,
        dry_run,
    } = request;
    let dry_run = dry_run.unwrap_or_default();
    let Some(edits) = edits else {
        let selection = DeadLetterSelectionRequest {
            dead_letter_ids,
            after_id,
            filter,
        };
        return Ok(DeadLetterReplay {
            query: query_of(selection)?,
            edits: BTreeMap::new(),
            dry_run,
        });
    };
    for (name, is_set) in [
        ("deadLetterIds", dead_letter_ids.is_some()),
        ("afterId", after_id.is_some()),
        ("filter", filter.is_some()),
    ] {
        if is_set {
            return Err(not_combined("edits", name));
        }
    }
    let mut by_id = BTreeMap::new();
    for (i, edit) in edits.into_iter().enumerate() {
        let id = parse_dead_letter_id(&edit.dead_letter_id)?;
        if by_id.insert(id.clone(), edit_of(i, edit)?).is_some() {
            let text = format!("\"edits\" has the dead letter \"{id}\" twice");
            return Err(ApiError::bad_request(text).at(format!("edits[{i}].deadLetterId")));
        }
    }
    Ok(DeadLetterReplay {
        dry_run,
        ..DeadLetterReplay::of_edits(by_id)
    })
}

fn edit_of(i: usize, edit: DeadLetterEditRequest) -> Result<DeadLetterEdit, ApiError> {
    let body = match (edit.body, edit.body_base64) {
        (Some(_), Some(_)) => {
            let text = format!(
                "\"edits[{i}]\" has both \"body\" and \"bodyBase64\"; allowed is one of them"
            );
            return Err(ApiError::bad_request(text).at(format!("edits[{i}].bodyBase64")));
        }
        (Some(text), None) => Some(text.into_bytes()),
        (None, Some(text)) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            Some(decoded.map_err(|e| {
                ApiError::bad_request(format!("\"edits[{i}].bodyBase64\" is not Base64: {e}"))
                    .at(format!("edits[{i}].bodyBase64"))
            })?)
        }
        (None, None) => None,
    };
    Ok(DeadLetterEdit {
        body,
        headers: edit.headers.map(|headers| {
            let headers = headers.into_iter();
            headers.map(|h| (h.name, h.value)).collect()
        }),
    })
}

pub(super) fn filter_of(request: DeadLetterFilterRequest) -> Result<DeadLetterFilter, ApiError> {
    let cause = request.cause_id.map(|id| {
        id.parse()
            .map_err(|e: forebay_model::InvalidCauseId| ApiError::bad_request(e.to_string()))
    });
    let time = |name: &str, text: Option<String>| {
        let parsed = text.map(|text| text.parse::<Timestamp>());
        let parsed = parsed.transpose();
        parsed.map_err(|e| ApiError::bad_request(format!("invalid \"{name}\": {e}")))
    };
    let name = |error: String| match error.strip_prefix(ERROR_PREFIX) {
        Some(name) => name.to_owned(),
        None => error,
    };
    Ok(DeadLetterFilter {
        cause: cause.transpose()?,
        error: request.error.map(name),
        column: request.column,
        contains: request.contains,
        received_from: time("receivedFrom", request.received_from)?,
        received_to: time("receivedTo", request.received_to)?,
    })
}

/// The filter of a query; empty values are no condition.
pub(super) fn filter_of_query(query: DeadLetterFilterQuery) -> Result<DeadLetterFilter, ApiError> {
    let set = |text: String| Some(text).filter(|t| !t.is_empty());
    filter_of(DeadLetterFilterRequest {
        cause_id: set(query.cause_id),
        error: set(query.error),
        column: set(query.column),
        contains: set(query.contains),
        received_from: set(query.received_from),
        received_to: set(query.received_to),
    })
}

/// The id after which a page begins; an empty one is its start.
pub(super) fn start(after_id: &str) -> Result<Option<DeadLetterId>, ApiError> {
    match after_id {
        "" => Ok(None),
        id => parse_dead_letter_id(id).map(Some),
    }
}

pub(super) fn parse_dead_letter_id(text: &str) -> Result<DeadLetterId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid dead letter id \"{text}\": expected an id from the list, like \"3f0c9a6b1d2e4f58-12\""
        ))
    })
}

fn not_combined(a: &str, b: &str) -> ApiError {
    ApiError::bad_request(format!("\"{a}\" and \"{b}\" can't be combined"))
}
