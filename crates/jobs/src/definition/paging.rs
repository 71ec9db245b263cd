//! How one page of an API leads to the next, and when it ends.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

/// How one page leads to the next.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Paging {
    /// An answer has the cursor of the next page. Without `param`, a cursor that is an address
    /// (`https://…`) is that of the next page, as with `next`.
    Cursor {
        /// JSON path of the cursor in an answer.
        #[serde(default = "cursor")]
        cursor: String,
        /// Parameter that takes the cursor; without it the cursor is a step of the path.
        #[serde(default)]
        param: Option<String>,
        /// Cursors that name no next page, besides `null`, `false` and an empty text, which never do.
        #[serde(default = "end")]
        end: Vec<Value>,
    },
    /// A parameter says how many records to skip.
    Offset {
        /// Name of the parameter.
        #[serde(default = "offset")]
        param: String,
        /// Parameter of the page's size.
        #[serde(default = "limit")]
        size_param: String,
        /// Records of a page. 1 to 100000.
        #[serde(default = "page_size")]
        #[schemars(range(min = 1, max = 100_000))]
        size: u32,
        /// Two pages may have the same records. Without it such a page means that the API goes
        /// round.
        #[serde(default)]
        repeats: bool,
    },
    /// A parameter says which page.
    Page {
        /// Name of the parameter.
        #[serde(default = "page")]
        param: String,
        /// Number of the first page.
        #[serde(default = "one")]
        first: u64,
        /// Two pages may have the same records. Without it such a page means that the API goes
        /// round.
        #[serde(default)]
        repeats: bool,
    },
    /// An answer has the address of the next page, whole or seen from its own (`?page=2`).
    Next {
        /// JSON path of the address in an answer.
        #[serde(default = "next")]
        path: String,
    },
    /// The answer's header `Link` has the address of the next page (`rel="next"`).
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

/// When it ends; the first condition that holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct EndConditions {
    /// A page has no records.
    pub empty_page: bool,
    /// A page names no next one.
    pub no_next: bool,
    /// JSON path of a field by whose value a page is the last one (`has_more`). Its records are
    /// taken.
    pub field: Option<String>,
    /// The value of `field` that ends the pages; `null` also stands for a field that is not there.
    /// Without it `false`.
    #[serde(deserialize_with = "given")]
    pub equals: Option<Value>,
    /// Statuses by which an API says that there is no such page (`[404]`): of 4xx all but 401, 403,
    /// 407, 408 and 429. The first page has to be there.
    pub status: Vec<u16>,
    /// A page comes again: the records of an earlier one, which are not taken again, or its address.
    pub repeat: bool,
    /// Number of pages with records after which the reading ends.
    #[schemars(range(min = 1))]
    pub pages: Option<u64>,
    /// At least that many records were read.
    #[schemars(range(min = 1))]
    pub records: Option<u64>,
}

impl EndConditions {
    /// The value of `field` at the end.
    #[must_use]
    pub fn last_value(&self) -> Value {
        self.equals.clone().unwrap_or(json!(false))
    }
}

/// A value that is there, if only null.
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
