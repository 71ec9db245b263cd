//! Golden files: a value of each version of each form, in `tests/golden/`. `UPDATE=1` writes
//! missing files; an existing one is never changed.

use std::fmt::Debug;
use std::path::PathBuf;

use forebay_model::{
    Actor, ActorKind, AuditStamp, BlockCompression, ColumnKind, DefinitionVersion, DeletionInfo,
    DisableInfo, File, FileState, ImportedFile, Mapping, MappingColumn, NodeId, PathColumn,
    ProjectId, RetryState, Sink, SinkId, SinkSettings, Slice, SliceKey, SliceState, Source,
    SourceKind, Statistics, TableBackend, TableSink, TaskEnd, TaskEntry, TemplateColumn, Timestamp,
    VolumeId,
};

use super::definition::StoredVersion;
use super::sink_state::{ClearedStatistics, SinkState};
use super::{Stored, StoredError};
use crate::catalog::definitions::{BranchDefinition, SinkContent, SourceContent};
use crate::catalog::runtime::{ClusterInfo, Node, ProcessedRevision, RegisteredVolume};
use crate::kv::store::Revision;

mod projects;
mod variants;

fn golden<T: Stored + PartialEq + Debug>(name: &str, sample: &T) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name]
        .iter()
        .collect();
    let encoded = sample.encode().unwrap();
    assert_eq!(&T::decode(&encoded).unwrap(), sample, "{name}");
    let json: serde_json::Value = serde_json::from_slice(&encoded).unwrap();
    assert_eq!(
        json.to_string().as_bytes(),
        &encoded[..],
        "{name} is compact"
    );
    let pretty = serde_json::to_string_pretty(&json).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &pretty).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(&T::decode(kept.as_bytes()).unwrap(), sample, "{name}");
    assert_eq!(kept, pretty, "{name} is not what is written now");
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_795_237_309_120 + seconds * 1000)
}

fn stamp(seconds: i64) -> AuditStamp {
    AuditStamp {
        at: at(seconds),
        by: Actor {
            kind: ActorKind::User,
            token_id: Some("12".to_owned()),
            token_desc: Some("my token".to_owned()),
            user_id: None,
            user_name: Some("Ada".to_owned()),
            from: None,
        },
    }
}

fn version() -> DefinitionVersion {
    DefinitionVersion {
        number: 3,
        hash: "0123456789abcdef".to_owned(),
        description: "Updated.".to_owned(),
        stamp: stamp(3),
    }
}

fn source() -> Source {
    let settings = [(
        "storage.level.staging.upload.trigger.count".to_owned(),
        serde_json::json!(500),
    )];
    Source {
        key: "1/2/src".parse().unwrap(),
        kind: SourceKind::Http {
            secret: "s".repeat(48),
            verify: None,
        },
        name: "My \"Source\" ß".to_owned(),
        description: String::new(),
        settings: settings.into_iter().collect(),
        definition_set: None,
        version: version(),
        created: AuditStamp {
            at: at(0),
            by: Actor::system(),
        },
        deleted: Some(DeletionInfo { stamp: stamp(5) }),
        disabled: Some(DisableInfo {
            stamp: stamp(4),
            reason: "API".to_owned(),
        }),
    }
}

fn table() -> TableSink {
    let column = |name: &str, kind| MappingColumn {
        primary_key: name == "id",
        ..MappingColumn::new(name, kind)
    };
    let columns = vec![
        column("id", ColumnKind::Uuid),
        column("at", ColumnKind::Datetime),
        column("ip", ColumnKind::Ip),
        column("body", ColumnKind::Body),
        column("headers", ColumnKind::Headers),
        column(
            "path",
            ColumnKind::Path(PathColumn {
                path: "a.b[1]".to_owned(),
                default_value: Some("none".to_owned()),
                raw_string: true,
            }),
        ),
        column(
            "template",
            ColumnKind::Template(TemplateColumn {
                content: "Body(\"a\")".to_owned(),
                raw_string: false,
            }),
        ),
        column(
            "static",
            ColumnKind::Static {
                value: "x".to_owned(),
            },
        ),
    ];
    TableSink {
        backend: TableBackend::Sqlite,
        table: "in.c-bucket.table".parse().unwrap(),
        mapping: Mapping { columns },
    }
}

fn sink() -> Sink {
    Sink {
        key: "1/2/src/snk".parse().unwrap(),
        name: "My Sink".to_owned(),
        description: "of mine".to_owned(),
        target: table().into(),
        settings: [].into(),
        definition_set: None,
        version: version(),
        created: stamp(1),
        deleted: None,
        disabled: None,
        paused: None,
    }
}

fn slice_key() -> SliceKey {
    let key = "1/2/src/snk/2026-11-21T05:01:49.120Z/vol1/2026-11-21T05:01:50.000Z";
    key.parse().unwrap()
}

fn retry() -> RetryState {
    RetryState {
        attempt: 2,
        reason: Some("no route to host".to_owned()),
        first_failed_at: Some(at(6)),
        last_failed_at: Some(at(8)),
        retry_after: Some(at(12)),
        parked: true,
    }
}

fn statistics() -> Statistics {
    Statistics {
        records: 42,
        uncompressed_bytes: 4200,
        compressed_bytes: 420,
        first_record_at: Some(at(1)),
        last_record_at: Some(at(2)),
        lost_records: 1,
    }
}

#[test]
fn definitions_keep_their_form() {
    golden("source.v1.json", &source());
    golden("sink.v1.json", &sink());
    golden(
        "source_version.v1.json",
        &StoredVersion {
            version: version(),
            content: SourceContent::from_source(&source()),
        },
    );
    golden(
        "sink_version.v1.json",
        &StoredVersion {
            version: version(),
            content: SinkContent::from_sink(&sink()),
        },
    );
    golden(
        "branch.v1.json",
        &BranchDefinition {
            key: source().key.branch,
            is_default: true,
            created: stamp(0),
        },
    );
}

#[test]
fn files_and_slices_keep_their_form() {
    let slice_key = slice_key();
    let mut file = File::open(slice_key.file.clone(), table(), SinkSettings::default());
    file.state = FileState::Importing;
    file.closing_at = Some(at(1));
    file.importing_at = Some(at(2));
    file.retry = retry();
    file.lost_at = Some(at(4));
    file.dead_rows = Some(forebay_model::DeadRows {
        cause: "too long".to_owned(),
        moved: 7,
        next_dead_letter: Some(9),
    });
    golden("file.v1.json", &file);
    let mut slice = Slice::open(slice_key, BlockCompression::Zstd { level: 3 });
    slice.state = SliceState::Uploaded;
    slice.closing_at = Some(at(1));
    slice.uploading_at = Some(at(2));
    slice.uploaded_at = Some(at(3));
    slice.statistics = statistics();
    slice.staging_bytes = 500;
    slice.staging_crc32c = Some(0x1234_5678);
    golden("slice.v1.json", &slice);
    file.state = FileState::Imported;
    file.imported_at = Some(at(5));
    let imported = ImportedFile::new(file, [slice.clone()]).unwrap();
    golden("imported_file.v1.json", &imported);
    golden("statistics.v1.json", &statistics());
    let counts = super::dead_letters::DeadLetterCounts { taken: 9, lost: 1 };
    golden("dead_letter_counts.v1.json", &counts);
    let delivered = crate::catalog::delivered_streams::DeliveredStream {
        volume: VolumeId("vol1".to_owned()),
        stream: "1/2/src/snk/2026-11-20T05:01:49.120Z/vol1/2026-11-20T05:01:50.000Z".to_owned(),
        slice: slice.key,
    };
    golden("delivered_stream.v1.json", &delivered);
    let mut letters = super::dead_letters::DeadLetterState::default();
    (letters.replayed, letters.dropped) = (3, 1);
    letters.resolved.resolve(0, 3);
    letters.resolved.resolve(5, 6);
    golden("dead_letter_state.v1.json", &letters);
    let sink_state = SinkState {
        writing: Some(at(9)),
        last_opened_at: Some(at(9)),
        removed_up_to: Some(at(5)),
        removed: statistics(),
        removed_imported_rows: 42,
        cleared: Some(ClearedStatistics {
            up_to: at(4),
            removed_since: statistics(),
        }),
        reopened: 1,
    };
    golden("sink_state.v1.json", &sink_state);
}

#[test]
fn tasks_and_nodes_keep_their_form() {
    let task = TaskEntry {
        project: ProjectId(1),
        id: "api.create.sink/2/src/snk/2026-11-21T05:01:49.120Z_aB3dE".to_owned(),
        kind: "api.create.sink".to_owned(),
        created_at: at(0),
        node: "n1".to_owned(),
        source: source().key,
        sink: Some(SinkId::from_raw("snk")),
        end: Some(TaskEnd {
            finished_at: at(1),
            duration_ms: 1000,
            outcome: Ok("Sink has been created successfully.".to_owned()),
            warnings: Vec::new(),
        }),
    };
    golden("task.v1.json", &task);
    let mut failed = task;
    failed.end.as_mut().unwrap().outcome = Err("it did not".to_owned());
    golden("task_failed.v1.json", &failed);
    let mut warned = failed;
    let end = warned.end.as_mut().unwrap();
    end.outcome = Ok("Sink has been created successfully.".to_owned());
    end.warnings = vec!["The table could not be checked.".to_owned()];
    golden("task_warned.v1.json", &warned);
    let node = NodeId("n1".to_owned());
    golden(
        "node.v1.json",
        &Node {
            id: node.clone(),
            started_at: at(0),
            roles: vec!["source".to_owned()],
        },
    );
    golden(
        "processed.v1.json",
        &ProcessedRevision {
            node: node.clone(),
            revision: Revision(77),
        },
    );
    golden(
        "volume.v1.json",
        &RegisteredVolume {
            id: VolumeId("vol1".to_owned()),
            node,
        },
    );
    golden(
        "cluster.v1.json",
        &ClusterInfo {
            id: "0f".repeat(16),
        },
    );
}

#[test]
fn a_later_version_is_named_and_a_damaged_value_says_what_it_should_be() {
    let newer = SinkState::decode(br#"{"v":2,"anything":true}"#).unwrap_err();
    assert_eq!(
        newer,
        StoredError::Newer {
            what: "sink state",
            found: 2,
            known: 1
        }
    );
    for damaged in [
        &b"{\"v\":1}"[..],
        b"{\"v\":0}",
        b"",
        b"[]",
        b"\xff",
        b"{\"v\":1,",
    ] {
        let error = SinkState::decode(damaged).unwrap_err().to_string();
        assert!(error.starts_with("not a stored sink state: "), "{error}");
    }
}

#[test]
fn a_missing_setting_has_its_default() {
    let path = "storage.level.staging.upload.trigger.count";
    let mut form = serde_json::to_value(SinkSettings::default()).unwrap();
    assert!(form.as_object_mut().unwrap().remove(path).is_some());
    let settings: SinkSettings = serde_json::from_value(form).unwrap();
    assert_eq!(settings, SinkSettings::default());
}
