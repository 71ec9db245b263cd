//! What is left of a sink that was deleted, when its id is taken again.
//!
//! Invariant: what a sink has accepted is delivered, or looked at, as the type says that it was accepted
//! under. Messages of a topic would have no definition once their sink is a table, and dead letters
//! of either would be out of sight: so an id keeps its type until nothing is left.

use forebay_meta::{DefinitionError, Versioned};
use forebay_model::{Sink, SinkKey};

use super::ApiState;
use super::error::{ApiError, ErrorName};
use super::tasks;
use super::types::sink::SinkType;

/// The deleted sink of that id, if it was of another type.
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

/// Refuses to make a sink of another type than the one that was deleted had, while something of
/// that one is left. For the task that makes it: nobody else works on the sink meanwhile, and no
/// node takes records for the former one any more.
pub(super) async fn reject_in_task(
    api: &ApiState,
    key: &SinkKey,
    wanted: SinkType,
) -> Result<(), ApiError> {
    let Some(deleted) = deleted_of_other_type(api, key, wanted).await? else {
        return Ok(());
    };
    if !tasks::wait_for_nodes(api, deleted.revision).await {
        let text = "not all source nodes have followed the deletion of the former sink yet";
        return Err(ApiError::unavailable(text));
    }
    reject_other_type(api, key, wanted).await
}

/// The same at the request, as far as it is known by then.
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
        let reconciliation = reconciliation.map_err(super::statistics::failed)?;
        (reconciliation.in_flight, reconciliation.dead)
    };
    if waiting + dead == 0 {
        return Ok(());
    }
    let deleted_type = deleted.target.type_name();
    let values: [&dyn std::fmt::Display; 4] = [&key.sink, &deleted_type, &waiting, &dead];
    Err(ApiError::from_template(ErrorName::SinkIdInUse, &values))
}
