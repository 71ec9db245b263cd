//! Pagination of an API, and its end conditions.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// Pagination: how the next page is found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Paging {
    /// A response has the cursor of the next page. Without `param`, a cursor that is a URL (`https://…`) is
    /// the URL of the next page, as with `next`.
    Cursor {
        /// JSON path of the cursor in a response.
        #[serde(default = "cursor")]
        cursor: String,
        /// Query parameter for the cursor. Default: the cursor is a step of the path.
        #[serde(default)]
        param: Option<String>,
        /// Cursors that mean no next page, besides `null`, `false` and an empty string, which always do.
        #[serde(default = "end")]
        end: Vec<Value>,
    },
    /// A parameter with the number of records to skip.
    Offset {
        /// Name of the parameter.
        #[serde(default = "offset")]
        param: String,
        /// Parameter for the page size.
        #[serde(default = "limit")]
        size_param: String,
        /// Records per page. 1 to 100000.
        #[serde(default = "page_size")]
        #[schemars(range(min = 1, max = 100_000))]
        size: u32,
        /// Allow pages with equal records. By default such a page means that the API loops.
        #[serde(default)]
        repeats: bool,
    },
    /// A parameter with the page number.
    Page {
        /// Name of the parameter.
        #[serde(default = "page")]
        param: String,
        /// Number of the first page.
        #[serde(default = "one")]
        first: u64,
        /// Allow pages with equal records. By default such a page means that the API loops.
        #[serde(default)]
        repeats: bool,
    },
    /// A response has the URL of the next page, absolute or relative to its own (`?page=2`).
    Next {
        /// JSON path of the URL in a response.
        #[serde(default = "next")]
        path: String,
    },
    /// The response header `Link` has the URL of the next page (`rel="next"`).
    Link,
}

impl Default for Paging {
    fn default() -> Self {
        Self::Cursor {
            cursor: cursor(),
            param: None,
            end: end(),
        }
    }
}

/// End conditions; the first one that holds ends the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EndConditions {
    /// A page has no records.
    pub empty_page: bool,
    /// A page has no next page.
    pub no_next: bool,
    /// JSON path of a field that marks the last page (`has_more`). The records of that page are included.
    pub field: Option<String>,
    /// Value of `field` on the last page; `null` also matches a missing field. Default: `false`.
    #[serde(deserialize_with = "given")]
    pub equals: Option<Value>,
    /// Statuses that mean that the page does not exist (`[404]`): 4xx except 401, 403, 407, 408 and 429. They
    /// do not apply to the first page.
    pub status: Vec<u16>,
    /// A page repeats: its URL, or the records of an earlier page, which are not read twice.
    pub repeat: bool,
    /// Number of pages with records to read.
    #[schemars(range(min = 1))]
    pub pages: Option<u64>,
    /// Minimum number of records to read.
    #[schemars(range(min = 1))]
    pub records: Option<u64>,
}

impl EndConditions {
    /// Value of `field` on the last page.
    pub(crate) fn last_value(&self) -> Value {
        self.equals.clone().unwrap_or(json!(false))
    }
}

/// Deserializes a present value, even `null`, as `Some`.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn cursor() -> String {
    "cursor".to_owned()
}

fn end() -> Vec<Value> {
    vec![json!(0)]
}

fn offset() -> String {
    "offset".to_owned()
}

fn limit() -> String {
    "limit".to_owned()
}

fn page() -> String {
    "page".to_owned()
}

fn next() -> String {
    "next".to_owned()
}

fn one() -> u64 {
    1
}

fn page_size() -> u32 {
    100
}
