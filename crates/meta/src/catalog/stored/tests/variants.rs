//! Golden files of the variants of forms: each variant of an enum, and values whose optional parts
//! are absent.

use forebay_model::{
    BlockCompression, BranchId, ColumnKind, File, FileState, HttpMethod, MappingColumn,
    MessageMapping, MessageValue, PathColumn, PauseInfo, ProjectId, SinkSettings, Slice,
    SliceState, TableBackend, TaskEntry, TopicKind, TopicSink,
};

use super::super::Stored;
use super::{at, golden, sink, slice_key, source, stamp, table};
use crate::catalog::audit::{AuditAction, AuditEvent, AuditSubject};
use crate::catalog::definitions::{SinkContent, SourceContent};
use crate::catalog::tables::TableEntry;
use crate::catalog::tokens::{ManagementToken, TokenOwner, TokenRole};

fn column(name: &str, kind: ColumnKind) -> MappingColumn {
    MappingColumn::new(name, kind)
}

#[test]
fn topics_keep_their_form() {
    let path = PathColumn {
        path: "id".to_owned(),
        ..PathColumn::default()
    };
    let mut sink = sink();
    sink.target = forebay_model::SinkTarget::Topic(TopicSink {
        kind: TopicKind::Kafka,
        provider: "main".to_owned(),
        topic: "orders".to_owned(),
        batches: false,
        method: HttpMethod::Post,
        message: MessageMapping {
            value: MessageValue::Object(vec![
                column("id", ColumnKind::Path(path)),
                column("body", ColumnKind::Body),
            ]),
            key: Some(ColumnKind::Uuid),
            headers: vec![column("client", ColumnKind::Ip)],
        },
    });
    sink.paused = Some(PauseInfo {
        stamp: stamp(6),
        reason: "maintenance".to_owned(),
    });
    golden("sink_kafka.v1.json", &sink);
    sink.target = forebay_model::SinkTarget::Topic(TopicSink {
        kind: TopicKind::Http,
        provider: "hooks".to_owned(),
        topic: "orders".to_owned(),
        batches: true,
        method: HttpMethod::Patch,
        message: MessageMapping::default(),
    });
    sink.paused = None;
    golden("sink_http.v1.json", &sink);
}

#[test]
fn new_files_and_slices_keep_their_form() {
    let mut table = table();
    table.backend = TableBackend::Keboola;
    let mut file = File::open(slice_key().file, table, SinkSettings::default());
    golden("file_new.v1.json", &file);
    let mut slice = Slice::open(slice_key(), BlockCompression::Gzip { level: 6 });
    golden("slice_new.v1.json", &slice);
    slice.compression = BlockCompression::None;
    golden("slice_plain.v1.json", &slice);
    for (state, name) in
        FileState::ALL
            .into_iter()
            .zip(["writing", "closing", "importing", "imported"])
    {
        file.state = state;
        assert_eq!(field(&file, "state"), name);
    }
    let names = ["writing", "closing", "uploading", "uploaded", "imported"];
    for (state, name) in SliceState::ALL.into_iter().zip(names) {
        slice.state = state;
        assert_eq!(field(&slice, "state"), name);
    }
}

#[test]
fn audit_entries_keep_their_form() {
    let mut event = AuditEvent {
        project: ProjectId(1),
        what: AuditSubject::Sink(sink().key),
        action: AuditAction::ClearStatistics,
        description: String::new(),
        old_version: None,
        new_version: None,
        stamp: stamp(3),
    };
    golden("change_sink.v1.json", &event);
    event.what = AuditSubject::Token("1-a1B2c3D4e5F6".to_owned());
    event.action = AuditAction::Rotate;
    golden("change_token.v1.json", &event);
    event.what = AuditSubject::Quota;
    event.action = AuditAction::Update;
    golden("change_quota.v1.json", &event);
    event.what = AuditSubject::Request("POST /v1/x".to_owned());
    event.action = AuditAction::Reject;
    golden("change_request.v1.json", &event);
    let names = "create update delete undelete purge disable enable pause resume clearStatistics \
                 retry rejectFile rotate transfer share unshare reject tap \
                 replayDeadLetters dropDeadLetters";
    let actions: Vec<_> = names
        .split_whitespace()
        .map(|name| AuditAction::from_name(name).unwrap())
        .collect();
    assert_eq!(actions, AuditAction::ALL);
    for action in AuditAction::ALL {
        event.action = action;
        assert_eq!(field(&event, "action"), action.name());
        assert_eq!(AuditEvent::decode(&event.encode().unwrap()).unwrap(), event);
    }
}

#[test]
fn absent_parts_keep_their_form() {
    let token = ManagementToken {
        id: "1-a1B2c3D4e5F6".to_owned(),
        project: ProjectId(1),
        branch: BranchId(2),
        role: TokenRole::Reader,
        description: String::new(),
        owner: TokenOwner::default(),
        created: stamp(0),
        expires_at: None,
        secrets: Vec::new(),
    };
    golden("token_reader.v1.json", &token);
    let key =
        forebay_model::TableKey::new(TableBackend::Postgres, &table().table, TableBackend::Sqlite);
    let entry = TableEntry::new(&key, &table().table, ProjectId(1), &stamp(0));
    golden("table_new.v1.json", &entry);
    let task = TaskEntry {
        project: ProjectId(1),
        id: "api.create.source/2/src/2026-11-21T05:01:49.120Z_aB3dE".to_owned(),
        kind: "api.create.source".to_owned(),
        created_at: at(0),
        node: "n1".to_owned(),
        source: source().key,
        sink: None,
        end: None,
    };
    golden("task_running.v1.json", &task);
}

/// A hash is compared with those of stored versions.
#[test]
fn hashes_of_content_stay_the_same() {
    assert_eq!(
        SourceContent::from_source(&source()).hash(),
        "4e8885e613174e8c"
    );
    assert_eq!(SinkContent::from_sink(&sink()).hash(), "f31ae305f4135525");
}

fn field(value: &impl Stored, name: &str) -> String {
    let json: serde_json::Value = serde_json::from_slice(&value.encode().unwrap()).unwrap();
    json[name].as_str().unwrap().to_owned()
}
