//! Dead letters in the repository: resolved once, and in the reconciliation at every moment.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{SettledChanges as _, at, sink_key, stamp, volumes, with_sink};
use forebay_meta::catalog::dead_letters::{
    DeadLetterOutcome, DeadLetterOwner, DeadLetterResolution, DeadLetterResolveError,
    RESOLVED_RANGES_MAX,
};
use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_meta::catalog::{Repo, SLICES_MAX};
use forebay_meta::{FileError, catalog::keys};
use forebay_model::{SinkKey, SliceState, Statistics, VolumeId};

fn sink() -> SinkKey {
    sink_key("src", "snk")
}

fn volume() -> VolumeId {
    volumes(1).remove(0)
}

fn counts(taken: u64) -> DeadLetterCounts {
    DeadLetterCounts { taken, lost: 0 }
}

fn rows(records: u64) -> Statistics {
    Statistics {
        records,
        ..Statistics::default()
    }
}

fn resolution(
    numbers: impl IntoIterator<Item = u64>,
    end: DeadLetterOutcome,
) -> DeadLetterResolution {
    DeadLetterResolution {
        numbers: numbers.into_iter().collect(),
        lost: Vec::new(),
        counts: counts(10),
        end,
    }
}

/// accepted, imported, dead, expired, lost, in flight
async fn balance(repo: &Repo) -> [u64; 6] {
    let b = repo.reconciliation(&sink()).await.unwrap();
    assert!(b.holds(), "{b:?}");
    [
        b.accepted,
        b.imported,
        b.dead,
        b.expired,
        b.lost,
        b.in_flight,
    ]
}

#[tokio::test]
async fn a_dead_letter_counts_until_it_is_replayed_or_dropped() {
    let (repo, _dir) = with_sink().await;
    let reported = [(sink(), volume(), counts(10))];
    repo.report_dead_letters(&reported).await.unwrap();
    assert_eq!(balance(&repo).await, [10, 0, 10, 0, 0, 0]);

    let (slice, file) = repo
        .new_replay_slice(&sink(), &volume(), at(50))
        .await
        .unwrap();
    assert_eq!(slice.file, file.key);
    let replay = resolution([1, 3], DeadLetterOutcome::Replayed(slice.clone(), rows(2)));
    repo.resolve_dead_letters(&sink(), &volume(), &replay, at(51))
        .await
        .unwrap();
    let read = repo.slice(&slice).await.unwrap();
    assert_eq!(
        (read.state, read.statistics.records),
        (SliceState::Uploading, 2)
    );
    assert_eq!(balance(&repo).await, [10, 0, 8, 0, 0, 2]);

    let drop = resolution([0, 9], DeadLetterOutcome::Dropped);
    repo.resolve_dead_letters(&sink(), &volume(), &drop, at(52))
        .await
        .unwrap();
    assert_eq!(balance(&repo).await, [10, 0, 6, 2, 0, 2]);
    let state = repo.dead_letter_state(&sink(), &volume()).await.unwrap();
    assert_eq!(state.resolved.floor(), 2);

    let again = resolution([4, 3], DeadLetterOutcome::Dropped);
    let error = repo
        .resolve_dead_letters(&sink(), &volume(), &again, at(53))
        .await;
    assert!(
        matches!(error, Err(DeadLetterResolveError::AlreadyResolved(3))),
        "{error:?}"
    );
    assert_eq!(balance(&repo).await, [10, 0, 6, 2, 0, 2]);
}

#[tokio::test]
async fn dead_letters_belong_to_their_sink_until_it_is_purged() {
    let (repo, _dir) = with_sink().await;
    let owner = async || repo.dead_letter_owner(&sink()).await.unwrap();
    let reported = [(sink(), volume(), counts(3))];
    repo.report_dead_letters(&reported).await.unwrap();
    assert_eq!(owner().await, DeadLetterOwner::Sink);
    let unknown = repo
        .dead_letter_owner(&sink_key("src", "none"))
        .await
        .unwrap();
    assert_eq!(unknown, DeadLetterOwner::Unknown);
    let source = sink().source;
    repo.delete_settled(&source, &stamp(1)).await.unwrap();
    assert_eq!(owner().await, DeadLetterOwner::Sink, "it can be restored");
    let (file, slice) = {
        let files = repo.active_files(Some(&sink())).await.unwrap();
        (
            files[0].file.key.clone(),
            files[0].slices[0].slice.key.clone(),
        )
    };
    let nothing = Statistics::default();
    repo.slice_uploading(&slice, nothing, at(2)).await.unwrap();
    repo.file_importing(&file, at(3)).await.unwrap();
    repo.purge_source(&source, &stamp(4)).await.unwrap();
    assert_eq!(owner().await, DeadLetterOwner::Forgotten);
    assert!(repo.remove_dead_letter_state(&sink()).await.unwrap());
    let left = repo.dead_letter_statistics(&sink()).await.unwrap();
    assert_eq!(left.taken, 0);
    // A late report has no effect: a later sink of that id starts from zero.
    repo.report_dead_letters(&reported).await.unwrap();
    let late = resolution([0, 1], DeadLetterOutcome::Dropped);
    let late = repo
        .resolve_dead_letters(&sink(), &volume(), &late, at(6))
        .await;
    let expected = DeadLetterResolveError::File(FileError::SinkNotActive(sink()));
    assert_eq!(late.unwrap_err().to_string(), expected.to_string());
    let left = repo.dead_letter_statistics(&sink()).await.unwrap();
    assert_eq!((left.taken, left.dropped), (0, 0));
}

#[tokio::test]
async fn lost_dead_letters_are_counted_as_lost() {
    let (repo, _dir) = with_sink().await;
    let lossy = DeadLetterResolution {
        lost: vec![(0, 4)],
        counts: DeadLetterCounts { taken: 10, lost: 4 },
        ..resolution([4], DeadLetterOutcome::Dropped)
    };
    repo.resolve_dead_letters(&sink(), &volume(), &lossy, at(1))
        .await
        .unwrap();
    assert_eq!(balance(&repo).await, [10, 0, 5, 1, 4, 0]);
    let state = repo.dead_letter_state(&sink(), &volume()).await.unwrap();
    assert_eq!(state.resolved.floor(), 5);
}

#[tokio::test]
async fn a_replay_into_a_file_that_was_rotated_changes_nothing() {
    let (repo, _dir) = with_sink().await;
    let (slice, file) = repo
        .new_replay_slice(&sink(), &volume(), at(50))
        .await
        .unwrap();
    repo.rotate_file(&file.key, &volumes(1), at(60))
        .await
        .unwrap();
    let replay = resolution([0], DeadLetterOutcome::Replayed(slice, rows(1)));
    let error = repo
        .resolve_dead_letters(&sink(), &volume(), &replay, at(61))
        .await;
    let conflict = DeadLetterResolveError::File(FileError::Conflict);
    assert_eq!(error.unwrap_err().to_string(), conflict.to_string());
    let state = repo.dead_letter_state(&sink(), &volume()).await.unwrap();
    assert_eq!((state.resolved.count(), state.replayed), (0, 0));
    let stored = repo
        .store()
        .range(keys::DEAD_LETTER_STATES, None, 10)
        .await
        .unwrap();
    assert!(stored.entries.is_empty());
}

#[tokio::test]
async fn two_replays_at_the_same_moment_take_different_slices() {
    let (repo, _dir) = with_sink().await;
    let (first, _) = repo
        .new_replay_slice(&sink(), &volume(), at(50))
        .await
        .unwrap();
    let replay = resolution([0], DeadLetterOutcome::Replayed(first.clone(), rows(1)));
    repo.resolve_dead_letters(&sink(), &volume(), &replay, at(50))
        .await
        .unwrap();
    let (second, _) = repo
        .new_replay_slice(&sink(), &volume(), at(50))
        .await
        .unwrap();
    assert!(second.opened_at > first.opened_at);
    // The same holds for a rotation of the open slice.
    let files = repo.active_files(Some(&sink())).await.unwrap();
    let mut slices = files.iter().flat_map(|f| &f.slices);
    let open = slices.find(|s| s.slice.state == SliceState::Writing);
    let rotated = repo
        .rotate_slice(&open.unwrap().slice.key, at(60))
        .await
        .unwrap();
    assert!(rotated.opened.key.opened_at > first.opened_at);
}

#[tokio::test]
async fn resolved_ranges_and_slices_are_limited() {
    let (repo, _dir) = with_sink().await;
    // The oldest is not one of them.
    let scattered = |n: usize| (1..=n as u64).map(|i| i * 2);
    let most = resolution(scattered(RESOLVED_RANGES_MAX), DeadLetterOutcome::Dropped);
    repo.resolve_dead_letters(&sink(), &volume(), &most, at(1))
        .await
        .unwrap();
    let more = resolution(
        [RESOLVED_RANGES_MAX as u64 * 2 + 2],
        DeadLetterOutcome::Dropped,
    );
    let error = repo
        .resolve_dead_letters(&sink(), &volume(), &more, at(2))
        .await;
    assert!(matches!(error, Err(DeadLetterResolveError::TooScattered)));
    for (between, now) in [(3, 3), (0, 4)] {
        let between = resolution([between], DeadLetterOutcome::Dropped);
        repo.resolve_dead_letters(&sink(), &volume(), &between, at(now))
            .await
            .unwrap();
    }

    for i in 1..SLICES_MAX {
        let now = at(i64::try_from(i).unwrap());
        let (slice, _) = repo
            .new_replay_slice(&sink(), &volume(), now)
            .await
            .unwrap();
        let number = (RESOLVED_RANGES_MAX * 3 + i) as u64;
        let replay = resolution([number], DeadLetterOutcome::Replayed(slice, rows(1)));
        // Consecutive dead letters are one range.
        repo.resolve_dead_letters(&sink(), &volume(), &replay, now)
            .await
            .unwrap();
    }
    let error = repo.new_replay_slice(&sink(), &volume(), at(999)).await;
    assert!(matches!(error, Err(FileError::SliceLimit(_))), "{error:?}");
}

#[tokio::test]
async fn an_earlier_report_does_not_lower_the_counts() {
    let (repo, _dir) = with_sink().await;
    // The resolution has counted two dead letters more than the report; both are dropped.
    let drop = resolution([8, 9], DeadLetterOutcome::Dropped);
    repo.resolve_dead_letters(&sink(), &volume(), &drop, at(50))
        .await
        .unwrap();
    assert_eq!(balance(&repo).await, [10, 0, 8, 2, 0, 0]);
    let earlier = [(sink(), volume(), counts(1))];
    repo.report_dead_letters(&earlier).await.unwrap();
    assert_eq!(balance(&repo).await, [10, 0, 8, 2, 0, 0]);
    let later = [(sink(), volume(), counts(11))];
    repo.report_dead_letters(&later).await.unwrap();
    assert_eq!(balance(&repo).await, [11, 0, 9, 2, 0, 0]);
}

#[tokio::test]
async fn the_dead_letters_of_a_deleted_sink_are_retained() {
    let (repo, _dir) = with_sink().await;
    let reported = [(sink(), volume(), counts(10))];
    repo.report_dead_letters(&reported).await.unwrap();
    assert!(!repo.remove_dead_letter_state(&sink()).await.unwrap());
    repo.delete_sink(&sink(), &stamp(2)).await.unwrap();
    assert!(!repo.remove_dead_letter_state(&sink()).await.unwrap());
    assert_eq!(
        repo.dead_letter_statistics(&sink()).await.unwrap().taken,
        10
    );
}
