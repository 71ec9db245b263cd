//! Findings of checks.

use serde::Serialize;

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FindingState {
    Ok,
    Failed,
    /// Does not apply, or could not be checked.
    Skipped,
}

/// A check, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DoctorFinding {
    pub(crate) name: String,
    pub(crate) state: FindingState,
    pub(crate) detail: String,
    /// Advice; only of a failed check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

impl DoctorFinding {
    pub(super) fn ok(name: &str, detail: impl ToString) -> Self {
        Self {
            name: name.to_owned(),
            state: FindingState::Ok,
            detail: detail.to_string(),
            advice: None,
        }
    }

    pub(super) fn skipped(name: &str, detail: impl ToString) -> Self {
        Self {
            state: FindingState::Skipped,
            ..Self::ok(name, detail)
        }
    }

    pub(super) fn failed(name: &str, detail: impl ToString, advice: impl ToString) -> Self {
        Self {
            state: FindingState::Failed,
            advice: Some(advice.to_string()),
            ..Self::ok(name, detail)
        }
    }

    /// One line for people.
    pub(super) fn line(&self, width: usize) -> String {
        let mark = match self.state {
            FindingState::Ok => '✓',
            FindingState::Failed => '✗',
            FindingState::Skipped => '–',
        };
        let advice = self.advice.as_ref().map(|a| format!(": {a}"));
        // A line each, whatever the cause says.
        let text = format!("{}{}", self.detail, advice.unwrap_or_default());
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{mark} {:width$}  {text}", self.name)
    }
}
