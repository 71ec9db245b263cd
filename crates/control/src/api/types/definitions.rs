//! Definition changes that are validated together.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Changes in the order in which they would be made.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ValidateDefinitionsRequest)]
pub(crate) struct DefinitionCheck {
    #[schema(min_items = 1, max_items = 1000)]
    pub(crate) changes: Vec<DefinitionChange>,
}

/// A change, as it would be sent to its own address.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DefinitionChange {
    /// `POST` or `PATCH`.
    #[schema(example = "POST")]
    pub(crate) method: String,
    /// Path below `/v1/branches/{branchId}/`.
    #[schema(example = "sources/github/sinks")]
    pub(crate) path: String,
    #[schema(value_type = Object)]
    pub(crate) body: Value,
}

/// Result of a validation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ValidateDefinitionsResult)]
pub(crate) struct DefinitionReport {
    /// Empty when all changes can be made.
    pub(crate) violations: Vec<DefinitionViolation>,
}

/// Why a change would be rejected.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DefinitionViolation)]
pub(crate) struct DefinitionViolation {
    /// Index of the change.
    pub(crate) change: usize,
    /// Error name that its own address would return.
    #[schema(example = "stream.api.badRequest")]
    pub(crate) error: String,
    pub(crate) message: String,
}
