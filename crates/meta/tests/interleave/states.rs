//! Initial states.

use std::sync::Arc;

use forebay_meta::catalog::stored::dead_letters::DeadLetterCounts;
use forebay_meta::{Repo, SinkContent};
use forebay_model::{DefinitionLimits, FileKey, FileState, NodeId, SinkSettings, SliceState};

use crate::common::{at, branch, sink_content, source_content, stamp};
use crate::memory::{Content, Memory};
use crate::ops::{
    Op, Targets, counted, other, other_token, sink, source, topic, topic_target, volumes,
};
use crate::perform::{beside_all, foreign_source, perform};

/// Steps that create each state.
const STATES: &[(&str, &[Step])] = &[
    ("nothing", &[]),
    ("one token below the limit", &[Step::Tokens]),
    ("new", &[Step::New]),
    ("busy", &[Step::New, Step::Files]),
    (
        "source disabled",
        &[
            Step::New,
            Step::Files,
            Step::OtherOff,
            Step::SourceOff,
            Step::Settle,
        ],
    ),
    (
        "source disabled, not settled",
        &[Step::New, Step::Files, Step::SourceOff],
    ),
    (
        "source enabled, not settled",
        &[
            Step::New,
            Step::Files,
            Step::SourceOff,
            Step::Settle,
            Step::SourceOn,
        ],
    ),
    (
        "source deleted, not settled",
        &[Step::New, Step::SourceGone],
    ),
    (
        "source restored, not settled",
        &[Step::New, Step::SourceGone, Step::Settle, Step::SourceBack],
    ),
    ("sink disabled", &[Step::New, Step::Files, Step::SinkOff]),
    (
        "source disabled after its sink",
        &[Step::New, Step::SinkOff, Step::SourceOff, Step::Settle],
    ),
    ("sink deleted", &[Step::New, Step::Files, Step::SinkGone]),
    (
        "sink deleted, source disabled",
        &[Step::New, Step::SinkGone, Step::SourceOff, Step::Settle],
    ),
    (
        "sink disabled with its source, deleted",
        &[Step::New, Step::SourceOff, Step::Settle, Step::SinkGone],
    ),
    (
        "source deleted",
        &[Step::New, Step::Files, Step::SourceGone, Step::Settle],
    ),
    (
        "source and all deleted",
        &[
            Step::New,
            Step::SinkGone,
            Step::SourceGone,
            Step::Settle,
            Step::Arrive,
        ],
    ),
    (
        "source deleted while disabled",
        &[
            Step::New,
            Step::SourceOff,
            Step::Settle,
            Step::SourceGone,
            Step::Settle,
            Step::Arrive,
        ],
    ),
    (
        "source deleted, its table filled",
        &[
            Step::New,
            Step::Filled,
            Step::SourceGone,
            Step::Settle,
            Step::Arrive,
        ],
    ),
    (
        "its table is being dropped",
        &[
            Step::New,
            Step::Filled,
            Step::SourceGone,
            Step::Settle,
            Step::Arrive,
            Step::Dropping,
        ],
    ),
    (
        "table shared and filled",
        &[Step::New, Step::Filled, Step::Shared],
    ),
    (
        "forgotten",
        &[
            Step::New,
            Step::SourceGone,
            Step::Settle,
            Step::Arrive,
            Step::Purge,
        ],
    ),
];

/// All states with their names.
pub(crate) async fn all() -> Vec<(&'static str, Content)> {
    let mut states = Vec::new();
    for (name, steps) in STATES {
        let memory = Arc::new(Memory::default());
        let repo = Repo::new(Arc::<Memory>::clone(&memory), SinkSettings::default());
        repo.ensure_branch(&branch(), true, &stamp(0))
            .await
            .unwrap();
        beside_all(&repo).await;
        for step in *steps {
            step.make(&repo).await;
        }
        states.push((*name, memory.content()));
    }
    states
}

#[derive(Clone, Copy)]
enum Step {
    Tokens,
    New,
    Files,
    OtherOff,
    SinkOff,
    SourceOff,
    SinkGone,
    SourceGone,
    SourceOn,
    SourceBack,
    Settle,
    Arrive,
    Filled,
    Shared,
    Dropping,
    Purge,
}

impl Step {
    async fn make(self, repo: &Repo) {
        let by = stamp(500);
        match self {
            Self::Tokens => {
                for i in 1..DefinitionLimits::default().tokens_per_project {
                    let token = other_token(&format!("2-{i}"), 1, 0);
                    repo.create_token(&token).await.unwrap();
                }
            }
            Self::New => new(repo).await,
            Self::Files => files(repo).await,
            Self::OtherOff => drop(repo.disable_sink(&other(), "off", &by).await.unwrap()),
            Self::SinkOff => drop(repo.disable_sink(&sink(), "off", &by).await.unwrap()),
            Self::SourceOff => drop(repo.disable_source(&source(), "off", &by).await.unwrap()),
            Self::SourceOn => drop(repo.enable_source(&source(), &by).await.unwrap()),
            Self::SourceBack => drop(repo.undelete_source(&source(), &by).await.unwrap()),
            Self::Settle => drop(repo.settle_sinks(&source(), &volumes(), &by).await.unwrap()),
            Self::SinkGone => drop(repo.delete_sink(&sink(), &by).await.unwrap()),
            Self::SourceGone => drop(repo.delete_source(&source(), &by).await.unwrap()),
            Self::Arrive => arrive(repo).await,
            Self::Filled => done(repo, Op::FillTable).await,
            Self::Shared => done(repo, Op::ShareTable).await,
            Self::Dropping => done(repo, Op::BeginDrop).await,
            Self::Purge => drop(repo.purge_source(&source(), &by).await.unwrap()),
        }
    }
}

async fn done(repo: &Repo, op: Op) {
    perform(repo, op, &Targets::default(), 500).await.unwrap();
}

/// Creates a source with two tables and a topic; the first has dead letters.
async fn new(repo: &Repo) {
    let (by, volumes) = (stamp(1), volumes());
    let far = foreign_source();
    repo.ensure_branch(&far.branch, true, &by).await.unwrap();
    repo.create_source(&far, source_content("far"), "New source.", &by)
        .await
        .unwrap();
    repo.create_source(&source(), source_content("s"), "New source.", &by)
        .await
        .unwrap();
    let topic_content = SinkContent {
        target: topic_target(),
        ..sink_content("top")
    };
    for (key, content) in [
        (sink(), sink_content("one")),
        (other(), sink_content("two")),
        (topic(), topic_content),
    ] {
        repo.create_sink(&key, content, "New sink.", &volumes, &by)
            .await
            .unwrap();
    }
    let counts = DeadLetterCounts { taken: 3, lost: 0 };
    let reported = [(sink(), volumes[0].clone(), counts)];
    repo.report_dead_letters(&reported).await.unwrap();
}

/// Key of the open file of the first sink.
async fn open(repo: &Repo) -> FileKey {
    let files = repo.active_files(Some(&sink())).await.unwrap();
    let open = files.iter().find(|f| f.file.state == FileState::Writing);
    open.unwrap().file.key.clone()
}

/// Gives the first sink files and slices in each of their states.
async fn files(repo: &Repo) {
    for (count, last) in [
        FileState::Imported,
        FileState::Imported,
        FileState::Importing,
        FileState::Closing,
    ]
    .into_iter()
    .enumerate()
    {
        let now = at(10 * i64::try_from(count).unwrap() + 10);
        let key = open(repo).await;
        repo.rotate_file(&key, &volumes(), now).await.unwrap();
        let files = repo.active_files(Some(&sink())).await.unwrap();
        let file = files.iter().find(|f| f.file.key == key).unwrap();
        for (i, slice) in file.slices.iter().enumerate() {
            let slice = &slice.slice.key;
            if last == FileState::Closing && i > 0 {
                // Stays `closing`: its nodes have not detached.
                continue;
            }
            repo.slice_uploading(slice, counted(3), now).await.unwrap();
            if last > FileState::Closing {
                repo.slice_uploaded(slice, crate::common::staged(9), 0, now)
                    .await
                    .unwrap();
            }
        }
        if last > FileState::Closing {
            repo.file_importing(&key, now).await.unwrap();
        }
        if last > FileState::Importing {
            repo.file_imported(&key, 6, now).await.unwrap();
        }
    }
    // The open file has a slice in staging, and one that is written.
    let files = repo.active_files(Some(&sink())).await.unwrap();
    let open = files.last().unwrap();
    let (first, second) = (&open.slices[0].slice.key, &open.slices[1].slice.key);
    repo.rotate_slice(first, at(60)).await.unwrap();
    repo.slice_uploading(first, counted(2), at(61))
        .await
        .unwrap();
    repo.slice_uploaded(first, crate::common::staged(9), 0, at(62))
        .await
        .unwrap();
    let reports = [(second.clone(), counted(4))];
    let node = NodeId("n".to_owned());
    repo.report_statistics(&node, &reports).await.unwrap();
}

/// Finishes all active files.
async fn arrive(repo: &Repo) {
    for file in repo.active_files(None).await.unwrap() {
        for slice in &file.slices {
            assert_eq!(slice.slice.state, SliceState::Closing);
            let none = counted(0);
            repo.slice_uploading(&slice.slice.key, none, at(600))
                .await
                .unwrap();
        }
        repo.file_importing(&file.file.key, at(601)).await.unwrap();
    }
}
