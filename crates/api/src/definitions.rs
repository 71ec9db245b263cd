//! Definition changes that are validated together.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Changes in the order in which they would be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ValidateDefinitionsRequest)]
pub struct DefinitionCheck {
    /// Changes; a later one may depend on an earlier one.
    #[schema(min_items = 1, max_items = 1000)]
    pub changes: Vec<DefinitionChange>,
}

/// A change, as it would be sent to its own address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DefinitionChange {
    /// `POST` or `PATCH`.
    #[schema(example = "POST")]
    pub method: String,
    /// Path below `/v1/branches/{branchId}/`.
    #[schema(example = "sources/github/sinks")]
    pub path: String,
    /// Body of the request.
    #[schema(value_type = Object)]
    pub body: Value,
}

/// Result of a validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ValidateDefinitionsResult)]
pub struct DefinitionReport {
    /// Empty when all changes can be made.
    pub violations: Vec<DefinitionViolation>,
}

/// Why a change would be rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DefinitionViolation)]
pub struct DefinitionViolation {
    /// Index of the change.
    pub change: usize,
    /// Error name that its own address would return.
    #[schema(example = "stream.api.badRequest")]
    pub error: String,
    /// Message for users.
    pub message: String,
    /// Field of the body, like `table.mapping.columns[0].path`; absent if it is the change as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "table.tableId")]
    pub field: Option<String>,
}
