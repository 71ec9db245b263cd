//! Conformance suite for store backends.
//!
//! A backend implements [`StoreFixture`] and calls [`conformance_tests!`](crate::conformance_tests)
//! with an expression that creates one; each case becomes a test with its own store.

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

#[async_trait]
pub trait StoreFixture: Send + Sync {
    /// An empty store.
    fn store(&self) -> Arc<dyn Store>;

    /// Advances the lease clock by `time`.
    async fn advance_time(&self, time: Duration);

    /// Discards the watch history up to the present revision.
    async fn compact(&self);
}

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> Revision {
    let mut txn = crate::kv::store::Txn::new();
    txn.put(key, value.to_owned());
    store.txn(txn).await.unwrap()
}

async fn delete(store: &Arc<dyn Store>, key: &str) -> Revision {
    let mut txn = crate::kv::store::Txn::new();
    txn.delete(key);
    store.txn(txn).await.unwrap()
}

async fn value(store: &Arc<dyn Store>, key: &str) -> Option<String> {
    let entry = store.get(key).await.unwrap()?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}

async fn keys(store: &Arc<dyn Store>, prefix: &str) -> Vec<String> {
    let page = store.range(prefix, None, 1000).await.unwrap();
    page.entries.into_iter().map(|e| e.key).collect()
}

/// Generates one test for each case of the suite. `$fixture` is evaluated for each of them.
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr) => {
        $crate::conformance_tests!(@cases $fixture;
            range: an_absent_key_has_no_entry;
            range: an_entry_has_its_create_and_mod_revisions;
            range: a_range_is_sorted_by_bytes_and_limited_to_its_prefix;
            range: pages_join_without_gap_or_repeat;
            range: a_count_is_that_of_the_prefix;
            range: a_page_has_the_revision_of_the_store;
            txn: preconditions_are_checked;
            txn: the_first_failed_precondition_is_reported;
            txn: a_write_below_a_prefix_is_newer;
            txn: a_failed_transaction_changes_nothing;
            txn: a_transaction_has_one_revision;
            txn: a_transaction_without_changes_has_no_revision;
            txn: deleting_a_prefix_deletes_nothing_else;
            cas: concurrent_increments_lose_nothing;
            cas: one_of_many_creators_wins;
            cas: readers_see_whole_transactions;
            watch: changes_arrive_in_order_with_their_values;
            watch: a_watch_starts_in_the_past;
            watch: a_watch_starts_in_the_future;
            watch: a_transaction_is_in_one_batch;
            watch: unrelated_changes_advance_the_watch;
            watch: dropping_next_loses_nothing;
            watch: a_watch_from_a_compacted_revision_is_rejected;
            watch: a_slow_watch_never_skips_a_batch;
            watch: watches_are_independent;
            lease: keys_are_deleted_when_their_lease_expires;
            lease: a_lease_that_is_kept_alive_does_not_expire;
            lease: revoking_a_lease_deletes_its_keys_in_one_transaction;
            lease: an_ended_lease_is_not_found;
            lease: a_key_written_without_its_lease_is_detached;
            limits: keys_are_limited;
            limits: values_are_limited;
            limits: transactions_are_limited;
            limits: overlapping_operations_are_rejected;
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
