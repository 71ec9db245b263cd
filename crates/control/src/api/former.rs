//! What is left of a sink that was deleted, when its id is taken again.
//!
//! Invariant: what a sink has accepted is delivered, or looked at, as the type says that it was accepted
//! under. Messages of a topic would have no definition once their sink is a table, and dead letters
//! of either would be out of sight: so an id keeps its type until nothing is left.

use forebay_meta::DefinitionError;
use forebay_model::SinkKey;

use super::Inner;
use super::error::{ApiError, ErrorName};
use super::types::sink::SinkType;

/// Refuses to make a sink of another type than the one that was deleted had, while something of
/// that one is left.
pub(super) async fn refuse_other_type(
    api: &Inner,
    key: &SinkKey,
    wanted: SinkType,
) -> Result<(), ApiError> {
    let former = match api.repo.deleted_sink(key).await {
        Ok(former) => former.value,
        Err(DefinitionError::SinkNotFound(_)) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if SinkType::of(&former.target) == wanted {
        return Ok(());
    }
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
