//! Selection of dead letters, and changes of their records before a replay.

use std::collections::BTreeMap;

use crate::{CauseId, DeadLetterFacts, DeadLetterSelection, Timestamp};

/// Selected dead letters that pass a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterQuery<Id = u64> {
    /// The dead letters.
    pub selection: DeadLetterSelection<Id>,
    /// Conditions.
    pub filter: DeadLetterFilter,
}

/// Conditions on dead letters; all that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Cause of the rejection.
    pub cause: Option<CauseId>,
    /// Name of the error.
    pub error: Option<String>,
    /// The column that failed.
    pub column: Option<String>,
    /// A text in the record or in the message.
    pub contains: Option<String>,
    /// Received at this time or later.
    pub received_from: Option<Timestamp>,
    /// Received before this time.
    pub received_to: Option<Timestamp>,
}

/// A replay of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterReplay<Id: Ord = u64> {
    /// The dead letters.
    pub query: DeadLetterQuery<Id>,
    /// Changed records. If there are some, they are the selected ones, and those of them that were
    /// replayed or dropped before are skipped.
    pub edits: BTreeMap<Id, DeadLetterEdit>,
    /// Whether only the result is computed.
    pub dry_run: bool,
}

/// A changed record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterEdit {
    /// Replaces the body.
    pub body: Option<Vec<u8>>,
    /// Replaces all headers.
    pub headers: Option<BTreeMap<String, String>>,
}

impl DeadLetterFilter {
    /// Whether no condition is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a dead letter passes.
    pub fn matches(&self, facts: &DeadLetterFacts<'_>) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|w| w == found);
        let contains = |text: &String| {
            facts.message.contains(text.as_str())
                || String::from_utf8_lossy(facts.body).contains(text.as_str())
        };
        is(&self.error, facts.error)
            && is(&self.column, facts.column)
            && self.received_from.is_none_or(|from| facts.received >= from)
            && self.received_to.is_none_or(|to| facts.received < to)
            && self.cause.is_none_or(|cause| facts.cause() == cause)
            && self.contains.as_ref().is_none_or(contains)
    }
}

impl<Id> From<DeadLetterSelection<Id>> for DeadLetterQuery<Id> {
    fn from(selection: DeadLetterSelection<Id>) -> Self {
        Self {
            selection,
            filter: DeadLetterFilter::default(),
        }
    }
}

impl<Id> DeadLetterQuery<Id> {
    /// Converts the ids.
    ///
    /// # Errors
    /// The first error of `convert`.
    pub fn try_map<To, E>(
        &self,
        convert: impl Fn(&Id) -> Result<To, E>,
    ) -> Result<DeadLetterQuery<To>, E> {
        Ok(DeadLetterQuery {
            selection: self.selection.try_map(convert)?,
            filter: self.filter.clone(),
        })
    }
}

impl<Id: Ord> From<DeadLetterSelection<Id>> for DeadLetterReplay<Id> {
    fn from(selection: DeadLetterSelection<Id>) -> Self {
        Self {
            query: selection.into(),
            edits: BTreeMap::new(),
            dry_run: false,
        }
    }
}

impl<Id: Ord + Clone> DeadLetterReplay<Id> {
    /// A replay of changed records.
    pub fn of_edits(edits: BTreeMap<Id, DeadLetterEdit>) -> Self {
        let ids = edits.keys().cloned().collect();
        Self {
            query: DeadLetterSelection::These(ids).into(),
            edits,
            dry_run: false,
        }
    }

    /// Converts the ids.
    ///
    /// # Errors
    /// The first error of `convert`.
    pub fn try_map<To: Ord, E>(
        &self,
        convert: impl Fn(&Id) -> Result<To, E>,
    ) -> Result<DeadLetterReplay<To>, E> {
        let edits = self.edits.iter();
        let edits = edits.map(|(id, edit)| Ok((convert(id)?, edit.clone())));
        Ok(DeadLetterReplay {
            edits: edits.collect::<Result<_, _>>()?,
            query: self.query.try_map(convert)?,
            dry_run: self.dry_run,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_must_hold() {
        let facts = DeadLetterFacts {
            received: Timestamp::from_millis(10),
            column: "user",
            error: "pathNotFound",
            message: "path \"user.id\" not found".into(),
            body: b"{\"name\": \"\xffada\"}",
        };
        let text = |text: &str| Some(text.to_owned());
        let at = |millis| Some(Timestamp::from_millis(millis));
        let all = DeadLetterFilter {
            cause: Some(facts.cause()),
            error: text("pathNotFound"),
            column: text("user"),
            contains: text("ada"),
            received_from: at(10),
            received_to: at(11),
        };
        assert!(DeadLetterFilter::default().matches(&facts) && all.matches(&facts));
        let by_message = DeadLetterFilter {
            contains: text("user.id"),
            ..DeadLetterFilter::default()
        };
        assert!(by_message.matches(&facts));
        type Change = fn(&mut DeadLetterFilter);
        let changes: [(Change, &str); 6] = [
            (|f| f.cause = "0000000000000000".parse().ok(), "cause"),
            (|f| f.error = Some("badRequest".to_owned()), "error"),
            (|f| f.column = Some("use".to_owned()), "column"),
            (|f| f.contains = Some("bob".to_owned()), "contains"),
            (
                |f| f.received_from = Some(Timestamp::from_millis(11)),
                "from",
            ),
            (|f| f.received_to = Some(Timestamp::from_millis(10)), "to"),
        ];
        for (change, name) in changes {
            let mut filter = all.clone();
            change(&mut filter);
            assert!(!filter.matches(&facts), "{name}");
        }
    }
}
