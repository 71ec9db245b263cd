//! Counts of an open slice, as reported by one node.

use forebay_model::Statistics;

use super::common::StatisticsForm;
use super::{Stored, StoredError, decode_only_form};

impl Stored for Statistics {
    const WHAT: &'static str = "statistics";
    const VERSION: u32 = 1;
    type Form = StatisticsForm;

    fn to_form(&self) -> StatisticsForm {
        self.into()
    }

    fn from_value(version: u32, value: &[u8]) -> Result<Self, StoredError> {
        let form: StatisticsForm = decode_only_form::<Self, _>(version, value)?;
        Ok(form.into())
    }
}
