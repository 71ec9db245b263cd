//! What is left of a sink that was deleted, when its id is taken again.
//!
//! Invariant: what a sink has accepted is delivered, or looked at, as the type says that it was accepted
//! under. Messages of a topic would have no definition once their sink is a table, and dead letters
//! of either would be out of sight: so an id keeps its type until nothing is left.

use forebay_meta::{DefinitionError, Revised};
use forebay_model::{Sink, SinkKey};

use super::Inner;
use super::error::{ApiError, ErrorName};
use super::tasks;
use super::types::sink::SinkType;

/// The deleted sink of that id, if it was of another type.
async fn of_other_type(
    api: &Inner,
    key: &SinkKey,
    wanted: SinkType,
) -> Result<Option<Revised<Sink>>, ApiError> {
    match api.repo.deleted_sink(key).await {
        Ok(former) => Ok(Some(former).filter(|f| SinkType::of(&f.target) != wanted)),
        Err(DefinitionError::SinkNotFound(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Refuses to make a sink of another type than the one that was deleted had, while something of
/// that one is left. For the task that makes it: nobody else works on the sink meanwhile, and no
/// node takes records for the former one any more.
pub(super) async fn refuse_in_task(
    api: &Inner,
    key: &SinkKey,
    wanted: SinkType,
) -> Result<(), ApiError> {
    let Some(former) = of_other_type(api, key, wanted).await? else {
        return Ok(());
    };
    if !tasks::follow(api, former.revision).await {
        let text = "not all source nodes have followed the deletion of the former sink yet";
        return Err(ApiError::unavailable(text));
    }
    refuse_other_type(api, key, wanted).await
}

/// The same at the request, as far as it is known by then.
pub(super) async fn refuse_other_type(
    api: &Inner,
    key: &SinkKey,
    wanted: SinkType,
) -> Result<(), ApiError> {
    let Some(former) = of_other_type(api, key, wanted).await? else {
        return Ok(());
    };
    let (waiting, dead) = if former.target.topic().is_some() {
        let counts = api.topics.statistics(&former);
        (counts.waiting, counts.dead)
    } else {
        let balance = api.repo.balance(key).await;
        let balance = balance.map_err(super::statistics::failed)?;
        (balance.in_flight, balance.dead)
    };
    if waiting + dead == 0 {
        return Ok(());
    }
    let former = former.target.type_name();
    let values: [&dyn std::fmt::Display; 4] = [&key.sink, &former, &waiting, &dead];
    Err(ApiError::of(ErrorName::SinkIdInUse, &values))
}
