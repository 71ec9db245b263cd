//! Model test: three concurrent actors run random operations on the files of two sinks; afterwards
//! the invariants of `repo/files.rs` hold, and no record is lost.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use common::{at, repo, sink_content, sink_key, source_content, source_key, stamp, volumes};
use forebay_meta::catalog::slices::StepFailure;
use forebay_meta::{ActiveFile, DefinitionError, FileError, Repo};
use forebay_model::{
    Backoff, FileKey, FileState, NodeId, SinkKey, SliceKey, SliceState, Statistics,
};
use proptest::prelude::*;

const SINKS: [&str; 2] = ["one", "two"];
const VOLUMES: usize = 2;

/// An operation; its file or slice is chosen by `pick` when it runs.
#[derive(Clone, Copy, Debug)]
enum Action {
    DeleteSink,
    UndeleteSink,
    UpdateSink,
    DeleteSource,
    UndeleteSource,
    DisableSource,
    EnableSource,
    SettleSink,
    DisableSink,
    EnableSink,
    ClearStatistics,
    RotateFile,
    RotateSlice,
    Report(u64),
    /// The slice's stream is complete, with this many records.
    Uploading(u64),
    Uploaded,
    SliceFailed,
    Importing,
    Imported,
    FileFailed,
    Remove,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    action: Action,
    sink: usize,
    pick: usize,
    /// The clock may jump.
    now: i64,
}

fn action() -> impl Strategy<Value = Action> {
    // Transitions towards the end are likelier than restarts, so that files are finished.
    prop_oneof![
        1 => Just(Action::DeleteSink),
        2 => Just(Action::UndeleteSink),
        1 => Just(Action::UpdateSink),
        1 => Just(Action::DeleteSource),
        2 => Just(Action::UndeleteSource),
        1 => Just(Action::DisableSource),
        3 => Just(Action::EnableSource),
        6 => Just(Action::SettleSink),
        1 => Just(Action::DisableSink),
        2 => Just(Action::EnableSink),
        1 => Just(Action::ClearStatistics),
        4 => Just(Action::RotateFile),
        4 => Just(Action::RotateSlice),
        3 => (0..5u64).prop_map(Action::Report),
        10 => (0..5u64).prop_map(Action::Uploading),
        10 => Just(Action::Uploaded),
        1 => Just(Action::SliceFailed),
        8 => Just(Action::Importing),
        8 => Just(Action::Imported),
        1 => Just(Action::FileFailed),
        3 => Just(Action::Remove),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (action(), 0..SINKS.len(), 0..8usize, 0..200i64).prop_map(|(action, sink, pick, now)| Step {
        action,
        sink,
        pick,
        now,
    })
}

/// Steps of one actor in a round.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..5)
}

/// Expected totals.
#[derive(Debug, Default)]
struct Tally {
    /// Final counts, by slice.
    finals: HashMap<SliceKey, u64>,
    /// Rows that the table accepted.
    imported: HashMap<FileKey, u64>,
    /// All files observed so far, by sink.
    seen: HashMap<SinkKey, BTreeSet<FileKey>>,
}

impl Tally {
    /// Records the present files; returns the final counts and the imported rows of the sink.
    fn of_sink(&mut self, sink: &SinkKey, now: BTreeSet<FileKey>) -> (u64, u64) {
        let seen = self.seen.entry(sink.clone()).or_default();
        let last = seen.last().cloned();
        let new: Vec<_> = now.difference(seen).cloned().collect();
        assert!(new.iter().all(|f| Some(f) > last.as_ref()), "times grow");
        seen.extend(new);
        let finals = self.finals.iter().filter(|(s, _)| s.file.sink == *sink);
        let rows = self.imported.iter().filter(|(f, _)| f.sink == *sink);
        (finals.map(|(_, n)| n).sum(), rows.map(|(_, n)| n).sum())
    }
}

#[derive(Clone)]
struct Actor {
    repo: Repo,
    tally: Arc<Mutex<Tally>>,
}

/// Accepts errors that concurrent operations can cause, and no others.
fn tolerated<T>(result: Result<T, FileError>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(FileError::Store(e)) => panic!("{e}"),
        Err(FileError::NotAllowed { .. }) => panic!("FileState::allows was about to be violated"),
        Err(FileError::Conflict) => panic!("three actors must not exhaust the attempts"),
        Err(_) => None,
    }
}

fn tolerated_definition<T>(result: Result<T, DefinitionError>) {
    match result {
        Ok(_)
        | Err(
            DefinitionError::SinkNotFound(_)
            | DefinitionError::SourceNotFound(_)
            | DefinitionError::SourceExists(_)
            | DefinitionError::SinkExists(_),
        ) => {}
        Err(e) => panic!("{e}"),
    }
}

fn counted(records: u64) -> Statistics {
    Statistics {
        records,
        ..Statistics::default()
    }
}

impl Actor {
    async fn act(&self, step: Step) {
        let sink = sink_key("src", SINKS[step.sink]);
        let repo = &self.repo;
        let (stamp, volumes) = (stamp(step.now), volumes(VOLUMES));
        match step.action {
            Action::DeleteSink => tolerated_definition(repo.delete_sink(&sink, &stamp).await),
            Action::UndeleteSink => {
                tolerated_definition(repo.undelete_sink(&sink, &volumes, &stamp).await);
            }
            Action::UpdateSink => {
                let update = repo.update_sink(&sink, "Updated.", &volumes, &stamp, |_| Ok(()));
                tolerated_definition(update.await);
            }
            Action::DeleteSource => {
                tolerated_definition(repo.delete_source(&sink.source, &stamp).await);
            }
            Action::UndeleteSource => {
                let undelete = repo.undelete_source(&sink.source, &stamp);
                tolerated_definition(undelete.await);
            }
            Action::DisableSource => {
                tolerated_definition(repo.disable_source(&sink.source, "API", &stamp).await);
            }
            Action::EnableSource => {
                let enable = repo.enable_source(&sink.source, &stamp);
                tolerated_definition(enable.await);
            }
            Action::SettleSink => {
                tolerated_definition(repo.settle_sink(&sink, &volumes, &stamp).await);
            }
            Action::DisableSink => {
                tolerated_definition(repo.disable_sink(&sink, "API", &stamp).await);
            }
            Action::EnableSink => {
                tolerated_definition(repo.enable_sink(&sink, &volumes, &stamp).await);
            }
            Action::ClearStatistics => {
                tolerated(repo.clear_statistics(&sink, &stamp).await);
            }
            Action::Remove => {
                let imported = repo.imported_files(Some(&sink)).await.unwrap();
                if let Some(file) = pick(&imported, step.pick) {
                    tolerated(repo.remove_imported(&file.key).await);
                }
            }
            _ => self.act_on_a_file(step, &sink).await,
        }
    }

    async fn act_on_a_file(&self, step: Step, sink: &SinkKey) {
        let (repo, now) = (&self.repo, at(step.now));
        let files = repo.active_files(Some(sink)).await.unwrap();
        let in_state = |s: FileState| {
            let found: Vec<_> = files.iter().filter(|f| f.file.state == s).collect();
            pick(&found, step.pick).map(|f| f.file.key.clone())
        };
        match step.action {
            Action::RotateFile => {
                if let Some(file) = in_state(FileState::Writing) {
                    tolerated(repo.rotate_file(&file, &volumes(VOLUMES), now).await);
                }
            }
            Action::Importing => {
                if let Some(file) = in_state(FileState::Closing) {
                    let done = tolerated(repo.file_importing(&file, now).await);
                    if done.is_some_and(|f| f.state == FileState::Imported) {
                        self.tally.lock().unwrap().imported.insert(file, 0);
                    }
                }
            }
            Action::Imported => {
                if let Some(key) = in_state(FileState::Importing) {
                    let file = files.iter().find(|f| f.file.key == key);
                    let rows = file.map_or(0, |f| f.statistics().records);
                    if tolerated(repo.file_imported(&key, rows, now).await).is_some() {
                        self.tally.lock().unwrap().imported.insert(key, rows);
                    }
                }
            }
            Action::FileFailed => {
                if let Some(file) = pick(&files, step.pick) {
                    let failed = repo.file_failed(&file.file.key, &failure(), now).await;
                    tolerated(failed);
                }
            }
            _ => self.act_on_a_slice(step, &files).await,
        }
    }

    async fn act_on_a_slice(&self, step: Step, files: &[ActiveFile]) {
        let (repo, now) = (&self.repo, at(step.now));
        let wanted = match step.action {
            Action::RotateSlice | Action::Report(_) => SliceState::Writing,
            Action::Uploading(_) => SliceState::Closing,
            _ => SliceState::Uploading,
        };
        let slices = files.iter().flat_map(|f| &f.slices).map(|s| &s.slice);
        let slices: Vec<_> = slices.filter(|s| s.state == wanted).collect();
        let Some(key) = pick(&slices, step.pick).map(|s| s.key.clone()) else {
            return;
        };
        match step.action {
            Action::RotateSlice => drop(tolerated(repo.rotate_slice(&key, now).await)),
            Action::Report(records) => {
                let node = NodeId(format!("n{}", step.pick % 2));
                let reports = [(key, counted(records))];
                tolerated(repo.report_statistics(&node, &reports).await);
            }
            Action::Uploading(records) => {
                let done = repo.slice_uploading(&key, counted(records), now).await;
                if tolerated(done).is_some() {
                    self.tally.lock().unwrap().finals.insert(key, records);
                }
            }
            Action::Uploaded => drop(tolerated(
                repo.slice_uploaded(&key, common::staged(9), 0, now).await,
            )),
            _ => drop(tolerated(repo.slice_failed(&key, &failure(), now).await)),
        }
    }
}

fn failure() -> StepFailure {
    StepFailure {
        reason: "it failed".to_owned(),
        terminal: false,
        backoff: Backoff::default(),
        random: 7,
    }
}

fn pick<T>(from: &[T], index: usize) -> Option<&T> {
    from.get(index.checked_rem(from.len())?)
}

/// Checks all invariants, while no actor runs.
async fn check(repo: &Repo, tally: &Mutex<Tally>) {
    for id in SINKS {
        let sink = sink_key("src", id);
        repo.settle_sink(&sink, &volumes(VOLUMES), &stamp(300))
            .await
            .unwrap();
        let active = repo.active_files(Some(&sink)).await.unwrap();
        let source = repo.source(&sink.source).await;
        let is_active = source.is_ok_and(|s| s.is_active())
            && repo.sink(&sink).await.is_ok_and(|s| s.is_active());
        let writing = active.iter().filter(|f| f.file.state == FileState::Writing);
        assert_eq!(writing.count(), usize::from(is_active), "{sink}");
        for file in &active {
            check_file(file);
        }
        let imported = repo.imported_files(Some(&sink)).await.unwrap();
        assert!(imported.iter().all(|f| f.state == FileState::Imported));
        let now = active.iter().map(|f| f.file.key.clone());
        let now: BTreeSet<FileKey> = now.chain(imported.iter().map(|f| f.key.clone())).collect();
        let (finals, rows) = tally.lock().unwrap().of_sink(&sink, now);
        let open = active.iter().flat_map(|f| &f.slices);
        let open = open.filter(|s| s.slice.state < SliceState::Uploading);
        let reported: u64 = open.map(|s| s.statistics.records).sum();
        let balance = repo.reconciliation(&sink).await.unwrap();
        assert_eq!(balance.accepted, finals + reported, "{sink}");
        assert_eq!(balance.imported, rows, "{sink}");
        assert!(balance.holds(), "{balance:?}");
        let shown = repo.sink_statistics(&sink).await.unwrap();
        assert!(shown.shown_target.records <= shown.target.records);
    }
}

fn check_file(file: &ActiveFile) {
    let state = file.file.state;
    let mut writing = Vec::new();
    for slice in &file.slices {
        let slice = &slice.slice;
        assert!(state.allows(slice.state), "{state:?} {:?}", slice.state);
        assert_eq!(slice.key.file, file.file.key);
        if slice.state == SliceState::Writing {
            writing.push(slice.key.volume.clone());
        }
    }
    let expected = if state == FileState::Writing {
        volumes(VOLUMES)
    } else {
        Vec::new()
    };
    assert_eq!(writing, expected, "one on each volume");
}

async fn run(rounds: Vec<[Vec<Step>; 3]>) {
    let (repo, _dir) = repo().await;
    let source = source_key("src");
    repo.create_source(&source, source_content("s"), "New source.", &stamp(0))
        .await
        .unwrap();
    for id in SINKS {
        let (key, content) = (sink_key("src", id), sink_content(id));
        repo.create_sink(&key, content, "New sink.", &volumes(VOLUMES), &stamp(0))
            .await
            .unwrap();
    }
    let actor = Actor {
        repo: repo.clone(),
        tally: Arc::default(),
    };
    for round in rounds {
        let acting = round.map(|steps| {
            let actor = actor.clone();
            tokio::spawn(async move {
                for step in steps {
                    actor.act(step).await;
                }
            })
        });
        for acting in acting {
            acting.await.unwrap();
        }
        check(&repo, &actor.tally).await;
    }
}

/// `PROPTEST_CASES` for a long run; few otherwise.
fn cases() -> u32 {
    let cases = std::env::var("PROPTEST_CASES").ok();
    cases.and_then(|c| c.parse().ok()).unwrap_or(32)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_invariants_hold_after_concurrent_operations(
        rounds in prop::collection::vec(
            [steps(), steps(), steps()],
            10..30,
        ),
    ) {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(run(rounds));
    }
}
