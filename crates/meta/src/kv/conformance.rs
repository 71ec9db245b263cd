//! What every backend of the store has to do: one suite, run by each backend's tests.
//!
//! A backend implements [`StoreFixture`] and calls [`conformance_tests!`](crate::conformance_tests) with
//! an expression that makes one; each case becomes a test with a store of its own.

#![allow(
    clippy::unwrap_used,
    reason = "the cases are tests: a panic is their verdict"
)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::kv::store::{Revision, Store};

pub mod cas;
pub mod lease;
pub mod limits;
pub mod range;
pub mod txn;
pub mod watch;

/// A backend under test.
#[async_trait]
pub trait StoreFixture: Send + Sync {
    /// The store, empty.
    fn store(&self) -> Arc<dyn Store>;

    /// Lets so much of the leases' time pass.
    async fn advance_time(&self, time: Duration);

    /// Makes the store forget all changes up to its present revision.
    async fn compact(&self);
}

/// Writes one key.
async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> Revision {
    let mut txn = crate::kv::store::Txn::new();
    txn.put(key, value.to_owned());
    store.txn(txn).await.unwrap()
}

/// Removes one key.
async fn delete(store: &Arc<dyn Store>, key: &str) -> Revision {
    let mut txn = crate::kv::store::Txn::new();
    txn.delete(key);
    store.txn(txn).await.unwrap()
}

/// The value of a key, as text.
async fn value(store: &Arc<dyn Store>, key: &str) -> Option<String> {
    let entry = store.get(key).await.unwrap()?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}

/// Keys below a prefix.
async fn keys(store: &Arc<dyn Store>, prefix: &str) -> Vec<String> {
    let page = store.range(prefix, None, 1000).await.unwrap();
    page.entries.into_iter().map(|e| e.key).collect()
}

/// One test for each case of the suite. `$fixture` is evaluated anew for each of them.
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr) => {
        $crate::conformance_tests!(@cases $fixture;
            range: an_absent_key_has_no_entry;
            range: an_entry_knows_who_made_and_who_wrote_it;
            range: a_range_is_sorted_by_bytes_and_holds_to_its_prefix;
            range: pages_join_without_gap_or_repeat;
            range: a_page_tells_its_revision;
            txn: preconditions_decide;
            txn: the_first_failed_precondition_is_named;
            txn: all_or_nothing;
            txn: a_transaction_has_one_revision;
            txn: what_changes_nothing_has_no_revision;
            txn: a_prefix_is_removed_and_nothing_else;
            cas: concurrent_increments_lose_nothing;
            cas: one_of_many_creators_wins;
            cas: readers_see_whole_transactions;
            watch: changes_come_in_order_with_their_values;
            watch: a_watch_starts_in_the_past;
            watch: a_watch_starts_in_the_future;
            watch: transactions_are_not_torn;
            watch: a_watch_learns_of_foreign_progress;
            watch: a_dropped_next_loses_nothing;
            watch: the_forgotten_past_is_refused;
            watch: a_watch_that_is_too_slow_is_told;
            watch: two_watches_do_not_disturb_each_other;
            lease: keys_go_with_their_lease;
            lease: a_lease_lives_while_it_is_kept_alive;
            lease: a_revoked_lease_takes_its_keys_in_one_transaction;
            lease: an_ended_lease_is_unknown;
            lease: a_key_written_without_its_lease_stays;
            limits: keys_are_limited;
            limits: values_are_limited;
            limits: transactions_are_limited;
            limits: no_key_is_touched_twice;
        );
    };
    (@cases $fixture:expr; $($module:ident: $case:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = $fixture;
                $crate::kv::conformance::$module::$case(&fixture).await;
            }
        )*
    };
}
