//! What is known to be in a table, so that an unchanged row is not written again.
//!
//! The cache may be lost, stale or away at any time, and no row may be lost by that. So:
//!
//! - a hash is noted only after its row was written;
//! - a hash that differs is forgotten *before* the row is written: if the process dies between the
//!   write and the note, nothing is known of the key, instead of something wrong;
//! - when forgetting fails, everything is forgotten: hashes are kept under the table's incarnation
//!   and a generation of the job's state, and a new generation is begun before anything is written.

use forebay_remote::keyed::{Prepared, Row, Shape};

use crate::definition::Cache;
use crate::engine::Run;
use crate::engine::outcome::Failure;

/// Hashes of the rows of a table.
pub(super) struct Known {}

/// What of a batch has to be written.
pub(super) struct Plan {
    /// Places of the rows.
    pub(super) wanted: Vec<usize>,
}

impl Known {
    pub(super) async fn open(
        _run: &Run,
        cache: &Cache,
        _shape: &Shape,
        _prepared: &Prepared,
    ) -> Result<Option<Self>, Failure> {
        match cache {
            Cache::None => Ok(None),
            Cache::Embedded | Cache::Redis { .. } => Ok(None),
        }
    }

    pub(super) async fn plan(
        &self,
        _shape: &Shape,
        _rows: &[Row],
        wanted: &[usize],
    ) -> Result<Plan, Failure> {
        Ok(Plan {
            wanted: wanted.to_vec(),
        })
    }

    pub(super) async fn note(&self, _plan: Plan, _is_dead: &[bool]) {}
}
