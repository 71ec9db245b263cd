//! Checks the data of a deleted sink when its id is reused.
//!
//! Invariant: accepted records are delivered and shown with the sink type under which they were
//! accepted. Messages of a topic would have no definition once their sink is a table, and dead
//! letters of either type would be hidden: so an id keeps its type until no data is left.

use forebay_meta::{DefinitionError, Versioned};
use forebay_model::{Sink, SinkKey};

use super::ApiState;
use super::error::{ApiError, ErrorName};
use super::tasks;
use forebay_api::sink::SinkType;

/// The deleted sink with the id, if its type differs.
async fn deleted_of_other_type(
    api: &ApiState,
    key: &SinkKey,
    wanted: SinkType,
) -> Result<Option<Versioned<Sink>>, ApiError> {
    match api.repo.deleted_sink(key).await {
        Ok(deleted) => Ok(Some(deleted).filter(|f| SinkType::from_target(&f.target) != wanted)),
        Err(DefinitionError::SinkNotFound(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Rejects the creation of a sink while the deleted sink with the same id and another type still
/// has data. For the task that creates it: no other task changes the sink then, and no node accepts
/// records for the deleted one.
pub(super) async fn reject_in_task(
    api: &ApiState,
    key: &SinkKey,
    wanted: SinkType,
) -> Result<(), ApiError> {
    let Some(deleted) = deleted_of_other_type(api, key, wanted).await? else {
        return Ok(());
    };
    if !tasks::wait_for_nodes(api, deleted.revision).await {
        let text = "not all source nodes have stopped the deleted sink yet";
        return Err(ApiError::unavailable(text));
    }
    reject_other_type(api, key, wanted).await
}

/// The same check at the request, as far as known by then.
pub(super) async fn reject_other_type(
    api: &ApiState,
    key: &SinkKey,
    wanted: SinkType,
) -> Result<(), ApiError> {
    let Some(deleted) = deleted_of_other_type(api, key, wanted).await? else {
        return Ok(());
    };
    let (waiting, dead) = if deleted.target.topic().is_some() {
        let counts = api.topics.statistics(&deleted);
        (counts.waiting, counts.dead)
    } else {
        let reconciliation = api.repo.reconciliation(key).await;
        let reconciliation = reconciliation?;
        (reconciliation.in_flight, reconciliation.dead)
    };
    if waiting + dead == 0 {
        return Ok(());
    }
    let deleted_type = deleted.target.type_name();
    let values: [&dyn std::fmt::Display; 4] = [&key.sink, &deleted_type, &waiting, &dead];
    Err(ApiError::from_template(ErrorName::SinkIdInUse, &values))
}
